//! `/jwks.json`: the public keys with which upstreams check assertions. Only where assertions are signed.
//!
//! Open to anybody, as public keys are; made once a day, so asking costs us nothing. Like every other answer it is for
//! nobody in between to keep: whoever checks assertions keeps the keys by a clock of their own, and a key that was taken
//! out of the key file is gone with the next look.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, header};

use super::{App, envelope::Refusal};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

/// The key set's place.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/jwks.json", get(key_set))
}

async fn key_set(State(app): State<App>) -> Response {
    match &app.surroundings.assertions {
        Some(assertions) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], assertions.key_set()).into_response(),
        None => Refusal::internal().into_response(),
    }
}
