//! `countersign operations …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure, Outcome, open, openapi,
    output::{self, Output, harmless},
    settings::StoreSettings,
};
use crate::{
    authority::{Difference, Error, Receipt},
    domain::{Need, Operation, Operations},
    http::v1::{self, wire},
};

#[derive(Debug, Subcommand)]
pub(super) enum OperationsCommand {
    /// Reads an OpenAPI document, shows what it changes, and puts it in force in every running server
    Load(Load),
    /// Lists the operations in force, and what a token needs for each
    List(List),
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
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The request's method
    method: String,
    /// Its path, as the client sends it
    path: String,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl OperationsCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Load(load) => load.run().await,
            Self::List(list) => list.run().await,
            Self::Explain(explain) => explain.run().await,
        }
    }
}

fn none_loaded(error: Error) -> Failure {
    match error {
        Error::NotFound => Failure::Refused("no operations are loaded yet; see countersign operations load --help".to_owned()),
        Error::Tampered => Failure::Refused("the operations were edited in the database, so nobody may do any; load them again".to_owned()),
        other => other.into(),
    }
}

impl Load {
    async fn run(mut self) -> Outcome {
        self.settings.flags.extend(self.operation_rules.take().map(|rules| ("operation_rules".to_owned(), rules)));
        let config = self.settings.config()?;
        let text =
            std::fs::read_to_string(&self.file).map_err(|e| Failure::CouldNotRun(format!("cannot read {}: {e}", self.file.display())))?;
        let described = openapi::read(&text, self.base_path.as_deref()).map_err(Error::from)?;
        let operations = described.into_iter().map(|operation| operation.derive(&config.operation_rules)).collect();
        let operations = Operations::new(operations).map_err(Error::from)?;
        let (authority, operator) = open(&self.settings).await?;
        let (difference, receipt) = if self.dry_run {
            (authority.diff_operations(&operator, &operations).await?, None)
        } else {
            let (difference, receipt) = authority.load_operations(&operator, &operations).await?;
            (difference, Some(receipt))
        };
        let json = || wire::difference(&operations, &difference, receipt.as_ref());
        output::print(self.output, || difference_text(&difference, &operations, receipt.as_ref()), json)
    }
}

/// The changes line by line, and what they come to.
fn difference_text(difference: &Difference, operations: &Operations, receipt: Option<&Receipt>) -> String {
    let named = |operation: &Operation| format!("{:<7} {}", operation.method, harmless(&operation.path));
    let mut lines = Vec::new();
    lines.extend(difference.added.iter().map(|new| format!("+ {}  needs {}  ({})", named(new), new.need, harmless(&new.because))));
    lines.extend(difference.removed.iter().map(|old| format!("- {}  needed {}", named(old), old.need)));
    for (old, new) in &difference.changed {
        let less = if old.need.is_met_by(new.need) { "" } else { "  LESS than before" };
        lines.push(format!("~ {}  needs {} instead of {}{less}  ({})", named(new), new.need, old.need, harmless(&new.because)));
    }
    if difference.is_empty() {
        lines.push("Nothing changes.".to_owned());
    }
    let nobody = operations.all().iter().filter(|operation| operation.need == Need::Unknown).count();
    if nobody > 0 {
        lines.push(format!(
            "{nobody} of them nobody may do: the document does not say what they need, and no rule of operation_rules matches."
        ));
    }
    let count = operations.all().len();
    lines.push(match receipt {
        None => format!("{count} operations read; nothing was put in force. Without --dry-run they are."),
        Some(receipt) => format!("{count} operations loaded. {}", output::receipt_text(receipt)),
    });
    lines.join("\n")
}

impl List {
    async fn run(self) -> Outcome {
        let (authority, operator) = open(&self.settings).await?;
        let (operations, loaded_at) = authority.get_operations(&operator).await.map_err(none_loaded)?;
        let row = |operation: &Operation| {
            vec![
                operation.method.clone(),
                harmless(&operation.path),
                operation.need.to_string(),
                harmless(&operation.because),
                harmless(&operation.id),
            ]
        };
        let text =
            || output::table(&["METHOD", "PATH", "NEEDS", "BECAUSE", "OPERATION"], &operations.all().iter().map(row).collect::<Vec<_>>());
        let json =
            || json!({ "loadedAt": loaded_at.to_string(), "operations": operations.all().iter().map(wire::operation).collect::<Vec<_>>() });
        output::print(self.output, text, json)
    }
}

impl Explain {
    async fn run(self) -> Outcome {
        let (authority, operator) = open(&self.settings).await?;
        let (operations, _) = authority.get_operations(&operator).await.map_err(none_loaded)?;
        let found = v1::explained(&operations, &self.method, &self.path);
        let text = || match found.as_ref() {
            Ok(operation) => {
                let id = if operation.id.is_empty() { String::new() } else { format!(" ({})", harmless(&operation.id)) };
                let rows = [
                    ("operation", format!("{} {}{id}", operation.method, harmless(&operation.path))),
                    ("needs", operation.need.to_string()),
                    ("because", harmless(&operation.because)),
                ];
                rows.map(|(name, value)| format!("{name:<10} {value}")).join("\n")
            }
            Err(reason) => format!("needs      nobody\nbecause    {reason}"),
        };
        let json = || match found.as_ref() {
            Ok(operation) => {
                json!({ "operation": wire::operation(operation), "needs": wire::need(operation.need), "because": operation.because })
            }
            Err(reason) => json!({ "operation": null, "needs": null, "because": reason }),
        };
        output::print(self.output, text, json)
    }
}
