//! The body of every refusal: `{status, code, message, details}`, in both dialects and from every layer.
//!
//! A refusal is the caller's doing or ours, and the two are made differently: no input can choose a 5xx.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    domain::{Invalid, Permissions},
    refusal::{Envelope, Refused},
};

/// What a caller did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientCode {
    InvalidInput,
    /// `INVALID_INPUT` under the status that HTTP has for it: 413, 414, 415 or 431.
    InvalidAs(StatusCode),
    Unauthorized,
    Forbidden,
    TokenNotFound,
    ReferenceNotFound,
    MethodNotAllowed,
    Conflict,
    RateLimited,
}

impl ClientCode {
    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidInput => StatusCode::BAD_REQUEST,
            Self::InvalidAs(status) => status,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TokenNotFound | Self::ReferenceNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::InvalidInput | Self::InvalidAs(_) => "INVALID_INPUT",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::TokenNotFound => "TOKEN_NOT_FOUND",
            Self::ReferenceNotFound => "REFERENCE_NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Conflict => "CONFLICT",
            Self::RateLimited => "RATE_LIMITED",
        }
    }
}

/// Why an operation could not be done, for whoever runs it in this process: an extension of its answer, which is never sent.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

/// An answer that is no.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    details: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Cause>,
}

impl Refusal {
    /// The caller's doing.
    pub(super) fn client(code: ClientCode, message: &'static str) -> Self {
        Self { status: code.status(), code: code.name(), message, details: Map::new(), headers: Vec::new(), cause: None }
    }

    /// A defect of ours.
    pub(super) fn internal() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "INTERNAL_ERROR",
            message: "Something went wrong on our side. Tell us the X-Request-Id of this answer.",
            details: Map::new(),
            headers: Vec::new(),
            cause: None,
        }
    }

    fn at_the_gate(refused: Refused) -> Self {
        let headers =
            refused.header().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into_iter().collect();
        let (status, code, message, details) = (refused.status(), refused.code(), refused.message(), refused.details());
        Self { status, code, message, details, headers, cause: None }
    }

    /// Nobody's doing, and soon over.
    pub(super) fn unavailable() -> Self {
        Self::at_the_gate(Refused::Unknown)
    }

    /// The one answer to whoever is not proven.
    pub(super) fn unauthorized() -> Self {
        Self::at_the_gate(Refused::Unauthorized)
    }

    /// For who was refused too often in this minute.
    pub(super) fn rate_limited(wait: Duration) -> Self {
        Self::client(ClientCode::RateLimited, "Too many credentials were refused; try again later.")
            .with_header(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()))
    }

    /// For whom others are in the way, or they themselves: at once, because whoever waits keeps a place.
    pub(super) fn busy() -> Self {
        Self::client(ClientCode::RateLimited, "Too much of this is under way; try again in a few seconds.")
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("2"))
    }

    pub(super) fn forbidden(required: Permissions) -> Self {
        Self::at_the_gate(Refused::Lacking(required))
    }

    pub(super) fn invalid(invalid: &Invalid) -> Self {
        Self::invalid_as(ClientCode::InvalidInput, invalid)
    }

    pub(super) fn invalid_as(code: ClientCode, invalid: &Invalid) -> Self {
        let errors: Vec<_> = invalid
            .problems()
            .iter()
            .map(|problem| json!({ "field": problem.field, "message": problem.message, "constraint": problem.constraint }))
            .collect();
        Self::client(code, "The request is not valid; details.errors says what to change.").with_detail("errors", json!(errors))
    }

    pub(super) fn token_not_found() -> Self {
        Self::client(ClientCode::TokenNotFound, "There is no such API token.")
    }

    /// A create that is told apart from an earlier one by its body alone. Client libraries must not repeat it.
    pub(super) fn key_reused() -> Self {
        Self::client(ClientCode::Conflict, "This Idempotency-Key was used for another request.")
            .with_detail("reason", json!("idempotency_key_reused"))
            .not_to_be_repeated()
    }

    /// Repeating it helps nobody until one has ended.
    pub(super) fn too_many_tokens() -> Self {
        Self::client(ClientCode::Conflict, "There are as many API tokens as there may be. Revoke some first.")
            .with_detail("reason", json!("token_limit"))
            .not_to_be_repeated()
    }

    pub(super) fn in_progress() -> Self {
        Self::client(ClientCode::Conflict, "The first request with this Idempotency-Key is still running.")
            .with_detail("reason", json!("in_progress"))
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Client libraries repeat a 409 unless they are told not to.
    pub(super) fn not_to_be_repeated(self) -> Self {
        self.with_header(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"))
    }

    /// For an operation that could not be done: the cause is logged, and stays here.
    pub(super) fn unavailable_because(cause: &str) -> Self {
        tracing::error!(cause, "an operation could not be done");
        Self { cause: Some(Cause(cause.to_owned())), ..Self::unavailable() }
    }

    pub(super) fn with_detail(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// For answers after which the rest of the request is not read.
    pub(super) fn closing(self) -> Self {
        self.with_header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// The body alone.
    pub(super) fn body(&self) -> String {
        let Self { status, code, message, details, .. } = self;
        Envelope { status: status.as_u16(), code, message, details }.text()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().extend(self.headers);
        self.cause.map(|cause| response.extensions_mut().insert(cause));
        response
    }
}

/// A small body of JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response(),
        Err(_) => Refusal::internal().into_response(),
    }
}
