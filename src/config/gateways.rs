//! Which gateways ask, and where each writes what the client sent.

use http::HeaderName;

/// A kind of gateway, and where it writes what the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its name, which is the segment behind `/verify/`.
    pub name: String,
    /// The headers with the method and with the path; without them, both are those of the request to us.
    pub headers: Option<(HeaderName, HeaderName)>,
}

pub(super) fn parse(text: &str) -> Option<Vec<Gateway>> {
    let mut gateways: Vec<Gateway> = Vec::new();
    for gateway in text.split(';').map(str::trim).filter(|gateway| !gateway.is_empty()) {
        let (name, place) = gateway.split_once('=')?;
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !plain || gateways.iter().any(|known| known.name == name) {
            return None;
        }
        let headers = match place.split_once(',') {
            None if place == "request" => None,
            None => return None,
            Some((method, path)) if method != path => Some((method.trim().parse().ok()?, path.trim().parse().ok()?)),
            Some(_) => return None,
        };
        gateways.push(Gateway { name: name.to_owned(), headers });
    }
    Some(gateways)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::Config, *};

    #[test]
    fn how_gateways_are_said() {
        let gateways = Config::layered(&BTreeMap::new(), [], None).unwrap().gateways;
        assert_eq!(gateways.iter().map(|gateway| &*gateway.name).collect::<Vec<_>>(), ["nginx", "haproxy", "caddy", "traefik", "envoy"]);
        for text in
            ["nginx", "nginx=", "nginx=X-A", "nginx=X-A,X-A", "=X-A,X-B", "a=request; a=request", "A=request", "a/b=request", "a=X A,X-B"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
