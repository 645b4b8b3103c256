//! What everybody sees while something under a server is broken, and how soon all is well behind it.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use crate::{
    Args,
    answered::{Answered, Database, End, GRID, Seen, Token, ready},
    node::{Client, Server},
};

/// How long anything may take at the longest, and how long nine of ten verifications and looks at `/healthz` may.
const LONGEST: Duration = Duration::from_secs(3);
const QUICK: Duration = Duration::from_millis(50);
/// Within what time of the repair all is as it was.
const RECOVERY: Duration = Duration::from_secs(5);
/// How often somebody verifies and looks.
const EVERY: Duration = Duration::from_millis(5);

/// What may be expected of a server while something is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Whoever has a live token passes, each time.
    GoesOn,
    /// They do until the lease is over, and then nobody does.
    UntilLease(Duration),
    /// They pass, or it can't be known.
    Either,
}

/// Something that breaks.
pub(crate) struct Fault<'f> {
    pub(crate) name: &'f str,
    pub(crate) lasts: Duration,
    pub(crate) verify: Verify,
    /// Whether creates must be refused by its end, and all the time from its beginning on.
    pub(crate) refuses: bool,
    /// Whether revokes must be done all the same.
    pub(crate) ends: bool,
    /// Whether `/readyz` must say no by its end.
    pub(crate) unready: bool,
    /// How much slower than usual what works may be: whoever is traced is.
    pub(crate) slower: u32,
}

/// What those saw who verified and looked.
#[derive(Debug, Default)]
struct Watched {
    /// Answers to those who have a live token: 200, 503; and how late behind the break the last of the first began.
    live: [usize; 2],
    last: Duration,
    times: Vec<Duration>,
    health: Vec<Duration>,
    /// What `/readyz` said last.
    ready: u16,
    wrong: Vec<String>,
}

/// A server, and what was answered of it.
pub(crate) struct Patient<'p> {
    pub(crate) args: &'p Args,
    pub(crate) server: &'p Server,
    pub(crate) answered: &'p Answered,
    pub(crate) database: Database<'p>,
    pub(crate) root: &'p str,
}

