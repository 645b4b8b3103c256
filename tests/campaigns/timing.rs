//! A-11: whoever is refused cannot tell by the time why. The causes are asked for in turn, in an order that is drawn anew each
//! turn, over one connection that is kept open, from one core to a server on another: so whatever else the machine does meets
//! all of them alike, and no answer is left out. Compared are medians, each cause with each other.
//!
//! Two medians are never the same, and five differences have one sign by chance in one pair of sixteen. So where a pair has,
//! as many repetitions are made again, and the sign must hold through all of them to count.
//!
//! What is known to differ is asked for as well, so that each run can be seen to notice: a clientId that is genuine and of no
//! token here, which only the database can tell. That is the documented exception. A build with the feature `defects` also
//! tries the campaign on a server that takes longer over one cause.
//!
//! ```text
//! cargo test --release --test campaigns -- timing [--requests N] [--repetitions N] [--seed N]
//! ```
//!
//! `--requests` is how often each cause is asked for in a repetition. With fewer than usual, as in the short form, all is gone
//! through and only what must differ is judged: how alike the others are, many requests say, on a quiet machine.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::{
    Args,
    answered::{Dice, GRID, ready},
    node::{Client, program},
};

/// Why somebody is refused; the last is the exception.
const CAUSES: [&str; 5] = ["wrong secret", "unknown clientId", "revoked", "platform disabled", "genuine clientId of no token"];
const EXCEPTION: usize = 4;
/// Where it is asked: as gateways do, and by a dialect.
const WAYS: [&str; 2] = ["/verify", GRID];
/// Credentials of a cause, which take turns.
const CREDENTIALS: usize = 64;
/// How far two medians may lie apart: so many microseconds or such a part of the smaller one, whichever is more.
const MICROSECONDS: f64 = 3.0;
const PART: f64 = 0.05;
/// How often each cause is asked for in a repetition, to be judged by.
const ENOUGH: u64 = 20_000;

pub(crate) fn run(args: &Args) -> bool {
    let seed = args.number("seed", 1, 1);
    let (requests, repetitions) = (args.number("requests", 100, ENOUGH), args.number("repetitions", 3, 5));
    let mut held = true;
    if cfg!(feature = "defects") {
        let is_noticed = |way: &Way| way.pairs().iter().any(|pair| !pair.is_exception() && !pair.is_within());
        let noticed = measure(requests.min(1000), repetitions, seed, &[("DEFECT", "timing")]).iter().all(is_noticed);
        println!("  a server that takes longer over one cause: {}", if noticed { "noticed" } else { "not noticed: this proves nothing" });
        held &= noticed;
    }
    let measured = measure(requests, repetitions, seed, &[]);
    println!("  {requests} requests of each cause a repetition (seed {seed}); all figures in µs, differences are of medians\n");
    println!("  | way | causes | medians | difference in each repetition | median | may be | |\n  |---|---|---|---|---|---|---|");
    for way in &measured {
        for pair in way.pairs() {
            let holds = match pair.is_exception() {
                true => !pair.is_within(),
                false => requests < ENOUGH || (pair.is_within() && !pair.is_of_one_sign()),
            };
            println!("  | {} | {} |", way.name, pair.row());
            held &= holds;
        }
    }
    println!();
    held
}

/// What was measured in one way: the medians of all causes, in microseconds, repetition by repetition.
struct Way {
    name: &'static str,
    medians: Vec<[f64; CAUSES.len()]>,
}

/// Two causes.
struct Pair {
    causes: [usize; 2],
    medians: [f64; 2],
    differences: Vec<f64>,
}

impl Way {
    /// Each cause with each other, but of the exception with one only: it is not compared, it shows that the rest can be.
    fn pairs(&self) -> Vec<Pair> {
        let of = |cause: usize| self.medians.iter().map(move |medians| medians[cause]);
        let pair = |a: usize, b: usize| Pair {
            causes: [a, b],
            medians: [a, b].map(|cause| median(of(cause).collect())),
            differences: of(a).zip(of(b)).map(|(a, b)| b - a).collect(),
        };
        let compared = (0..EXCEPTION).flat_map(|a| (a + 1..EXCEPTION).map(move |b| (a, b)));
        compared.chain([(0, EXCEPTION)]).map(|(a, b)| pair(a, b)).collect()
    }
}

impl Pair {
    fn is_exception(&self) -> bool {
        self.causes[1] == EXCEPTION
    }

    fn may_be(&self) -> f64 {
        MICROSECONDS.max(PART * self.medians[0].min(self.medians[1]))
    }

