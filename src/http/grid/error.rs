//! What the authority's refusals are in Grid.

use http::{HeaderValue, header};

use crate::{
    authority::Error,
    http::envelope::{ClientCode, Refusal},
};

pub(super) fn not_found() -> Refusal {
    Refusal::client(ClientCode::TokenNotFound, "There is no such API token.")
}

pub(super) fn refusal(error: Error) -> Refusal {
    match error {
        Error::CallerEnded => Refusal::unauthorized(),
        Error::Forbidden(required) => Refusal::forbidden(required),
        Error::NotFound | Error::Tampered => not_found(),
        Error::Invalid(invalid) => Refusal::invalid(&invalid),
        Error::NotRevocable => Refusal::client(ClientCode::InvalidInput, "Only the operator of this service can end this API token.")
            .with_detail("reason", "not_revocable".into()),
        Error::KeyReused => Refusal::client(ClientCode::Conflict, "This Idempotency-Key was used for another request.")
            .with_detail("reason", "idempotency_key_reused".into())
            .with_header(http::HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false")),
        Error::InProgress => Refusal::client(ClientCode::Conflict, "The first request with this Idempotency-Key is still running.")
            .with_detail("reason", "in_progress".into())
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1")),
        Error::Unavailable(cause) => {
            tracing::error!(cause, "an operation could not be done");
            Refusal::unavailable()
        }
    }
}
