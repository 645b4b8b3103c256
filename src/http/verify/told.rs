//! What is told of a decision, in whichever form it is sent: who a request comes from, or why it may not pass.
//!
//! Of whoever passes, all fields are always there: one that is missing would leave the client's own in place.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Uuid, fmt::Hyphenated};

use super::{App, Decided, Passed};

/// Where fields are written to.
pub(super) trait Fields {
    /// Adds one. Names are in small letters; values have no line end.
    fn put(&mut self, name: &'static str, value: &[u8]);
}

/// As HTTP/1.1 has them.
impl Fields for Vec<u8> {
    fn put(&mut self, name: &'static str, value: &[u8]) {
        self.extend_from_slice(name.as_bytes());
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }
}

impl Fields for HeaderMap {
    fn put(&mut self, name: &'static str, value: &[u8]) {
        self.extend(HeaderValue::from_bytes(value).ok().map(|value| (HeaderName::from_static(name), value)));
    }
}

/// Writes what is told of a decision.
pub(super) fn put(app: &App, decided: &Decided<'_>, fields: &mut impl Fields) {
    match decided {
        Ok(passed) => put_identity(app, passed, fields),
        Err(refused) => refused.fields().for_each(|(name, value)| fields.put(name, value.as_bytes())),
    }
}

fn put_identity(app: &App, Passed { proven, request }: &Passed<'_>, fields: &mut impl Fields) {
    fields.put("x-auth-token-id", &id_of::<6, 42>(*b"Token:", proven.client_id.token.0));
    fields.put("x-auth-client-id", &proven.client_id.text());
    fields.put("x-auth-platform", &id_of::<9, 45>(*b"Platform:", proven.scope.platform.0));
    fields.put("x-auth-environment", proven.scope.environment.name().as_bytes());
    fields.put("x-auth-permissions", proven.permissions.text().as_bytes());
    if let Some(assertions) = &app.surroundings.assertions {
        // Only where it is switched on: whoever checks it takes no other's for ours.
        fields.put("x-auth-assertion", &assertions.sign(proven, *request));
    }
}

/// Kind and digits, as ids are written everywhere.
fn id_of<const KIND: usize, const ALL: usize>(kind: [u8; KIND], id: Uuid) -> [u8; ALL] {
    const { assert!(ALL == KIND + Hyphenated::LENGTH) };
    let mut text = [0; ALL];
    let (before, digits) = text.split_at_mut(KIND);
    before.copy_from_slice(&kind);
    id.hyphenated().encode_lower(digits);
    text
}