    fn difference(&self) -> f64 {
        median(self.differences.clone())
    }

    fn is_within(&self) -> bool {
        self.difference().abs() <= self.may_be()
    }

    fn is_of_one_sign(&self) -> bool {
        self.differences.iter().all(|by| *by > 0.0) || self.differences.iter().all(|by| *by < 0.0)
    }

    fn row(&self) -> String {
        let [a, b] = self.causes.map(|cause| CAUSES[cause]);
        let each: Vec<_> = self.differences.iter().map(|by| format!("{by:+.2}")).collect();
        let said = match (self.is_exception(), self.is_within(), self.is_of_one_sign()) {
            (true, false, _) => "the exception, noticed",
            (true, true, _) => "**the exception, not noticed: this proves nothing**",
            (false, true, false) => "alike",
            (false, true, true) => "**one sign**",
            (false, false, _) => "**apart**",
        };
        let [of_a, of_b] = self.medians;
        format!("{a}, {b} | {of_a:.1}, {of_b:.1} | {} | {:+.2} | {:.2} | {said}", each.join(" "), self.difference(), self.may_be())
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Asks a server of its own, which a build with defects may be told to have one, for all causes in each way.
fn measure(requests: u64, repetitions: u64, seed: u64, seeded: &[(&str, &str)]) -> [Way; WAYS.len()] {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ([root, _], _) = platform(data.path());
    let server = Server::start(data.path(), seeded);
    let mut dice = Dice(seed);
    let credentials = credentials(&server, data.path(), elsewhere.path(), &root, &mut dice);
    on_core(Core::Client, || {
        WAYS.map(|name| {
            let mut asking = Asking::of(server.address, name, &credentials);
            // What is done for the first time is none of the causes'.
            asking.medians(requests.div_ceil(10), &mut dice);
            let mut way = Way { name, medians: Vec::new() };
            let mut repeat = |way: &mut Way| (0..repetitions).for_each(|_| way.medians.push(asking.medians(requests, &mut dice)));
            repeat(&mut way);
            if way.pairs().iter().any(|pair| !pair.is_exception() && pair.is_of_one_sign()) {
                repeat(&mut way);
            }
            way
        })
    })
}

/// What is sent for each cause, on the server that knows it.
fn credentials(server: &Server, data: &Path, elsewhere: &Path, root: &Token, dice: &mut Dice) -> [Vec<String>; CAUSES.len()] {
    let ([other, _], platform_id) = platform(data);
    let mut client = Client::of(server.address, Duration::from_secs(20));
    let mut create = |by: &Token| -> Vec<Token> {
        // What was made by a command is followed.
        assert!(ready(&mut client, &by.basic()));
        let body = r#"{"name":"a","permissions":["VIEW"]}"#;
        let created = (0..CREDENTIALS).map(|_| client.ask("POST", GRID, &by.basic(), body).unwrap());
        created
            .map(|(status, body)| if status == 201 { Token::of(&serde_json::from_str(&body).unwrap()) } else { panic!("{body}") })
            .collect()
    };
    let (live, revoked, disabled) = (create(root), create(root), create(&other));
    for token in &revoked {
        assert_eq!(client.ask("DELETE", &format!("{GRID}/{}", token.id), &root.basic(), "").unwrap().0, 204);
    }
    run_program(data, &["platform", "disable", &platform_id]);
    // Under the same key, in another database.
    std::fs::copy(data.join("keys.json"), elsewhere.join("keys.json")).unwrap();
    let (genuine, _) = platform(elsewhere);
    // Nothing but the lookup tells it from a real one: what is made up is what is random there, and the tag.
    let mut made_up = |token: &Token| {
        let kept = &token.client_id[..token.client_id.len() - 20];
        let random = [6, 6, 8].map(|digits| format!("{:0digits$x}", dice.below(1 << 24)));
        Token { client_id: kept.to_owned() + &random.concat(), ..token.clone() }
    };
    let wrong = |at: usize| Token { secret: live[(at + 1) % CREDENTIALS].secret.clone(), ..live[at].clone() };
    let sent = [(0..CREDENTIALS).map(wrong).collect(), live.iter().map(&mut made_up).collect(), revoked, disabled, genuine.to_vec()];
    sent.map(|tokens: Vec<_>| tokens.iter().map(Token::basic).collect())
}

#[derive(Debug, Clone)]
struct Token {
    id: String,
    client_id: String,
    secret: String,
}

impl Token {
    fn of(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        Self { id: text("id"), client_id: text("clientId"), secret: text("clientSecret") }
    }

    fn basic(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.client_id, self.secret))
    }
}

