//! What a database keeps, as both databases keep it: the one list of tables and columns that everything is copied by; and
//! rows as they are on their way.
//!
//! A row is written as PostgreSQL's binary COPY writes it: how many values, then each with its length (-1 for none) and its
//! bytes, numbers with the greatest byte first. PostgreSQL takes and gives such rows as they are, SQLite's values are bytes,
//! texts and numbers anyway, and two rows are the same if their bytes are.

use std::cmp::Ordering;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 8 bytes.
    Integer,
    /// 1 byte.
    Boolean,
    Text,
    Bytes,
    /// 16 bytes.
    Id,
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    /// So many columns, the first ones, are its key.
    pub(super) key: usize,
}

const INTEGER: Kind = Kind::Integer;
const BOOLEAN: Kind = Kind::Boolean;
const TEXT: Kind = Kind::Text;
const BYTES: Kind = Kind::Bytes;
const ID: Kind = Kind::Id;

const fn table(name: &'static str, key: usize, columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, columns, key }
}

pub(super) const PLATFORM: Table = table(
    "platform",
    1,
    &[("id", ID), ("name", TEXT), ("created_at", INTEGER), ("disabled_at", INTEGER), ("key_id", INTEGER), ("seal", BYTES)],
);

pub(super) const TOKEN: Table = table(
    "token",
    1,
    &[
        ("id", ID),
        ("platform_id", ID),
        ("environment", TEXT),
        ("name", TEXT),
        ("permissions", TEXT),
        ("issuer", TEXT),
        ("revocable", BOOLEAN),
        ("revoked_at", INTEGER),
        ("key_id", INTEGER),
        ("proof", BYTES),
    ],
);

pub(super) const OPERATIONS: Table =
    table("operations", 1, &[("one", INTEGER), ("document", TEXT), ("loaded_at", INTEGER), ("key_id", INTEGER), ("seal", BYTES)]);

pub(super) const CHECKPOINT: Table = table(
    "audit_checkpoint",
    1,
    &[("seq", INTEGER), ("entry_seal", BYTES), ("peaks", BYTES), ("pruned", BOOLEAN), ("key_id", INTEGER), ("seal", BYTES)],
);

pub(super) const AUDIT: Table = table(
    "audit",
    1,
    &[
        ("seq", INTEGER),
        ("at", INTEGER),
        ("action", TEXT),
        ("actor", TEXT),
        ("platform_id", ID),
        ("environment", TEXT),
        ("token_id", ID),
        ("request_id", TEXT),
        ("source", TEXT),
        ("node", TEXT),
        ("detail", TEXT),
        ("key_id", INTEGER),
        ("seal", BYTES),
    ],
);

pub(super) const ACCOUNT: Table = table(
    "account",
    1,
    &[
        ("id", ID),
        ("name", TEXT),
        ("role", TEXT),
        ("platform_id", ID),
        ("created_at", INTEGER),
        ("disabled_at", INTEGER),
        ("generation", INTEGER),
        ("access", BYTES),
        ("key_id", INTEGER),
        ("seal", BYTES),
    ],
);

pub(super) const OPERATOR_TOKEN: Table = table(
    "operator_token",
    1,
    &[
        ("id", ID),
        ("account_id", ID),
        ("name", TEXT),
        ("created_at", INTEGER),
        ("expires_at", INTEGER),
        ("revoked_at", INTEGER),
        ("digest", BYTES),
        ("key_id", INTEGER),
        ("seal", BYTES),
    ],
);

pub(super) const BULK_REVOKE: Table = table(
    "bulk_revoke",
    1,
    &[
        ("id", ID),
        ("operator", TEXT),
        ("source", TEXT),
        ("search", TEXT),
        ("expected", INTEGER),
        ("created_at", INTEGER),
        ("place", ID),
        ("ended", INTEGER),
        ("state", TEXT),
        ("over_at", INTEGER),
        ("key_id", INTEGER),
        ("seal", BYTES),
    ],
);

