//! The place in a list, as clients carry it.
//!
//! A version, a key id, the last id of the page and a code over these and over everything that the list depends on
//! (platform, environment, order, filters): the cursor of another list, or an altered one, does not pass. Only the id is
//! read from it, as sixteen bytes, so even a forged code could ask for nothing but a place in the forger's own list.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::keyring::Keyring;
use crate::domain::{Invalid, Liveness, Order, Scope, TokenFilter, TokenId, TokenName};

const VERSION: u8 = 1;
const LEN: usize = 1 + 4 + 16 + 16;

/// What a list depends on.
#[derive(Debug, Clone)]
pub(crate) struct List<'q> {
    pub(crate) scope: Scope,
    pub(crate) liveness: Liveness,
    pub(crate) order: Order,
    pub(crate) filter: &'q TokenFilter,
}

impl List<'_> {
    fn code(&self, keyring: &Keyring, key: Option<u32>, id: &[u8]) -> Option<(u32, [u8; 16])> {
        let kind = [VERSION, u8::from(self.liveness == Liveness::All), u8::from(self.order == Order::OldestFirst)];
        let name = self.filter.name.as_ref().map_or("", TokenName::as_str);
        let (from, until) = (self.filter.from.millis().to_be_bytes(), self.filter.until.millis().to_be_bytes());
        let (platform, environment) = (self.scope.platform.0.as_bytes(), self.scope.environment.name().as_bytes());
        keyring.cursor_mac(key, &[&kind, platform, environment, name.as_bytes(), &from, &until, id])
    }

    /// The cursor behind `last`.
    pub(crate) fn cursor(&self, keyring: &Keyring, last: TokenId) -> Option<String> {
        let id = last.0.as_bytes();
        let (key, code) = self.code(keyring, None, id)?;
        Some(URL_SAFE_NO_PAD.encode([&[VERSION][..], &key.to_be_bytes(), id, &code].concat()))
    }

    /// The id that a cursor of this list stands behind.
    pub(crate) fn parse(&self, keyring: &Keyring, text: &str) -> Result<TokenId, Invalid> {
        let id = || {
            let bytes: [u8; LEN] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
            let (&version, rest) = bytes.split_first()?;
            let (key, rest) = rest.split_at_checked(4)?;
            let (id, code) = rest.split_at_checked(16)?;
            let (_, expected) = self.code(keyring, Some(u32::from_be_bytes(key.try_into().ok()?)), id)?;
            let genuine = constant_time_eq::constant_time_eq(&expected, code);
            (version == VERSION && genuine).then_some(TokenId(uuid::Uuid::from_slice(id).ok()?))
        };
        id().ok_or_else(|| {
            Invalid::one(
                "cursor",
                "cursor",
                "is not a cursor of this list; leave it out to start from the first page, and keep the filters while following",
            )
        })
    }
}
