//! What whoever may not pass is told, by every gate of ours: the APIs, `/verify` and the tower layer say the same words.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    authority::Denied,
    domain::{Environment, Permissions, Proven},
};

/// The JSON of a refusal.
#[derive(Serialize)]
pub(crate) struct Envelope<'r> {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) details: &'r Map<String, Value>,
}

impl Envelope<'_> {
    /// As it is sent.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody's credential.
    Unauthorized,
    /// Somebody's, and it lacks these permissions.
    Lacking(Permissions),
    /// Somebody's of the other environment.
    Elsewhere,
    /// No operation of the platform's API, or none that anybody may do.
    #[cfg(feature = "server")]
    NoOperation,
    /// It can't be known now.
    Unknown,
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Refused(_) => Self::Unauthorized,
            Denied::Unknown => Self::Unknown,
        }
    }
}

static UNAUTHORIZED: LazyLock<Bytes> = LazyLock::new(|| Refused::Unauthorized.text().into());
static LACKING: LazyLock<[Bytes; 8]> =
    LazyLock::new(|| std::array::from_fn(|bits| Refused::Lacking(Permissions::from_bits(bits as u8)).text().into()));
static ELSEWHERE: LazyLock<Bytes> = LazyLock::new(|| Refused::Elsewhere.text().into());
#[cfg(feature = "server")]
static NO_OPERATION: LazyLock<Bytes> = LazyLock::new(|| Refused::NoOperation.text().into());
static UNKNOWN: LazyLock<Bytes> = LazyLock::new(|| Refused::Unknown.text().into());

impl Refused {
    /// Why somebody proven may not pass where these permissions and that environment are needed, if so.
    pub(crate) fn of(proven: &Proven, permissions: Permissions, environment: Option<Environment>) -> Option<Self> {
        let lacking = proven.permissions.lacking(permissions);
        if environment.is_some_and(|environment| environment != proven.scope.environment) {
            Some(Self::Elsewhere)
        } else {
            (!lacking.is_empty()).then_some(Self::Lacking(lacking))
        }
    }

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Lacking(_) | Self::Elsewhere => StatusCode::FORBIDDEN,
            #[cfg(feature = "server")]
            Self::NoOperation => StatusCode::FORBIDDEN,
            Self::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Lacking(_) | Self::Elsewhere => "FORBIDDEN",
            #[cfg(feature = "server")]
            Self::NoOperation => "FORBIDDEN",
            Self::Unknown => "SERVICE_UNAVAILABLE",
        }
    }

    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Unauthorized => "The request needs the clientId and clientSecret of a live API token, as HTTP Basic.",
            Self::Lacking(_) => "The API token lacks a permission that this request needs.",
            Self::Elsewhere => "The API token belongs to another environment than this request needs.",
            #[cfg(feature = "server")]
            Self::NoOperation => "The request is no operation of this API that an API token may do.",
            Self::Unknown => "The service can't answer right now. Try again.",
        }
    }

    pub(crate) fn details(self) -> Map<String, Value> {
        let mut details = Map::new();
        if let Self::Lacking(permissions) = self {
            let required: Vec<_> = permissions.iter().map(|permission| permission.name()).collect();
            details.insert("required".to_owned(), json!(required));
        }
        details
    }

    /// What goes with its status.
    pub(crate) const fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Unauthorized => Some(("www-authenticate", "Basic realm=\"countersign\", charset=\"UTF-8\"")),
            Self::Lacking(_) | Self::Elsewhere => None,
            #[cfg(feature = "server")]
            Self::NoOperation => None,
            Self::Unknown => Some(("retry-after", "1")),
        }
    }

    /// What goes with its body. Names are in small letters.
    pub(crate) fn fields(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        std::iter::once(("content-type", "application/json")).chain(self.header())
    }

    fn text(self) -> String {
        Envelope { status: self.status().as_u16(), code: self.code(), message: self.message(), details: &self.details() }.text()
    }

    /// Its JSON, made once: a flood of refusals must cost no more than what it would pass for.
    pub(crate) fn body(self) -> &'static Bytes {
        match self {
            Self::Unauthorized => &UNAUTHORIZED,
            Self::Lacking(permissions) => &LACKING[usize::from(permissions.bits())],
            Self::Elsewhere => &ELSEWHERE,
            #[cfg(feature = "server")]
            Self::NoOperation => &NO_OPERATION,
            Self::Unknown => &UNKNOWN,
        }
    }

    /// The whole answer.
    pub(crate) fn response<B: From<Bytes>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.body().clone()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.fields().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
        response
    }
}
