//! What stands between a node and its database, to be cut and stopped.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
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
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&state));
                    std::thread::spawn(move || pass(from, to, &state));
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

fn pass(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut bytes = [0; 16384];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while state.load(Ordering::SeqCst) == Passage::Silent as u8 {
            std::thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
