//! What the domain knows of other servers: their hosts and the addresses of their people and notes.
//! How they are fetched, signed and rendered is the business of `federation`.

use serde::{Deserialize, Serialize};

/// The longest host name, in bytes (RFC 1035).
pub const MAX_HOST_BYTES: usize = 253;
/// The longest address of an object, in bytes.
pub const MAX_URI_BYTES: usize = 2048;

/// The text is not a host, or not an address on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRemote {
    #[error("not a host name")]
    Host,
    #[error("not an http address")]
    Uri,
}

/// The authority of another server in lower-case ASCII (Punycode), with a port where it is not the
/// scheme's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Host(String);

impl Host {
    /// Takes an ASCII authority. International names are turned into ASCII before, at the edge.
    pub fn parse(text: &str) -> Result<Self, NotRemote> {
        let host = text.trim_end_matches('.').to_ascii_lowercase();
        let (name, port) = host.split_once(':').map_or((host.as_str(), None), |(n, p)| (n, Some(p)));
        let name_is_good = !name.is_empty()
            && name.len() <= MAX_HOST_BYTES
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            });
        let port_is_good = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
        if name_is_good && port_is_good { Ok(Self(host)) } else { Err(NotRemote::Host) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! uris {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, NotRemote> {
                host_of(text).map(|_| Self(text.to_owned()))
            }

            /// The host that has authority over this address.
            pub fn host(&self) -> Result<Host, NotRemote> {
                host_of(&self.0)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

uris! {
    /// The `id` of a remote actor.
    ActorUri,
    /// The `id` of a remote note or of another object.
    ObjectUri
}

fn host_of(uri: &str) -> Result<Host, NotRemote> {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://")).ok_or(NotRemote::Uri)?;
    if uri.len() > MAX_URI_BYTES || uri.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(NotRemote::Uri);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(NotRemote::Uri);
    }
    Host::parse(authority).map_err(|_| NotRemote::Uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_case_names_with_an_optional_port() {
        assert_eq!(Host::parse("Example.COM").map(|h| h.as_str().to_owned()), Ok("example.com".to_owned()));
        assert!(Host::parse("example.com:8443").is_ok());
        for bad in ["", "ex ample.com", "-a.example", "a..b", "a.example:0", "a.example:x", "[::1]", "a@b"] {
            assert_eq!(Host::parse(bad), Err(NotRemote::Host), "{bad}");
        }
    }

    #[test]
    fn the_authority_of_an_address_is_its_host_and_nothing_that_looks_like_it() {
        let uri = ObjectUri::parse("https://example.com/notes/1").unwrap();
        assert_eq!(uri.host().unwrap().as_str(), "example.com");
        for bad in
            ["ftp://example.com/1", "https://user@example.com/", "https:///x", "https://exa mple.com", "x"]
        {
            assert_eq!(ObjectUri::parse(bad), Err(NotRemote::Uri), "{bad}");
        }
    }
}
