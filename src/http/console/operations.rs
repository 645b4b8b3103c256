//! The operations of the platform's API, and what a request would need.

use axum::{extract::State, response::Response};
use http::{StatusCode, Uri};
use maud::{Markup, html};

use super::{oops::Oops, page, visitor::Visitor};
use crate::{
    authority::Error,
    domain::{Operation, Operations, Timestamp},
    http::{App, query::Query, v1},
};

pub(super) async fn list(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let query = Query::parse(uri.query(), &["method", "path", "done", "until"]).understood()?;
    let (method, path) = (query.text("method").unwrap_or_else(|| "GET".to_owned()), query.text("path").unwrap_or_default());
    let owns = visitor.owner().is_ok();
    let body = match app.authority.get_operations(&visitor.operator).await {
        Ok((operations, loaded_at)) => html! {
            div .title {
                h1 { "Operations" }
                @if owns { a .button href="/console/operations/load" { "Load another document" } }
            }
            @if query.text("done").is_some() {
                @match query.text("until").and_then(|text| Timestamp::parse_rfc3339(&text, false)) {
                    Some(until) => (page::notice(&format!("They are loaded. Every server goes by them by {until}; some could not be reached."))),
                    None => (page::notice("They are loaded. Every server goes by them.")),
                }
            }
            p { "What a token needs for each operation of your API. Loaded " (page::moment(visitor.now, loaded_at)) "." }
            (explain(&operations, &method, path.trim()))
            (table(operations.all()))
        },
        Err(Error::NotFound) => html! {
            h1 { "Operations" }
            div .empty {
                h2 { "None are loaded" }
                p { "With the OpenAPI document of your API, gateways can ask by operation, and nobody has to write permissions into routes." }
                @if owns { p { a .button href="/console/operations/load" { "Load a document" } } }
                @else { p { "An owner loads it, here or with " code { "countersign operations load openapi.yaml" } "." } }
            }
        },
        Err(error) => return Err(error.into()),
    };
    Ok(page::page(&visitor, StatusCode::OK, "Operations", &body))
}

fn explain(operations: &Operations, method: &str, path: &str) -> Markup {
    html! {
        form .filters method="get" action="/console/operations" {
            div .field {
                label for="method" { "Method" }
                select #method name="method" {
                    @for known in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] { option selected[known == method] { (known) } }
                }
            }
            div .field.grow { label for="path" { "Path" } input #path name="path" value=(path) placeholder="/v1/customers/42" autocomplete="off" spellcheck="false"; }
            button { "What does it need?" }
        }
        @if !path.is_empty() {
            @match v1::explained(operations, method, path) {
                Ok(operation) => {
                    p .notice role="status" {
                        strong { (operation.need) } ": it is " code { (operation.method) " " (operation.path) } ", by " (operation.because) "."
                    }
                }
                Err(reason) => { p .wrong role="status" { strong { "nobody" } ": " (reason) "." } }
            }
        }
    }
}

fn table(all: &[Operation]) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Operations" {
            table {
                thead { tr { th scope="col" { "Method" } th scope="col" { "Path" } th scope="col" { "Needs" } th scope="col" { "Because" } } }
                tbody {
                    @for operation in all {
                        tr {
                            td { code { (operation.method) } }
                            td data-label="Path" { code { (operation.path) } }
                            td data-label="Needs" { (operation.need) }
                            td data-label="Because" { (operation.because) }
                        }
                    }
                }
            }
        }
    }
}
