//! What stands between a node and its database, to be cut and stopped.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

/// What becomes of what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Passage {
    /// It is passed on.
    Open,
    /// Connections are ended, and none is taken.
    Cut,
    /// Nothing is passed on, and nobody is told.
    Silent,
    /// Commits are passed on, and done; instead of their answers the connection ends.
    Unanswered,
}

/// A passage to a port of this machine.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) port: u16,
    state: Arc<AtomicU8>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), state: Arc::default(), open: Arc::default() };
        let (state, open) = (Arc::clone(&proxy.state), Arc::clone(&proxy.open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if state.load(Ordering::SeqCst) == Passage::Cut as u8 {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let commits = Arc::<AtomicBool>::default();
                for (from, to, asks) in [(&near, &far, true), (&far, &near, false)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (state, commits) = (Arc::clone(&state), Arc::clone(&commits));
                    std::thread::spawn(move || pass(from, to, asks, &state, &commits));
                }
                open.lock().unwrap().extend([near, far]);
            }
        });
        proxy
    }

    pub(crate) fn set(&self, passage: Passage) {
        self.state.store(passage as u8, Ordering::SeqCst);
        if passage == Passage::Cut {
            for stream in self.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// The message by which a transaction is committed: alone in its statement, as only whole transactions are.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// Passes on what comes from one side, that `asks` or answers; `commits` is whether a commit's answer is to be kept back.
fn pass(mut from: TcpStream, mut to: TcpStream, asks: bool, state: &AtomicU8, commits: &AtomicBool) {
    let mut bytes = [0; 16384];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while state.load(Ordering::SeqCst) == Passage::Silent as u8 {
            std::thread::sleep(Duration::from_millis(1));
        }
        if asks && state.load(Ordering::SeqCst) == Passage::Unanswered as u8 && bytes[..count].ends_with(COMMIT) {
            commits.store(true, Ordering::SeqCst);
        }
        if !asks && commits.load(Ordering::SeqCst) || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
