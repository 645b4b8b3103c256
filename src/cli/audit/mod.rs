//! `countersign audit …`

mod export;
mod key;
mod list;
mod prove;
mod prune;
mod verify;

use std::{fs::File, io::BufReader, path::PathBuf};

use clap::Subcommand;

use super::{Failure, Outcome};
use crate::{
    authority::audit::Heads,
    config::Config,
    domain::{HeadSink, Timestamp},
    files::{AT_ONCE, open_plain},
};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Lists changes, newest first
    List(list::List),
    /// Writes all entries to standard output, oldest first, for an archive or another system
    Export(export::Export),
    /// Verifies the whole log: every entry behind the one before, and all of them against heads that were kept elsewhere
    Verify(verify::Verify),
    /// Proves one entry to somebody who sees no other and has nothing but the public key
    Prove(prove::Prove),
    /// Removes old entries, when the whole log was verified; what is left is proven as before
    Prune(prune::Prune),
    /// Prints the public keys with which heads and proofs are checked
    Key(key::Key),
}

impl AuditCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::List(command) => command.run().await,
            Self::Export(command) => command.run().await,
            Self::Verify(command) => command.run().await,
            Self::Prove(command) => command.run().await,
            Self::Prune(command) => command.run().await,
            Self::Key(command) => command.run().await,
        }
    }
}

/// Heads that a server is sent: as many as it takes.
const HEADS: usize = 100;

fn refused<T>(parsed: Option<T>, flag: &str, what: &str) -> Result<T, Failure> {
    parsed.ok_or_else(|| Failure::Refused(format!("{flag} must be {what}")))
}

/// A moment that a flag gives; `round_up` as [`Timestamp::parse_rfc3339`] has it.
fn moment(text: Option<&str>, flag: &str, round_up: bool) -> Result<Option<Timestamp>, Failure> {
    let parsed = text.map(|text| refused(Timestamp::parse_rfc3339(text, round_up), flag, "a moment such as 2025-07-21T17:32:28Z"));
    parsed.transpose()
}

/// The heads in these files; where none is named, in those that the configuration says, as far as they are there.
fn heads(files: &[PathBuf], config: &Config) -> Result<Heads, Failure> {
    let configured = config.audit_head.iter().filter_map(|sink| match sink {
        HeadSink::File(path) if path.exists() => Some(path),
        _ => None,
    });
    let is_named = !files.is_empty();
    let files: Vec<_> = if files.is_empty() { configured.collect() } else { files.iter().collect() };
    let mut heads = Heads::default();
    for file in files {
        // One of the configuration is a file; what somebody names may be a pipe.
        let opened = if is_named { File::open(file) } else { open_plain(File::options().read(true), AT_ONCE, file) };
        let read = opened.and_then(|opened| heads.read(&file.display().to_string(), BufReader::new(opened)));
        read.map_err(|e| Failure::CouldNotRun(format!("cannot read {}: {e}", file.display())))?;
    }
    Ok(heads)
}
