//! Where a token was used from.

use std::{cmp::Reverse, net::IpAddr};

use super::Timestamp;

/// An address that a token was used from.
///
/// One of IPv6 is whole, not its /64: who looks into a leak asks which machine it was, and of each token only a few are kept
/// in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseSource {
    /// The address, in its canonical form.
    pub address: IpAddr,
    /// The first use from there, of those since when it is kept.
    pub first_at: Timestamp,
    /// The last one that was noted; there may be later ones, within an hour behind it.
    pub last_at: Timestamp,
}

/// The addresses that a token was used from last: newest first, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UseSources(Vec<UseSource>);

impl UseSources {
    /// Addresses of a token at the most.
    pub const MOST: usize = 20;
    /// None.
    pub const NONE: Self = Self(Vec::new());

    /// Adds uses from an address; the oldest one is left out if there are too many.
    pub fn add(&mut self, added: UseSource) {
        match self.0.iter_mut().find(|known| known.address == added.address) {
            Some(known) => {
                known.first_at = known.first_at.min(added.first_at);
                known.last_at = known.last_at.max(added.last_at);
            }
            None => self.0.push(added),
        }
        // Of two as new, which one is left out must not depend on which came first.
        self.0.sort_unstable_by_key(|source| (Reverse(source.last_at), source.address));
        self.keep(Self::MOST);
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|source| self.add(*source));
    }

    /// Leaves at most so many, the newest.
    pub fn keep(&mut self, most: usize) {
        self.0.truncate(most);
    }

    /// All of them, newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &UseSource> {
        self.0.iter()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(last: u8, first: i64, to: i64) -> UseSource {
        UseSource { address: [192, 0, 2, last].into(), first_at: Timestamp::from_millis(first), last_at: Timestamp::from_millis(to) }
    }

    #[test]
    fn an_address_is_there_once_with_its_first_use_and_its_last() {
        let mut sources = UseSources::default();
        for added in [used(1, 5, 5), used(2, 7, 7), used(1, 9, 9), used(1, 3, 3), used(2, 7, 8)] {
            sources.add(added);
        }
        assert!(sources.iter().eq(&[used(1, 3, 9), used(2, 7, 8)]), "{sources:?}");
        let mut other = UseSources::default();
        other.add(used(3, 1, 20));
        other.add(used(2, 0, 30));
        sources.merge(&other);
        assert!(sources.iter().eq(&[used(2, 0, 30), used(3, 1, 20), used(1, 3, 9)]), "{sources:?}");
    }

    #[test]
    fn the_newest_are_kept() {
        let mut sources = UseSources::default();
        for n in (0..40).rev() {
            sources.add(used(n, n.into(), n.into()));
        }
        assert!(sources.iter().eq((20..40).rev().map(|n| used(n, n.into(), n.into())).collect::<Vec<_>>().iter()), "{sources:?}");
        // Of those that are as new, the first ones in the order of addresses, in whichever order they come.
        let mut sources = UseSources::default();
        (0..30).rev().for_each(|n| sources.add(used(n, 1, 1)));
        assert!(sources.iter().map(|source| source.address).eq((0..20).map(|n| used(n, 1, 1).address)), "{sources:?}");
        sources.keep(3);
        assert_eq!(sources.iter().len(), 3);
    }
}
