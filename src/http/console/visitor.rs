//! Who is signed in, by the cookie of their browser.

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

use super::oops::Oops;
use crate::{
    authority::SignedIn,
    domain::{Operator, Owner, Timestamp},
    http::{App, auth::RequestContext, under_way::Way},
};

/// `__Host-`: browsers take it over HTTPS and from loopback alone, for this host alone.
const COOKIE: &str = "__Host-countersign";

/// What a page that renews itself says when it does.
const RENEWS: &str = "x-renews";

/// Somebody who is signed in: the argument of every page that is not for everybody.
pub(super) struct Visitor {
    pub(super) signed_in: SignedIn,
    pub(super) operator: Operator,
    /// When they ask: what times are told by.
    pub(super) now: Timestamp,
}

impl Visitor {
    /// As an owner.
    pub(super) fn owner(&self) -> Result<Owner, Oops> {
        self.operator.clone().may_own().map_err(|lacking| crate::authority::Error::from(lacking).into())
    }
}

/// What signs a browser in.
pub(super) fn cookie(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What signs it out.
pub(super) const NO_COOKIE: HeaderValue =
    HeaderValue::from_static("__Host-countersign=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");

/// What a browser says, if it says it once.
pub(super) fn of_browser(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = values.flat_map(|value| value.split("; ")).filter_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='));
    match (found.next(), found.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Oops;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Oops> {
        let Some(context) = parts.extensions.get::<RequestContext>() else { return Err(Oops::not_found()) };
        let signed_in = match of_browser(&parts.headers) {
            Some(cookie) if parts.headers.contains_key(RENEWS) => app.authority.still_signed_in(cookie).await?,
            Some(cookie) => app.authority.signed_in(cookie).await?,
            None => None,
        };
        let Some(signed_in) = signed_in else { return Err(Oops::SignIn(sign_in_and_back(parts))) };
        let operator = signed_in.operator(context.info.clone());
        context.admit(app, &operator, Way::Console)?;
        Ok(Self { signed_in, operator, now: app.clock.wall() })
    }
}

/// Where they sign in, and from there to the page that they wanted; a form is not sent again.
fn sign_in_and_back(parts: &Parts) -> String {
    // What routes see of the path is behind the mount.
    let wanted = format!("{}{}", super::MOUNT, parts.uri.path());
    match parts.method {
        Method::GET if is_ours(&wanted) => format!("/console/sign-in?to={wanted}"),
        _ => "/console/sign-in".to_owned(),
    }
}

/// Whether a path is one of the console, and nothing that a browser could read as another host.
pub(super) fn is_ours(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.:@".contains(&byte);
    path.starts_with("/console/") && path.bytes().all(plain) && !path.contains("//") && !path.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_says_once_who_it_is() {
        let headers = |values: &[&'static str]| {
            let pairs = values.iter().map(|value| (header::COOKIE, HeaderValue::from_static(value)));
            pairs.collect::<HeaderMap>()
        };
        assert_eq!(of_browser(&headers(&["a=b; __Host-countersign=x; c=d"])), Some("x"));
        assert_eq!(of_browser(&headers(&["__Host-countersign=x"])), Some("x"));
        for odd in [
            &["a=b"][..],
            &["__Host-countersign=x; __Host-countersign=y"],
            &["__Host-countersign=x", "__Host-countersign=x"],
            &["x__Host-countersign=x"],
        ] {
            assert_eq!(of_browser(&headers(odd)), None, "{odd:?}");
        }
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        assert!(is_ours("/console/tokens/Token:019542f5-b3e7-7d02-8000-000000000001"));
        for odd in [
            "//evil.example",
            "/console//evil",
            "/console/../metrics",
            "/metrics",
            "https://evil.example/console/",
            "/console/\\evil",
            "/console/%2F",
        ] {
            assert!(!is_ours(odd), "{odd}");
        }
    }
}
