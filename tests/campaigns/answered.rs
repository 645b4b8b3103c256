//! What was answered, written down outside of servers before anything else is asked; the clients that ask; and whether a
//! database has all of it, and nothing by half.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    node::{Answer, Client, Server, program},
};

pub(crate) const GRID: &str = "/grid/2025-10-13/tokens";
const BLIPS: &str = "/blips/tokens";
/// Who creates and revokes at the same time.
const CLIENTS: usize = 4;
/// How long a client that was refused waits before it asks again.
const PAUSE: Duration = Duration::from_millis(5);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a database must never be found with, and the number that says that it is not, which is 0.
const NEVER: [(&str, &str); 7] = [
    (
        "tokens without their one entry of a create",
        "SELECT count(*) FROM token t WHERE 1 <> (SELECT count(*) FROM audit a WHERE a.token_id = t.id AND a.action = 'token.create')",
    ),
    (
        "tokens that ended without their one entry of a revoke, or live with one",
        "SELECT count(*) FROM token t WHERE (SELECT count(*) FROM audit a WHERE a.token_id = t.id AND a.action = 'token.revoke') \
         <> CASE WHEN t.revoked_at IS NULL THEN 0 ELSE 1 END",
    ),
    (
        "entries without their token",
        "SELECT count(*) FROM audit a WHERE a.action IN ('token.create', 'token.revoke') \
         AND NOT EXISTS (SELECT 1 FROM token t WHERE t.id = a.token_id)",
    ),
    ("gaps in the audit log", "SELECT max(seq) - count(*) FROM audit"),
    ("entries before the first", "SELECT min(seq) - 1 FROM audit"),
    ("tokens made twice", "SELECT count(*) - count(DISTINCT name) FROM token WHERE name LIKE 'turn %'"),
    (
        "tokens that totals do not know",
        "SELECT (SELECT count(*) FROM token WHERE revoked_at IS NULL) \
         - (SELECT sum(live) FROM live_count WHERE shift = 63 AND name_id = 0)",
    ),
];

/// A database, as whoever may read all of it sees it.
pub(crate) enum Database<'c> {
    Sqlite(PathBuf),
    Postgres(&'c Cluster),
}

impl Database<'_> {
    /// The only column of what a statement finds.
    pub(crate) fn ask(&self, sql: &str) -> Result<Vec<String>, String> {
        match self {
            Self::Sqlite(data) => {
                let run = || -> rusqlite::Result<Vec<String>> {
                    let connection = Connection::open_with_flags(data.join("countersign.db"), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                    connection.busy_timeout(Duration::from_secs(10))?;
                    let mut statement = connection.prepare(sql)?;
                    statement.query_map([], |row| row.get(0).map(text))?.collect()
                };
                run().map_err(|e| e.to_string())
            }
            Self::Postgres(cluster) => {
                let found = cluster.run_sql(sql).ok_or_else(|| format!("no answer to {sql}"))?;
                Ok(found.lines().map(str::to_owned).collect())
            }
        }
    }

    /// All tokens, and whether they live.
    pub(crate) fn tokens(&self) -> Result<HashMap<String, bool>, String> {
        let id = match self {
            Self::Sqlite(_) => "lower(hex(id))",
            Self::Postgres(_) => "replace(id::text, '-', '')",
        };
        let rows = self.ask(&format!("SELECT {id} || CASE WHEN revoked_at IS NULL THEN '+' ELSE '-' END AS one FROM token"))?;
        // In a file that was changed an id may be none: such a row is nobody's token.
        Ok(rows.into_iter().filter_map(|row| Some((row.get(..32)?.to_owned(), row.ends_with('+')))).collect())
    }
}

fn text(value: rusqlite::types::Value) -> String {
    match value {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => format!("{other:?}"),
    }
}

/// Starts a server. A revoke waits for one that was killed as long as that may believe what it knew: a short time.
pub(crate) fn start(data: &Path, url: &str, seeded: &[(&str, String)]) -> Result<Server, String> {
    Server::start(data, url, &["--lease".to_owned(), "200ms".to_owned()], seeded)
}

/// Makes a platform: what its sandbox root sends.
pub(crate) fn root(data: &Path, url: &str) -> String {
    let made = program(data, url).args(["platform", "create", "--name", "Campaign", "--output", "json", "--data"]).arg(data).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    basic(&serde_json::from_slice::<Value>(&made.stdout).unwrap()["tokens"][0])
}

