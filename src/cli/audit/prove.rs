//! `countersign audit prove`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::heads;
use crate::{
    authority::{SystemClock, audit},
    cli::{
        Failure, Outcome, database,
        output::{self, Output},
        settings::StoreSettings,
    },
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Prove {
    /// The place of the entry
    seq: u64,
    /// Prove it by a head that was kept in this file, the newest; without, by one that is signed now
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Prove {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let kept = (!self.heads.is_empty()).then(|| heads(&self.heads, &config)).transpose()?;
        let proof = audit::prove(&database(&config), &config.keys, self.seq, kept.as_ref(), &SystemClock).await;
        let proof = proof.map_err(Failure::Refused)?;
        let json = || json!({ "entry": proof.entry, "path": proof.path, "head": proof.head });
        output::print(Output::Json, String::new, json)
    }
}
