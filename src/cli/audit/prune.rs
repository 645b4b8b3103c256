//! `countersign audit prune`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{heads, moment, refused};
use crate::cli::{
    Outcome,
    copying::number,
    database, open,
    output::{self, Output},
    settings::StoreSettings,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Prune {
    /// Remove entries from before this moment, in RFC 3339; export them first
    #[arg(long, value_name = "MOMENT")]
    before: String,
    /// Also what is not 30 days old: a server that is down now may have to be told to start
    #[arg(long)]
    recent: bool,
    /// A file with heads in its lines, against which the log is verified first [default: the file of audit_head]
    #[arg(long = "heads", value_name = "FILE")]
    heads: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Prune {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let before = refused(moment(Some(&self.before), "--before", true)?, "--before", "a moment")?;
        let kept = heads(&self.heads, &config)?;
        let (authority, operator) = open(&self.settings).await?;
        let pruned = authority.prune_audit(&operator, &database(&config), &config.keys, &kept, before, self.recent).await?;
        let text = || match pruned.entries {
            0 => "There is nothing to prune.".to_owned(),
            entries => format!("removed {} audit entries, up to {}", number(entries), number(pruned.through)),
        };
        output::print(self.output, text, || json!({ "entries": pruned.entries, "through": pruned.through }))
    }
}
