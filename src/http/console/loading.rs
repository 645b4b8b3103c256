//! Loading operations: a document is read, what it would change is shown, and then it is put in force.
//!
//! Nothing is kept between the two: the second form has the document once more, with a digest of what was shown, so that nothing
//! else is put in force than somebody has seen.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use sha2::{Digest as _, Sha256};

use super::{form, oops::Oops, page, visitor::Visitor};
use crate::{
    authority::{Difference, Error},
    domain::{Invalid, Need, Operation, Operations, Rule},
    http::{App, query::Query},
    openapi,
};

/// What the first form has, and the second with what was shown.
const FIELDS: [&str; 4] = ["document", "base_path", "rules", "shown"];

/// What somebody has sent.
struct Given {
    document: String,
    base_path: String,
    rules: String,
}

impl Given {
    fn of(form: &Query) -> Self {
        let text = |name| form.text(name).unwrap_or_default();
        Self { document: text("document"), base_path: text("base_path").trim().to_owned(), rules: text("rules").trim().to_owned() }
    }

    /// What the document says, by these rules.
    async fn read(&self) -> Result<Operations, Invalid> {
        if self.document.trim().is_empty() {
            return Err(Invalid::one("the document", "required", "must be pasted, or chosen as a file"));
        }
        let rules = Rule::parse_all(&self.rules)
            .ok_or_else(|| Invalid::one("rules", "rules", "must be such as tag=Reports -> VIEW; GET,HEAD -> VIEW"))?;
        let (document, base_path) = (self.document.clone(), Some(self.base_path.clone()).filter(|path| !path.is_empty()));
        // Long ones take their time, and others are not to wait for that.
        let read = move || {
            let described = openapi::read(&document, base_path.as_deref())?;
            Operations::new(described.into_iter().map(|operation| operation.derive(&rules)).collect())
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err(Invalid::one("the document", "syntax", "cannot be read")))
    }
}

pub(super) async fn page(State(app): State<App>, visitor: Visitor) -> Result<Response, Oops> {
    visitor.owner()?;
    // As a command at this server's configuration would have it.
    let rules = app.surroundings.settings.iter().find(|shown| shown.name == "operation_rules").map(|shown| shown.value.clone());
    let given = Given { document: String::new(), base_path: String::new(), rules: rules.unwrap_or_default() };
    Ok(first(&visitor, StatusCode::OK, &given, None))
}

fn first(visitor: &Visitor, status: StatusCode, given: &Given, problem: Option<&str>) -> Response {
    let body = html! {
        p .path { a href="/console/operations" { "Operations" } }
        h1 { "Load operations" }
        p { "With the OpenAPI document of your API. You see what it would change before anything does." }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        form method="post" action="/console/operations/diff" {
            (page::key(visitor))
            div .field.wide {
                label for="document" { "Document" }
                textarea #document name="document" rows="16" required spellcheck="false" autocomplete="off" { "\n" (given.document) }
                p .hint { "In YAML or JSON, with " code { "x-required-permissions" } " where an operation says what it needs. At most 8 MiB as it is sent." }
                p .file hidden { label for="file" { "From a file" } input #file type="file" accept=".yaml,.yml,.json" data-into="#document"; }
            }
            div .field {
                label for="base_path" { "Base path" }
                input #base_path name="base_path" value=(given.base_path) placeholder="/v1" autocomplete="off" spellcheck="false";
                p .hint { "What stands before the document's paths where gateways see them; empty is what its server says." }
            }
            div .field.wide {
                label for="rules" { "Rules" }
                input #rules name="rules" value=(given.rules) placeholder="tag=Reports -> VIEW; GET,HEAD -> VIEW" autocomplete="off" spellcheck="false";
                p .hint { "For operations that do not say what they need; the first that matches. An operation without either is nobody's." }
            }
            button { "Show what changes" }
        }
    };
    page::page(visitor, status, "Operations", &body)
}

pub(super) async fn diff(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let form = form::read_long(&app, &visitor, &headers, body, &FIELDS[..3]).await?;
    visitor.owner()?;
    let given = Given::of(&form);
    match given.read().await {
        Ok(operations) => second(&app, &visitor, StatusCode::OK, &given, &operations, None).await,
        Err(invalid) => Ok(first(&visitor, StatusCode::BAD_REQUEST, &given, Some(&page::problems(&invalid)))),
    }
}

pub(super) async fn load(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let form = form::read_long(&app, &visitor, &headers, body, &FIELDS).await?;
    let owner = visitor.owner()?;
    let given = Given::of(&form);
    let operations = match given.read().await {
        Ok(operations) => operations,
        Err(invalid) => return Ok(first(&visitor, StatusCode::BAD_REQUEST, &given, Some(&page::problems(&invalid)))),
    };
    let (shown, difference) = difference(&app, &visitor, &operations).await?;
    if form.text("shown") != Some(shown) || difference.is_empty() {
        let changed = "Nothing was loaded: what is in force, or the document, is not what you were shown. Look at it once more.";
        return second(&app, &visitor, StatusCode::CONFLICT, &given, &operations, Some(changed)).await;
    }
    let (_, receipt) = app.authority.load_operations(&owner, &operations).await?;
    let until =
        if receipt.bound.is_zero() { String::new() } else { format!("&until={}", receipt.effective_at.to_string().replace(':', "%3A")) };
    Ok(Redirect::to(&format!("/console/operations?done=yes{until}")).into_response())
}

/// What loading would change, and a digest of it: of what is in force, and what would be.
async fn difference(app: &App, visitor: &Visitor, operations: &Operations) -> Result<(String, Difference), Oops> {
    let loaded_at = match app.authority.get_operations(&visitor.operator).await {
        Ok((_, loaded_at)) => loaded_at.to_string(),
        Err(Error::NotFound | Error::Tampered) => String::new(),
        Err(error) => return Err(error.into()),
    };
    let difference = app.authority.diff_operations(&visitor.operator, operations).await?;
    let mut digest = Sha256::new();
    digest.update(loaded_at);
    for Operation { method, path, id, need, because } in operations.all() {
        for part in [method, path, id, &need.to_string(), because] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digest, difference))
}

