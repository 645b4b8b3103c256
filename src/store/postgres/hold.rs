//! Why nothing may be served from this database, if there is a reason.

use super::{Error, Postgres, session::Session};
use crate::store::Hold;

impl Postgres {
    pub(in crate::store) async fn hold(&self) -> Result<Option<Hold>, Error> {
        self.readers.read(async |s| find(s).await).await
    }
}

pub(super) async fn find(s: &Session) -> Result<Option<Hold>, Error> {
    let unknown = || Error::Corrupt("the reason of a hold".to_owned());
    let row = s.row("SELECT reason FROM hold", &[]).await?;
    row.map(|row| Hold::parse(row.try_get(0)?).ok_or_else(unknown)).transpose()
}
