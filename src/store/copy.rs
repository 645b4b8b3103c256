//! Copying: all rows of one state of a database into another one, whichever two they are. Backups, restoring and moving from
//! one kind of database to the other are this.
//!
//! Table by table, in the order of keys, a part at a time: what the target has between two keys is held against what the
//! source has there; the difference is written in one transaction, and what was written is read back and compared. So a
//! copy that was interrupted goes on by itself, one that is done again takes over what has changed since, and whatever ends
//! well was verified row by row. Nothing rests on what an earlier run has noted.

use std::{
    cmp::Ordering,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::try_join;
use tokio::sync::mpsc;

use super::{
    Canary, Checkpoint, Database, Error, Hold, Mark, Seal, postgres, sealed,
    sealed::Sealed,
    sqlite,
    tables::{ACCOUNT, AUDIT, BULK_REVOKE, CHECKPOINT, OPERATOR_TOKEN, PLATFORM, Rows, TABLES, TOKEN, Table, integer, values},
};
use crate::{domain::RecordedEntry, files};

/// Parts of a table on their way at the most: the source reads while the target writes.
const ON_THEIR_WAY: usize = 2;
/// Rows of the target that are looked at once at the most.
const LOOKED_AT: usize = 20_000;

/// What is copied.
pub(crate) enum Source {
    Sqlite(sqlite::copy::Source),
    Postgres(Box<postgres::copy::Source>),
}

macro_rules! on {
    ($of:ident, $this:expr, $s:ident => $sqlite:expr, $postgres:expr) => {
        match $this {
            $of::Sqlite($s) => $sqlite,
            $of::Postgres($s) => $postgres,
        }
    };
}

impl Source {
    /// A database that is in use.
    ///
    /// # Errors
    /// [`Error::Unfit`] if there is none; else as any operation.
    pub(crate) async fn database(database: &Database) -> Result<Self, Error> {
        match database.clone() {
            Database::Sqlite(data) => blocking(move || sqlite::copy::Source::of_directory(&data)).await.map(Self::Sqlite),
            Database::Postgres(url) => postgres::copy::Source::open(&url).await.map(Box::new).map(Self::Postgres),
        }
    }

    /// A backup.
    ///
    /// # Errors
    /// [`Error::Unfit`] if it is none.
    pub(crate) async fn backup(file: &Path) -> Result<Self, Error> {
        let file = file.to_owned();
        blocking(move || sqlite::copy::Source::of_backup(&file)).await.map(Self::Sqlite)
    }

    /// Why nothing may be served from it, if there is a reason.
    pub(crate) async fn hold(&self) -> Result<Option<Hold>, Error> {
        on!(Self, self, s => s.hold().await, s.hold().await)
    }

    /// The installation's identity.
    pub(crate) async fn installation(&self) -> Result<Option<[u8; 16]>, Error> {
        on!(Self, self, s => s.installation().await, s.installation().await)
    }

    /// All keys that it knows.
    pub(crate) async fn canaries(&self) -> Result<Vec<Canary>, Error> {
        on!(Self, self, s => s.canaries().await, s.canaries().await)
    }

    /// The last place of its feed, as the feed says.
    pub(crate) async fn last_mark(&self) -> Result<Mark, Error> {
        on!(Self, self, s => s.last_mark().await, s.last_mark().await)
    }

    /// Whether there was ever a change: none is without its entry in the audit log.
    pub(crate) async fn has_records(&self) -> Result<bool, Error> {
        Ok(self.count(&PLATFORM).await? > 0)
    }

    /// Entries of the audit log before its first place: none is written there.
    pub(crate) async fn count_before_first(&self) -> Result<u64, Error> {
        on!(Self, self, s => s.count_before_first().await, s.count_before_first().await)
    }

    /// Hands the entries of the audit log behind a place to `visit`, in order, until it has seen enough; one that cannot be
    /// read by its name alone.
    pub(crate) async fn visit_entries(
        &self,
        after: u64,
        mut visit: impl FnMut(Result<(&RecordedEntry, &Seal), String>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let each = |found: Result<Sealed, String>| match found {
            Ok(Sealed::Entry(entry, seal)) => visit(Ok((&entry, &seal))),
            Ok(_) => ControlFlow::Continue(()),
            Err(name) => visit(Err(name)),
        };
        self.visit_sealed(&AUDIT, Some(after), each).await
    }

    /// The checkpoints of the audit log, in order; one that cannot be read by its name alone.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<Result<Checkpoint, String>>, Error> {
        let mut all = Vec::new();
        let each = |found| {
            match found {
                Ok(Sealed::Checkpoint(checkpoint)) => all.push(Ok(checkpoint)),
                Ok(_) => {}
                Err(name) => all.push(Err(name)),
            }
            ControlFlow::Continue(())
        };
        self.visit_sealed(&CHECKPOINT, None, each).await?;
        Ok(all)
    }

    /// Hands all that the log says an end of to `visit`, but for those that cannot be read: nobody accepts them.
    pub(crate) async fn visit_subjects(&self, mut visit: impl FnMut(Sealed)) -> Result<(), Error> {
        for table in [&PLATFORM, &TOKEN, &ACCOUNT, &OPERATOR_TOKEN, &BULK_REVOKE] {
            let each = |found: Result<Sealed, String>| {
                found.into_iter().for_each(&mut visit);
                ControlFlow::Continue(())
            };
            self.visit_sealed(table, None, each).await?;
        }
        Ok(())
    }

    /// Hands the rows of a table whose rows have seals to `visit`, in order, until it has seen enough.
    async fn visit_sealed(
        &self,
        table: &'static Table,
        after: Option<u64>,
        mut visit: impl FnMut(Result<Sealed, String>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (to, mut from) = mpsc::channel::<Rows>(ON_THEIR_WAY);
        let take = async {
            // What is behind the last one that it wants is not sent any more.
            while let Some(rows) = from.recv().await {
                if rows.iter().filter_map(|row| sealed::read(table, row)).try_for_each(&mut visit).is_break() {
                    from.close();
                    return Ok(());
                }
            }
            Ok(())
        };
        try_join(self.send(table, after, to), take).await.map(drop)
    }

    /// Whether some process answers from memory, and may change it any moment.
    pub(crate) async fn is_followed(&self) -> Result<bool, Error> {
        on!(Self, self, s => s.is_followed(), s.is_followed().await)
    }

    /// From here on what is read is of one state; if `still`, nobody can change anything either.
    pub(crate) async fn begin(&self, still: bool) -> Result<(), Error> {
        on!(Self, self, s => s.begin(still).await, s.begin(still).await)
    }

    /// Notes that another database has its place, and lets go of it.
    pub(crate) async fn end_as_moved(&self) -> Result<(), Error> {
        on!(Self, self, s => s.end_as_moved().await, s.end_as_moved().await)
    }

    /// How long a change may still come that was under way at [`Source::end_as_moved`].
    pub(crate) fn changes_may_come_for(&self) -> Duration {
        on!(Self, self, s => s.changes_may_come_for(), s.changes_may_come_for())
    }

    /// How many rows there are to copy.
    pub(crate) async fn rows(&self) -> Result<u64, Error> {
        let mut rows = 0;
        for table in &TABLES {
            rows += self.count(table).await?;
        }
        Ok(rows)
    }

    /// Refuses a backup whose file is broken; a database looks after itself.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite(source) => source.check().await,
            Self::Postgres(_) => Ok(()),
        }
    }

    async fn count(&self, table: &'static Table) -> Result<u64, Error> {
        on!(Self, self, s => s.count(table).await, s.count(table).await)
    }

    /// Sends the rows of a table, or, where its key is a number, those behind one.
    async fn send(&self, table: &'static Table, after: Option<u64>, to: mpsc::Sender<Rows>) -> Result<(), Error> {
        on!(Self, self, s => s.send(table, after, to).await, s.send(table, after, to).await)
    }
}

