//! What whoever runs a database should know of it: how it is, and what may become a trouble. Nothing is changed.

use super::{Database, Error, Store};
use crate::domain::Timestamp;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    /// What it is, in a line.
    pub(crate) found: String,
    /// What may become a trouble, and what to do about it.
    pub(crate) doubts: Vec<(String, &'static str)>,
}

impl Store {
    /// Looks at the database, which is this one.
    pub(crate) async fn examine(&self, database: &Database, now: Timestamp) -> Result<Examined, Error> {
        match (self, database) {
            (Self::Sqlite(sqlite), _) => sqlite.examine().await,
            (Self::Postgres(postgres), Database::Postgres(url)) => postgres.examine(url, now.millis()).await,
            (Self::Postgres(_), Database::Sqlite(_)) => Ok(Examined::default()),
        }
    }
}
