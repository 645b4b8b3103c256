//! The table of tokens: read by everybody without a lock while one writer at a time changes it. It knows the low half of an
//! id, half a digest and a word of state; what they mean is the index's.
//!
//! Everything that threads share here is of `sync`, and nothing else of this project is used but a defect: `tests/model`
//! includes this file and tries what it does in every order.

use std::{cell::RefCell, sync::PoisonError};

use super::{
    defect::Defect,
    sync::{Arc, ArcSwap, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, thread_local},
};

/// The state's lowest bit: whether the token has ended.
pub(super) const ENDED: u64 = 1;
/// The state's bits that say under which key the digest is: two slots of one id that differ there are of one token, and two
/// that do not are of two.
pub(super) const KEY: u64 = 0xFF << 5;
/// The state's bit that says that it had ended when the ended ones were last looked at.
pub(super) const OLD: u64 = 1 << 37;
/// The lowest bit of the uses. They are on top, so that even an overflow would touch nothing else.
pub(super) const USE: u64 = 1 << 38;

/// The table as it is now, and those that it outgrew.
pub(super) struct Tables {
    now: ArcSwap<Table>,
    /// The version of the table: no two tables of any index have the same.
    version: AtomicU64,
    /// Whoever changes anything holds this.
    counts: Mutex<Counts>,
    /// Tables that were outgrown, until the last reader of each is gone: uses may still be counted there.
    outgrown: Mutex<Vec<Arc<Table>>>,
    live: AtomicUsize,
    /// For how many tokens a table has room at least.
    least: usize,
}

/// What whoever changes the table has to know.
struct Counts {
    /// Slots that are not empty.
    taken: usize,
    /// Those of them that have ended and are not old.
    ended: usize,
    old: Old,
    /// Whatever was read before this place of the feed was followed may have ended, and that may be forgotten here.
    forgotten: u64,
    /// Who reads for so long that no end may be forgotten meanwhile.
    readers: usize,
}

/// How far it is with forgetting old ends. Whoever read a token's row before its end may come with it at any time, and finds the
/// end in its slot; so that slot is needed until all such readers can be told from others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    /// No slot is.
    None,
    /// Some are: their ends were committed before now.
    Marked,
    /// And the feed was read since, from its beginning on to this place: those ends are before it.
    Before(u64),
}

/// Orders nothing, so it is not of `sync`.
static NEXT_VERSION: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

thread_local! {
    /// The table that this thread looked into last, and its version: having it at hand costs less than taking and giving
    /// back a share of it for each look. One that was outgrown stays in memory until every thread that held it looks again.
    static AT_HAND: RefCell<(u64, Arc<Table>)> = RefCell::new((0, Arc::new(Table { slots: Vec::new() })));
}

/// Slots, by linear probing.
pub(super) struct Table {
    slots: Vec<Slot>,
}

/// A slot whose `low` is 0 is empty: the low half of a UUID never is, because of its variant bits.
#[derive(Default)]
pub(super) struct Slot {
    low: AtomicU64,
    digest: [AtomicU64; 2],
    state: AtomicU64,
}

