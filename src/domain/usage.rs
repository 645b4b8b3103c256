//! How a token was used.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Timestamp, UseSource, UseSources};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Uses of one token: when it was last used, how often in which minute, and where from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// The last one.
    pub last: Option<Timestamp>,
    /// Minutes since 1970 with their counts, in order, none empty.
    pub minutes: Vec<(i64, u32)>,
    /// Where from, as far as that is known and recorded.
    pub sources: UseSources,
}

impl Use {
    /// Adds uses, of which the last was at `at`.
    pub fn add(&mut self, at: Timestamp, uses: u32) {
        self.last = self.last.max(Some(at));
        self.add_to(at.millis() / MINUTE, uses);
    }

    /// Says where a use at `at`, which is counted by itself, came from.
    pub fn add_source(&mut self, address: IpAddr, at: Timestamp) {
        self.last = self.last.max(Some(at));
        self.sources.add(UseSource { address, first_at: at, last_at: at });
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        self.last = self.last.max(other.last);
        self.sources.merge(&other.sources);
        other.minutes.iter().for_each(|(minute, uses)| self.add_to(*minute, *uses));
    }

    fn add_to(&mut self, minute: i64, uses: u32) {
        match self.minutes.binary_search_by_key(&minute, |(minute, _)| *minute) {
            Ok(place) => self.minutes[place].1 = self.minutes[place].1.saturating_add(uses),
            Err(place) => self.minutes.insert(place, (minute, uses)),
        }
    }

    /// Leaves at most so many minutes, and at least one: the oldest are added to those that follow them, on the same day
    /// as long as that is enough. And at most so many addresses.
    pub fn fold(&mut self, most: usize) {
        self.sources.keep(most.max(1));
        while self.minutes.len() > most.max(1) {
            let day = |(minute, _): &(i64, u32)| *minute * MINUTE / DAY;
            let place = self.minutes.windows(2).position(|pair| day(&pair[0]) == day(&pair[1])).unwrap_or(0);
            let (_, uses) = self.minutes.remove(place);
            self.minutes[place].1 = self.minutes[place].1.saturating_add(uses);
        }
    }
}

/// How a token was used of late, as it was at a moment: whole minutes and days, of which the first may have begun before
/// what they are counted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// That moment.
    pub at: Timestamp,
    /// The last use ever.
    pub last_used_at: Option<Timestamp>,
    /// Uses in each minute of the last 24 hours, by its start; none is 0.
    pub minutes: BTreeMap<Timestamp, u64>,
    /// Uses on each day (UTC) of the last 365 days, by its start; none is 0.
    pub days: BTreeMap<Timestamp, u64>,
    /// Where it was used from in the last 90 days.
    pub sources: UseSources,
}

impl TokenUse {
    /// No use, until some are added.
    pub const fn as_of(at: Timestamp) -> Self {
        Self { at, last_used_at: None, minutes: BTreeMap::new(), days: BTreeMap::new(), sources: UseSources::NONE }
    }

    /// The first minute that is told.
    pub const fn first_minute(&self) -> Timestamp {
        self.at.plus_millis(-DAY).floor(MINUTE)
    }

    /// The first day that is told.
    pub const fn first_day(&self) -> Timestamp {
        self.at.plus_millis(-365 * DAY).floor(DAY)
    }

    /// The first moment whose addresses are told.
    pub const fn first_source(&self) -> Timestamp {
        self.at.plus_millis(-90 * DAY)
    }

    /// Adds uses in the minute that begins at `minute`, if that is told.
    pub fn add_minute(&mut self, minute: Timestamp, uses: u64) {
        if uses > 0 && (self.first_minute()..=self.at).contains(&minute) {
            add(&mut self.minutes, minute, uses);
        }
    }

    /// Adds uses on the day that begins at `day`, if that is told.
    pub fn add_day(&mut self, day: Timestamp, uses: u64) {
        if uses > 0 && (self.first_day()..=self.at).contains(&day) {
            add(&mut self.days, day, uses);
        }
    }

    /// Adds uses from an address, if it is told.
    pub fn add_source(&mut self, source: UseSource) {
        if source.last_at >= self.first_source() {
            self.sources.add(source);
        }
    }

