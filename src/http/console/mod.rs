//! The console: `/console` on the admin listener, for people with a browser. Pages are whole without script; what script there
//! is makes them handier.
//!
//! | file | what |
//! |---|---|
//! | `visitor.rs` | who is signed in: the argument of every page but those of `sign_in.rs` |
//! | `form.rs` | what a form sends, and whether it is one of ours |
//! | `page.rs` | what all pages have: head, navigation, small parts |
//! | `oops.rs` | what was refused, and what to do next |
//! | the others | a kind of page each |

mod account;
mod audit;
mod bulk;
mod chart;
mod factors;
mod form;
mod keys;
mod loading;
mod nodes;
mod oops;
mod operations;
mod operators;
mod page;
mod platforms;
mod settings;
mod sign_in;
mod tokens;
mod visitor;

use axum::{
    Router,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use http::{HeaderValue, StatusCode, header};

use self::oops::Oops;
use super::App;

/// Where it is mounted.
const MOUNT: &str = "/console";

/// Where somebody begins.
pub(super) const HOME: &str = "/console/tokens";

/// What pages may do: load from here, send forms here, and be in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// All pages, where they are.
pub(super) fn mounted() -> Router<App> {
    // A mount ends without a slash; people type one.
    let slash = Router::new().route("/console/", get(async || Redirect::to(HOME))).method_not_allowed_fallback(async || no_page());
    Router::new().nest(MOUNT, routes()).merge(slash)
}

fn no_page() -> Oops {
    Oops::said(StatusCode::METHOD_NOT_ALLOWED, "That is no page", "It is only where a form is sent to; go back to the page with the form.")
}

/// All pages.
fn routes() -> Router<App> {
    Router::new()
        .route("/", get(async || Redirect::to(HOME)))
        .route("/console.css", get(|| file("text/css; charset=utf-8", include_bytes!("../../../assets/console/console.css"))))
        .route("/console.js", get(|| file("text/javascript; charset=utf-8", include_bytes!("../../../assets/console/console.js"))))
        .route("/icon.svg", get(|| file("image/svg+xml", include_bytes!("../../../assets/console/icon.svg"))))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/invitation", get(sign_in::invitation).post(sign_in::accept))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/new", get(tokens::new))
        .route("/tokens/{token}", get(tokens::one))
        .route("/tokens/{token}/revoke", get(tokens::ask_revoke).post(tokens::revoke))
        .route("/bulk-revokes", get(bulk::list).post(bulk::begin))
        .route("/bulk-revokes/new", get(bulk::new))
        .route("/bulk-revokes/{bulk}", get(bulk::one))
        .route("/bulk-revokes/{bulk}/stop", post(bulk::stop))
        .route("/platforms", get(platforms::list).post(platforms::create))
        .route("/platforms/{platform}/disable", get(platforms::ask_disable).post(platforms::disable))
        .route("/platforms/{platform}/enable", get(platforms::ask_enable).post(platforms::enable))
        .route("/operations", get(operations::list).post(loading::load))
        .route("/operations/load", get(loading::page))
        .route("/operations/diff", post(loading::diff))
        .route("/audit", get(audit::list))
        .route("/audit/verify", get(audit::verify))
        .route("/audit/export", get(audit::export))
        .route("/operators", get(operators::list).post(operators::create))
        .route("/operators/{name}", get(operators::one).post(operators::change))
        .route("/keys", get(keys::list))
        .route("/nodes", get(nodes::list))
        .route("/settings", get(settings::list))
        .route("/account", get(account::page).post(account::create_token))
        .route("/account/password", get(factors::password).post(factors::change_password))
        .route("/account/second-factor", get(factors::second_factor).post(factors::show_second_factor))
        .route("/account/second-factor/confirm", post(factors::replace_second_factor))
        .route("/account/tokens/{id}/revoke", post(account::revoke_token))
        .method_not_allowed_fallback(async || no_page())
        .fallback(async || Oops::not_found())
}

/// What every answer of the console has, beside what every answer has: the outermost layer asks, so that none lacks it, whoever
/// made it; and what was refused before the console saw it is a page here too.
pub(super) fn guard(path: &str, response: &mut Response) {
    if path.strip_prefix(MOUNT).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        return;
    }
    if response.headers().get(header::CONTENT_TYPE).is_some_and(|media_type| media_type == "application/json") {
        let page = Oops::of(response.status()).into_response();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        if let Some(media_type) = page.headers().get(header::CONTENT_TYPE) {
            response.headers_mut().insert(header::CONTENT_TYPE, media_type.clone());
        }
        *response.body_mut() = page.into_body();
    }
    let fields = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not none: browsers would then send their forms without an origin.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

async fn file(media_type: &'static str, bytes: &'static [u8]) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], bytes).into_response()
}
