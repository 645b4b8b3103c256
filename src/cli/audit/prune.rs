//! `countersign audit prune`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{HEADS, heads, moment, refused};
use crate::{
    authority::audit::Pruning,
    cli::{Outcome, copying::number, open_as, operator, reach::Asking},
    http::v1::wire,
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
    #[command(flatten)]
    asking: Asking,
}

impl Prune {
    pub(super) async fn run(self) -> Outcome {
        let config = self.asking.settings.config()?;
        let before = refused(moment(Some(&self.before), "--before", true)?, "--before", "a moment")?;
        let kept = heads(&self.heads, &config)?;
        let json = match config.server {
            Some(_) => {
                let body = json!({ "before": before.to_string(), "recent": self.recent, "heads": kept.newest(HEADS) });
                self.asking.reach().await?.post("/audit/prune", Some(body)).await?
            }
            // Here the log may be as long as it likes.
            None => {
                let pruning = Pruning { before, recent: self.recent, most: None };
                wire::pruned(&open_as(config).await?.prune_audit(&operator(), kept, pruning).await?)
            }
        };
        let [entries, through] = ["entries", "through"].map(|name| json[name].as_u64().unwrap_or(0));
        let text = || match entries {
            0 => "There is nothing to prune.".to_owned(),
            entries => format!("removed {} audit entries, up to {}", number(entries), number(through)),
        };
        self.asking.print(text, &json)
    }
}
