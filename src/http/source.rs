//! Where a request comes from: the other end of the connection, or, behind proxies that we were told of, what these say.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that counts: the last one in `X-Forwarded-For` that is no trusted proxy's, if the request comes from one.
///
/// Whoever is not trusted can write what they like into that header, so it is read from its end, and only as far as
/// trusted proxies wrote it. Other spellings of the name are other headers.
pub(super) fn of(trusted: &[IpNet], headers: &HeaderMap, peer: SocketAddr) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut source = peer.ip().to_canonical();
    let fields: Vec<_> = if is_trusted(source) { headers.get_all(FORWARDED_FOR).iter().collect() } else { Vec::new() };
    let hops = fields.iter().rev().flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        if !is_trusted(source) {
            break;
        }
        // What can't be read was not written by one of ours.
        let Some(address) = std::str::from_utf8(hop).ok().and_then(|hop| hop.trim().parse::<IpAddr>().ok()) else { break };
        source = address.to_canonical();
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_33_only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()).to_vec();
        let source = |peer: &str, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            of(&trusted, &headers, SocketAddr::new(peer.parse().unwrap(), 1)).to_string()
        };
        assert_eq!(source("192.0.2.1", &[("x-forwarded-for", "198.51.100.7")]), "192.0.2.1", "not a proxy");
        assert_eq!(source("10.1.1.1", &[("x-forwarded-for", "198.51.100.7")]), "198.51.100.7");
        assert_eq!(source("::ffff:10.1.1.1", &[("x-forwarded-for", "198.51.100.7")]), "198.51.100.7");
        assert_eq!(source("10.1.1.1", &[("x-forwarded-for", "evil, 198.51.100.7, 10.2.2.2")]), "198.51.100.7");
        assert_eq!(source("10.1.1.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.7,10.2.2.2")]), "198.51.100.7");
        assert_eq!(source("10.1.1.1", &[("x-forwarded-for", "198.51.100.7, evil")]), "10.1.1.1");
        assert_eq!(source("10.1.1.1", &[("x_forwarded_for", "198.51.100.7"), ("x.forwarded.for", "198.51.100.7")]), "10.1.1.1");
        assert_eq!(source("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(source("::1", &[("x-forwarded-for", "2001:db8::5")]), "2001:db8::5");
    }
}
