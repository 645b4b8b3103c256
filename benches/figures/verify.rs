//! V1, V2, V3, V4, V6, V7, V8 and the table of them all: `/verify` over HTTP, as a gateway asks it.
//!
//! Turns are as long as from one writing of use times to the next, so that each holds one. Refusals are asked of a process
//! of their own, which writes no use times that others caused.

use std::{fmt::Write as _, process::Command, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    Args, Outcome, chart,
    dataset::{Dataset, Random},
    load::{Connection, Core, Load, on_core, request},
    peers,
    report::{Bound, Series, Table, Verdicts, doubtful, left_out, note, now, number},
    server::{Contender, Server, compete},
};

/// Latency is sampled in groups that take turns, so that what the machine does besides meets both alike.
const GROUP: usize = 1000;

/// The share of its core that a server under enough load uses, where nobody else wants it.
const SATURATED: f64 = 0.95;

/// Both halves of a credential.
fn halves(credential: &str) -> Outcome<(String, String)> {
    let encoded = credential.strip_prefix("Basic ").ok_or("a dataset without credentials")?;
    let pair = String::from_utf8(STANDARD.decode(encoded)?)?;
    let (id, secret) = pair.split_once(':').ok_or("a credential is a pair")?;
    Ok((id.to_owned(), secret.to_owned()))
}

fn asked(id: &str, secret: &str) -> Vec<u8> {
    let credential = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    request("GET", "/verify", &[("authorization", &credential)], "")
}

/// Every kept credential in any order; the answer says whose it is.
pub(crate) fn hits(data: &Dataset) -> Outcome<Load> {
    hits_of(data, |_, id, secret| asked(id, secret))
}

fn hits_of(data: &Dataset, asked: impl Fn(usize, &str, &str) -> Vec<u8>) -> Outcome<Load> {
    let mut credentials = data.credentials.clone();
    Random(5).shuffle(&mut credentials);
    let (mut requests, mut proofs) = (Vec::new(), Vec::new());
    for (at, credential) in credentials.iter().enumerate() {
        let (id, secret) = halves(credential)?;
        requests.push(asked(at, &id, &secret));
        proofs.push(format!("\r\nx-auth-client-id: {id}\r\n").into_bytes());
    }
    Ok(Load::new(requests).answered(b"200").proven(proofs))
}

/// Well-formed secrets of clientIds that were made up.
fn unknown(data: &Dataset) -> Outcome<Load> {
    let mut random = Random(11);
    let made_up = |credential: &String| {
        let (id, secret) = halves(credential)?;
        let digits: String = (0..40).map(|_| char::from(b"0123456789abcdef"[random.below(16) as usize])).collect();
        let prefix = id.get(..8).ok_or("a clientId has a prefix")?;
        Ok(asked(&format!("{prefix}{digits}"), &secret))
    };
    Ok(Load::new(data.credentials.iter().map(made_up).collect::<Outcome<_>>()?).answered(b"401"))
}

/// Everybody with the secret of somebody else.
fn wrong(data: &Dataset) -> Outcome<Load> {
    let pairs = data.credentials.iter().map(|credential| halves(credential)).collect::<Outcome<Vec<_>>>()?;
    let next = pairs.iter().cycle().skip(1);
    Ok(Load::new(pairs.iter().zip(next).map(|((id, _), (_, secret))| asked(id, secret)).collect()).answered(b"401"))
}

fn nobody() -> Load {
    Load::new(vec![request("GET", "/verify", &[], "")]).answered(b"401")
}