    /// Adds uses that are in none of them.
    pub fn merge(&mut self, uses: &Use) {
        self.last_used_at = self.last_used_at.max(uses.last);
        uses.sources.iter().for_each(|source| self.add_source(*source));
        for (minute, uses) in &uses.minutes {
            let minute = Timestamp::from_millis(minute * MINUTE);
            self.add_minute(minute, (*uses).into());
            self.add_day(minute.floor(DAY), (*uses).into());
        }
    }

    /// Uses in the last hour.
    pub fn last_hour(&self) -> u64 {
        sum(self.minutes.range(self.at.plus_millis(-HOUR).floor(MINUTE)..))
    }

    /// Uses in the last 24 hours: all minutes.
    pub fn last_24_hours(&self) -> u64 {
        sum(self.minutes.iter())
    }

    /// Uses in the last 30 days.
    pub fn last_30_days(&self) -> u64 {
        sum(self.days.range(self.at.plus_millis(-30 * DAY).floor(DAY)..))
    }

    /// Uses in the last 365 days: all days.
    pub fn last_365_days(&self) -> u64 {
        sum(self.days.iter())
    }
}

// Saturating, because what is stored of uses may have been edited.

fn add(counts: &mut BTreeMap<Timestamp, u64>, at: Timestamp, uses: u64) {
    let count = counts.entry(at).or_default();
    *count = count.saturating_add(uses);
}

fn sum<'c>(counts: impl Iterator<Item = (&'c Timestamp, &'c u64)>) -> u64 {
    counts.fold(0, |sum, (_, uses)| sum.saturating_add(*uses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_add_up_by_minute_in_any_order() {
        let (mut uses, at) = (Use::default(), |seconds: i64| Timestamp::from_millis(seconds * 1000));
        uses.add(at(125), 1);
        uses.add(at(60), 2);
        uses.add(at(179), 4);
        assert_eq!(uses, Use { last: Some(at(179)), minutes: vec![(1, 2), (2, 5)], ..Use::default() });
        let mut both = Use::default();
        both.add(at(200), u32::MAX);
        both.merge(&uses);
        both.merge(&both.clone());
        assert_eq!(both, Use { last: Some(at(200)), minutes: vec![(1, 4), (2, 10), (3, u32::MAX)], ..Use::default() });
    }

    #[test]
    fn folding_keeps_counts_and_as_long_as_it_can_their_days() {
        let (day, last) = (24 * 60, Some(Timestamp::from_millis(9)));
        let mut uses = Use { last, minutes: vec![(0, 1), (1, 2), (2, 4), (day, 8), (day + 1, 16), (day + 2, 32)], ..Use::default() };
        let mut folded = |most| {
            uses.fold(most);
            assert_eq!(uses.last, last);
            uses.minutes.clone()
        };
        assert_eq!(folded(6).len(), 6);
        assert_eq!(folded(4), [(2, 7), (day, 8), (day + 1, 16), (day + 2, 32)]);
        assert_eq!(folded(3), [(2, 7), (day + 1, 24), (day + 2, 32)]);
        assert_eq!(folded(2), [(2, 7), (day + 2, 56)]);
        assert_eq!(folded(0), [(day + 2, 63)]);
    }

    #[test]
    fn what_is_told_reaches_back_a_day_and_a_year() {
        // 1972-01-01T12:34:56.789Z, of a leap year.
        let at = Timestamp::from_millis(730 * DAY + 12 * HOUR + 34 * MINUTE + 56_789);
        let mut told = TokenUse::as_of(at);
        let mut uses = Use::default();
        for ago in [0, HOUR, HOUR + MINUTE, DAY, DAY + MINUTE, 30 * DAY, 31 * DAY, 365 * DAY, 366 * DAY, -MINUTE, -DAY] {
            uses.add(at.plus_millis(-ago), 1);
        }
        told.merge(&uses);
        assert_eq!((told.minutes.len(), told.days.len()), (4, 5));
        assert_eq!((told.last_hour(), told.last_24_hours(), told.last_30_days(), told.last_365_days()), (2, 4, 7, 9));
    }

    #[test]
    fn edited_counts_overflow_nothing() {
        let mut told = TokenUse::as_of(Timestamp::MAX);
        for at in [Timestamp::MAX.floor(DAY), Timestamp::MAX.plus_millis(-DAY).floor(DAY)] {
            told.add_day(at, u64::MAX);
            told.add_day(at, 1);
        }
        assert_eq!((told.days.len(), told.last_365_days()), (2, u64::MAX));
    }
}
