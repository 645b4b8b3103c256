//! What a client asked of the platform, as its gateway tells us.
//!
//! One place for each kind of gateway, which its own configuration fills and clients can't: of several places, somebody
//! else could have filled another one.

use super::head::Head;
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
    // One that appends what the client sent may append what begins with no slash (`OPTIONS *`): still its question.
    let appended = |gateway: &&Gateway| gateway.headers.is_none() && rest.starts_with(gateway.name.as_str());
    let found = gateways.iter().find(|gateway| gateway.name == name).or_else(|| gateways.iter().find(appended));
    found.map(|gateway| (gateway, &rest[gateway.name.len()..]))
}

/// What the gateway says that the client sent; `None` where it does not say it once.
pub(super) fn asked<'p>(gateway: &Gateway, behind: &'p str, head: &Head<'p>) -> Option<Asked<'p>> {
    let Some((method, target)) = &gateway.headers else {
        return Some(Asked { method: head.method, target: behind });
    };
    Some(Asked { method: text(head.only(method.as_str()))?, target: text(head.only(target.as_str()))? })
}

/// A value that can be compared with paths and methods: visible ASCII.
fn text(value: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(value?).ok().filter(|value| value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')))
}