pub(crate) fn basic(token: &Value) -> String {
    let half = |name: &str| token[name].as_str().or_else(|| token["apiToken"][name].as_str()).unwrap();
    STANDARD.encode(format!("{}:{}", half("clientId"), half("clientSecret")))
}

/// Pseudorandom numbers that a campaign can be repeated with.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What is known of a token's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    No,
    /// It was asked for, and nobody said what became of it.
    Asked,
    Answered,
}

/// A token whose create was answered.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// As the API writes it that made it; both read it.
    pub(crate) id: String,
    pub(crate) basic: String,
    pub(crate) end: End,
}

impl Token {
    /// As databases write it.
    pub(crate) fn key(&self) -> String {
        self.id.trim_start_matches("Token:").trim_start_matches("tok_").replace('-', "")
    }
}

/// The list of what was answered: a file that is on the disk before the next request.
pub(crate) struct Answered {
    list: Mutex<File>,
    path: PathBuf,
    turn: AtomicUsize,
    /// How many tokens of the list were asked about, one by one, behind an earlier crash.
    asked: AtomicUsize,
    /// Answers that no client may get.
    odd: AtomicU64,
    seen: Mutex<Seen>,
}

/// What clients saw that create and revoke.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Creates that were answered with 201, and with 503.
    pub(crate) creates: [usize; 2],
    /// Revokes that were answered with 204, and with 503.
    pub(crate) ends: [usize; 2],
    /// Requests that were not answered.
    pub(crate) silent: usize,
    /// How long an answer took at the longest.
    pub(crate) slowest: Duration,
}

