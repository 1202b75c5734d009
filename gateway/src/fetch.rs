//! The one client for whatever is fetched from elsewhere at somebody's word: it goes to nobody in the
//! operator's own network, not by a name that leads there and not by a redirect, and takes a bounded time.
//! How much it may bring is said where it is read.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, LINK, LOCATION};
use futures_util::{Stream, StreamExt};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

/// How long a connection may take.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// How long everything may take, the body included.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// How long nothing may come.
const STALLED_AFTER: Duration = Duration::from_secs(15);
/// How long telling something may take.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// The longest address, in bytes.
pub const MAX_URL_BYTES: usize = 8 * 1024;
/// What the client calls itself.
pub const AGENT: &str = concat!("Kiroku/", env!("CARGO_PKG_VERSION"));

/// Networks where nobody is who serves the public. What isn't `2000::/3` isn't public, either.
const NOT_PUBLIC: [&str; 22] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "::/3",
    "4000::/2",
    "8000::/1",
];

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    guard: Guard,
}

/// What came, up to its body.
pub struct Fetched {
    /// After all redirects.
    pub url: Url,
    pub content_type: Option<String>,
    /// As the other side calls it.
    pub name: Option<String>,
    /// The `Link` headers.
    pub links: Vec<String>,
    response: Response,
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("not an address on the web")]
    NotAnAddress,
    #[error("nobody may be sent there")]
    Forbidden,
    #[error("too many redirects")]
    TooManyRedirects,
    #[error("answered with {0}")]
    Status(u16),
    #[error("too much")]
    TooLarge,
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("the client can't be made: {0}")]
    Client(Box<dyn StdError + Send + Sync>),
}

/// Who may be fetched from.
#[derive(Clone)]
struct Guard {
    /// Private networks that are allowed all the same.
    allowed: Arc<Vec<IpNet>>,
}

impl Guard {
    fn lets(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        is_public(ip) || self.allowed.iter().any(|network| network.contains(&ip))
    }

    /// Whether an address may be asked, as far as that is known without its name looked up.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") || url.as_str().len() > MAX_URL_BYTES {
            return Err(FetchError::NotAnAddress);
        }
        let is_let = match url.host().ok_or(FetchError::NotAnAddress)? {
            Host::Ipv4(ip) => self.lets(ip.into()),
            Host::Ipv6(ip) => self.lets(ip.into()),
            // Looked up by the resolver below.
            Host::Domain(_) => true,
        };
        if is_let { Ok(()) } else { Err(FetchError::Forbidden) }
    }
}

fn is_public(ip: IpAddr) -> bool {
    static NETWORKS: LazyLock<Vec<IpNet>> =
        LazyLock::new(|| NOT_PUBLIC.iter().filter_map(|network| network.parse().ok()).collect());
    !NETWORKS.iter().any(|network| network.contains(&ip))
}

/// Names lead only to where one may go; the connection is made to what was found here, and nowhere else.
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| guard.lets(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Box::new(FetchError::Forbidden) as Box<dyn StdError + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

impl Fetcher {
    /// `allowed` are private networks that may be fetched from all the same.
    pub fn new(allowed: Vec<IpNet>) -> Result<Self, FetchError> {
        let guard = Guard { allowed: Arc::new(allowed) };
        let client = Client::builder()
            .user_agent(AGENT)
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECTED_WITHIN)
            .read_timeout(STALLED_AFTER)
            .timeout(DONE_WITHIN)
            .dns_resolver(Arc::new(guard.clone()))
            .tls_backend_preconfigured(tls()?)
            .build()?;
        Ok(Self { client, guard })
    }

    /// Whether that is in a private network which is allowed all the same.
    pub fn allows_private(&self, url: &Url) -> bool {
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::from(ip),
            Some(Host::Ipv6(ip)) => IpAddr::from(ip),
            _ => return false,
        };
        let ip = ip.to_canonical();
        self.guard.allowed.iter().any(|network| network.contains(&ip))
    }

    /// Tells an address something; the status that is answered. Goes nowhere else, and reads no answer.
    pub async fn post(&self, address: &str, headers: HeaderMap, body: Vec<u8>) -> Result<u16, FetchError> {
        let url = Url::parse(address).map_err(|_| FetchError::NotAnAddress)?;
        self.guard.check(&url)?;
        let request = self.client.post(url).timeout(TOLD_WITHIN).headers(headers).body(body);
        Ok(request.send().await?.status().as_u16())
    }

    /// Fetches an address, through redirects. Anything but a success is an error.
    pub async fn get(&self, address: &str, accept: &str) -> Result<Fetched, FetchError> {
        let mut url = Url::parse(address).map_err(|_| FetchError::NotAnAddress)?;
        for _ in 0..=MAX_REDIRECTS {
            self.guard.check(&url)?;
            let response = self.client.get(url.clone()).header(ACCEPT, accept).send().await?;
            let status = response.status();
            let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
            if status.is_redirection() {
                let to = text(LOCATION).ok_or(FetchError::Status(status.as_u16()))?;
                url = url.join(&to).map_err(|_| FetchError::NotAnAddress)?;
                continue;
            }
            if !status.is_success() {
                return Err(FetchError::Status(status.as_u16()));
            }
            let name = text(CONTENT_DISPOSITION).as_deref().and_then(named);
            let links = response.headers().get_all(LINK).iter();
            let links = links.filter_map(|link| Some(link.to_str().ok()?.to_owned())).collect();
            return Ok(Fetched { links, content_type: text(CONTENT_TYPE), name, url, response });
        }
        Err(FetchError::TooManyRedirects)
    }
}

