//! `countersign generate …`: what packages bring besides, made of the command line itself.

use std::path::PathBuf;

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;

use super::{
    Cli, Failure, Outcome,
    output::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(super) enum GenerateCommand {
    /// Prints completions for a shell
    Completions {
        /// Which
        shell: Shell,
    },
    /// Writes a man page of each command into a directory, which is there
    Man {
        /// Where to
        directory: PathBuf,
    },
}

impl GenerateCommand {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "countersign", &mut script);
                output::print(Output::Text, || String::from_utf8_lossy(&script).into_owned(), || serde_json::Value::Null)
            }
            Self::Man { directory } => clap_mangen::generate_to(Cli::command(), &directory)
                .map_err(|e| Failure::CouldNotRun(format!("cannot write man pages into {}: {e}", directory.display()))),
        }
    }
}
