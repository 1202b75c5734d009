//! From where a request comes: the peer, or what a trusted proxy says about it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The most addresses of `X-Forwarded-For` that are looked at, from its end.
const MAX_FORWARDED: usize = 16;
/// A person has this much of an IPv6 network, in bits: it counts as one address.
const IPV6_PREFIX_BITS: u8 = 64;

/// Proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The address of the client: walking back from the peer through trusted proxies, the first that is
    /// not one of them; when all are, the farthest.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let lists = headers.get_all("x-forwarded-for").into_iter().rev();
        let addresses = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.rsplit(','));
        for address in addresses.take(MAX_FORWARDED) {
            let Some(address) = parse(address.trim()) else { return client };
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

fn parse(text: &str) -> Option<IpAddr> {
    let plain = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let address = plain.or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// What stands for an address where calls are counted: an IPv6 client can't escape by moving inside its
/// network.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (128 - u32::from(IPV6_PREFIX_BITS));
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &str) -> String {
        let proxies = TrustedProxies::new(trusted.iter().map(|n| n.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().unwrap());
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_header_from_anybody_is_not_believed() {
        assert_eq!(client(&[], "127.0.0.1", "10.0.0.1"), "127.0.0.1");
        assert_eq!(client(&["127.0.0.1/32"], "203.0.113.1", "10.0.0.1"), "203.0.113.1");
    }

    #[test]
    fn trusted_proxies_are_walked_back() {
        let local = ["127.0.0.0/8", "10.0.0.0/8"];
        assert_eq!(client(&local, "127.0.0.1", "203.0.113.7"), "203.0.113.7");
        assert_eq!(client(&local, "127.0.0.1", "6.6.6.6, 203.0.113.7, 10.1.1.1"), "203.0.113.7");
        assert_eq!(client(&local, "127.0.0.1", "10.20.0.3"), "10.20.0.3");
        assert_eq!(client(&local, "::ffff:127.0.0.1", "203.0.113.7:4711"), "203.0.113.7");
        assert_eq!(client(&local, "127.0.0.1", "203.0.113.7, nonsense"), "127.0.0.1");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2:ffff::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }
}