async fn second(
    app: &App,
    visitor: &Visitor,
    status: StatusCode,
    given: &Given,
    operations: &Operations,
    problem: Option<&str>,
) -> Result<Response, Oops> {
    let (shown, difference) = difference(app, visitor, operations).await?;
    let nobody = operations.all().iter().filter(|operation| operation.need == Need::Unknown).count();
    let hidden = |name: &str, value: &str| html! { input type="hidden" name=(name) value=(value); };
    let again = html! { (hidden("document", &given.document)) (hidden("base_path", &given.base_path)) (hidden("rules", &given.rules)) };
    let body = html! {
        p .path { a href="/console/operations" { "Operations" } " › " a href="/console/operations/load" { "Load operations" } }
        h1 { "What changes" }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        p { "The document has " (operations.all().len()) " operations. Nothing is in force yet." }
        @if nobody > 0 {
            (page::wrong(&format!("{nobody} of them nobody may do: the document does not say what they need, and no rule matches.")))
        }
        @if difference.is_empty() {
            div .empty { h2 { "Nothing changes" } p { "What it says is in force already." } p { a .button.plain href="/console/operations" { "To the operations" } } }
        } @else {
            (changed(&difference.changed))
            (plain("Added", &difference.added, "Needs"))
            (plain("Removed, and nobody's from then on", &difference.removed, "Needed"))
            form .inline method="post" action="/console/operations" {
                (page::key(visitor)) (again) (hidden("shown", &shown))
                button { "Load them" }
                a .button.plain href="/console/operations" { "Leave it as it is" }
            }
        }
    };
    Ok(page::page(visitor, status, "Operations", &body))
}

fn changed(all: &[(Operation, Operation)]) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 { "Changed: " (all.len()) }
            div .scroll tabindex="0" role="region" aria-label="Changed operations" {
                table {
                    thead { tr {
                        th scope="col" { "Method" } th scope="col" { "Path" } th scope="col" { "Needed" } th scope="col" { "Needs" } th scope="col" { "Because" }
                    } }
                    tbody {
                        @for (before, after) in all {
                            tr {
                                td { code { (after.method) } }
                                td data-label="Path" { code { (after.path) } }
                                td data-label="Needed" { (before.need) }
                                td data-label="Needs" {
                                    span { (after.need) @if before.need.is_met_by(after.need) { "" } @else { " " span .status.ended { "less than before" } } }
                                }
                                td data-label="Because" { (after.because) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn plain(what: &str, all: &[Operation], needs: &str) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 { (what) ": " (all.len()) }
            div .scroll tabindex="0" role="region" aria-label=(what) {
                table {
                    thead { tr { th scope="col" { "Method" } th scope="col" { "Path" } th scope="col" { (needs) } th scope="col" { "Because" } } }
                    tbody {
                        @for operation in all {
                            tr {
                                td { code { (operation.method) } }
                                td data-label="Path" { code { (operation.path) } }
                                td data-label=(needs) { (operation.need) }
                                td data-label="Because" { (operation.because) }
                            }
                        }
                    }
                }
            }
        }
    }
}