fn next_version() -> u64 {
    NEXT_VERSION.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

impl Slot {
    pub(super) fn digest(&self) -> [u64; 2] {
        [self.digest[0].load(Ordering::Relaxed), self.digest[1].load(Ordering::Relaxed)]
    }

    pub(super) fn state(&self) -> u64 {
        self.state.load(Ordering::SeqCst)
    }

    /// Counts a use; says whether it is the first one since the uses were last taken.
    pub(super) fn count_use(&self) -> bool {
        self.state.fetch_add(USE, Ordering::Relaxed) < USE
    }

    /// Ends it; returns the state before, and whether it was live.
    fn end(&self) -> (u64, bool) {
        let before = self.state.fetch_or(ENDED, Ordering::SeqCst);
        (before, before & ENDED == 0)
    }

    /// Takes the uses counted since this was last called.
    fn take_uses(&self) -> u32 {
        (self.state.fetch_and(USE - 1, Ordering::Relaxed) / USE) as u32
    }

    /// Fills an empty slot; readers see it whole or not at all, because `low` comes last.
    fn fill(&self, low: u64, digest: [u64; 2], state: u64) {
        self.digest[0].store(digest[0], Ordering::Relaxed);
        self.digest[1].store(digest[1], Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
        self.low.store(low, Ordering::Release);
    }
}

impl Table {
    fn with_room_for(tokens: usize) -> Self {
        let slots = (tokens / 4 * 5 + 8).next_multiple_of(8);
        Self { slots: std::iter::repeat_with(Slot::default).take(slots).collect() }
    }

    /// The slots from an id's own onwards.
    fn probe(&self, low: u64) -> impl Iterator<Item = &Slot> {
        // The two variant bits on top are the same in every id; the rest is random, so it is its own hash.
        let start = ((u128::from(low << 2) * self.slots.len() as u128) >> 64) as usize;
        let (before, from) = self.slots.split_at(start);
        from.iter().chain(before)
    }

    /// Does `look` with the slots of an id until it takes one: there is one, but for a chance of 2^-62.
    pub(super) fn of<'t, R>(&'t self, low: u64, mut look: impl FnMut(&'t Slot) -> Option<R>) -> Option<R> {
        // A loop: an iterator made each look cost half as much again.
        for slot in self.probe(low) {
            match slot.low.load(Ordering::Acquire) {
                0 => break,
                found if found == low => match look(slot) {
                    None => {}
                    taken => return taken,
                },
                _ => {}
            }
        }
        None
    }

    /// The slot of a token, or the empty one where it belongs.
    fn find(&self, low: u64, digest: [u64; 2]) -> Result<&Slot, &Slot> {
        for slot in self.probe(low) {
            match slot.low.load(Ordering::Acquire) {
                0 => return Err(slot),
                found if found == low && slot.digest() == digest => return Ok(slot),
                _ => {}
            }
        }
        unreachable!("a fifth of the slots is empty")
    }
}

impl Tables {
    /// An empty table.
    pub(super) fn with_room_for(least: usize) -> Self {
        Self {
            now: ArcSwap::from_pointee(Table::with_room_for(least)),
            version: AtomicU64::new(next_version()),
            counts: Mutex::new(Counts { taken: 0, ended: 0, old: Old::None, forgotten: 0, readers: 0 }),
            outgrown: Mutex::new(Vec::new()),
            live: AtomicUsize::new(0),
            least,
        }
    }

    /// Makes room for so many tokens, if there are none yet.
    pub(super) fn reserve(&self, tokens: usize) {
        let counts = self.change();
        if counts.taken == 0 {
            self.replace(Table::with_room_for(tokens.max(self.least)));
        }
    }

    /// Begins again with an empty table.
    pub(super) fn clear(&self) {
        let mut counts = self.change();
        let mut outgrown = self.outgrown();
        outgrown.push(self.replace(Table::with_room_for(self.least)));
        *counts = Counts { taken: 0, ended: 0, old: Old::None, forgotten: 0, readers: counts.readers };
        self.live.store(0, Ordering::Relaxed);
    }

    /// Says that the feed was read up to the place `seq`, by a read that began after this was last called. So what has ended
    /// before that is forgotten when room is needed, and a table in which tokens come and go stays as large as it is.
    pub(super) fn followed(&self, seq: u64) {
        let mut counts = self.change();
        match counts.old {
            Old::Marked => counts.old = Old::Before(seq),
            // So many that looking for them costs each end little.
            Old::None if counts.ended >= (counts.taken / 4).max(1) => {
                for slot in &self.now.load().slots {
                    if slot.state.load(Ordering::Relaxed) & ENDED != 0 {
                        slot.state.fetch_or(OLD, Ordering::Relaxed);
                    }
                }
                (counts.ended, counts.old) = (0, Old::Marked);
            }
            Old::None | Old::Before(_) => {}
        }
    }

    /// Keeps all ends while `keep`: for who reads rows for long, and puts each in.
    pub(super) fn keep_ends(&self, keep: bool) {
        let mut counts = self.change();
        counts.readers = if keep { counts.readers + 1 } else { counts.readers.saturating_sub(1) };
    }

    /// How many live tokens there are.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// How many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        self.now.load().slots.len() * size_of::<Slot>()
    }

    /// How many slots there are.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.now.load().slots.len()
    }

    /// Does something with the table, as it is now, at the price of one comparison.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Table) -> R) -> R {
        AT_HAND.with(|at_hand| {
            let version = self.version.load(Ordering::Acquire);
            if at_hand.borrow().0 != version {
                *at_hand.borrow_mut() = (version, self.now.load_full());
            }
            look(&at_hand.borrow().1)
        })
    }

    /// Puts a token in, with the state that `state` then says, if any; or does nothing if it is here, live or ended, or if its row
    /// was read so long ago that its end may be forgotten: before `read`, a place of the feed, was left behind.
    pub(super) fn insert(&self, low: u64, digest: [u64; 2], read: u64, state: impl FnOnce() -> Option<u64>) {
        self.put(low, digest, state, Some(read));
    }

    /// Ends a token, here or not: an end that comes first is kept for it.
    pub(super) fn end(&self, low: u64, digest: [u64; 2], state: impl FnOnce() -> Option<u64>) {
        self.put(low, digest, state, None);
    }

    /// Ends whatever has this id, whatever its digest.
    pub(super) fn end_all(&self, low: u64) {
        let mut counts = self.change();
        // As many tokens as there are slots under one key.
        let mut ended = [0; 256];
        self.now.load().of(low, |slot| {
            let (before, was_live) = slot.end();
            counts.ended += usize::from(was_live);
            ended[((before & KEY) / (KEY & KEY.wrapping_neg())) as usize] += usize::from(was_live);
            None::<()>
        });
        self.live.fetch_sub(ended.into_iter().max().unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes the uses that were counted of the tokens that `noted` then names, by the low halves of their ids. Whoever
    /// counts a first one must have its token named before they have done with [`Tables::look`].
    pub(super) fn take_uses<T>(&self, noted: impl FnOnce() -> Vec<T>, low: impl Fn(&T) -> u64, mut take: impl FnMut(T, u32)) {
        let mut outgrown = self.outgrown();
        // Looked at first: a table without readers counts nothing any more, and of what it counted the token is named below.
        let unread: Vec<_> = outgrown.iter_mut().map(|table| Arc::get_mut(table).is_some()).collect();
        let table = self.now.load_full();
        for token in noted() {
            let low = low(&token);
            // Two tokens with one low half would be taken for one another here; there are none.
            let mut taken = 0_u32;
            for table in outgrown.iter().chain([&table]) {
                table.of(low, |slot| {
                    taken = taken.saturating_add(slot.take_uses());
                    None::<()>
                });
            }
            take(token, taken);
        }
        let mut unread = unread.into_iter();
        outgrown.retain(|_| !unread.next().unwrap_or(false));
    }

    /// Puts in a token whose row was read at a place of the feed; or, without one, ends it.
    fn put(&self, low: u64, digest: [u64; 2], state: impl FnOnce() -> Option<u64>, read: Option<u64>) {
        let mut counts = self.change();
        let ended = read.is_none();
        if read.is_some_and(|read| read < counts.forgotten) {
            return;
        }
        let table = self.now.load();
        let (slot, state) = match table.find(low, digest) {
            Ok(slot) => (Ok(slot), slot.state()),
            Err(empty) => match state() {
                Some(state) => (Err(empty), state),
                None => return,
            },
        };
        // Under other keys it is the same token.
        let (mut was_live, mut has_ended) = (false, false);
        let mut end = |slot: &Slot| {
            let ends = slot.end().1;
            counts.ended += usize::from(ends);
            ends
        };
        table.of(low, |other| {
            let there = other.state();
            if (there ^ state) & KEY != 0 {
                was_live |= if ended { end(other) } else { there & ENDED == 0 };
                has_ended |= there & ENDED != 0;
            }
            None::<()>
        });
        match slot {
            Ok(slot) if ended => was_live |= end(slot),
            Ok(slot) if Defect::Join.is_seeded() => drop(slot.state.fetch_and(!ENDED, Ordering::SeqCst)),
            Err(empty) if ended || !has_ended => {
                empty.fill(low, digest, state | if ended { ENDED } else { 0 });
                self.live.fetch_add(usize::from(!ended && !was_live), Ordering::Relaxed);
                counts.taken += 1;
                counts.ended += usize::from(ended);
                if counts.taken >= table.slots.len() / 5 * 4 {
                    self.make_room(&table, &mut counts);
                }
            }
            Ok(_) | Err(_) => {}
        }
        self.live.fetch_sub(usize::from(ended && was_live), Ordering::Relaxed);
    }

    /// Makes a table with more room, without what has ended so long ago that it can be forgotten.
    fn make_room(&self, old: &Table, counts: &mut Counts) {
        let forgotten = match counts.old {
            Old::Before(seq) if counts.readers == 0 => Some(seq),
            _ => None,
        };
        let forgets = if forgotten.is_some() { OLD } else { 0 };
        let stays = |slot: &&Slot| slot.low.load(Ordering::Relaxed) != 0 && slot.state.load(Ordering::Relaxed) & forgets == 0;
        if let Some(seq) = forgotten {
            (counts.forgotten, counts.old) = (seq, Old::None);
            counts.taken = old.slots.iter().filter(stays).count();
        }
        let new = Table::with_room_for((counts.taken / 2 * 3).max(self.least));
        for slot in old.slots.iter().filter(stays) {
            let low = slot.low.load(Ordering::Relaxed);
            if let Err(empty) = new.find(low, slot.digest()) {
                // Without its uses: they are taken from the old table, where readers may be counting still.
                empty.fill(low, slot.digest(), slot.state.load(Ordering::Relaxed) & (USE - 1));
            }
        }
        // Under the lock: whoever takes uses meanwhile must find them in one of the two.
        let mut outgrown = self.outgrown();
        outgrown.push(self.replace(new));
    }

    /// Puts a table in the place of the one before.
    fn replace(&self, table: Table) -> Arc<Table> {
        let before = self.now.swap(Arc::new(table));
        // Afterwards: a reader that sees the version finds the table.
        self.version.store(next_version(), Ordering::Release);
        before
    }

    fn change(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outgrown(&self) -> MutexGuard<'_, Vec<Arc<Table>>> {
        self.outgrown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
