//! `countersign operations …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    output::{self, list, member},
    reach::{Asking, Declined},
};
use crate::{
    authority::Error,
    domain::{Need, Operations, Permission},
    files,
    http::v1::wire,
    openapi,
};

#[derive(Debug, Subcommand)]
pub(super) enum OperationsCommand {
    /// Reads an OpenAPI document, shows what it changes, and puts it in force in every running server
    Load(Load),
    /// Lists the operations in force, and what a token needs for each
    List(Asking),
    /// Says which operation a request is, what it needs, and what says so
    Explain(Explain),
}

#[derive(Debug, Args)]
pub(super) struct Load {
    /// The document, in YAML or JSON
    file: PathBuf,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// The path that stands before those of the document [default: that of its server]
    #[arg(long, value_name = "PATH")]
    base_path: Option<String>,
    /// What operations need whose document does not say, as "tag=Reports -> VIEW; GET,HEAD -> VIEW"; the first that matches
    #[arg(long, value_name = "RULES")]
    operation_rules: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The request's method
    method: String,
    /// Its path, as the client sends it
    path: String,
    #[command(flatten)]
    asking: Asking,
}

impl OperationsCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Load(load) => load.run().await,
            Self::List(asking) => list_all(&asking).await,
            Self::Explain(explain) => explain.run().await,
        }
    }
}

fn none_loaded(declined: Declined) -> Declined {
    declined
        .or_missing("no operations are loaded yet; see countersign operations load --help")
        .or_edited("the operations were edited in the database, so nobody may do any; load them again")
}

/// What an operation of an answer needs.
fn need(operation: &Value) -> Need {
    let permission = |name: &Value| Permission::parse(name.as_str()?);
    // What nobody knows is what nobody has: so are words that are new.
    let needs = operation["needs"].as_array().and_then(|names| names.iter().map(permission).collect::<Option<_>>());
    needs.map_or(Need::Unknown, Need::Permissions)
}

/// Bytes of a document, at the most: as many as the operator API takes.
const LONGEST: u64 = 8 << 20;

impl Load {
    async fn run(mut self) -> Outcome {
        self.asking.settings.0.flags.extend(self.operation_rules.take().map(|rules| ("operation_rules".to_owned(), rules)));
        let config = self.asking.settings.config()?;
        let text =
            files::read_text(&self.file, LONGEST).map_err(|e| Failure::CouldNotRun(format!("cannot read {}: {e}", self.file.display())))?;
        let described = openapi::read(&text, self.base_path.as_deref()).map_err(Error::from)?;
        let operations = described.into_iter().map(|operation| operation.derive(&config.operation_rules)).collect();
        let operations = Operations::new(operations).map_err(Error::from)?;
        let all: Vec<_> = operations.all().iter().map(wire::operation).collect();
        let nobody = operations.all().iter().filter(|operation| operation.need == Need::Unknown).count();
        let (method, path) = if self.dry_run { (Method::POST, "/operations/diff") } else { (Method::PUT, "/operations") };
        let json = self.asking.reach().await?.ask(method, path, Some(json!({ "operations": all }))).await?;
        self.asking.print(|| difference_text(&json, nobody), &json)
    }
}

/// The changes line by line, and what they come to.
fn difference_text(difference: &Value, nobody: usize) -> String {
    let named = |operation: &Value| format!("{:<7} {}", member(operation, "method"), member(operation, "path"));
    let (added, removed, changed) = (list(difference, "added"), list(difference, "removed"), list(difference, "changed"));
    let mut lines = Vec::new();
    lines.extend(added.iter().map(|new| format!("+ {}  needs {}  ({})", named(new), need(new), member(new, "because"))));
    lines.extend(removed.iter().map(|old| format!("- {}  needed {}", named(old), need(old))));
    for change in changed {
        let (before, new) = (need(&change["before"]), &change["after"]);
        let less = if before.is_met_by(need(new)) { "" } else { "  LESS than before" };
        lines.push(format!("~ {}  needs {} instead of {before}{less}  ({})", named(new), need(new), member(new, "because")));
    }
    if lines.is_empty() {
        lines.push("Nothing changes.".to_owned());
    }
    if nobody > 0 {
        lines.push(format!(
            "{nobody} of them nobody may do: the document does not say what they need, and no rule of operation_rules matches."
        ));
    }
    let count = member(difference, "operations");
    lines.push(match &difference["receipt"] {
        Value::Null => format!("{count} operations read; nothing was put in force. Without --dry-run they are."),
        receipt => format!("{count} operations loaded. {}", output::receipt_text(receipt)),
    });
    lines.join("\n")
}

async fn list_all(asking: &Asking) -> Outcome {
    let json = asking.reach().await?.get("/operations").await.map_err(none_loaded)?;
    let row = |operation: &Value| {
        let of = |name| member(operation, name);
        vec![of("method"), of("path"), need(operation).to_string(), of("because"), of("operationId")]
    };
    let text = || {
        let rows: Vec<_> = list(&json, "operations").iter().map(row).collect();
        output::table(&["METHOD", "PATH", "NEEDS", "BECAUSE", "OPERATION"], &rows)
    };
    asking.print(text, &json)
}

impl Explain {
    async fn run(self) -> Outcome {
        let asked = json!({ "method": self.method, "path": self.path });
        let json = self.asking.reach().await?.post("/operations/explain", Some(asked)).await.map_err(none_loaded)?;
        let text = || {
            let operation = &json["operation"];
            if operation.is_null() {
                return format!("needs      nobody\nbecause    {}", member(&json, "because"));
            }
            let id = Some(member(operation, "operationId")).filter(|id| !id.is_empty()).map(|id| format!(" ({id})"));
            let rows = [
                ("operation", format!("{} {}{}", member(operation, "method"), member(operation, "path"), id.unwrap_or_default())),
                ("needs", need(operation).to_string()),
                ("because", member(operation, "because")),
            ];
            rows.map(|(name, value)| format!("{name:<10} {value}")).join("\n")
        };
        self.asking.print(text, &json)
    }
}
