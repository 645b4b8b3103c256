//! The operations of the platform's API: which permissions a request needs, by its method and path.
//!
//! They are one document, loaded by an operator and sealed. Each process that follows the feed has them in memory, and
//! takes a new document whole: a request finds its operation in the old one or in the new one.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Authority, Error, Receipt, keyring::Seen};
use crate::{
    domain::{Action, AuditEntry, Need, NoOperation, Operation, Operations, Operator, Owner, Target, Timestamp},
    store::OperationsRecord,
};

/// Those in force in this process, with the place in the feed of their change.
#[derive(Debug)]
pub(super) struct InForce {
    seq: u64,
    /// None if they are not as they were sealed: nobody may do anything then.
    operations: Option<Operations>,
}

/// What loading changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Operations that there were not.
    pub added: Vec<Operation>,
    /// Operations that there are no more: nobody may do them.
    pub removed: Vec<Operation>,
    /// Operations that need something else: as they were, as they are.
    pub changed: Vec<(Operation, Operation)>,
}

impl Difference {
    fn between(before: &[Operation], after: &[Operation]) -> Self {
        let mut old: HashMap<_, _> = before.iter().map(|operation| ((&operation.method, &operation.path), operation)).collect();
        let mut this = Self::default();
        for operation in after {
            match old.remove(&(&operation.method, &operation.path)) {
                None => this.added.push(operation.clone()),
                Some(before) if before.need != operation.need => this.changed.push((before.clone(), operation.clone())),
                Some(_) => {}
            }
        }
        this.removed = before.iter().filter(|operation| old.contains_key(&(&operation.method, &operation.path))).cloned().collect();
        this
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// An operation in the stored document.
#[derive(Serialize, Deserialize)]
struct Stored {
    method: String,
    path: String,
    id: String,
    need: String,
    because: String,
}

fn document(operations: &[Operation]) -> String {
    let stored = |operation: &Operation| {
        let Operation { method, path, id, need, because } = operation.clone();
        Stored { method, path, id, need: need.to_string(), because }
    };
    serde_json::to_string(&operations.iter().map(stored).collect::<Vec<_>>()).unwrap_or_default()
}

fn read(document: &str) -> Option<Operations> {
    let operation = |stored: Stored| {
        let Stored { method, path, id, need, because } = stored;
        Some(Operation { method, path, id, need: Need::parse(&need)?, because })
    };
    let all: Vec<Stored> = serde_json::from_str(document).ok()?;
    Operations::new(all.into_iter().map(operation).collect::<Option<_>>()?).ok()
}

impl Authority {
    /// What a request needs; `None` while no operations are loaded, or while it is not known whether they are still the
    /// ones in force.
    pub fn need_of(&self, method: &str, target: &Target<'_>) -> Option<Result<Need, NoOperation>> {
        let in_force = self.operations.load();
        let operations = in_force.as_ref()?.operations.as_ref()?;
        let (lease, now) = (self.lease.as_ref()?, || self.clock.boot());
        let found = operations.find(method, target).map(|operation| operation.need);
        (lease.holds(now()) || lease.serves_stale(now())).then_some(found)
    }

    /// Takes over what was loaded, unless something later was.
    pub(super) fn put_operations(&self, record: &OperationsRecord, seq: u64) {
        let operations = match self.keyring.see_operations(record) {
            Seen::Intact => read(&record.document),
            Seen::Edited => None,
            Seen::Retired => return,
            Seen::Unknown => {
                self.note_lacking(record.seal.key);
                None
            }
        };
        if operations.is_none() && self.keyring.get(record.seal.key).is_some() {
            self.note_tampered("operations".to_owned());
        }
        let new = Arc::new(InForce { seq, operations });
        self.operations.rcu(|old| match old {
            Some(old) if old.seq > seq => Some(Arc::clone(old)),
            _ => Some(Arc::clone(&new)),
        });
    }

    /// The operations in force, and when they were loaded.
    ///
    /// # Errors
    /// [`Error::NotFound`] if none were loaded, [`Error::Tampered`], [`Error::Unavailable`].
    pub async fn get_operations(&self, _by: &Operator) -> Result<(Operations, Timestamp), Error> {
        let record = self.store.find_operations().await?.ok_or(Error::NotFound)?;
        let operations = match self.keyring.see_operations(&record) {
            Seen::Intact => read(&record.document).ok_or(Error::Tampered)?,
            Seen::Unknown => return Err(self.lacking(record.seal.key)),
            Seen::Edited | Seen::Retired => return Err(Error::Tampered),
        };
        Ok((operations, record.loaded_at))
    }

    /// What loading these would change. Where those in force can't be read, all are new.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn diff_operations(&self, by: &Operator, operations: &Operations) -> Result<Difference, Error> {
        match self.get_operations(by).await {
            Ok((before, _)) => Ok(Difference::between(before.all(), operations.all())),
            Err(Error::NotFound | Error::Tampered) => Ok(Difference::between(&[], operations.all())),
            Err(e) => Err(e),
        }
    }

    /// Puts operations in force: when this returns, they are so in every process, unless the receipt says by when.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn load_operations(&self, by: &Owner, operations: &Operations) -> Result<(Difference, Receipt), Error> {
        let difference = self.diff_operations(by, operations).await?;
        let now = self.now();
        let record = self.keyring.seal_operations(document(operations.all()), now);
        let counts = [
            ("operations", operations.all().len()),
            ("added", difference.added.len()),
            ("removed", difference.removed.len()),
            ("changed", difference.changed.len()),
        ];
        let detail: serde_json::Map<_, _> = counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        let entry =
            AuditEntry { actor: by.actor(), request: by.request().clone(), ..self.system_entry(Action::OperationsLoad, None, detail) };
        let known = self.followed();
        let seq = self.store.replace_operations(record.clone(), entry).await?;
        self.remember(&known, |_| self.put_operations(&record, seq));
        Ok((difference, self.receipt(Some(seq)).await?))
    }
}
