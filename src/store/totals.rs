//! Totals: how many live tokens match a filter, in a time that does not grow with their number.
//!
//! Buckets of 64 ms to 12 days count the tokens created in them, kept by the transaction of each change. A span of time is
//! cut at the borders of ever wider buckets; only its outermost ends, at most 64 ms each, are counted row by row. The
//! same buckets are kept for a name once so many tokens have it that counting their rows takes too long.

use std::collections::HashMap;

use crate::domain::{Environment, Scope, Timestamp, TokenFilter};

/// Widths of the buckets, as powers of two of milliseconds: 64 ms, 4 s, 4 min, 5 h, 12 days, everything.
const SHIFTS: [u32; 6] = [6, 12, 18, 24, 30, EVERYTHING];
/// The one that has a single bucket.
pub(super) const EVERYTHING: u32 = 63;
/// Rows of a name that are counted one by one at the most, before the name gets buckets.
pub(super) const ROWS: u64 = 2000;
/// The `name_id` of the buckets of all tokens.
pub(super) const ALL_NAMES: i64 = 0;

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket {
    pub(super) platform: [u8; 16],
    pub(super) environment: Environment,
    pub(super) name_id: i64,
    pub(super) shift: u32,
    pub(super) bucket: i64,
}

/// Changes of a transaction, gathered so that a bucket is written once.
#[derive(Debug, Default)]
pub(super) struct Pending {
    buckets: HashMap<Bucket, i64>,
    /// Of the tokens noted last, those of one scope and name that were created in the same of the narrowest buckets: they
    /// are in the same of all others too, and mostly there are many of them.
    last: Option<(Scope, i64, i64, i64)>,
}

impl Pending {
    /// Notes that one live token more, or less, was created at that moment.
    pub(super) fn note(&mut self, scope: Scope, name_id: i64, created_at: Timestamp, change: i64) {
        let narrowest = created_at.millis() >> SHIFTS[0];
        match &mut self.last {
            Some((of, name, bucket, changes)) if (*of, *name, *bucket) == (scope, name_id, narrowest) => *changes += change,
            last => {
                let before = last.replace((scope, name_id, narrowest, change));
                self.add(before);
            }
        }
    }

    /// By how much the live tokens of a scope have changed.
    pub(super) fn of(&mut self, scope: Scope) -> i64 {
        let last = self.last.take();
        self.add(last);
        let (platform, environment) = (*scope.platform.0.as_bytes(), scope.environment);
        let all = Bucket { platform, environment, name_id: ALL_NAMES, shift: EVERYTHING, bucket: 0 };
        self.buckets.get(&all).copied().unwrap_or(0)
    }

    fn add(&mut self, noted: Option<(Scope, i64, i64, i64)>) {
        let Some((scope, name_id, narrowest, change)) = noted else { return };
        for shift in SHIFTS {
            let (platform, environment) = (*scope.platform.0.as_bytes(), scope.environment);
            let bucket = Bucket { platform, environment, name_id, shift, bucket: narrowest >> (shift - SHIFTS[0]) };
            *self.buckets.entry(bucket).or_default() += change;
        }
    }

    /// What changed, in one order everywhere.
    pub(super) fn changes(&mut self) -> Vec<(Bucket, i64)> {
        let last = self.last.take();
        self.add(last);
        let mut changes: Vec<_> =
            self.buckets.iter().filter(|(_, change)| **change != 0).map(|(bucket, change)| (*bucket, *change)).collect();
        changes.sort_unstable();
        changes
    }
}

/// A part of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Rows created in `low..high`, in milliseconds, to be counted one by one.
    Rows(i64, i64),
    /// The buckets `low..high` of a width, to be added up.
    Buckets(u32, i64, i64),
}

/// A filter's span of time, cut at the borders of buckets, if there are any for what it counts.
pub(super) fn parts(filter: &TokenFilter, has_buckets: bool) -> Vec<Part> {
    let (from, until) = (filter.from.millis(), filter.until.millis());
    if !has_buckets {
        return kept([Part::Rows(from, until + 1)]);
    }
    if filter.from == Timestamp::MIN && filter.until == Timestamp::MAX {
        return vec![Part::Buckets(EVERYTHING, 0, 1)];
    }
    let (mut low, mut high) = (from, until + 1);
    let finest = SHIFTS[0];
    let (inner_low, inner_high) = (round_up(low, finest), high >> finest);
    if inner_low >= inner_high {
        return kept([Part::Rows(low, high)]);
    }
    let mut parts = kept([Part::Rows(low, inner_low << finest), Part::Rows(inner_high << finest, high)]);
    (low, high) = (inner_low, inner_high);
    for (shift, wider) in SHIFTS.into_iter().zip(SHIFTS.into_iter().skip(1)) {
        let step = wider - shift;
        let (inner_low, inner_high) = (round_up(low, step), high >> step);
        if wider == EVERYTHING || inner_low >= inner_high {
            parts.extend(kept([Part::Buckets(shift, low, high)]));
            break;
        }
        parts.extend(kept([Part::Buckets(shift, low, inner_low << step), Part::Buckets(shift, inner_high << step, high)]));
        (low, high) = (inner_low, inner_high);
    }
    parts
}

/// Those that are not empty.
fn kept(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let full = |part: &Part| match part {
        Part::Rows(low, high) | Part::Buckets(_, low, high) => low < high,
    };
    parts.into_iter().filter(full).collect()
}

const fn round_up(value: i64, shift: u32) -> i64 {
    (value + (1 << shift) - 1) >> shift
}