/// All that is copied: what a row refers to stands before it, and checkpoints before the log that begins behind one. What is
/// not in here is a database's own: its migrations, its processes, its hold, the last place of its feed, who is signed in.
pub(super) static TABLES: [Table; 18] = [
    table("installation", 1, &[("one", INTEGER), ("id", BYTES), ("created_at", INTEGER)]),
    table("canary", 1, &[("key_id", INTEGER), ("mac", BYTES), ("retired_at", INTEGER)]),
    PLATFORM,
    TOKEN,
    table("counted_name", 1, &[("id", INTEGER), ("platform_id", ID), ("environment", TEXT), ("name", TEXT)]),
    table(
        "live_count",
        5,
        &[("platform_id", ID), ("environment", TEXT), ("name_id", INTEGER), ("shift", INTEGER), ("bucket", INTEGER), ("live", INTEGER)],
    ),
    OPERATIONS,
    table("token_use", 1, &[("token_id", ID), ("last_used_at", INTEGER)]),
    table("use_quarter", 2, &[("quarter", INTEGER), ("token_id", ID), ("minutes", BYTES)]),
    table("use_day", 2, &[("day", INTEGER), ("token_id", ID), ("uses", INTEGER)]),
    table("use_source", 2, &[("token_id", ID), ("address", BYTES), ("first_at", INTEGER), ("last_at", INTEGER)]),
    CHECKPOINT,
    AUDIT,
    ACCOUNT,
    OPERATOR_TOKEN,
    BULK_REVOKE,
    table("lost_mark", 1, &[("mac", BYTES), ("seq", INTEGER), ("taken_in_at", INTEGER), ("key_id", INTEGER), ("seal", BYTES)]),
    table("replay", 1, &[("id", BYTES), ("request", BYTES), ("token_id", ID), ("secret", BYTES), ("created_at", INTEGER)]),
];

impl Table {
    /// Whether rows in it are somebody's, and must not be written over.
    pub(super) fn matters(&self) -> bool {
        [PLATFORM.name, TOKEN.name, AUDIT.name, ACCOUNT.name].contains(&self.name)
    }

    /// Its columns' names, with commas between them.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Those of its key.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &'static str> {
        self.columns[..self.key].iter().map(|(name, _)| *name)
    }

    /// The others.
    pub(super) fn other_columns(&self) -> impl Iterator<Item = &'static str> {
        self.columns[self.key..].iter().map(|(name, _)| *name)
    }

    /// How the keys of two of its rows are ordered, which is how both databases order them.
    pub(super) fn compare_keys(&self, a: &[u8], b: &[u8]) -> Ordering {
        let key = self.columns[..self.key].iter().zip(values(a).zip(values(b)));
        let mut orders = key.map(|((_, kind), (a, b))| match (kind, a, b) {
            (Kind::Integer, Some(a), Some(b)) => integer(a).cmp(&integer(b)),
            _ => a.cmp(&b),
        });
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Which row it is, in words.
    pub(super) fn describe(&self, row: &[u8]) -> String {
        let value = |((name, kind), value): (&(&str, Kind), Option<&[u8]>)| {
            let value = value.unwrap_or_default();
            let shown = match kind {
                Kind::Integer => integer(value).map_or_else(String::new, |value| value.to_string()),
                Kind::Text => String::from_utf8_lossy(value).escape_default().to_string(),
                _ => uuid::Uuid::from_slice(value)
                    .map_or_else(|_| value.iter().map(|byte| format!("{byte:02x}")).collect(), |id| id.to_string()),
            };
            format!("{name} {shown}")
        };
        let key = self.columns[..self.key].iter().zip(values(row)).map(value).collect::<Vec<_>>().join(", ");
        format!("{} with {key}", self.name)
    }
}

/// The indexes of migrations: each one's name, and the statement that makes it unless it is there.
pub(super) fn indexes(migrations: &[(&str, &'static str)]) -> impl Iterator<Item = (&'static str, String)> {
    let lines = migrations.iter().flat_map(|(_, statements)| statements.lines());
    lines.filter_map(|line| {
        let definition = line.strip_prefix("CREATE INDEX ")?;
        Some((definition.split(' ').next()?, format!("CREATE INDEX IF NOT EXISTS {definition}")))
    })
}

/// The values of a row.
pub(super) fn values(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = row.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
            rest = behind;
            return Some(None);
        };
        let (value, behind) = behind.split_at_checked(len)?;
        rest = behind;
        Some(Some(value))
    })
}

