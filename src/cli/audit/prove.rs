//! `countersign audit prove`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{HEADS, heads};
use crate::{
    authority::{SystemClock, audit},
    cli::{
        Failure, Outcome, database,
        output::{self, Output},
        reach::Reach,
        settings::ReachSettings,
    },
    http::v1::wire,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Prove {
    /// The place of the entry
    seq: u64,
    /// Prove it by a head that was kept in this file, the newest; without, by one that is signed now
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
    #[command(flatten)]
    settings: ReachSettings,
}

impl Prove {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let kept = (!self.heads.is_empty()).then(|| heads(&self.heads, &config)).transpose()?;
        let json = match config.server {
            Some(_) => {
                let body = json!({ "seq": self.seq, "heads": kept.as_ref().map(|kept| kept.newest(HEADS)) });
                Reach::of(&self.settings).await?.post("/audit/prove", Some(body)).await?
            }
            // Here the log may be as long as it likes.
            None => {
                let proof = audit::prove(&database(&config), &config.keys, self.seq, kept.as_ref(), &SystemClock).await;
                wire::proof(&proof.map_err(Failure::Refused)?)
            }
        };
        output::print(Output::Json, String::new, || json.clone())
    }
}