/// A table of what each took, and by how many times that is more than the first of them, a bare hyper server's.
fn print(args: &Args, title: &str, contenders: &[Contender<'_>], costs: &[Series]) {
    let mut table = Table::new(&["server", "CPU µs per request, median", "cpuX", "its core used, %"]);
    for (contender, cost) in contenders.iter().zip(costs) {
        let times = cost.over(&costs[0]).median();
        table.add([contender.name.clone(), number(cost.median()), number(times), number(contender.busy.median() * 100.0)]);
    }
    table.print(&format!("{title}; {} rounds of {} s", args.rounds, args.long_turn().as_secs()));
    let idle = |contender: &&Contender<'_>| contender.busy.median() < SATURATED;
    if contenders.iter().any(|contender| idle(&contender)) {
        doubtful("a server here used less than 95 % of its core: others did, or the generator was too slow. Repeat it on a quiet machine");
    }
}

/// The contenders of one run, the bare one first; each with the process that it asks.
struct Field {
    servers: Vec<(String, Server, Load)>,
}

impl Field {
    /// The bare server gets the same requests, and answers each alike.
    fn new(load: &Load) -> Outcome<Self> {
        Ok(Self { servers: vec![("bare hyper".to_owned(), Server::bare()?, load.unproven())] })
    }

    fn add(&mut self, name: impl Into<String>, server: Server, load: Load) -> usize {
        self.servers.push((name.into(), server, load));
        self.servers.len() - 1
    }

    /// Adds a peer that may be missing on this machine.
    fn add_peer(&mut self, name: &str, peer: Outcome<(Server, Load)>) -> Option<usize> {
        match peer {
            Ok((server, load)) => Some(self.add(name, server, load)),
            Err(e) => {
                left_out(name, &*e);
                None
            }
        }
    }

    fn compete(&self, args: &Args, title: &str) -> Outcome<Vec<Series>> {
        let mut contenders: Vec<_> =
            self.servers.iter().map(|(name, server, load)| Contender::new(name.clone(), server, load.clone())).collect();
        let costs = compete(args.rounds, args.long_turn(), &mut contenders)?;
        print(args, title, &contenders, &costs);
        Ok(costs)
    }
}

/// V1, or with many tokens V2: all that `/verify` adds to HTTP.
fn over_bare(args: &Args, row: &str, tokens: u64, floor: f64, goal: f64) -> Outcome {
    let data = Dataset::of(tokens)?;
    let load = hits(&data)?;
    let mut field = Field::new(&load)?;
    let ours = field.add("countersign", Server::countersign(&data.directory)?, load);
    let costs =
        field.compete(args, &format!("{row}: /verify, {} credentials in turn of {tokens} tokens, 64 clients", data.credentials.len()))?;
    let mut verdicts = Verdicts::new();
    verdicts.add(
        &format!("{row} CPU per request over bare hyper's"),
        &costs[ours].over(&costs[0]),
        Bound::AtMost(floor),
        Bound::AtMost(goal),
    );
    verdicts.print(row);
    Ok(())
}

/// V1.
pub(crate) fn over_hyper(args: &Args) -> Outcome {
    over_bare(args, "V1", args.tokens, 1.25, 1.1)
}

/// V2.
pub(crate) fn of_many(args: &Args) -> Outcome {
    match args.many {
        Some(many) => over_bare(args, "V2", many, 1.35, 1.15),
        None => {
            note("V2 is left out: it is V1 with ten times the tokens, which take a while to make and 8 GB; give --many 10000000");
            Ok(())
        }
    }
}

/// A peer, which may be missing; by how many times its CPU has to be above ours, and by how many it should.
type Peer = (&'static str, Outcome<(Server, Load)>, [f64; 2]);

/// V3 and V4: peers' CPU over ours.
fn over_peers(args: &Args, row: &str, what: &str, peers: [Peer; 2]) -> Outcome {
    let data = Dataset::of(args.tokens)?;
    let load = hits(&data)?;
    let mut field = Field::new(&load)?;
    let ours = field.add("countersign", Server::countersign(&data.directory)?, load);
    let mut found = Vec::new();
    for (name, peer, bounds) in peers {
        if let Some(at) = field.add_peer(name, peer) {
            found.push((name, at, bounds));
        }
    }
    let costs = field.compete(args, &format!("{row}: {what}, 64 clients"))?;
    let mut verdicts = Verdicts::new();
    for (name, at, [floor, goal]) in found {
        let figure = format!("{row} {name}'s CPU per request over ours");
        verdicts.add(&figure, &costs[at].over(&costs[ours]), Bound::AtLeast(floor), Bound::AtLeast(goal));
    }
    verdicts.print(row);
    Ok(())
}

/// V3.
pub(crate) fn over_libraries(args: &Args) -> Outcome {
    let peers = [("better-auth", peers::better_auth_verifying(), [100.0, 115.0]), ("drf-api-key", peers::drf_api_key(), [130.0, 150.0])];
    over_peers(args, "V3", &format!("/verify of {} tokens against libraries with 100000 keys on SQLite", args.tokens), peers)
}

/// V4.
pub(crate) fn over_nginx(args: &Args) -> Outcome {
    let peers = [("nginx, 1 k users", peers::nginx(1_000), [7.0, 9.0]), ("nginx, 100 k users", peers::nginx(100_000), [600.0, 750.0])];
    over_peers(args, "V4", &format!("/verify of {} tokens against nginx auth_basic", args.tokens), peers)
}

/// V6: how long one waits that asks alone.
pub(crate) fn alone(args: &Args) -> Outcome {
    let data = Dataset::of(args.tokens)?;
    let load = hits(&data)?;
    let servers = [Server::bare()?, Server::countersign(&data.directory)?];
    let mut lines = [load.each(), load.each()];
    let mut waits = vec![[Series::default(), Series::default()]; args.rounds + 1];
    on_core(Core::Load, || {
        let mut connections = [Connection::open(servers[0].address)?, Connection::open(servers[1].address)?];
        for (round, waits) in waits.iter_mut().enumerate() {
            let end = now() + args.long_turn() * 2;
            while now() < end {
                for which in [round % 2, 1 - round % 2] {
                    for request in lines[which].by_ref().take(GROUP) {
                        let began = now();
                        connections[which].exchange(request)?;
                        waits[which].0.push((now() - began).as_secs_f64() * 1e6);
                    }
                }
            }
            note(&format!("round {round} of {}", args.rounds));
        }
        Outcome::Ok(())
    })??;
    // The first round warms up.
    let rounds = &waits[1..];
    let of_rounds = |which: usize, share: f64| Series(rounds.iter().map(|waits| waits[which].quantile(share)).collect());
    let mut table = Table::new(&["server", "p50, µs", "p99, µs"]);
    for (which, server) in servers.iter().enumerate() {
        table.add([server.name.to_owned(), number(of_rounds(which, 0.5).median()), number(of_rounds(which, 0.99).median())]);
    }
    table.print(&format!("V6: /verify on one connection, medians of {} rounds of {} s each", args.rounds, args.long_turn().as_secs()));
    let above = Series(rounds.iter().map(|[bare, ours]| ours.quantile(0.5) - bare.quantile(0.5)).collect());
    let mut verdicts = Verdicts::new();
    verdicts.add("V6 p50 above bare hyper's, µs", &above, Bound::AtMost(3.0), Bound::AtMost(1.5));
    verdicts.print("V6");
    Ok(())
}

/// V7: whether it is cheaper to be let in than to be refused.
pub(crate) fn refusals(args: &Args) -> Outcome {
    let data = Dataset::of(args.tokens)?;
    let load = hits(&data)?;
    let mut field = Field::new(&load)?;
    let accepting = field.add("accepted", Server::countersign(&data.directory)?, load);
    for (name, load) in [("unknown client", unknown(&data)?), ("wrong secret", wrong(&data)?), ("no credential", nobody())] {
        field.add(name, Server::countersign(&data.directory)?, load);
    }
    let costs = field.compete(args, &format!("V7: /verify of {} tokens, accepted and refused, 64 clients", args.tokens))?;
    let mut verdicts = Verdicts::new();
    for ((name, ..), cost) in field.servers.iter().zip(&costs).skip(accepting + 1) {
        let figure = format!("V7 {name}, CPU over an acceptance's");
        verdicts.add(&figure, &cost.over(&costs[accepting]), Bound::AtMost(1.1), Bound::AtMost(1.0));
    }
    verdicts.print("V7");
    Ok(())
}

/// The resources of V8's document, each with four operations.
const RESOURCES: usize = 25;

/// An OpenAPI document with 100 operations.
fn document() -> String {
    let operation = r#"{"x-required-permissions":["VIEW"],"responses":{"200":{"description":"-"}}}"#;
    let mut paths = String::new();
    for at in 0..RESOURCES {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            paths,
            r#"{comma}"/resource{at}":{{"get":{operation},"post":{operation}}},"/resource{at}/{{id}}":{{"get":{operation},"delete":{operation}}}"#
        );
    }
    format!(r#"{{"openapi":"3.1.0","info":{{"title":"Platform","version":"1"}},"paths":{{{paths}}}}}"#)
}

/// V8: what it adds that a gateway asks by the client's method and path.
pub(crate) fn by_operation(args: &Args) -> Outcome {
    let data = Dataset::of(args.tokens)?;
    let file = data.directory.join("operations.json");
    std::fs::write(&file, document())?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let loaded = command.args(["operations", "load", "--data"]).arg(&data.directory).arg(&file).output()?;
    if !loaded.status.success() {
        return Err(String::from_utf8_lossy(&loaded.stderr).into());
    }
    let of_nginx = |at: usize, id: &str, secret: &str| {
        let credential = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        let (of, method, rest) = (at % RESOURCES, ["GET", "POST", "GET", "DELETE"][at % 4], ["", "", "/019542f5-b3e7", "/17"][at % 4]);
        let uri = format!("/resource{of}{rest}?limit=5");
        request("GET", "/verify/nginx", &[("authorization", &credential), ("x-original-method", method), ("x-original-uri", &uri)], "")
    };
    let (plain, load) = (hits(&data)?, hits_of(&data, of_nginx)?);
    let mut field = Field::new(&plain)?;
    let alone = field.add("any live token", Server::countersign(&data.directory)?, plain);
    let ours = field.add("by operation, of 100", Server::countersign(&data.directory)?, load);
    let costs = field.compete(args, &format!("V8: /verify of {} tokens, with and without operations, 64 clients", args.tokens))?;
    let mut verdicts = Verdicts::new();
    verdicts.add("V8 CPU by operation over that without", &costs[ours].over(&costs[alone]), Bound::AtMost(1.15), Bound::AtMost(1.07));
    verdicts.print("V8");
    Ok(())
}

/// All in one table, and in one picture where it is asked for.
pub(crate) fn table(args: &Args) -> Outcome {
    let (few, data) = (Dataset::of(1000)?, Dataset::of(args.tokens)?);
    let load = hits(&data)?;
    let mut field = Field::new(&load)?;
    let many = chart::count(args.tokens);
    field.add("countersign, 1 k tokens", Server::countersign(&few.directory)?, hits(&few)?);
    let ours = field.add(format!("countersign, {many} tokens"), Server::countersign(&data.directory)?, load);
    if let Some(most) = args.many {
        let data = Dataset::of(most)?;
        field.add(format!("countersign, {} tokens", chart::count(most)), Server::countersign(&data.directory)?, hits(&data)?);
    }
    for (name, load) in [("an unknown client", unknown(&data)?), ("a wrong secret", wrong(&data)?)] {
        field.add(format!("countersign, {many} tokens, {name}"), Server::countersign(&data.directory)?, load);
    }
    field.add_peer("nginx auth_basic, 1 k users", peers::nginx(1_000));
    field.add_peer("better-auth, 100 k keys", peers::better_auth_verifying());
    field.add_peer("drf-api-key, 100 k keys", peers::drf_api_key());
    let costs = field.compete(args, "Who is it? An answer over HTTP, 64 clients")?;
    let mut table = Table::new(&["server", "CPU µs per request", "requests per second and core", "of countersign's CPU"]);
    let mut bars = Vec::new();
    for ((name, ..), cost) in field.servers.iter().zip(&costs) {
        let (micros, times) = (cost.median(), cost.over(&costs[ours]).median());
        table.add([name.clone(), number(micros), format!("{:.0}", 1e6 / micros), format!("{} ×", number(times))]);
        bars.push((name.clone(), micros, times));
    }
    table.print(&format!("The same, medians of {} rounds", args.rounds));
    if let Some(file) = &args.chart {
        std::fs::write(file, chart::draw(&bars))?;
        note(&format!("drawn: {}", file.display()));
    }
    Ok(())
}

/// Between two writings of use times, by default.
pub(crate) const FLUSH: Duration = Duration::from_secs(10);