/// What is copied into. Nobody else copies into it meanwhile.
pub(crate) enum Target {
    Sqlite(sqlite::copy::Target),
    Postgres(postgres::copy::Target),
}

impl Target {
    /// A database, made if need be.
    pub(crate) async fn database(database: &Database) -> Result<Self, Error> {
        match database.clone() {
            Database::Sqlite(data) => blocking(move || sqlite::copy::Target::of_directory(&data)).await.map(Self::Sqlite),
            Database::Postgres(url) => postgres::copy::Target::open(&url).await.map(Self::Postgres),
        }
    }

    /// The beginnings of a backup, beside the file that it becomes.
    pub(crate) async fn backup(file: &Path) -> Result<Self, Error> {
        let partial = partial(file);
        blocking(move || sqlite::copy::Target::of_backup(&partial)).await.map(Self::Sqlite)
    }

    /// Why nothing may be served from it, if there is a reason.
    pub(crate) async fn hold(&self) -> Result<Option<Hold>, Error> {
        on!(Self, self, s => s.hold().await, s.hold().await)
    }

    /// Whose copy it is, as far as it is one.
    pub(crate) async fn installation(&self) -> Result<Option<[u8; 16]>, Error> {
        on!(Self, self, s => s.installation().await, s.installation().await)
    }

