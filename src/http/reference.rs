//! The published documents and the page that shows them; nothing is loaded from anywhere else.

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, header};

use super::App;

const GRID: &str = include_str!(concat!(env!("OUT_DIR"), "/grid.openapi.json"));
const BLIPS: &str = include_str!(concat!(env!("OUT_DIR"), "/blips.openapi.json"));
const OPERATOR: &str = include_str!(concat!(env!("OUT_DIR"), "/operator.openapi.json"));
/// What the page may do: load from here, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// All pages of the API listener.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/openapi/grid.json", get(|| document(GRID)))
        .route("/openapi/blips.json", get(|| document(BLIPS)))
        .route("/reference", get(|| file("text/html; charset=utf-8", include_bytes!("../../assets/reference/index.html"))))
        .route("/reference/reference.js", get(|| file("text/javascript", include_bytes!("../../assets/reference/reference.js"))))
        .route(
            "/reference/swagger-ui-bundle.js",
            get(|| file("text/javascript", include_bytes!("../../assets/reference/swagger-ui-bundle.js"))),
        )
        .route("/reference/swagger-ui.css", get(|| file("text/css", include_bytes!("../../assets/reference/swagger-ui.css"))))
}

/// On the admin listener, the document of what is there, and nowhere else: customers have no use for it.
pub(super) fn admin_routes() -> Router<App> {
    Router::new().route("/v1/openapi.json", get(|| document(OPERATOR)))
}

async fn document(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

async fn file(media_type: &'static str, bytes: &'static [u8]) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, bytes).into_response()
}
