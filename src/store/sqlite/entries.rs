//! The audit log as it stands in its rows.

use super::{Error, Sqlite, copy, sql};
use crate::{
    domain::TokenId,
    store::{
        Mark,
        entries::CHECKPOINTS,
        tables::{AUDIT, CHECKPOINT, Rows},
    },
};

impl Sqlite {
    pub(in crate::store) async fn entries_behind(&self, after: u64, most: usize) -> Result<Rows, Error> {
        self.read(move |c| copy::rows_behind(c, &AUDIT, after, most)).await
    }

    pub(in crate::store) async fn checkpoints(&self) -> Result<Rows, Error> {
        self.read(move |c| copy::rows_behind(c, &CHECKPOINT, 0, CHECKPOINTS)).await
    }

    pub(in crate::store) async fn last_mark(&self) -> Result<Mark, Error> {
        self.read(sql::last_mark).await
    }

    pub(in crate::store) async fn count_before_first(&self) -> Result<u64, Error> {
        self.read(copy::count_before_first).await
    }

    pub(in crate::store) async fn unended_among(&self, ids: Vec<TokenId>) -> Result<Vec<TokenId>, Error> {
        self.read(move |c| {
            let mut statement = sql::prepare(c, "SELECT 1 FROM token WHERE id = ?1 AND revoked_at IS NULL")?;
            let mut unended = Vec::new();
            for id in ids {
                if statement.exists([id.0.as_bytes()])? {
                    unended.push(id);
                }
            }
            Ok(unended)
        })
        .await
    }
}