    /// The last place of its feed.
    pub(crate) async fn last_mark(&self) -> Result<Mark, Error> {
        on!(Self, self, s => s.last_mark().await, s.last_mark().await)
    }

    /// Whether everything up to that place is in it.
    pub(crate) async fn has(&self, mark: Mark) -> Result<bool, Error> {
        on!(Self, self, s => s.has(mark).await, s.has(mark).await)
    }

    /// Whether nothing is in it that would be lost.
    pub(crate) async fn is_empty(&self) -> Result<bool, Error> {
        for table in TABLES.iter().filter(|table| table.matters()) {
            if !self.last(table).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether some process answers from it.
    pub(crate) async fn is_followed(&self) -> Result<bool, Error> {
        on!(Self, self, s => s.is_followed(), s.is_followed().await)
    }

    /// Puts it on hold; or, when everything that was written is durable, lets it go.
    pub(crate) async fn set_hold(&self, hold: Option<Hold>) -> Result<(), Error> {
        on!(Self, self, s => s.set_hold(hold).await, s.set_hold(hold).await)
    }

    /// Begins: puts it on hold, without the indexes that the copy makes at its end.
    pub(crate) async fn begin(&self) -> Result<(), Error> {
        self.set_hold(Some(Hold::Copying)).await?;
        on!(Self, self, s => s.drop_indexes().await, s.drop_indexes().await)
    }

    async fn make_indexes(&self) -> Result<(), Error> {
        on!(Self, self, s => s.make_indexes().await, s.make_indexes().await)
    }

    /// Makes a backup of what was copied, under its name; one that is there already is never replaced.
    pub(crate) async fn finish_backup(self, file: &Path) -> Result<(), Error> {
        if let Self::Sqlite(target) = &self {
            target.finish_backup().await?;
        }
        drop(self);
        let (partial, file) = (partial(file), file.to_owned());
        blocking(move || {
            let unnamed = |e| Error::Unfit(format!("the backup is whole, in {}, but cannot be given its name: {e}", partial.display()));
            files::name_new(&partial, &file).map_err(unnamed)
        })
        .await
    }

    async fn count(&self, table: &'static Table) -> Result<u64, Error> {
        on!(Self, self, s => s.count(table).await, s.count(table).await)
    }

    async fn last(&self, table: &'static Table) -> Result<Rows, Error> {
        on!(Self, self, s => s.last(table).await, s.last(table).await)
    }

    async fn range(&self, table: &'static Table, after: Option<&[u8]>, through: Option<&[u8]>) -> Result<Rows, Error> {
        let (after, through) = (after.map(<[u8]>::to_vec), through.map(<[u8]>::to_vec));
        on!(Self, self, s => s.range(table, after, through, LOOKED_AT).await, s.range(table, after, through, LOOKED_AT).await)
    }

    async fn write(&self, table: &'static Table, difference: Difference) -> Result<(), Error> {
        on!(Self, self, s => s.write(table, difference).await, s.write(table, difference).await)
    }

    async fn set_last_place(&self, seq: u64) -> Result<(), Error> {
        match self {
            // There it is that of the last entry.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(s) => s.set_last_place(seq).await,
        }
    }
}

/// Where a backup is until it is whole.
pub(crate) fn partial(file: &Path) -> PathBuf {
    file.with_added_extension("partial")
}

async fn blocking<R: Send + 'static>(run: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    tokio::task::spawn_blocking(run).await.map_err(|e| Error::Unavailable(e.to_string()))?
}

/// What a target has to be told so that it has, between two keys, what the source has.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Rows that it must not have.
    pub(super) gone: Rows,
    /// Rows that it does not have.
    pub(super) new: Rows,
    /// Rows of which it has others with the same keys.
    pub(super) changed: Rows,
}

