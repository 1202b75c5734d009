//! Hosts and addresses as other servers write them, put into the one form that `domain` keeps.

use domain::remote::{ActorUri, Host, NotRemote, ObjectUri};
use url::Url;

/// Reads the host part of a handle or an address, with an optional port. International names become
/// ASCII (UTS 46), as a browser would ask for them.
pub fn host(text: &str) -> Result<Host, NotRemote> {
    if text.contains(['/', '?', '#', '@', '\\']) {
        return Err(NotRemote::Host);
    }
    // The default port of https is no part of a host's name.
    let url = parse(&format!("https://{text}")).map_err(|_| NotRemote::Host)?;
    authority(&url).map_err(|_| NotRemote::Host)
}

/// Reads the `id` of an actor.
pub fn actor_uri(text: &str) -> Result<ActorUri, NotRemote> {
    ActorUri::parse(&address(text)?)
}

/// Reads the `id` of a note or of another object.
pub fn object_uri(text: &str) -> Result<ObjectUri, NotRemote> {
    ObjectUri::parse(&address(text)?)
}

/// An address names a thing only letter by letter, so one that is fit to be kept stays as it is. One
/// whose host is not written as we keep hosts is put in the form in which it would be fetched.
fn address(text: &str) -> Result<String, NotRemote> {
    let url = parse(text)?;
    let host = authority(&url).map_err(|_| NotRemote::Uri)?;
    let kept = ObjectUri::parse(text).and_then(|uri| uri.host()).is_ok_and(|kept| kept == host);
    Ok(if kept { text.to_owned() } else { url.into() })
}

fn parse(text: &str) -> Result<Url, NotRemote> {
    // The parser would drop these silently, and two texts would be one address.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(NotRemote::Uri);
    }
    let url = Url::parse(text).map_err(|_| NotRemote::Uri)?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    if matches!(url.scheme(), "http" | "https") && is_plain { Ok(url) } else { Err(NotRemote::Uri) }
}

fn authority(url: &Url) -> Result<Host, NotRemote> {
    let host = url.host_str().ok_or(NotRemote::Uri)?;
    match url.port() {
        Some(port) => Host::parse(&format!("{host}:{port}")),
        None => Host::parse(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn international_hosts_become_ascii() {
        for (written, kept) in [
            ("Bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("EXAMPLE.com:443", "example.com"),
            ("example.com:8443", "example.com:8443"),
            ("127.0.0.1:3000", "127.0.0.1:3000"),
        ] {
            assert_eq!(host(written).map(|h| h.as_str().to_owned()), Ok(kept.to_owned()), "{written}");
        }
    }

    #[test]
    fn what_only_looks_like_a_host_is_refused() {
        for bad in
            ["", "a b.example", "me@example.com", "example.com/x", "example.com#", "a\\b", "[::1]", "a..b"]
        {
            assert_eq!(host(bad), Err(NotRemote::Host), "{bad}");
        }
    }

    #[test]
    fn an_address_stays_as_it_is_unless_its_host_must_change() {
        for (written, kept) in [
            ("https://example.com", "https://example.com"),
            ("https://Example.com/Notes/1?a#b", "https://Example.com/Notes/1?a#b"),
            ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
            ("https://example.com:443/1", "https://example.com/1"),
            ("HTTPS://example.com/1", "https://example.com/1"),
            ("http://2130706433/1", "http://127.0.0.1/1"),
        ] {
            assert_eq!(object_uri(written).map(|u| u.as_str().to_owned()), Ok(kept.to_owned()), "{written}");
        }
    }

    #[test]
    fn the_authority_of_what_is_kept_is_where_it_would_be_fetched() {
        for text in [
            "https://example.com\\@evil.example/",
            "https://é\\.example/",
            "https://EXAMPLE.com:443?x",
            "http:a/b",
        ] {
            let uri = actor_uri(text).unwrap();
            let fetched = Url::parse(uri.as_str()).unwrap();
            assert_eq!(uri.host(), authority(&fetched), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_plain_web_address_is_refused() {
        for bad in [
            "",
            "example.com/1",
            "ftp://example.com/1",
            "data:text/plain,1",
            "https://me@example.com/",
            "https://me:secret@bücher.example/",
            "https://exa\nmple.com/",
            "https://example.com/a b",
            "https://[::1]/",
        ] {
            assert_eq!(object_uri(bad), Err(NotRemote::Uri), "{bad}");
        }
    }
}