impl Fetched {
    /// The body, piece by piece.
    pub fn pieces(self) -> impl Stream<Item = reqwest::Result<Bytes>> + Unpin + Send {
        self.response.bytes_stream().boxed()
    }

    /// The body, if it isn't larger than that.
    pub async fn bytes(self, most: usize) -> Result<Vec<u8>, FetchError> {
        let mut pieces = self.pieces();
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if bytes.len() + piece.len() > most {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// The name of what came: as it was told, or the last part of its address.
    pub fn file_name(&self) -> Option<String> {
        let last = || {
            let last = self.url.path_segments()?.next_back()?;
            let decoded = url::form_urlencoded::parse(format!("n={}", last.replace('+', "%2B")).as_bytes())
                .next()
                .map(|(_, value)| value.into_owned());
            decoded.filter(|name| !name.is_empty())
        };
        self.name.clone().or_else(last)
    }
}

/// The name in a `Content-Disposition`.
fn named(disposition: &str) -> Option<String> {
    let (_, after) = disposition.split_once("filename=")?;
    let name = match after.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => after.split(';').next()?,
    };
    let name = name.trim().rsplit(['/', '\\']).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// What connections are sealed with: told to each client, as another library chooses what the process has.
pub fn tls() -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that can't be read is one less to trust.
        roots.add(certificate).ok();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Client(error.into()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard { allowed: Arc::new(allowed.iter().map(|network| network.parse().unwrap()).collect()) }
    }

    fn lets(guard: &Guard, address: &str) -> bool {
        guard.check(&Url::parse(address).unwrap()).is_ok()
    }

    #[test]
    fn all_networks_are_read() {
        assert!(NOT_PUBLIC.iter().all(|network| network.parse::<IpNet>().is_ok()));
    }

    #[test]
    fn nobody_is_sent_into_a_private_network() {
        let guard = guard(&[]);
        for address in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://10.1.2.3/",
            "http://172.31.0.1:8080/",
            "http://192.168.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://[fc00::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "ftp://example.com/",
            "file:///etc/passwd",
        ] {
            assert!(!lets(&guard, address), "{address}");
        }
        for address in
            ["https://93.184.216.34/", "http://[2606:2800:220:1::1]/", "https://example.com:8443/x"]
        {
            assert!(lets(&guard, address), "{address}");
        }
    }

    #[test]
    fn an_operator_may_allow_a_network() {
        let guard = guard(&["10.0.0.0/8"]);
        assert!(lets(&guard, "http://10.1.2.3/") && lets(&guard, "http://[::ffff:10.0.0.1]/"));
        assert!(!lets(&guard, "http://192.168.0.1/"));
    }

    #[tokio::test]
    async fn a_name_that_leads_home_leads_nowhere() {
        let fetcher = Fetcher::new(Vec::new()).unwrap();
        for address in ["http://localhost:1/", "http://127.0.0.1:1/", "gopher://x/", "no address"] {
            assert!(fetcher.get(address, "*/*").await.is_err(), "{address}");
        }
        let resolved = guard(&[]).resolve("localhost".parse().unwrap()).await;
        assert!(resolved.is_err());
        let resolved = guard(&["127.0.0.0/8", "::1/128"]).resolve("localhost".parse().unwrap()).await;
        assert!(resolved.is_ok());
    }

    #[test]
    fn files_are_named_without_their_path() {
        assert_eq!(named("inline; filename=\"a b.png\""), Some("a b.png".to_owned()));
        assert_eq!(named("attachment; filename=../a.png; x=y"), Some("a.png".to_owned()));
        assert_eq!(named("inline"), None);
    }
}
