//! What was refused, as a page that says what to do next.

use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode, header};
use maud::html;

use super::page;
use crate::{authority::Error, domain::Invalid, http::envelope::Refusal};

/// A page that there is not, or not for them.
#[derive(Debug)]
pub(super) enum Oops {
    /// Nobody is signed in: to where they can.
    SignIn(String),
    /// Something else.
    Said { status: StatusCode, title: &'static str, text: String },
}

impl Oops {
    pub(super) fn said(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self::Said { status, title, text: text.into() }
    }

    pub(super) fn not_found() -> Self {
        Self::said(StatusCode::NOT_FOUND, "There is no such thing", "It may never have been, or be of another platform than yours.")
    }

    /// What the layers around the console refuse, or could not do.
    pub(super) fn of(status: StatusCode) -> Self {
        let (title, text) = match status {
            StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                ("That address is too long", "Look for less at once.")
            }
            StatusCode::TOO_MANY_REQUESTS => ("That is too much at once", "Try again in a few seconds. Nothing was done."),
            status if status.is_server_error() => {
                ("That went wrong here", "The server's log says why. Look whether it was done before you try again.")
            }
            _ => ("That could not be read", "Go back and send it again."),
        };
        Self::said(status, title, text)
    }

    /// A form that is none of ours, or from before they signed in.
    pub(super) fn foreign() -> Self {
        Self::said(
            StatusCode::FORBIDDEN,
            "That form is too old",
            "Go back, load the page again, and send it once more. Nothing was changed.",
        )
    }
}

impl From<Error> for Oops {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::not_found(),
            Error::RoleLacking(_) | Error::Forbidden(_) | Error::CallerEnded => {
                Self::said(StatusCode::FORBIDDEN, "You may not do that", format!("{error}."))
            }
            Error::Unavailable(cause) => {
                tracing::error!(cause, "an operation could not be done");
                let text = "The database could not be reached in time. Look whether it was done before you try again.";
                Self::said(StatusCode::SERVICE_UNAVAILABLE, "That could not be done now", text)
            }
            Error::Invalid(invalid) => invalid.into(),
            Error::Busy => Refusal::busy().into(),
            other => Self::said(StatusCode::CONFLICT, "That could not be done", format!("{other}.")),
        }
    }
}

impl From<Invalid> for Oops {
    fn from(invalid: Invalid) -> Self {
        Self::said(StatusCode::BAD_REQUEST, "That is not valid", page::problems(&invalid))
    }
}

/// What the layers below the console refuse: bodies that are too long, or late.
impl From<Refusal> for Oops {
    fn from(refusal: Refusal) -> Self {
        Self::of(refusal.into_response().status())
    }
}

impl IntoResponse for Oops {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            Self::SignIn(to) => return Redirect::to(&to).into_response(),
            Self::Said { status, title, text } => (status, title, text),
        };
        let body = html! {
            h1 { (title) }
            p { (text) }
            p { a href="/console/tokens" { "To the tokens" } }
        };
        let mut response = page::bare(status, title, &body);
        let soon = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some("1"),
            StatusCode::TOO_MANY_REQUESTS if !response.headers().contains_key(header::RETRY_AFTER) => Some("2"),
            _ => None,
        };
        if let Some(soon) = soon {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(soon));
        }
        response
    }
}
