//! `countersign restore`

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use super::{
    Failure, Outcome, copying, database, operator,
    output::{self, Output},
    settings::StoreSettings,
};
use crate::authority::{self, AttemptLimits, Authority, Options, Revocations, SystemClock, SystemEntropy};

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    since: Since,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

/// What was revoked since the backup is live in it: one of these has to say what becomes of that.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Since {
    /// Revokes what this journal of revocations names; can be given several times
    #[arg(long, value_name = "FILE")]
    journal: Vec<PathBuf>,
    /// Revokes all tokens: nobody knows which were revoked since the backup
    #[arg(long)]
    invalidate_all: bool,
}

impl Since {
    fn revocations(self) -> Revocations {
        if self.invalidate_all { Revocations::All } else { Revocations::Journals(self.journal) }
    }
}

impl Restore {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let revocations = self.since.revocations();
        revocations.check().map_err(Failure::Refused)?;
        let mut progress = copying::Progress::new();
        let tell = |done, of| progress.tell(done, of);
        let copied = authority::restore(&self.from, &database(&config), &config.key_file, tell).await.map_err(Failure::CouldNotRun)?;
        let took = progress.end();
        let (database, key_file) = (database(&config), config.key_file);
        let options = Options { database, key_file, create: false, lease: None, attempts: AttemptLimits::NONE };
        let authority = Authority::open_restored(options, Arc::new(SystemClock), Arc::new(SystemEntropy)).await;
        let revoked = Arc::new(authority.map_err(Failure::CouldNotRun)?).after_restore(&operator(), &revocations).await?;
        let text = || format!("{}\n{} tokens were revoked", copying::text("restored", &copied, took), copying::number(revoked));
        let json = || {
            let mut json = copying::json(&copied, took);
            json["finished"] = true.into();
            json["revoked"] = revoked.into();
            json
        };
        output::print(self.output, text, json)?;
        copying::outcome(&copied)
    }
}
