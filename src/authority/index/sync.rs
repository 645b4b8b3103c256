//! What the table is made of: the machine's own. `tests/model` puts others in their place, which try every order of events
//! that the machine allows.

pub(super) use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread_local,
};

pub(super) use arc_swap::ArcSwap;
