//! The resident index: what it takes to verify any live token, in memory, without a lock.
//!
//! It is no cache: it holds every live token, so a miss is an answer and nothing expires. Verifying reads it while one
//! writer at a time changes it, and no interleaving accepts a token whose end was applied, for two reasons:
//!
//! - A slot is written once. Only its state changes, and only from live to ended.
//! - An end is kept as a slot of its own even if the token was not here, and an insert that finds it does nothing. So a
//!   reader of the database that was overtaken by an end cannot bring the token back (the state joins, it never races).
//!
//! Uses are counted in the slots as well, because verifying has them in its cache already; whoever counts the first one
//! since the counts were last taken is told so.
//!
//! Linear probing over 32-byte slots, two to a cache line, at most four in five taken: 40 to 64 bytes a token.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use constant_time_eq::constant_time_eq_n;

use super::defect::Defect;
use crate::{
    domain::{Environment, Permissions, PlatformId, TokenId},
    store::{PlatformRecord, Record},
};

/// All tokens that can verify.
pub(crate) struct Index {
    table: ArcSwap<Table>,
    /// The version of the table: no two tables of any index have the same.
    version: AtomicU64,
    /// Only grows, so that readers need no guard.
    platforms: boxcar::Vec<ResidentPlatform>,
    changing: Mutex<Changing>,
    /// Tables that were outgrown, until the last reader of each is gone: uses may still be counted there.
    outgrown: Mutex<Vec<Arc<Table>>>,
    live: AtomicUsize,
}

static NEXT_VERSION: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The table that this thread looked into last, and its version: having it at hand costs less than taking and giving
    /// back a share of it for each look. One that was outgrown stays in memory until every thread that held it looks again.
    static AT_HAND: RefCell<(u64, Arc<Table>)> = RefCell::new((0, Arc::new(Table { slots: Vec::new() })));
}

/// What only a writer needs, and holds while it writes.
#[derive(Default)]
struct Changing {
    /// Slots that are not empty.
    taken: usize,
    /// Where each platform is in the list.
    places: HashMap<PlatformId, usize>,
}

/// What the index knows of a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// The place on the ring of the key that its digest was made with.
    pub(crate) key: u8,
    /// What it may do.
    pub(crate) permissions: Permissions,
    /// In which half of its platform.
    pub(crate) environment: Environment,
    /// Whether it has ended.
    pub(crate) ended: bool,
    /// Where its platform is in the index's list.
    platform: usize,
    digest: [u64; 2],
}

impl Entry {
    /// Whether this is the token of a digest with this half, in constant time.
    pub(crate) fn matches(&self, [a, b]: [u64; 2]) -> bool {
        let difference = (self.digest[0] ^ a) | (self.digest[1] ^ b);
        constant_time_eq_n(&difference.to_ne_bytes(), &[0; 8])
    }
}

/// An entry where it is.
pub(crate) struct Found<'i> {
    /// The entry.
    pub(crate) entry: Entry,
    slot: &'i Slot,
}

impl Found<'_> {
    /// Counts a use; says whether it is the first one since the uses were last taken.
    pub(crate) fn count_use(&self) -> bool {
        self.slot.state.fetch_add(USE, Ordering::Relaxed) < USE
    }
}

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No entry has this id.
    Absent,
    /// Those that have it were not taken.
    Refused,
}

/// A platform, as verification sees it.
struct ResidentPlatform {
    id: PlatformId,
    /// The place of the last change, doubled, and whether that disabled it: changes can arrive twice and out of order.
    state: AtomicU64,
}

struct Table {
    slots: Vec<Slot>,
}

/// A slot whose `low` is 0 is empty: the low half of a UUID never is, because of its variant bits.
#[derive(Default)]
struct Slot {
    low: AtomicU64,
    digest: [AtomicU64; 2],
    state: AtomicU64,
}

const ENDED: u64 = 1;

fn next_version() -> u64 {
    NEXT_VERSION.fetch_add(1, Ordering::Relaxed)
}

/// State word: ended (1 bit), production (1), permissions (3), key (8), platform (24), uses (27).
fn pack(permissions: Permissions, environment: Environment, key: u8, platform: usize) -> u64 {
    let production = u64::from(environment == Environment::Production);
    production << 1 | u64::from(permissions.bits()) << 2 | u64::from(key) << 5 | (platform as u64) << 13
}

/// Platforms at the most; tokens of further ones are read from the database each time.
const PLATFORMS: usize = 1 << 24;
/// The lowest bit of the uses. They are on top, so that even an overflow would touch nothing else.
const USE: u64 = 1 << 37;

