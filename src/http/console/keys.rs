//! The server's keys: what lives by each. They are changed by commands: a key must reach all key files in between.

use axum::{extract::State, response::Response};
use http::StatusCode;
use maud::html;

use super::{oops::Oops, page, visitor::Visitor};
use crate::http::App;

pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, Oops> {
    let keys = app.authority.list_keys(&visitor.operator).await?;
    let body = html! {
        h1 { "Keys" }
        p { "What the server seals with. They are added and activated where the key file is (" code { "countersign keys add" } ", " code { "activate" } "), and retired from anywhere (" code { "countersign keys retire" } ")." }
        div .scroll tabindex="0" role="region" aria-label="Keys" {
            table {
                thead { tr {
                    th scope="col" { "Key" } th scope="col" { "State" } th scope="col" { "Live tokens" } th scope="col" { "Platforms" } th scope="col" { "Retired" }
                } }
                tbody {
                    @for key in &keys {
                        tr {
                            td { (key.id) }
                            td data-label="State" { (key.state) }
                            td .number data-label="Live tokens" { (key.sealing.tokens) }
                            td .number data-label="Platforms" { (key.sealing.platforms) }
                            td data-label="Retired" { (page::optional_moment(visitor.now, key.retired_at, "no")) }
                        }
                    }
                }
            }
        }
    };
    Ok(page::page(&visitor, StatusCode::OK, "Keys", &body))
}
