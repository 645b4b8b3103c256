//! What this server was told, and by whom.

use axum::{extract::State, response::Response};
use http::StatusCode;
use maud::{Markup, html};

use super::{oops::Oops, page, visitor::Visitor};
use crate::{
    authority::Error,
    config::{Origin, Shown},
    http::App,
};

pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, Oops> {
    visitor.operator.may_oversee().map_err(Error::from)?;
    let (told, untold): (Vec<_>, Vec<_>) = app.surroundings.settings.iter().partition(|shown| shown.origin != Origin::Default);
    let body = html! {
        h1 { "Settings" }
        p {
            "What this server goes by since its start. A flag beats a variable of the environment, that beats the configuration file, and \
             that the default; none of them can be changed here. What is secret in one is not shown."
        }
        h2 { "Said by somebody" }
        @if told.is_empty() {
            div .empty {
                h2 { "Nobody said anything" }
                p { "It goes by the defaults alone. Say something else with a flag, a variable " code { "COUNTERSIGN_…" } " or " code { "--config FILE" } ", and start it again." }
            }
        } @else { (table(&told, "Settings that somebody gave")) }
        h2 { "Left as they are" }
        (table(&untold, "Settings that are as they were"))
    };
    Ok(page::page(&visitor, StatusCode::OK, "Settings", &body))
}

fn table(settings: &[&Shown], label: &str) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label=(label) {
            table {
                thead { tr { th scope="col" { "Setting" } th scope="col" { "Value" } th scope="col" { "From" } th scope="col" { "What it is" } } }
                tbody {
                    @for shown in settings {
                        tr {
                            td { code { (shown.name) } }
                            td .ids data-label="Value" { @if shown.told().is_empty() { span .none { "empty" } } @else { (shown.told()) } }
                            td data-label="From" {
                                (shown.origin.kind())
                                @if let Some(which) = shown.origin.which() { " " code { (which) } }
                            }
                            td .detail data-label="What it is" { (shown.help) }
                        }
                    }
                }
            }
        }
    }
}