fn unpack(state: u64, digest: [u64; 2]) -> Entry {
    Entry {
        ended: state & ENDED != 0,
        environment: if state & 2 != 0 { Environment::Production } else { Environment::Sandbox },
        permissions: Permissions::from_bits((state >> 2) as u8),
        key: (state >> 5) as u8,
        platform: (state >> 13) as usize & (PLATFORMS - 1),
        digest,
    }
}

fn low(id: TokenId) -> u64 {
    id.0.as_u128() as u64
}

impl Table {
    fn with_room_for(tokens: usize) -> Self {
        let slots = (tokens.max(1024) / 4 * 5 + 8).next_multiple_of(8);
        Self { slots: std::iter::repeat_with(Slot::default).take(slots).collect() }
    }

    /// The slots from an id's own onwards, up to the first empty one.
    fn probe(&self, low: u64) -> impl Iterator<Item = &Slot> {
        // The two variant bits on top are the same in every id; the rest is random, so it is its own hash.
        let start = ((u128::from(low << 2) * self.slots.len() as u128) >> 64) as usize;
        let (before, from) = self.slots.split_at(start);
        from.iter().chain(before)
    }

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

impl Slot {
    fn digest(&self) -> [u64; 2] {
        [self.digest[0].load(Ordering::Relaxed), self.digest[1].load(Ordering::Relaxed)]
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

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::with_room_for(0)),
            version: AtomicU64::new(next_version()),
            platforms: boxcar::Vec::new(),
            changing: Mutex::default(),
            outgrown: Mutex::default(),
            live: AtomicUsize::new(0),
        }
    }

    /// Makes room for so many tokens, so that it does not have to grow.
    pub(crate) fn reserve(&self, tokens: usize) {
        let changing = self.change();
        if changing.taken == 0 {
            // A twentieth more than there are now.
            self.replace(Table::with_room_for(tokens.saturating_add(tokens / 20)));
        }
    }

    /// Empties it: nothing that was known holds any more.
    pub(crate) fn forget(&self) {
        let mut changing = self.change();
        let mut outgrown = self.outgrown();
        outgrown.push(self.replace(Table::with_room_for(0)));
        changing.taken = 0;
        self.live.store(0, Ordering::Relaxed);
        self.platforms.iter().for_each(|(_, platform)| platform.state.store(0, Ordering::SeqCst));
    }

    /// How many live tokens it holds.
    pub(crate) fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Looks up an id and does `then` with the first entry that `is_it` takes, of those that could be meant (one, but for
    /// a chance of 2^-62). `Err` says whether there was none at all.
    pub(crate) fn find<R>(
        &self,
        id: TokenId,
        mut is_it: impl FnMut(&Entry) -> bool,
        then: impl FnOnce(Found<'_>) -> R,
    ) -> Result<R, Missing> {
        let low = low(id);
        self.with_table(|table| {
            let mut missing = Missing::Absent;
            for slot in table.probe(low) {
                match slot.low.load(Ordering::Acquire) {
                    0 => break,
                    found if found == low => {
                        let entry = unpack(slot.state.load(Ordering::SeqCst), slot.digest());
                        if is_it(&entry) {
                            return Ok(then(Found { entry, slot }));
                        }
                        missing = Missing::Refused;
                    }
                    _ => {}
                }
            }
            Err(missing)
        })
    }

    /// The platform of an entry, and whether it is disabled.
    pub(crate) fn platform(&self, entry: &Entry) -> Option<(PlatformId, bool)> {
        let platform = self.platforms.get(entry.platform)?;
        Some((platform.id, platform.state.load(Ordering::SeqCst) & 1 == 1))
    }

    /// Adds a token that was read from the database, with the place of its key on the ring; or does nothing if it is here,
    /// live or ended.
    pub(crate) fn insert(&self, record: &Record, key: u8) {
        let mut changing = self.change();
        self.put(&mut changing, record, key, record.token.revoked_at.is_some());
    }

    /// Ends a token, here or not.
    pub(crate) fn end(&self, record: &Record) {
        let mut changing = self.change();
        self.put(&mut changing, record, 0, true);
    }

    /// Ends whatever has this id, whatever its digest.
    ///
    /// Only for ids of stored rows, never for one that a caller chose: slots know the low half of an id, so an invented
    /// one could end somebody else's token.
    pub(crate) fn end_id(&self, id: TokenId) {
        let _changing = self.change();
        let (low, table) = (low(id), self.table.load());
        for slot in table.probe(low) {
            match slot.low.load(Ordering::Acquire) {
                0 => break,
                found if found == low => self.end_slot(slot),
                _ => {}
            }
        }
    }

    /// Takes the uses that were counted of the tokens that `noted` then names. Whoever counts a first one must have its
    /// token named before `then` of [`Index::find`] returns.
    pub(crate) fn take_uses<T>(&self, noted: impl FnOnce() -> Vec<(TokenId, T)>, mut take: impl FnMut(TokenId, T, u32)) {
        let mut outgrown = self.outgrown();
        // Looked at first: a table without readers counts nothing any more, and of what it counted the token is named below.
        let unread: Vec<_> = outgrown.iter_mut().map(|table| Arc::get_mut(table).is_some()).collect();
        let table = self.table.load();
        for (id, note) in noted() {
            let low = low(id);
            // Two tokens with one low half would be taken for one another here; there are none.
            let slots = outgrown.iter().chain([&*table]).filter_map(|table| {
                let mut taken = table.probe(low).map(|slot| (slot, slot.low.load(Ordering::Acquire))).take_while(|(_, found)| *found != 0);
                taken.find(|(_, found)| *found == low).map(|(slot, _)| slot)
            });
            take(id, note, slots.map(Slot::take_uses).fold(0, u32::saturating_add));
        }
        let mut unread = unread.into_iter();
        outgrown.retain(|_| !unread.next().unwrap_or(false));
    }

    fn outgrown(&self) -> MutexGuard<'_, Vec<Arc<Table>>> {
        self.outgrown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_slot(&self, slot: &Slot) {
        if slot.state.fetch_or(ENDED, Ordering::SeqCst) & ENDED == 0 {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn put(&self, changing: &mut Changing, record: &Record, key: u8, ended: bool) {
        let token = &record.token;
        let (low, digest) = (low(token.id), record.digest.half());
        let table = self.table.load();
        match table.find(low, digest) {
            Ok(slot) if ended => self.end_slot(slot),
            Ok(slot) if Defect::Join.is_seeded() => drop(slot.state.fetch_and(!ENDED, Ordering::SeqCst)),
            Ok(_) => {}
            Err(empty) => {
                let platform = self.platform_place(changing, token.scope.platform);
                if platform >= PLATFORMS {
                    return;
                }
                let state = pack(token.permissions, token.scope.environment, key, platform);
                empty.fill(low, digest, state | if ended { ENDED } else { 0 });
                self.live.fetch_add(usize::from(!ended), Ordering::Relaxed);
                changing.taken += 1;
                if changing.taken >= table.slots.len() / 5 * 4 {
                    self.grow(&table, changing.taken);
                }
            }
        }
    }

    fn grow(&self, old: &Table, taken: usize) {
        let new = Table::with_room_for(taken / 2 * 3);
        for slot in &old.slots {
            let low = slot.low.load(Ordering::Relaxed);
            if low != 0
                && let Err(empty) = new.find(low, slot.digest())
            {
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
        let before = self.table.swap(Arc::new(table));
        // Afterwards: a reader that sees the version finds the table.
        self.version.store(next_version(), Ordering::Release);
        before
    }

    /// Does something with the table, as it is now, at the price of one comparison.
    fn with_table<R>(&self, look: impl FnOnce(&Table) -> R) -> R {
        AT_HAND.with(|at_hand| {
            let version = self.version.load(Ordering::Acquire);
            if at_hand.borrow().0 != version {
                *at_hand.borrow_mut() = (version, self.table.load_full());
            }
            look(&at_hand.borrow().1)
        })
    }

    fn change(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a platform, or applies the change that stands at `seq` of the feed, unless a later one was applied.
    pub(crate) fn put_platform(&self, record: &PlatformRecord, seq: u64) {
        let mut changing = self.change();
        let place = self.platform_place(&mut changing, record.platform.id);
        let state = seq << 1 | u64::from(record.platform.disabled_at.is_some());
        self.platforms[place].state.fetch_max(state, Ordering::SeqCst);
    }

    /// Disables a platform until the next start, whatever its row says later.
    pub(crate) fn refuse_platform(&self, id: PlatformId) {
        let mut changing = self.change();
        let place = self.platform_place(&mut changing, id);
        self.platforms[place].state.fetch_max(u64::MAX, Ordering::SeqCst);
    }

    /// The place of a platform in the list, at its end if it is new.
    fn platform_place(&self, changing: &mut Changing, id: PlatformId) -> usize {
        *changing.places.entry(id).or_insert_with(|| self.platforms.push(ResidentPlatform { id, state: AtomicU64::new(0) }))
    }
}

#[cfg(test)]
mod tests;
