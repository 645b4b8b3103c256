//! V5: proving a credential in the process, from the header's bytes to who it is, on one thread.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use countersign::{
    authority::{Authority, Follower, SystemClock},
    domain::Presented,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::time::{ClockId, clock_gettime};
use sha2::Sha256;
use tokio::runtime::Runtime;

use crate::{
    Args, Outcome, chart,
    dataset::{self, Dataset, Random},
    load::{Core, on_core},
    report::{Bound, Table, Verdicts, number, take_turns},
};

/// What a server's lease is by default.
const LEASE: Duration = Duration::from_secs(1);
/// Where all of them come from, as far as each token knows.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Proofs between two looks at the clock.
const GROUP: usize = 1000;

/// Header values behind one another, so that reading them is not what is measured.
struct Values {
    bytes: Vec<u8>,
    each: usize,
}

impl Values {
    fn of(credentials: &[String]) -> Outcome<Self> {
        let each = credentials.first().ok_or("a dataset without credentials")?.len();
        let mut order: Vec<_> = credentials.iter().filter(|value| value.len() == each).collect();
        Random(9).shuffle(&mut order);
        Ok(Self { bytes: order.into_iter().flat_map(|value| value.bytes()).collect(), each })
    }
}

/// Processor time of this thread: what others do with its core does not count.
fn processor() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

struct Contender<'a> {
    name: String,
    authority: &'a Authority,
    values: Values,
    floor: f64,
    goal: f64,
}

impl Contender<'_> {
    /// Nanoseconds of one proof.
    fn turn(&self, duration: Duration) -> Outcome<f64> {
        let (began, mut proofs, mut values) = (processor(), 0_u64, self.values.bytes.chunks_exact(self.values.each).cycle());
        loop {
            for value in values.by_ref().take(GROUP) {
                let proven = self.authority.prove_at_once(Presented::parse_basic(black_box(value)).as_ref(), black_box(Some(SOURCE)));
                if !matches!(black_box(&proven), Some(Ok(_))) {
                    return Err(format!("a credential that the index holds was not proven: {proven:?}").into());
                }
            }
            proofs += GROUP as u64;
            let elapsed = processor() - began;
            if elapsed >= duration {
                return Ok(elapsed.as_secs_f64() * 1e9 / proofs as f64);
            }
        }
    }
}

/// Nanoseconds of one HMAC-SHA-256 by the library, its key expanded once, over as much as a digest of a secret covers: what a
/// proof can't do without, and the measure of how fast this processor is.
fn hmac(duration: Duration) -> Outcome<f64> {
    let key = Hmac::<Sha256>::new_from_slice(&[7; 32])?;
    let (began, mut made) = (processor(), 0_u64);
    loop {
        for _ in 0..GROUP {
            let mut mac = black_box(&key).clone();
            mac.update(black_box(&[0; 53]));
            black_box(mac.finalize());
        }
        made += GROUP as u64;
        let elapsed = processor() - began;
        if elapsed >= duration {
            return Ok(elapsed.as_secs_f64() * 1e9 / made as f64);
        }
    }
}

pub(crate) fn in_process(args: &Args) -> Outcome {
    let runtime = Runtime::new()?;
    let mut authorities = Vec::new();
    for tokens in [Some(args.tokens), args.many].into_iter().flatten() {
        let data = Dataset::of(tokens)?;
        let authority: Arc<Authority> = runtime.block_on(dataset::open(&data.directory, Arc::new(SystemClock), Some(LEASE)))?;
        let follower = Follower::start(&authority)?;
        runtime.block_on(authority.load_tokens())?;
        // Loading takes longer than a lease lasts: it is believed from the first time that it has followed.
        while runtime.block_on(authority.ready()).is_err() {
            std::thread::sleep(LEASE / 10);
        }
        authorities.push((data, follower, authority));
    }
    let mut contenders = Vec::new();
    for (at, (data, _, authority)) in authorities.iter().enumerate() {
        let (floor, goal) = if at == 0 { (550.0, 350.0) } else { (900.0, 500.0) };
        if at == 0 {
            let hot = Values::of(&data.credentials[..1])?;
            contenders.push(Contender {
                name: "one of them, again and again".to_owned(),
                authority,
                values: hot,
                floor: 250.0,
                goal: 150.0,
            });
        }
        let name = format!("any of {} of {} tokens", data.credentials.len(), chart::count(data.tokens));
        contenders.push(Contender { name, authority, values: Values::of(&data.credentials)?, floor, goal });
    }
    let mut turns: Vec<_> = contenders.iter().map(Some).chain([None]).collect();
    let series = on_core(Core::Server, || {
        contenders.iter().try_for_each(|contender| contender.turn(args.turn()).map(drop))?;
        take_turns(args.rounds, &mut turns, |turn| match turn {
            Some(contender) => contender.turn(args.turn()),
            None => hmac(args.turn()),
        })
    })??;
    let mut table = Table::new(&["credential", "ns, median"]);
    let mut verdicts = Verdicts::new();
    if let [ours @ .., hmac] = series.as_slice() {
        table.add(["none: HMAC-SHA-256 by the library".to_owned(), number(hmac.median())]);
        for (contender, series) in contenders.iter().zip(ours) {
            table.add([contender.name.clone(), number(series.median())]);
            // The bounds in ns are of a processor that needs so many for an HMAC.
            let bound = |nanos: f64| Bound::AtMost(nanos / 118.0);
            verdicts.add(
                &format!("V5 {}, over an HMAC", contender.name),
                &series.over(hmac),
                bound(contender.floor),
                bound(contender.goal),
            );
            verdicts.add(&format!("V5 ns, {}", contender.name), series, Bound::AtMost(contender.floor), Bound::AtMost(contender.goal));
        }
    }
    table.print(&format!("V5: parse and prove in the process, one thread; {} rounds of {} s", args.rounds, args.turn().as_secs()));
    verdicts.print("V5");
    Ok(())
}
