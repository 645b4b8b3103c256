//! `countersign restore`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    Failure, Outcome, open,
    output::{self, Output},
    settings::StoreSettings,
};
use crate::authority::Journal;

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The journal of a server: what it says has ended ends again; can be given several times
    #[arg(long = "journal", value_name = "FILE", required = true)]
    journals: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Restore {
    pub(super) async fn run(self) -> Outcome {
        let journals: Vec<_> = self.journals.iter().map(|path| Journal::read(path)).collect::<Result<_, _>>().map_err(Failure::Refused)?;
        let (authority, operator) = open(&self.settings).await?;
        let done = authority.take_in(&operator, &journals).await?;
        let text = || {
            format!(
                "{} tokens have ended again, {} platforms are disabled again, {} servers can go on.",
                done.tokens, done.platforms, done.servers
            )
        };
        output::print(self.output, text, || json!({ "tokens": done.tokens, "platforms": done.platforms, "servers": done.servers }))
    }
}
