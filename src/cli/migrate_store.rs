//! `countersign migrate-store`

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure, Outcome, copying, database,
    output::{self, Output},
    settings::StoreSettings,
};
use crate::{
    authority::{self, Database, Unfinished},
    config::without_password,
    files,
};

/// What is copied is the database of the configuration. The other one is no setting: it is named once in its life, and a
/// variable for it could be left behind for whoever comes next.
#[derive(Debug, Args)]
pub(super) struct MigrateStore {
    /// The database that takes the place: sqlite:///DIRECTORY, postgres://USER@HOST/DATABASE, or @FILE with such a URL in it
    #[arg(long, value_name = "URL")]
    to: String,
    /// Takes the place, which needs all servers on the old one stopped. Without it nothing happens to the old one: run it
    /// first while they serve, and then only what has changed is left to copy
    #[arg(long)]
    finish: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

/// Bytes of a file with a URL, at the most.
const LONGEST: u64 = 1 << 16;

/// Reads what `--to` says.
fn parse(to: &str) -> Result<Database, Failure> {
    let of_file;
    let url = match to.strip_prefix('@') {
        Some(file) => {
            of_file = files::read_text(file.as_ref(), LONGEST).map_err(|e| Failure::CouldNotRun(format!("cannot read {file}: {e}")))?;
            of_file.trim()
        }
        None if without_password(to) != to => {
            // Everybody on the machine can read a command line.
            return Err(Failure::CouldNotRun("--to: a password is never an argument; put the URL into a file and say @FILE".to_owned()));
        }
        None => to,
    };
    match url.strip_prefix("sqlite://") {
        Some(directory) if !directory.is_empty() => Ok(Database::Sqlite(PathBuf::from(directory))),
        None if url.starts_with("postgres://") || url.starts_with("postgresql://") => Ok(Database::Postgres(url.to_owned())),
        _ => {
            Err(Failure::CouldNotRun("--to must be sqlite:///DIRECTORY, a URL such as postgres://user@host/database, or @FILE".to_owned()))
        }
    }
}

impl MigrateStore {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let new = parse(&self.to)?;
        let mut progress = copying::Progress::new("rows");
        let tell = |done, of| progress.tell(done, of);
        let copied = authority::move_to(&database(&config), &new, &config.keys, self.finish, tell).await.map_err(Failure::CouldNotRun)?;
        let told = copying::json(&copied, progress.end());
        let next = match copied.unfinished {
            None => {
                let setting = match new {
                    Database::Sqlite(directory) => format!("with --data {} and no --database", directory.display()),
                    Database::Postgres(_) => "with its URL in COUNTERSIGN_DATABASE".to_owned(),
                };
                format!(
                    "It has the place of the old one, on which nothing starts any more. Start the servers {setting}; the key file stays what it is: {}",
                    config.keys
                )
            }
            Some(Unfinished::LateChange) => "Something was changed at the last moment: run the same again".to_owned(),
            Some(_) => {
                "Nothing starts on the copy yet. Stop the servers and run the same with --finish, which takes about as long as this if nothing was left to write".to_owned()
            }
        };
        output::print(self.output, || format!("{}\n{next}", copying::text("copied", &told)), || told.clone())?;
        if copied.unfinished == Some(Unfinished::LateChange) {
            return Err(Failure::Refused("not finished: something was changed at the last moment; run the same again".to_owned()));
        }
        copying::outcome(&told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to() {
        let parsed = |to: &str| parse(to).map(|database| matches!(database, Database::Sqlite(_)));
        assert!(parsed("sqlite:///var/lib/countersign").is_ok_and(|sqlite| sqlite));
        assert!(parsed("postgres://me@db/x").is_ok_and(|sqlite| !sqlite));
        for to in ["", "sqlite://", "/var/lib", "mysql://x", "@/nowhere", "postgres://me:secret@db/x", "postgres://db/x?password=secret"] {
            let Err(Failure::CouldNotRun(said)) = parse(to) else { panic!("{to}") };
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
