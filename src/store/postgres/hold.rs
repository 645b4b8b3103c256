//! Why nothing may be served from this database, if there is a reason.

use super::{Error, Postgres, session::Session};
use crate::store::Hold;

impl Postgres {
    pub(in crate::store) async fn hold(&self) -> Result<Option<Hold>, Error> {
        self.readers.read(async |s| find(s).await).await
    }

    #[cfg(feature = "server")]
    pub(in crate::store) async fn release(&self) -> Result<(), Error> {
        self.readers.read(async |s| put(s, None).await).await
    }
}

pub(super) async fn find(s: &Session) -> Result<Option<Hold>, Error> {
    let unknown = || Error::Corrupt("the reason of a hold".to_owned());
    let row = s.row("SELECT reason FROM hold", &[]).await?;
    row.map(|row| Hold::parse(row.try_get(0)?).ok_or_else(unknown)).transpose()
}

/// Refuses to serve, or to change anything, where there is such a reason.
pub(super) fn refuse(reason: Option<&str>) -> Result<(), Error> {
    match reason.map(Hold::parse) {
        Some(None) => Err(Error::Corrupt("the reason of a hold".to_owned())),
        Some(Some(hold)) if hold.keeps_changes_out() => Err(Error::Held(hold.sentence())),
        _ => Ok(()),
    }
}

pub(super) async fn put(s: &Session, hold: Option<Hold>) -> Result<(), Error> {
    let Some(hold) = hold else { return s.run("DELETE FROM hold").await };
    let put = "INSERT INTO hold (one, reason) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET reason = excluded.reason";
    s.execute(put, &[&hold.name()]).await.map(drop)
}
