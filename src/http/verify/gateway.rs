//! What a client asked of the platform, as its gateway tells us.
//!
//! One place for each kind of gateway, which its own configuration fills and clients can't: of several places, somebody
//! else could have filled another one.

use http::{HeaderMap, HeaderName, request::Parts};

use crate::config::Gateway;

/// The request that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked<'p> {
    pub(super) method: &'p str,
    /// As the client sent it.
    pub(super) target: &'p str,
}

/// The gateway that the path behind `/verify` names, and what is behind its name.
pub(super) fn named<'g, 'p>(gateways: &'g [Gateway], behind: &'p str) -> Option<(&'g Gateway, &'p str)> {
    let rest = behind.strip_prefix('/')?;
    let name = rest.split('/').next().unwrap_or_default();
    gateways.iter().find(|gateway| gateway.name == name).map(|gateway| (gateway, &rest[name.len()..]))
}

/// What the gateway says that the client sent; `None` where it does not say it once.
pub(super) fn asked<'p>(gateway: &Gateway, behind: &'p str, parts: &'p Parts) -> Option<Asked<'p>> {
    let Some((method, target)) = &gateway.headers else {
        return Some(Asked { method: parts.method.as_str(), target: behind });
    };
    Some(Asked { method: only(&parts.headers, method)?, target: only(&parts.headers, target)? })
}

fn only<'p>(headers: &'p HeaderMap, name: &HeaderName) -> Option<&'p str> {
    super::only(headers.get_all(name)).and_then(|value| value.to_str().ok())
}
