//! A way to the PostgreSQL database of these tests that can be cut, for one process among several.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    str::FromStr as _,
    sync::{Arc, Mutex},
};

use countersign::authority::Database;
use tokio_postgres::{Config, config::Host};

/// The connections on their way; none where it is cut.
type Ways = Arc<Mutex<Option<Vec<TcpStream>>>>;

pub(crate) struct Passage {
    url: String,
    ways: Ways,
}

impl Passage {
    /// To the database of a URL, open.
    pub(crate) fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (login, rest) = url.split_once('@').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        let passage =
            Self { url: format!("{login}@{}/{database}", listener.local_addr().unwrap()), ways: Arc::new(Mutex::new(Some(Vec::new()))) };
        let (config, ways) = (Config::from_str(url).unwrap(), Arc::clone(&passage.ways));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if let Some(open) = &mut *ways.lock().unwrap() {
                    let port = config.get_ports().first().copied().unwrap_or(5432);
                    match &config.get_hosts()[0] {
                        Host::Unix(directory) => {
                            let far = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).unwrap();
                            connect(&near, (far.try_clone().unwrap(), far));
                        }
                        Host::Tcp(name) => {
                            let far = TcpStream::connect((name.as_str(), port)).unwrap();
                            connect(&near, (far.try_clone().unwrap(), far));
                        }
                    }
                    open.push(near);
                }
            }
        });
        passage
    }

    /// The database behind it.
    pub(crate) fn database(&self) -> Database {
        Database::Postgres(self.url.clone())
    }

    /// Ends its connections, and takes none.
    pub(crate) fn cut(&self) {
        for way in self.ways.lock().unwrap().take().into_iter().flatten() {
            let _ = way.shutdown(Shutdown::Both);
        }
    }

    /// Takes connections again.
    pub(crate) fn open(&self) {
        *self.ways.lock().unwrap() = Some(Vec::new());
    }
}

fn connect<F: Read + Write + Send + 'static>(near: &TcpStream, (mut read, mut write): (F, F)) {
    let (mut from, mut to) = (near.try_clone().unwrap(), near.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut from, &mut write));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut read, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
