//! `countersign backup`

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::Value;

use super::{
    Failure, Outcome, copying, database,
    reach::{Asking, There},
    told_to_end,
};
use crate::{authority, config::Config, files};

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to make; one that is there is never replaced
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    asking: Asking,
}

impl Backup {
    pub(super) async fn run(self) -> Outcome {
        let config = self.asking.settings.config()?;
        let (copied, of_key) = match config.server.clone() {
            None => (self.here(&config).await?, copying::of_key_file(&config.keys)),
            Some(url) => {
                let copied = self.there(&There::new(url, &config)?).await?;
                (copied, "The key is not in it: keep the server's key file elsewhere. Without it nothing of this verifies.".to_owned())
            }
        };
        self.asking.print(|| format!("{}: {}\n{of_key}", copying::text("backed up", &copied), self.to.display()), &copied)?;
        copying::outcome(&copied)
    }

    async fn here(&self, config: &Config) -> Result<Value, Failure> {
        let mut progress = copying::Progress::new("rows");
        let tell = |done, of| progress.tell(done, of);
        let copied = authority::back_up(&database(config), &config.keys, &self.to, tell).await.map_err(Failure::CouldNotRun)?;
        Ok(copying::json(&copied, progress.end()))
    }

    /// Has a server make it, and takes it over: beside its name until it is whole, and no longer if it never is.
    async fn there(&self, there: &There) -> Result<Value, Failure> {
        authority::refuse_there(&self.to).map_err(Failure::CouldNotRun)?;
        let mut partial = Partial::new(&self.to)?;
        let whole = copying::Progress::new("bytes");
        whole.wait("the server makes it");
        // The speed of what is sent, without the time in which nothing was.
        let mut sent = None;
        let tell = |done, of| sent.get_or_insert_with(|| copying::Progress::new("bytes")).tell(done, of);
        let copied = tokio::select! {
            copied = there.download("/backup", &mut partial.file, tell) => copied?,
            ended = told_to_end("ended before the backup was whole; nothing of it is kept") => return Err(ended),
        };
        let unnamed = |e: std::io::Error| Failure::CouldNotRun(format!("cannot write {}: {e}", self.to.display()));
        partial.file.sync_all().map_err(unnamed)?;
        let rows = authority::check_backup(&partial.path).await.map_err(Failure::CouldNotRun)?;
        if copied["rows"] != rows || copied["finished"] != true {
            return Err(Failure::CouldNotRun(format!("what came holds {rows} rows, and is not what the server says that it has sent")));
        }
        files::name_new(&partial.path, &self.to).map_err(unnamed)?;
        Ok(copying::timed(copied, whole.end()))
    }
}

/// A file that is not whole yet, and goes with this.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn new(name: &Path) -> Result<Self, Failure> {
        let path = authority::partial_backup(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::CouldNotRun(format!(
                "{} is there: another backup to this name is under way, or was interrupted; remove it, or choose another name",
                path.display()
            )),
            _ => Failure::CouldNotRun(format!("cannot write {}: {e}", path.display())),
        })?;
        Ok(Self { path, file })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It has its name, and is here no more.
        let _ = fs::remove_file(&self.path);
    }
}