impl Patient<'_> {
    /// Clients create and revoke, so many milliseconds before the break; something is broken, and repaired. Says how it went, and what did
    /// not hold; nothing is asked of the server behind it but whether it works again.
    pub(crate) fn suffers(&self, before: u64, fault: &Fault<'_>, broken: impl FnOnce(), repair: impl FnOnce()) -> Vec<String> {
        let Self { server, answered, root, .. } = *self;
        // Tokens that nobody touches meanwhile: of each kind some.
        let tokens = answered.read();
        let some = |end| tokens.iter().filter(move |token| token.end == end).take(4).cloned();
        let (live, ended): (Vec<_>, Vec<_>) = (some(End::No).collect(), some(End::Answered).collect());
        assert!(!live.is_empty() && !ended.is_empty(), "nobody to verify: this proves nothing");
        let (mut watched, mut seen, mut well) = (Watched::default(), Seen::default(), Err(String::new()));
        answered.until(server.address, root, before, || {
            answered.take_seen();
            let over = AtomicBool::new(false);
            broken();
            let began = Instant::now();
            std::thread::scope(|scope| {
                let verifying = scope.spawn(|| verify(server, &live, &ended, began, &over));
                let looking = scope.spawn(|| look(server, &over));
                let asking = scope.spawn(|| is_ready(server, &over));
                std::thread::sleep(fault.lasts);
                // Answers that were on their way at the end are of the fault too.
                over.store(true, SeqCst);
                watched = verifying.join().unwrap();
                (watched.health, watched.ready) = (looking.join().unwrap(), asking.join().unwrap());
            });
            seen = answered.take_seen();
            repair();
            well = self.is_well_within();
        });
        // Those who had waited since before the repair.
        let behind = answered.take_seen();
        (seen.slowest, seen.silent) = (seen.slowest.max(behind.slowest), seen.silent + behind.silent);
        self.judge(fault, &watched, &seen, well)
    }

    fn judge(&self, fault: &Fault<'_>, watched: &Watched, seen: &Seen, well: Result<Duration, String>) -> Vec<String> {
        // The short form runs beside everything else.
        let (tenths, slack, longest, recovery) = match self.args.short {
            true => (5, fault.slower.max(3), LONGEST * 3 / 2, RECOVERY * 2),
            false => (9, fault.slower, LONGEST, RECOVERY),
        };
        let usual = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times.get(times.len() * tenths / 10).copied().unwrap_or(Duration::from_secs(3600))
        };
        let (verify, health) = (usual(&watched.times), usual(&watched.health));
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "  {:42} verify {} yes, {} unknown, {tenths} of 10 in {:.1} ms; creates {} and {} refused, revokes {} and {}, slowest {:.2} s; healthz {:.1} ms, readyz {}; well in {}",
            fault.name,
            watched.live[0],
            watched.live[1],
            millis(verify),
            seen.creates[0],
            seen.creates[1],
            seen.ends[0],
            seen.ends[1],
            seen.slowest.as_secs_f64(),
            millis(health),
            watched.ready,
            well.as_ref().map_or("never".to_owned(), |time| format!("{:.2} s", time.as_secs_f64())),
        );
        let mut wrong = watched.wrong.clone();
        let mut claim = |holds: bool, what: String| wrong.extend((!holds).then_some(what));
        claim(well.is_ok_and(|time| time <= recovery), "it was not soon well again".to_owned());
        claim(health <= QUICK * slack, format!("/healthz took {:.0} ms", millis(health)));
        claim(seen.silent == 0, format!("{} changes were not answered", seen.silent));
        claim(seen.slowest <= longest, format!("a change was answered after {:.1} s", seen.slowest.as_secs_f64()));
        claim(!fault.unready || watched.ready == 503, format!("/readyz said {}", watched.ready));
        claim(!fault.refuses || seen.creates[1] > 0, "no create was refused".to_owned());
        claim(!fault.ends || (seen.ends[0] > 0 && seen.ends[1] == 0), format!("{} revokes were refused", seen.ends[1]));
        match fault.verify {
            Verify::GoesOn => {
                claim(watched.live[1] == 0 && watched.live[0] > 0, format!("{} live tokens did not pass", watched.live[1]));
                claim(verify <= QUICK * slack, format!("a verification took {:.0} ms", millis(verify)));
            }
            Verify::UntilLease(lease) => {
                claim(watched.live.iter().all(|count| *count > 0), "nobody passed, or all did".to_owned());
                claim(watched.last <= lease, format!("somebody passed {:.0} ms behind the break", millis(watched.last)));
            }
            Verify::Either => claim(watched.live.iter().sum::<usize>() > 0, "nobody asked".to_owned()),
        }
        wrong.into_iter().map(|wrong| format!("{}: {wrong}", fault.name)).collect()
    }

    /// How long it takes until it verifies, creates and says that it is ready; or what it does not.
    fn is_well_within(&self) -> Result<Duration, String> {
        let (began, mut client) = (Instant::now(), Client::of(self.server.address, Duration::from_secs(20)));
        let mut admin = Client::of(self.server.admin, Duration::from_secs(20));
        if !ready(&mut client, self.root) {
            return Err("the root is not let in".to_owned());
        }
        loop {
            let created = client.ask("POST", GRID, self.root, r#"{"name":"behind it","permissions":["VIEW"]}"#);
            let ready = admin.ask("GET", "/readyz", "", "");
            if created.as_ref().is_some_and(|(status, _)| *status == 201) && ready.as_ref().is_some_and(|(status, _)| *status == 200) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > Duration::from_secs(60) {
                return Err(format!("{created:?}, {ready:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What a fresh server and the database say of all that was answered.
    pub(crate) fn missed(&self, all: bool) -> Vec<String> {
        self.answered.missed(&self.database, self.server.address, self.root, all)
    }
}

/// Verifies live tokens, ended ones, and what is nobody's, in turn.
fn verify(server: &Server, live: &[Token], ended: &[Token], began: Instant, over: &AtomicBool) -> Watched {
    let (mut client, mut watched) = (Client::of(server.address, Duration::from_secs(20)), Watched::default());
    let nobody = [forged(&live[0].basic), "bm9ib2R5Om5vdGhpbmc=".to_owned()];
    for turn in 0.. {
        if over.load(SeqCst) {
            break;
        }
        std::thread::sleep(EVERY);
        let lives = turn % 2 == 0;
        let basic = match turn % 4 {
            0 | 2 => &live[turn / 2 % live.len()].basic,
            1 => &ended[turn / 4 % ended.len()].basic,
            _ => &nobody[turn / 4 % nobody.len()],
        };
        let (asked, at) = (Instant::now(), began.elapsed());
        let Some(answer) = client.ask_wholly("GET", "/verify", basic, "") else {
            watched.wrong.push("a verification was not answered".to_owned());
            continue;
        };
        let took = asked.elapsed();
        if took > LONGEST * 3 / 2 {
            watched.wrong.push(format!("a verification was answered after {:.1} s", took.as_secs_f64()));
        }
        watched.times.push(took);
        match answer.status {
            200 if lives => {
                watched.live[0] += 1;
                watched.last = at;
            }
            503 if answer.is_unavailable() => watched.live[1] += usize::from(lives),
            401 if !lives => {}
            status => watched.wrong.push(format!("{status} to {} token", ["a live", "an ended", "a live", "nobody's"][turn % 4])),
        }
    }
    watched
}

/// The same id with another secret, which is as well-formed.
fn forged(basic: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut text = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
    let last = text.pop().unwrap();
    text.push(if last == 'A' { 'B' } else { 'A' });
    STANDARD.encode(text)
}

/// How long `/healthz` takes.
fn look(server: &Server, over: &AtomicBool) -> Vec<Duration> {
    let (mut client, mut times) = (Client::of(server.admin, Duration::from_secs(20)), Vec::new());
    while !over.load(SeqCst) {
        let began = Instant::now();
        let healthy = client.ask("GET", "/healthz", "", "").is_some_and(|(status, _)| status == 200);
        times.push(if healthy { began.elapsed() } else { Duration::from_secs(3600) });
        std::thread::sleep(EVERY * 4);
    }
    times
}

/// What `/readyz` says last.
fn is_ready(server: &Server, over: &AtomicBool) -> u16 {
    let (mut client, mut said) = (Client::of(server.admin, Duration::from_secs(20)), 0);
    while !over.load(SeqCst) {
        said = client.ask("GET", "/readyz", "", "").map_or(0, |(status, _)| status);
        std::thread::sleep(EVERY * 20);
    }
    said
}