impl Difference {
    fn between(table: &Table, there: &Rows, wanted: &Rows) -> Self {
        let mut this = Self::default();
        let (mut there, mut wanted) = (there.iter().peekable(), wanted.iter().peekable());
        loop {
            let order = match (there.peek(), wanted.peek()) {
                (None, None) => return this,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(there), Some(wanted)) => table.compare_keys(there, wanted),
            };
            let (old, new) = (there.next_if(|_| order.is_le()), wanted.next_if(|_| order.is_ge()));
            match (old, new) {
                (Some(old), None) => this.gone.push(old),
                (None, Some(new)) => this.new.push(new),
                (Some(old), Some(new)) if old != new => this.changed.push(new),
                _ => {}
            }
        }
    }

    fn len(&self) -> usize {
        self.gone.len() + self.new.len() + self.changed.len()
    }
}

/// How far a copy is, for whoever watches.
pub(crate) enum Step<'r> {
    /// So many rows are to be copied, about.
    Rows(u64),
    /// So many more were, and verified.
    Done(u64),
    /// A sealed row, or the name of one that cannot be read.
    Sealed(Result<&'r Sealed, String>),
    /// Something else that is not as it was written.
    Odd(String),
}

/// What was copied.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    /// The last place of the feed that is in it.
    pub(crate) seq: u64,
    pub(crate) tables: Vec<TableCopied>,
}

/// What was copied of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableCopied {
    pub(crate) table: &'static str,
    /// Rows that it has, each compared.
    pub(crate) rows: u64,
    /// Rows that were written or removed, because they were not the same yet.
    pub(crate) written: u64,
}

