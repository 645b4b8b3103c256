//! The processes that answer from memory: which there are, and how far each has followed.

use axum::{extract::State, response::Response};
use http::StatusCode;
use maud::{Markup, html};

use super::{oops::Oops, page, visitor::Visitor};
use crate::{
    authority::{Figures, Node},
    http::App,
};

pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, Oops> {
    let (last, nodes) = app.authority.list_nodes(&visitor.operator).await?;
    let body = html! {
        h1 { "Nodes" }
        p {
            "The processes that answer from memory. The last change is number " (last) "; whoever ends a token waits until each of them \
             knows, or believes nothing any more."
        }
        @if nodes.is_empty() {
            div .empty {
                h2 { "Nobody answers from memory" }
                p { "Not even this server, which asks the database for each credential: its row was removed, or it is about to end. Its log says more." }
            }
        } @else { (table(&visitor, last, &nodes)) }
        (this(&app.authority.figures()))
    };
    Ok(page::page(&visitor, StatusCode::OK, "Nodes", &body))
}

fn table(visitor: &Visitor, last: u64, nodes: &[Node]) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Nodes" {
            table {
                thead { tr {
                    th scope="col" { "Node" } th scope="col" { "State" } th scope="col" { "Followed to" } th scope="col" { "Waited for" }
                    th scope="col" { "Without the database" } th scope="col" { "Seen" }
                } }
                tbody {
                    @for node in nodes {
                        tr {
                            td { (page::copyable(&node.id)) @if node.is_here { " this one" } }
                            td data-label="State" { (state(last, node)) }
                            td .number data-label="Followed to" {
                                @match node.followed { Some(place) => { (place) } None => { span .none { "it does not say" } } }
                            }
                            td .number data-label="Waited for" { (page::length(node.lease)) }
                            td .number data-label="Without it" {
                                @if node.stale.is_zero() { span .none { "refuses" } } @else { "goes on for " (page::length(node.stale)) }
                            }
                            td data-label="Seen" { (page::moment(visitor.now, node.seen_at)) }
                        }
                    }
                }
            }
        }
    }
}

fn state(last: u64, node: &Node) -> Markup {
    if node.suspected {
        return html! { span .status.ended { "Not seen; about to be removed" } };
    }
    match node.followed.map(|followed| last.saturating_sub(followed)) {
        None => html! { span .status.live { "There" } },
        Some(0) => html! { span .status.live { "Knows everything" } },
        Some(1) => html! { span .status { "1 change behind" } },
        Some(behind) => html! { span .status { (behind) " changes behind" } },
    }
}

/// What this process says of itself.
fn this(figures: &Figures) -> Markup {
    let good = |text: &str| html! { span .status.live { (text) } };
    let bad = |text: &str, next: &str| html! { span .status.ended { (text) } " " (next) };
    html! {
        h2 { "This server" }
        dl {
            dt { "Live tokens in memory" } dd { (figures.live_tokens) }
            dt { "Followed to" } dd { (figures.followed) }
            dt { "Its memory" }
            dd {
                @match figures.lease_holds {
                    Some(true) => (good("Is believed")),
                    Some(false) if figures.stale => (bad("Is older than its lease, and goes on", "Look whether the database can be reached.")),
                    Some(false) => (bad("Is too old", "Look whether the database can be reached; each credential is asked of it meanwhile.")),
                    None => { "It has none" }
                }
            }
            dt { "Journal" }
            dd {
                @if figures.journal_failing { (bad("Cannot be written", "What ends is in the database alone: look at its disk.")) }
                @else { (good("Is written")) }
            }
            dt { "Edited rows" }
            dd { @if figures.tampered == 0 { "none found" } @else { (bad(&figures.tampered.to_string(), "They are refused; the audit log names them.")) } }
            dt { "Keys that it lacks" }
            dd { @if figures.keys_lacking == 0 { "none" } @else { (bad(&figures.keys_lacking.to_string(), "Copy the newer key file to it, and send SIGHUP.")) } }
        }
    }
}
