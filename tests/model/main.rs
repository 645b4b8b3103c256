//! The index's table under every order of events: an end against readers, late inserts and growth (B-06).
//!
//! The code is the index's own: its file is included here with loom's atomics and locks in place of the machine's. A target
//! apart from the library needs no second build of everything that the library uses, as loom's own way would.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

#[path = "../../src/defect.rs"]
#[expect(dead_code, reason = "the table has one of them only")]
mod defect;
mod sync;
#[path = "../../src/authority/index/table.rs"]
#[expect(dead_code, reason = "what is not modelled: making room before the first token, keeping ends, and ending by id")]
mod table;

use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use self::table::{ENDED, KEY, OLD, Slot, Tables};

/// Ids that belong into the same slot: the later ones stand behind it.
const TOKEN: u64 = 0b10 << 62 | 0b11 << 60;
const OTHER: u64 = TOKEN + 1;
const DIGEST: [u64; 2] = [3, 5];
/// A state in which every part of a slot can be told from an empty one.
const STATE: u64 = 0b1010;

/// Every execution in which threads that could go on are left for another at most three times: that takes seconds. Six take
/// minutes, and found nothing.
fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// What a reader sees of a token: its state without uses, if it is there.
fn see(tables: &Tables, low: u64) -> Option<u64> {
    tables.look(|table| {
        let slot: &Slot = table.of(low, Some)?;
        let state = slot.state();
        assert_eq!(slot.digest(), DIGEST, "half a slot");
        assert_eq!(state & (OLD - 1) & !ENDED, STATE, "half a slot");
        Some(state & (OLD - 1))
    })
}

fn is_live(tables: &Tables, low: u64) -> bool {
    see(tables, low).is_some_and(|state| state & ENDED == 0)
}

fn insert(tables: &Tables, low: u64) {
    tables.insert(low, DIGEST, 0, || Some(STATE));
}

fn end(tables: &Tables, low: u64) {
    tables.end(low, DIGEST, || Some(STATE));
}

/// A reader that goes on while an end and its answer come: once it knows of the answer it never sees the token alive.
fn reads_beside(tables: &Arc<Tables>, answered: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (tables, answered) = (Arc::clone(tables), Arc::clone(answered));
    thread::spawn(move || {
        for _ in 0..2 {
            let is_over = answered.load(Ordering::Acquire);
            let is_live = is_live(&tables, TOKEN);
            assert!(!(is_over && is_live), "accepted after its end was answered");
        }
    })
}

#[test]
fn b_06_a_slot_is_seen_whole_or_not_at_all() {
    model(|| {
        let tables = Arc::new(Tables::with_room_for(0));
        let writer = thread::spawn({
            let tables = Arc::clone(&tables);
            move || {
                insert(&tables, OTHER);
                insert(&tables, TOKEN);
            }
        });
        // What was seen is seen again.
        let first = see(&tables, TOKEN);
        let second = see(&tables, TOKEN);
        assert!(first.is_none() || second.is_some());
        writer.join().unwrap();
        assert!(is_live(&tables, TOKEN) && is_live(&tables, OTHER));
    });
}

/// Whoever read the row before its end puts it in whenever they like: before the end, behind it, or in the middle of it.
#[test]
fn b_06_a_late_insert_brings_no_ended_token_back() {
    model(|| {
        let (tables, answered) = (Arc::new(Tables::with_room_for(0)), Arc::new(AtomicBool::new(false)));
        let late = thread::spawn({
            let tables = Arc::clone(&tables);
            move || insert(&tables, TOKEN)
        });
        let reader = reads_beside(&tables, &answered);
        end(&tables, TOKEN);
        answered.store(true, Ordering::Release);
        late.join().unwrap();
        reader.join().unwrap();
        assert_eq!(see(&tables, TOKEN), Some(STATE | ENDED));
        assert_eq!(tables.live(), 0);
    });
}

