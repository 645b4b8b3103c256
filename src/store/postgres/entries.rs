//! The audit log as it stands in its rows.

use uuid::Uuid;

use super::{Error, Postgres, copy, sql};
use crate::{
    domain::TokenId,
    store::{
        Mark,
        entries::CHECKPOINTS,
        tables::{AUDIT, CHECKPOINT, Rows},
    },
};

impl Postgres {
    pub(in crate::store) async fn entries_behind(&self, after: u64, most: usize) -> Result<Rows, Error> {
        self.readers.read(async move |s| copy::rows_behind(s, &AUDIT, after, most).await).await
    }

    pub(in crate::store) async fn checkpoints(&self) -> Result<Rows, Error> {
        self.readers.read(async |s| copy::rows_behind(s, &CHECKPOINT, 0, CHECKPOINTS).await).await
    }

    pub(in crate::store) async fn last_mark(&self) -> Result<Mark, Error> {
        self.readers.read(async |s| sql::last_mark(s).await).await
    }

    pub(in crate::store) async fn count_before_first(&self) -> Result<u64, Error> {
        self.readers.read(async |s| copy::count_before_first(s).await).await
    }

    pub(in crate::store) async fn unended_among(&self, ids: Vec<TokenId>) -> Result<Vec<TokenId>, Error> {
        let ids: Vec<Uuid> = ids.into_iter().map(|id| id.0).collect();
        let sql = "SELECT id FROM token WHERE id = ANY($1) AND revoked_at IS NULL";
        let rows = self.readers.read(async |s| s.rows(sql, &[&ids]).await).await?;
        rows.iter().map(|row| Ok(TokenId(sql::value(row, 0)?))).collect()
    }
}
