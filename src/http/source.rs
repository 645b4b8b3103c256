//! Where a request comes from: the other end of the connection, or, behind proxies that we were told of, what these say.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that counts: the last one in `X-Forwarded-For` that is no trusted proxy's, if the request comes from one.
///
/// Whoever is not trusted can write what they like into that header, so it is read from its end, and only as far as
/// trusted proxies wrote it.
pub(super) fn of<'f>(trusted: &[IpNet], forwarded: impl DoubleEndedIterator<Item = &'f [u8]>, peer: SocketAddr) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut source = peer.ip().to_canonical();
    let hops = forwarded.rev().flat_map(|field| field.rsplit(|byte| *byte == b','));
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
        let source = |peer: &str, fields: &[&str]| {
            of(&trusted, fields.iter().map(|value| value.as_bytes()), SocketAddr::new(peer.parse().unwrap(), 1)).to_string()
        };
        assert_eq!(source("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "not a proxy");
        assert_eq!(source("10.1.1.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(source("::ffff:10.1.1.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(source("10.1.1.1", &["evil, 198.51.100.7, 10.2.2.2"]), "198.51.100.7");
        assert_eq!(source("10.1.1.1", &["1.1.1.1", "198.51.100.7,10.2.2.2"]), "198.51.100.7");
        assert_eq!(source("10.1.1.1", &["198.51.100.7, evil"]), "10.1.1.1");
        assert_eq!(source("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(source("::1", &["2001:db8::5"]), "2001:db8::5");
    }
}
