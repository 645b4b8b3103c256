//! What whoever runs an embedded database should know of it.

use std::fs;

use super::{Error, Sqlite};
use crate::store::examine::Examined;

/// A file of that many bytes is not read through.
const LARGE: u64 = 2 << 30;
/// A log that grows beyond this is held by somebody who reads for long.
const LONG_LOG: u64 = 256 << 20;

impl Sqlite {
    pub(in crate::store) async fn examine(&self) -> Result<Examined, Error> {
        let bytes = |file: &std::path::Path| fs::metadata(file).map_or(0, |file| file.len());
        let (database, log) = (bytes(&self.file), bytes(&self.file.with_extension("db-wal")));
        let mut examined =
            Examined { found: format!("SQLite {}, {} MiB", rusqlite::version(), (database + log) >> 20), ..Examined::default() };
        if database <= LARGE {
            let wrong: String = self.read(|c| Ok(c.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?)).await?;
            if wrong == "ok" {
                examined.found += ", looked through: every page is in its place";
            } else {
                let then = "restore a backup (docs/operating.md), and look at the disk";
                examined.doubts.push((format!("the database is damaged: {}", wrong.replace('\n', " ")), then));
            }
        }
        if log > LONG_LOG {
            let then = "look who reads the database for long (a backup, another program), and end that";
            examined.doubts.push((format!("its log has grown to {} MiB", log >> 20), then));
        }
        Ok(examined)
    }
}