impl Answered {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        let path = directory.join("answered");
        let list = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        Self {
            list: Mutex::new(list),
            path,
            turn: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            odd: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    /// What clients saw since this was last asked.
    pub(crate) fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn note(&self, line: &str) {
        let mut list = self.list.lock().unwrap();
        writeln!(list, "{line}").unwrap();
        list.sync_data().unwrap();
    }

    /// All tokens on the list, in its order.
    pub(crate) fn read(&self) -> Vec<Token> {
        let list = std::fs::read_to_string(&self.path).unwrap();
        let (mut tokens, mut places) = (Vec::<Token>::new(), HashMap::new());
        for line in list.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["created", id, basic] => {
                    places.insert(id, tokens.len());
                    tokens.push(Token { id: id.to_owned(), basic: basic.to_owned(), end: End::No });
                }
                ["ending", id] => tokens[places[id]].end = End::Asked,
                ["ended", id] => tokens[places[id]].end = End::Answered,
                _ => panic!("{line}"),
            }
        }
        tokens
    }

    /// Clients create and revoke without a pause; so long into it something happens, with which they end.
    pub(crate) fn until(&self, address: SocketAddr, root: &str, millis: u64, strike: impl FnOnce()) {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| self.work(address, root, &over));
            }
            std::thread::sleep(Duration::from_millis(millis));
            strike();
            over.store(true, SeqCst);
        });
    }

    fn work(&self, address: SocketAddr, root: &str, over: &AtomicBool) {
        let (mut client, mut live) = (Client::of(address, PATIENCE), Vec::<(String, String)>::new());
        while !over.load(SeqCst) {
            let turn = self.turn.fetch_add(1, SeqCst);
            let ending = if turn % 3 == 2 && !live.is_empty() { Some(live.swap_remove(turn % live.len())) } else { None };
            let (ends, began) = (ending.is_some(), Instant::now());
            let answer = if let Some((id, basic)) = ending {
                self.note(&format!("ending {id}"));
                let answer = client.ask_wholly("DELETE", &format!("{GRID}/{id}"), root, "");
                if answer.as_ref().is_some_and(|answer| answer.status == 204) {
                    self.note(&format!("ended {id}"));
                    if client.ask("GET", "/verify", &basic, "").is_some_and(|(status, _)| status < 300) {
                        self.note_odd(&format!("lets {id} in, and its end was answered"));
                    }
                }
                answer
            } else {
                // Of both dialects, in turn.
                let (path, permission) = [(GRID, "VIEW"), (BLIPS, "view"), (GRID, "TRANSACT"), (BLIPS, "manage")][turn % 4];
                let body = format!(r#"{{"name":"turn {turn}","permissions":["{permission}"]}}"#);
                let answer = client.ask_wholly("POST", path, root, &body);
                if let Some(Answer { status: 201, body, .. }) = &answer {
                    let created: Value = serde_json::from_str(body).unwrap();
                    // Blips has the token in a member of its own.
                    let id = created["id"].as_str().or_else(|| created["apiToken"]["id"].as_str()).unwrap();
                    self.note(&format!("created {id} {}", basic(&created)));
                    live.push((id.to_owned(), basic(&created)));
                }
                answer
            };
            {
                let mut seen = self.seen.lock().unwrap();
                seen.slowest = seen.slowest.max(began.elapsed());
                let refused = usize::from(answer.as_ref().is_some_and(|answer| answer.status == 503));
                match (&answer, ends) {
                    (None, _) => seen.silent += 1,
                    (_, true) => seen.ends[refused] += 1,
                    (_, false) => seen.creates[refused] += 1,
                }
            }
            match answer {
                Some(Answer { status: 201 | 204, .. }) => {}
                Some(answer) if !answer.is_unavailable() => self.note_odd(&format!("answers {} {}", answer.status, answer.body)),
                None | Some(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Ends tokens that live, one after the other; how many revokes were refused.
    pub(crate) fn end_all(&self, address: SocketAddr, root: &str, tokens: &[Token]) -> usize {
        let mut client = Client::of(address, PATIENCE);
        let mut end = |token: &Token| {
            self.note(&format!("ending {}", token.id));
            let answer = client.ask("DELETE", &format!("{GRID}/{}", token.id), root, "");
            let ended = answer.is_some_and(|(status, _)| status == 204);
            if ended {
                self.note(&format!("ended {}", token.id));
            }
            !ended
        };
        tokens.iter().filter(|token| end(token)).count()
    }

    fn note_odd(&self, what: &str) {
        println!("  a server {what}");
        self.odd.fetch_add(1, SeqCst);
    }

    /// Whether everything that was answered is so, nothing is by half, and a fresh server goes by it: what is not so. Asked
    /// about one by one are the tokens since the last such check, or `all`; revokes that nobody answered are asked for again.
    pub(crate) fn missed(&self, database: &Database<'_>, address: SocketAddr, root: &str, all: bool) -> Vec<String> {
        let mut client = Client::of(address, PATIENCE);
        if !ready(&mut client, root) {
            return vec!["the root is not let in".to_owned()];
        }
        let mut missed = Vec::new();
        if self.odd.swap(0, SeqCst) > 0 {
            missed.push("answers that no client may get".to_owned());
        }
        missed.extend(never(database));
        let (mut tokens, rows) = (self.read(), database.tokens().unwrap());
        let since = self.asked.swap(tokens.len(), SeqCst);
        for token in &mut tokens {
            match (token.end, rows.get(&token.key())) {
                (End::No, Some(true)) | (End::Answered, Some(false)) | (End::Asked, Some(_)) => {}
                (_, None) => missed.push(format!("{}: its create was answered, and it is not there", token.id)),
                (end, _) => missed.push(format!("{}: its end ({end:?}) is not what was answered", token.id)),
            }
            if token.end == End::Asked {
                match client.ask("DELETE", &format!("{GRID}/{}", token.id), root, "") {
                    Some((204 | 404, _)) => {
                        self.note(&format!("ended {}", token.id));
                        token.end = End::Answered;
                    }
                    answer => missed.push(format!("{}: a revoke that is asked for again is answered {answer:?}", token.id)),
                }
            }
        }
        for token in &tokens[if all { 0 } else { since }..] {
            let answer = client.ask("GET", "/verify", &token.basic, "").map(|(status, _)| status);
            let right = if token.end == End::No { 200 } else { 401 };
            if answer != Some(right) {
                missed.push(format!("{}: {answer:?} to whoever has it, not {right}", token.id));
            }
        }
        missed
    }

    /// How much was answered: creates, ends.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let tokens = self.read();
        (tokens.len(), tokens.iter().filter(|token| token.end == End::Answered).count())
    }
}

/// What a database is found with that it must never be found with.
pub(crate) fn never(database: &Database<'_>) -> Vec<String> {
    let found = NEVER.map(|(what, sql)| (what, database.ask(sql)));
    let wrong = found.into_iter().filter(|(_, found)| !matches!(found, Ok(found) if found == &["0"]));
    wrong.map(|(what, found)| format!("{what}: {found:?}")).collect()
}

/// Waits until the root is let in.
pub(crate) fn ready(client: &mut Client, root: &str) -> bool {
    let patience = Instant::now();
    while client.ask("GET", "/verify", root, "").is_none_or(|(status, _)| status != 200) {
        if patience.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
