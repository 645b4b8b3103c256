//! What stands between a node and its database, to be cut and stopped.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What becomes of what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Passage {
    /// It is passed on.
    Open,
    /// Connections are ended, and each new one at once.
    Cut,
    /// Nothing is passed on, and nobody is told.
    Silent,
    /// All is passed on but notifications.
    Mute,
    /// Commits are passed on, and done; instead of their answers the connection ends.
    Unanswered,
    /// All is passed on, answers late.
    Slow,
}

/// How late.
const LATE: Duration = Duration::from_secs(2);

/// A passage to a port of this machine.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) port: u16,
    state: Arc<AtomicU8>,
    swallowed: Arc<AtomicU64>,
    /// The connections that there are, as long as somebody passes on what comes over them.
    open: Arc<Mutex<Vec<Weak<TcpStream>>>>,
}

impl Proxy {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, state: Arc::default(), swallowed: Arc::default(), open: Arc::default() };
        let (state, swallowed, open) = (Arc::clone(&proxy.state), Arc::clone(&proxy.swallowed), Arc::clone(&proxy.open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if state.load(Ordering::SeqCst) == Passage::Cut as u8 {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let way = Arc::new(Way { state: Arc::clone(&state), swallowed: Arc::clone(&swallowed), commits: AtomicBool::new(false) });
                let (near, far) = (Arc::new(near), Arc::new(far));
                let mut open = open.lock().unwrap();
                open.retain(|stream| stream.strong_count() > 0);
                open.extend([Arc::downgrade(&near), Arc::downgrade(&far)]);
                for (from, to, asks) in [(&near, &far, true), (&far, &near, false)] {
                    let (from, to, way) = (Arc::clone(from), Arc::clone(to), Arc::clone(&way));
                    std::thread::spawn(move || way.pass(&from, &to, asks));
                }
            }
        });
        proxy
    }

    /// How many notifications were lost here.
    pub(crate) fn swallowed(&self) -> u64 {
        self.swallowed.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, passage: Passage) {
        self.state.store(passage as u8, Ordering::SeqCst);
        if passage == Passage::Cut {
            for stream in self.open.lock().unwrap().drain(..).filter_map(|stream| stream.upgrade()) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// The message by which a transaction is committed: alone in its statement, as only whole transactions are.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// One connection.
struct Way {
    state: Arc<AtomicU8>,
    swallowed: Arc<AtomicU64>,
    /// Whether a commit's answer is to be kept back.
    commits: AtomicBool,
}

impl Way {
    fn is(&self, passage: Passage) -> bool {
        self.state.load(Ordering::SeqCst) == passage as u8
    }

    /// Passes on what comes from one side, that `asks` or answers.
    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream, asks: bool) {
        let (mut bytes, mut rest) = ([0; 16384], Vec::new());
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            while self.is(Passage::Silent) {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !asks && self.is(Passage::Slow) {
                std::thread::sleep(LATE);
            }
            let mut passed = bytes[..count].to_vec();
            if asks && self.is(Passage::Unanswered) && passed.ends_with(COMMIT) {
                self.commits.store(true, Ordering::SeqCst);
            }
            if !asks {
                rest.append(&mut passed);
                passed = self.answers(&mut rest);
            }
            if !asks && self.commits.load(Ordering::SeqCst) || to.write_all(&passed).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Takes the whole messages from what a server has sent; notifications among them may be lost here. (Whoever asks for
    /// TLS is answered by a byte that is no message; nobody does here.)
    fn answers(&self, sent: &mut Vec<u8>) -> Vec<u8> {
        let mut passed = Vec::new();
        while let Some(&[kind, a, b, c, d]) = sent.first_chunk() {
            let end = 1 + usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
            if sent.len() < end {
                break;
            }
            let message = sent.drain(..end);
            if kind == b'A' && self.is(Passage::Mute) {
                self.swallowed.fetch_add(1, Ordering::SeqCst);
            } else {
                passed.extend(message);
            }
        }
        passed
    }
}