/// The number in a value's bytes.
pub(super) fn integer(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_be_bytes)
}

/// Rows of one table, in the order of their keys, behind one another.
#[derive(Debug, Default, Clone)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn get(&self, at: usize) -> Option<&[u8]> {
        let start = if at == 0 { 0 } else { *self.ends.get(at - 1)? };
        self.bytes.get(start..*self.ends.get(at)?)
    }

    pub(super) fn last(&self) -> Option<&[u8]> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// Begins a row of so many values, which [`Rows::value`] adds and [`Rows::end`] ends.
    pub(super) fn begin(&mut self, values: usize) {
        self.bytes.extend_from_slice(&u16::try_from(values).unwrap_or(u16::MAX).to_be_bytes());
    }

    pub(super) fn value(&mut self, value: Option<&[u8]>) {
        let len = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    pub(super) fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Whether they are enough for one transaction.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= 10_000 || self.bytes.len() >= 4 << 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of the migrations, each with its columns and their types. (Why a table is left out: see `TABLES`.)
    fn migrated(sql: &str) -> Vec<(String, Vec<(String, String)>)> {
        let tables = sql.split("CREATE TABLE ").skip(1).map(|table| {
            let (name, rest) = table.split_once(" (\n").unwrap();
            let lines = rest.split("\n)").next().unwrap().lines().map(str::trim_start);
            let columns = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).map(|line| {
                let mut words = line.split_whitespace().map(|word| word.trim_end_matches(',').to_owned());
                (words.next().unwrap(), words.next().unwrap())
            });
            (name.to_owned(), columns.collect())
        });
        tables.filter(|(name, _): &(String, _)| !["hold", "feed", "node", "operator_session"].contains(&name.as_str())).collect()
    }

    #[test]
    fn everything_that_is_kept_is_copied() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
        let migrations = std::fs::read_dir(folder).unwrap().map(|file| {
            let path = file.unwrap().path();
            (path.clone(), std::fs::read_to_string(path).unwrap())
        });
        // One that is made anew is as it is made last.
        let mut files: Vec<_> = migrations.collect();
        files.sort();
        let mut kept: Vec<_> =
            files.iter().flat_map(|(_, sql)| migrated(sql)).collect::<std::collections::BTreeMap<_, _>>().into_iter().collect();
        let kind = |kind: Kind| match kind {
            INTEGER => "bigint",
            BOOLEAN => "boolean",
            TEXT => "text",
            BYTES => "bytea",
            ID => "uuid",
        };
        let columns = |table: &Table| table.columns.iter().map(|(name, of)| ((*name).to_owned(), kind(*of).to_owned())).collect::<Vec<_>>();
        let mut copied: Vec<_> = TABLES.iter().map(|table| (table.name.to_owned(), columns(table))).collect();
        kept.sort();
        copied.sort();
        assert_eq!(kept, copied);
    }

    #[test]
    fn keys_are_ordered_as_numbers_and_bytes() {
        let row = |day: i64, token: u8| {
            let mut rows = Rows::default();
            rows.begin(3);
            rows.value(Some(&day.to_be_bytes()));
            rows.value(Some(&[token; 16]));
            rows.value(None);
            rows.end();
            rows
        };
        let table = TABLES.iter().find(|table| table.name == "use_day").unwrap();
        let of = |a: &Rows, b: &Rows| table.compare_keys(a.get(0).unwrap(), b.get(0).unwrap());
        assert_eq!(of(&row(-1, 9), &row(1, 0)), Ordering::Less);
        assert_eq!(of(&row(1, 200), &row(1, 100)), Ordering::Greater);
        assert_eq!(of(&row(1, 2), &row(1, 2)), Ordering::Equal);
        let rows = row(5, 7);
        assert_eq!(values(rows.get(0).unwrap()).collect::<Vec<_>>(), [Some(&5_i64.to_be_bytes()[..]), Some(&[7; 16]), None]);
        assert_eq!(rows.len(), 1);
    }
}
