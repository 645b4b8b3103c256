//! `countersign backup`

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure, Outcome, copying, database,
    output::{self, Output},
    settings::StoreSettings,
};
use crate::authority;

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to make; one that is there is never replaced
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Backup {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let mut progress = copying::Progress::new("rows");
        let tell = |done, of| progress.tell(done, of);
        let copied = authority::back_up(&database(&config), &config.keys, &self.to, tell).await.map_err(Failure::CouldNotRun)?;
        let took = progress.end();
        let text =
            || format!("{}: {}\n{}", copying::text("backed up", &copied, took), self.to.display(), copying::of_key_file(&config.keys));
        output::print(self.output, text, || copying::json(&copied, took))?;
        copying::outcome(&copied)
    }
}
