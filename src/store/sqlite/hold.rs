//! Why nothing may be served from this database, if there is a reason.

use rusqlite::{Connection, OptionalExtension as _};

use super::{Error, Sqlite};
use crate::store::Hold;

impl Sqlite {
    pub(in crate::store) async fn hold(&self) -> Result<Option<Hold>, Error> {
        self.read(find).await
    }

    #[cfg(feature = "server")]
    pub(in crate::store) async fn release(&self) -> Result<(), Error> {
        self.write(|batch| put(batch.connection, None)).await
    }
}

pub(super) fn find(c: &Connection) -> Result<Option<Hold>, Error> {
    let reason: Option<String> = c.prepare_cached("SELECT reason FROM hold")?.query_row([], |row| row.get(0)).optional()?;
    let unknown = || Error::Corrupt("the reason of a hold".to_owned());
    reason.map(|reason| Hold::parse(&reason).ok_or_else(unknown)).transpose()
}

/// Refuses to serve, or to change anything, where there is such a reason.
pub(super) fn refuse(c: &Connection) -> Result<(), Error> {
    match find(c)? {
        Some(hold) if hold.keeps_changes_out() => Err(Error::Held(hold.sentence())),
        _ => Ok(()),
    }
}

pub(super) fn put(c: &Connection, hold: Option<Hold>) -> Result<(), Error> {
    match hold {
        None => c.execute("DELETE FROM hold", [])?,
        Some(hold) => c.execute("INSERT OR REPLACE INTO hold (one, reason) VALUES (1, ?1)", [hold.name()])?,
    };
    Ok(())
}