/// Copies everything, from where [`Source::begin`] was. When this returns, the target has what the source has.
///
/// # Errors
/// As any operation; and [`Error::Corrupt`] if what was written is not what is read back.
pub(crate) async fn copy(source: &Source, target: &Target, mut watch: impl FnMut(Step<'_>)) -> Result<Copied, Error> {
    watch(Step::Rows(source.rows().await?));
    let seq = source.last_mark().await?.seq;
    let mut tables = Vec::new();
    for table in &TABLES {
        let (to, mut from) = mpsc::channel(ON_THEIR_WAY);
        let mut copied = InTable { table, target, last: target.last(table).await?, reached: None, rows: 0, written: 0 };
        let take = async {
            while let Some(rows) = from.recv().await {
                copied.take(&rows).await?;
                inspect(table, &rows, &mut watch);
                watch(Step::Done(rows.len() as u64));
            }
            Ok(())
        };
        try_join(source.send(table, None, to), take).await?;
        copied.finish().await?;
        if table.name == AUDIT.name {
            let last = copied.reached.as_deref().and_then(|row| integer(values(row).next()??)).unwrap_or(0);
            if seq > last.unsigned_abs() {
                watch(Step::Odd(format!("audit entries {} to {seq}, which are missing", last.unsigned_abs() + 1)));
            }
        }
        tables.push(TableCopied { table: table.name, rows: copied.rows, written: copied.written });
    }
    target.set_last_place(seq).await?;
    target.make_indexes().await?;
    Ok(Copied { seq, tables })
}

fn inspect(table: &Table, rows: &Rows, watch: &mut impl FnMut(Step<'_>)) {
    for row in rows.iter() {
        match sealed::read(table, row) {
            None => return,
            Some(Ok(sealed)) => watch(Step::Sealed(Ok(&sealed))),
            Some(Err(name)) => watch(Step::Sealed(Err(name))),
        }
    }
}

/// Where a copy is in a table.
struct InTable<'t> {
    table: &'static Table,
    target: &'t Target,
    /// The last row that the target had in the beginning: behind it there is nothing to look at.
    last: Rows,
    /// The last row up to which both are the same.
    reached: Option<Vec<u8>>,
    rows: u64,
    written: u64,
}

impl InTable<'_> {
    /// Sees to it that the target has these, the next ones of the source, and nothing between them.
    async fn take(&mut self, rows: &Rows) -> Result<(), Error> {
        let Some(end) = rows.last() else { return Ok(()) };
        self.rows += rows.len() as u64;
        let mut rest = rows.iter().peekable();
        while rest.peek().is_some() {
            let there = self.there(Some(end)).await?;
            // Where there are too many of them, only as far as they go.
            let bound = if there.len() < LOOKED_AT { end } else { there.last().unwrap_or(end) }.to_vec();
            let mut part = Rows::default();
            while let Some(row) = rest.next_if(|row| self.table.compare_keys(row, &bound).is_le()) {
                part.push(row);
            }
            self.settle(&there, part, bound).await?;
        }
        Ok(())
    }

    /// Sees to it that the target has nothing more, and that it has as many rows as the source.
    async fn finish(&mut self) -> Result<(), Error> {
        loop {
            let there = self.there(None).await?;
            let Some(bound) = there.last().map(<[u8]>::to_vec) else { break };
            // What was reached stays the last row that there is.
            let reached = self.reached.clone();
            self.settle(&there, Rows::default(), bound).await?;
            self.reached = reached;
        }
        let there = self.target.count(self.table).await?;
        if there == self.rows {
            return Ok(());
        }
        Err(Error::Corrupt(format!(
            "{} rows in {} where {} were copied: did somebody else write there?",
            there, self.table.name, self.rows
        )))
    }

    /// What the target had in the beginning, behind what was reached.
    async fn there(&self, through: Option<&[u8]>) -> Result<Rows, Error> {
        let behind = |reached: &Vec<u8>, last: &[u8]| self.table.compare_keys(reached, last).is_lt();
        let is_there = self.last.last().is_some_and(|last| self.reached.as_ref().is_none_or(|reached| behind(reached, last)));
        if is_there { self.target.range(self.table, self.reached.as_deref(), through).await } else { Ok(Rows::default()) }
    }

    /// Sees to it that the target has these rows, and no others, up to a bound.
    async fn settle(&mut self, there: &Rows, wanted: Rows, bound: Vec<u8>) -> Result<(), Error> {
        let difference = Difference::between(self.table, there, &wanted);
        if difference.len() > 0 {
            self.written += difference.len() as u64;
            self.target.write(self.table, difference).await?;
            let now = self.target.range(self.table, self.reached.as_deref(), Some(&bound)).await?;
            let left = Difference::between(self.table, &now, &wanted);
            if let Some(row) = left.gone.iter().chain(left.new.iter()).chain(left.changed.iter()).next() {
                return Err(Error::Corrupt(format!(
                    "{} is not as it was written: did somebody else write there?",
                    self.table.describe(row)
                )));
            }
        }
        self.reached = Some(bound);
        Ok(())
    }
}