/// A reader that has a table at hand which is outgrown meanwhile.
#[test]
fn b_06_an_end_is_seen_by_who_looked_into_an_outgrown_table() {
    model(|| {
        let (tables, answered) = (Arc::new(Tables::with_room_for(0)), Arc::new(AtomicBool::new(false)));
        insert(&tables, TOKEN);
        insert(&tables, OTHER);
        insert(&tables, OTHER + 1);
        let grows = thread::spawn({
            let tables = Arc::clone(&tables);
            // The fourth is one too many for eight slots.
            move || insert(&tables, OTHER + 2)
        });
        let reader = reads_beside(&tables, &answered);
        end(&tables, TOKEN);
        answered.store(true, Ordering::Release);
        grows.join().unwrap();
        reader.join().unwrap();
        assert_eq!(see(&tables, TOKEN), Some(STATE | ENDED));
        assert_eq!((see(&tables, OTHER), see(&tables, OTHER + 2)), (Some(STATE), Some(STATE)));
    });
}

/// Whoever counts the first use names the token, as the index's caller does; whatever was counted is taken once.
#[test]
fn b_06_no_use_is_lost_while_the_table_grows() {
    model(|| {
        let (tables, named) = (Arc::new(Tables::with_room_for(0)), Arc::new(Mutex::new(Vec::new())));
        insert(&tables, TOKEN);
        insert(&tables, OTHER);
        insert(&tables, OTHER + 1);
        let counts = thread::spawn({
            let (tables, named) = (Arc::clone(&tables), Arc::clone(&named));
            move || {
                tables.look(|table| {
                    if table.of(TOKEN, Some).unwrap().count_use() {
                        named.lock().unwrap().push(TOKEN);
                    }
                });
            }
        });
        let grows = thread::spawn({
            let tables = Arc::clone(&tables);
            move || insert(&tables, OTHER + 2)
        });
        let mut taken = 0;
        let mut take = || tables.take_uses(|| std::mem::take(&mut *named.lock().unwrap()), |low| *low, |_, uses| taken += uses);
        take();
        counts.join().unwrap();
        grows.join().unwrap();
        take();
        assert_eq!(taken, 1);
    });
}

/// A token whose digest was made anew has ended under the new key; whoever read its row before that comes late.
#[test]
fn b_06_an_end_under_another_key_keeps_a_late_insert_out() {
    model(|| {
        let (tables, answered) = (Arc::new(Tables::with_room_for(0)), Arc::new(AtomicBool::new(false)));
        let late = thread::spawn({
            let tables = Arc::clone(&tables);
            move || insert(&tables, TOKEN)
        });
        let reader = thread::spawn({
            let (tables, answered) = (Arc::clone(&tables), Arc::clone(&answered));
            move || {
                let is_over = answered.load(Ordering::Acquire);
                let live = tables.look(|table| table.of(TOKEN, |slot: &Slot| (slot.state() & ENDED == 0).then_some(())));
                assert!(!(is_over && live.is_some()), "accepted after its end was answered");
            }
        });
        tables.end(TOKEN, [7, 9], || Some(STATE | KEY & 1 << 5));
        answered.store(true, Ordering::Release);
        late.join().unwrap();
        reader.join().unwrap();
        assert!(tables.look(|table| table.of(TOKEN, |slot: &Slot| (slot.state() & ENDED == 0).then_some(()))).is_none());
        assert_eq!(tables.live(), 0);
    });
}

/// A reader that read the row before its end comes when the end was followed and forgotten, or before that, or in between.
#[test]
fn b_06_what_is_forgotten_is_not_brought_back() {
    model(|| {
        let (tables, answered) = (Arc::new(Tables::with_room_for(0)), Arc::new(AtomicBool::new(false)));
        insert(&tables, OTHER);
        let late = thread::spawn({
            let tables = Arc::clone(&tables);
            move || insert(&tables, TOKEN)
        });
        let reader = reads_beside(&tables, &answered);
        end(&tables, TOKEN);
        answered.store(true, Ordering::Release);
        tables.followed(1);
        tables.followed(2);
        // The fourth is one too many for eight slots.
        (1..3).for_each(|n| tables.insert(OTHER + n, DIGEST, 2, || Some(STATE)));
        late.join().unwrap();
        reader.join().unwrap();
        assert_eq!(see(&tables, TOKEN), None, "it is forgotten, and not there again");
        assert!((0..3).all(|n| is_live(&tables, OTHER + n)));
        assert_eq!(tables.live(), 3);
    });
}
