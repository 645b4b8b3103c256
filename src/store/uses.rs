//! How uses are kept: counters of minutes, a quarter of an hour in a row, and of days; and addresses. Quarters and days are
//! numbered since 1970, in UTC.

use std::net::IpAddr;

use crate::domain::{Timestamp, TokenUse, Use, UseSource};

/// Since when uses are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptSince {
    /// Counts of minutes.
    pub(crate) minutes: Timestamp,
    /// Those of days.
    pub(crate) days: Timestamp,
    /// Addresses, by the last use from there.
    pub(crate) sources: Timestamp,
}

const MINUTE: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;

/// Counters in a row. A flush writes whole rows again and again, so rows of an hour made it write twice as much; rows of a
/// minute would be several times as many.
const COUNTERS: usize = 15;
const QUARTER_MINUTES: i64 = COUNTERS as i64;
/// Bytes of a row's counters.
pub(super) const QUARTER_LEN: usize = 4 * COUNTERS;

/// The number of the quarter of an hour that a moment is in.
pub(super) const fn quarter(at: Timestamp) -> i64 {
    at.millis() / (QUARTER_MINUTES * MINUTE)
}

/// The number of the day that it is in.
pub(super) const fn day(at: Timestamp) -> i64 {
    at.millis() / (DAY_MINUTES * MINUTE)
}

/// The minutes of each quarter of an hour, with its number.
pub(super) fn quarters(uses: &Use) -> impl Iterator<Item = (i64, &[(i64, u32)])> {
    let quarters = uses.minutes.chunk_by(|(a, _), (b, _)| a / QUARTER_MINUTES == b / QUARTER_MINUTES);
    quarters.map(|minutes| (minutes[0].0 / QUARTER_MINUTES, minutes))
}

/// The uses of each day, with its number.
pub(super) fn days(uses: &Use) -> impl Iterator<Item = (i64, i64)> {
    let days = uses.minutes.chunk_by(|(a, _), (b, _)| a / DAY_MINUTES == b / DAY_MINUTES);
    days.map(|minutes| (minutes[0].0 / DAY_MINUTES, minutes.iter().map(|(_, uses)| i64::from(*uses)).sum()))
}

/// The minutes of a quarter of an hour. They stop at their greatest value.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Quarter([u32; COUNTERS]);

impl Quarter {
    /// Those of a row: 4 bytes each, the least significant first.
    pub(super) fn stored(bytes: &[u8]) -> Self {
        let mut counters = [0; COUNTERS];
        let (stored, _) = bytes.as_chunks();
        counters.iter_mut().zip(stored).for_each(|(counter, bytes)| *counter = u32::from_le_bytes(*bytes));
        Self(counters)
    }

    /// A row of them.
    pub(super) fn bytes(&self) -> [u8; QUARTER_LEN] {
        let mut bytes = [0; QUARTER_LEN];
        bytes.as_chunks_mut().0.iter_mut().zip(self.0).for_each(|(bytes, counter)| *bytes = counter.to_le_bytes());
        bytes
    }

    /// Adds minutes of this quarter.
    pub(super) fn add(&mut self, minutes: &[(i64, u32)]) {
        for (minute, uses) in minutes {
            let counter = &mut self.0[(minute % QUARTER_MINUTES).unsigned_abs() as usize];
            *counter = counter.saturating_add(*uses);
        }
    }

    /// Adds those of another.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(counter, more)| *counter = counter.saturating_add(more));
    }

    /// Tells them, as those of the quarter with this number.
    pub(super) fn tell(&self, quarter: i64, told: &mut TokenUse) {
        for (minute, uses) in (quarter * QUARTER_MINUTES..).zip(self.0) {
            told.add_minute(Timestamp::from_millis(minute * MINUTE), uses.into());
        }
    }
}

/// Tells the uses of a day, as they are kept.
pub(super) fn tell_day(day: i64, uses: i64, told: &mut TokenUse) {
    told.add_day(Timestamp::from_millis(day * DAY_MINUTES * MINUTE), uses.max(0).unsigned_abs());
}

/// The bytes of an address, 4 or 16.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Tells uses from an address, as they are kept.
pub(super) fn tell_source(address: &[u8], first_at: i64, last_at: i64, told: &mut TokenUse) {
    let address = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(address), _) => address.into(),
        (_, Ok(address)) => address.into(),
        // Somebody has edited it.
        _ => return,
    };
    told.add_source(UseSource { address, first_at: Timestamp::from_millis(first_at), last_at: Timestamp::from_millis(last_at) });
}
