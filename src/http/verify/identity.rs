//! The headers that say who a request comes from. All are always there, empty where they don't apply: one that is missing
//! would leave the client's own in place.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::fmt::Hyphenated;

use super::{
    super::{App, answer},
    Passed,
};

const TOKEN_ID: HeaderName = HeaderName::from_static("x-auth-token-id");
const CLIENT_ID: HeaderName = HeaderName::from_static("x-auth-client-id");
const PLATFORM: HeaderName = HeaderName::from_static("x-auth-platform");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-auth-environment");
const PERMISSIONS: HeaderName = HeaderName::from_static("x-auth-permissions");
/// Only where it is switched on: whoever checks it takes no other's for ours.
const ASSERTION: HeaderName = HeaderName::from_static("x-auth-assertion");

/// What all texts take together.
const TEXTS: usize = 192;

/// Adds the identity, where there is one; and the id of the request with the headers `of`, where the answer has room for it.
pub(super) fn insert(app: &App, of: Option<&HeaderMap>, headers: &mut HeaderMap, passed: Option<&Passed<'_>>) {
    // One allocation for all of them.
    let mut texts = BytesMut::with_capacity(TEXTS);
    if let Some(Passed { proven, request }) = passed {
        headers.reserve(8);
        let mut id = [0; Hyphenated::LENGTH];
        texts.put_slice(b"Token:");
        texts.put_slice(proven.client_id.token.0.hyphenated().encode_lower(&mut id).as_bytes());
        headers.insert(TOKEN_ID, value(texts.split().freeze()));
        texts.put_slice(&proven.client_id.text());
        headers.insert(CLIENT_ID, value(texts.split().freeze()));
        texts.put_slice(b"Platform:");
        texts.put_slice(proven.scope.platform.0.hyphenated().encode_lower(&mut id).as_bytes());
        headers.insert(PLATFORM, value(texts.split().freeze()));
        headers.insert(ENVIRONMENT, HeaderValue::from_static(proven.scope.environment.name()));
        headers.insert(PERMISSIONS, HeaderValue::from_static(proven.permissions.text()));
        if let Some(assertions) = &app.surroundings.assertions {
            headers.insert(ASSERTION, value(assertions.sign(proven, *request)));
        }
    }
    let Some(of) = of else { return };
    let id = match answer::their_request_id(of) {
        Some(theirs) => theirs.clone(),
        None => {
            app.put_request_id(&mut texts);
            value(texts.freeze())
        }
    };
    headers.insert(answer::REQUEST_ID, id);
}

fn value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).unwrap_or(const { HeaderValue::from_static("") })
}
