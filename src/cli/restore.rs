//! `countersign restore`

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde_json::json;

use super::{
    Failure, Outcome, copying, database, operator, options,
    output::{self, Output},
    settings::StoreSettings,
};
use crate::authority::{self, Authority, Journal, Reach, SystemClock, SystemEntropy};

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup, for a database that is empty; without it, the database is taken as it is
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    since: Since,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

/// What has ended since then is live in the database: one of these has to say what becomes of that.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Since {
    /// The journal of a server: what it says has ended ends again; can be given several times
    #[arg(long = "journal", value_name = "FILE")]
    journals: Vec<PathBuf>,
    /// Ends all tokens: nobody knows which have ended since
    #[arg(long)]
    invalidate_all: bool,
}

impl Restore {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        // Before anything is copied.
        let journals = Journal::read_all(&self.since.journals, &config.keys).await.map_err(Failure::Refused)?;
        let reaches: Vec<_> = journals.iter().map(Journal::reach).collect();
        let mut copied = None;
        if let Some(from) = &self.from {
            let mut progress = copying::Progress::new("rows");
            let tell = |done, of| progress.tell(done, of);
            let done = authority::restore(from, &database(&config), &config.keys, tell).await.map_err(Failure::CouldNotRun)?;
            copied = Some(copying::json(&done, progress.end()));
        }
        let authority = Authority::open_restored(options(config, false), Arc::new(SystemClock), Arc::new(SystemEntropy)).await;
        let authority = Arc::new(authority.map_err(Failure::CouldNotRun)?);
        let done = authority.after_restore(&operator(), &journals, self.since.invalidate_all).await?;
        let text = || {
            let restored = copied.as_ref().map(|copied| match output::list(copied, "tables") {
                [] => format!("restored before, the feed is now at place {}\n", copied["seq"]),
                _ => format!("{}\n", copying::text("restored", copied)),
            });
            let reaches: String = reaches.iter().map(|reach| format!("{reach}\n")).collect();
            format!(
                "{}{reaches}{} tokens have ended again, {} platforms are disabled again, {} keys are retired again; {} journals were ahead of the database, and their servers can go on.",
                restored.unwrap_or_default(),
                copying::number(done.tokens),
                done.platforms,
                done.keys,
                done.journals
            )
        };
        let json = || {
            let mut json = copied.clone().unwrap_or_else(|| json!({}));
            json["finished"] = true.into();
            json["tokens"] = done.tokens.into();
            json["platforms"] = done.platforms.into();
            json["keys"] = done.keys.into();
            json["journals"] = done.journals.into();
            let reach = |reach: &Reach| {
                let Reach { journal, after, through, at, is_torn } = reach;
                json!({ "journal": journal, "after": after, "through": through, "at": at.to_string(), "torn": is_torn })
            };
            json["reach"] = reaches.iter().map(reach).collect();
            json
        };
        output::print(self.output, text, json)?;
        copied.map_or(Ok(()), |copied| copying::outcome(&copied))
    }
}