/// Makes a platform: its root tokens and its id.
fn platform(data: &Path) -> ([Token; 2], String) {
    let made = run_program(data, &["platform", "create", "--name", "Campaign", "--output", "json"]);
    let made: Value = serde_json::from_slice(&made).unwrap();
    ([0, 1].map(|n| Token::of(&made["tokens"][n])), made["platform"]["id"].as_str().unwrap().to_owned())
}

fn run_program(data: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = program(data, "").args(arguments).arg("--data").arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// One connection, and what is sent over it for each cause.
struct Asking {
    stream: TcpStream,
    requests: [Vec<Vec<u8>>; CAUSES.len()],
    turn: usize,
    answer: Vec<u8>,
}

impl Asking {
    fn of(address: SocketAddr, path: &str, credentials: &[Vec<String>; CAUSES.len()]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        // It never sleeps: waking it would be a part of what is measured.
        stream.set_nonblocking(true).unwrap();
        let request = |basic: &String| format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n\r\n").into_bytes();
        Self { stream, requests: credentials.each_ref().map(|of| of.iter().map(request).collect()), turn: 0, answer: vec![0; 4096] }
    }

    /// Asks so often for each cause: its median, in microseconds.
    fn medians(&mut self, turns: u64, dice: &mut Dice) -> [f64; CAUSES.len()] {
        let mut took = [(); CAUSES.len()].map(|()| Vec::new());
        for _ in 0..turns {
            let mut order: [usize; CAUSES.len()] = std::array::from_fn(|cause| cause);
            for at in (1..order.len()).rev() {
                order.swap(at, usize::try_from(dice.below(at as u64 + 1)).unwrap());
            }
            self.turn += 1;
            for cause in order {
                took[cause].push(self.ask(cause));
            }
        }
        took.map(median)
    }

    /// How long a refusal takes, from the first byte that is sent to the last that comes, in microseconds.
    fn ask(&mut self, cause: usize) -> f64 {
        let request = &self.requests[cause][self.turn % self.requests[cause].len()];
        let (began, mut length) = (Instant::now(), 0);
        self.stream.write_all(request).unwrap();
        loop {
            match self.stream.read(&mut self.answer[length..]) {
                Ok(0) => panic!("the server ended the connection"),
                Ok(more) => length += more,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    assert!(began.elapsed() < Duration::from_secs(60), "never answered");
                    continue;
                }
                Err(e) => panic!("{e}"),
            }
            let took = began.elapsed();
            if is_whole(&self.answer[..length]) {
                let status = &self.answer[9..12];
                assert_eq!(status, b"401", "{}: {}", CAUSES[cause], String::from_utf8_lossy(&self.answer[..length]));
                return took.as_secs_f64() * 1e6;
            }
        }
    }
}

/// Whether an answer is there to its end: a refusal says its length.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    answer.len() >= end + 4 + length.parse::<usize>().unwrap()
}

/// The two cores.
#[derive(Debug, Clone, Copy)]
enum Core {
    Client,
    Server,
}

/// Runs `work` with this thread, and what it starts, on one core, where there are two.
fn on_core<R>(core: Core, work: impl FnOnce() -> R) -> R {
    let all = sched_getaffinity(None).unwrap();
    let mut free = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    if let (Some(client), Some(server)) = (free.next(), free.next()) {
        let mut one = CpuSet::new();
        one.set(match core {
            Core::Client => client,
            Core::Server => server,
        });
        sched_setaffinity(None, &one).unwrap();
    }
    let result = work();
    sched_setaffinity(None, &all).unwrap();
    result
}

/// A server on a core of its own, whose log is a file, so that nobody is woken for it; with every default, but that nobody fails
/// too often.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(data: &Path, seeded: &[(&str, &str)]) -> Self {
        let path = data.join("log");
        let mut command = program(data, "");
        command.envs(seeded.iter().copied()).args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--failed-attempts-per-source", "0", "--failed-attempts-per-client", "0", "--data"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&path).unwrap());
        let mut child = on_core(Core::Server, || command.spawn()).unwrap();
        loop {
            let log = std::fs::read_to_string(&path).unwrap();
            // A line that is not written to its end is none yet.
            let lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(address) = lines.filter_map(|line| line.strip_prefix("listening on http://")).next() {
                return Self { child, address: address.parse().unwrap() };
            }
            assert!(child.try_wait().unwrap().is_none(), "no server starts: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
