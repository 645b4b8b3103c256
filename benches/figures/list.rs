//! L1, L2 and L3: listing tokens.

use std::sync::Arc;

use countersign::{
    authority::{Authority, ListTokens, SystemClock},
    domain::{Liveness, MayRead, Order, PageLimit, Timestamp, TokenFilter},
};
use tokio::runtime::Runtime;

use crate::{
    Args, Outcome,
    dataset::{self, BEGIN, BURST, Dataset, Random, caller, named},
    load::{Connection, Core, Load, on_core, request},
    peers::better_auth,
    report::{Bound, Series, Table, Verdicts, note, now, number},
    server::{Contender, Server, compete},
};

/// Where Grid's tokens are.
pub(crate) const TARGET: &str = "/grid/2025-10-13/tokens";
/// Samples of one filter in one round, unless its turn is over before.
const SAMPLES: usize = 500;

/// Countersign against the peer, with the bare server as the measure of both.
pub(crate) fn against(args: &Args, title: &str, contenders: [(Server, Load); 2], floor: Bound, goal: Bound) -> Outcome {
    let [(ours, our_load), (theirs, their_load)] = &contenders;
    let bare = Server::bare()?;
    let mut contenders = [
        Contender::new(ours.name, ours, our_load.clone()),
        Contender::new(theirs.name, theirs, their_load.clone()),
        Contender::new(bare.name, &bare, Load::new(vec![request("GET", "/", &[], "")])),
    ];
    let costs = compete(args.rounds, args.turn(), &mut contenders)?;
    let [ours, theirs, bare] = costs.as_slice() else { unreachable!("three contenders") };
    let mut table = Table::new(&["server", "CPU µs per request, median", "cpuX"]);
    for (contender, cost) in contenders.iter().zip(&costs) {
        table.add([contender.name.clone(), number(cost.median()), number(cost.over(bare).median())]);
    }
    table.print(&format!("{title}; {} rounds of {} s", args.rounds, args.turn().as_secs()));
    let mut verdicts = Verdicts::new();
    verdicts.add("peer's CPU per request over ours", &theirs.over(ours), floor, goal);
    verdicts.print(title.split(':').next().unwrap_or_default());
    Ok(())
}

/// L1: a page of 100 with its total, against the peer's list of 100. Both hold 100,000 tokens.
pub(crate) fn against_peer(args: &Args) -> Outcome {
    let data = Dataset::of(100_000)?;
    let (peer, users) = better_auth()?;
    let theirs = Load::new(users.iter().map(|(_, cookie)| request("GET", "/list", &[("cookie", cookie)], "")).collect());
    let contenders = [(Server::countersign(&data.directory)?, pages(&data, "?limit=100")), (peer, theirs)];
    against(args, "L1: list of 100 over HTTP, 64 clients", contenders, Bound::AtLeast(20.0), Bound::AtLeast(40.0))
}

/// The same page, asked for by each credential in turn.
fn pages(data: &Dataset, query: &str) -> Load {
    Load::new(data.credentials.iter().map(|who| request("GET", &format!("{TARGET}{query}"), &[("authorization", who)], "")).collect())
}

fn page(filter: TokenFilter, cursor: Option<String>, count: bool) -> Outcome<ListTokens> {
    let limit = PageLimit::new(100).ok_or("100 is allowed")?;
    Ok(ListTokens { liveness: Liveness::Live, filter, order: Order::NewestFirst, cursor, limit, count })
}

/// An authority that reads a dataset, and somebody who may.
async fn reader(data: &Dataset) -> Outcome<(Arc<Authority>, MayRead)> {
    let authority = dataset::open(&data.directory, Arc::new(SystemClock), None).await?;
    let root = data.credentials.first().ok_or("a dataset without credentials")?;
    let reader = caller(&authority, root).await?.may_read().map_err(|_| "a root token may read")?;
    Ok((authority, reader))
}

/// The cursors of the page in the middle and of the last full one, found by walking all.
async fn deep_cursors(data: &Dataset) -> Outcome<[String; 2]> {
    let (authority, reader) = reader(data).await?;
    let mut cursors = Vec::new();
    loop {
        let found = authority.list_tokens(&reader, page(TokenFilter::default(), cursors.last().cloned(), false)?).await?;
        match found.next {
            Some(next) => cursors.push(next),
            None if found.tokens.len() == 100 => break,
            None => {
                cursors.pop();
                break;
            }
        }
    }
    let middle = cursors.get(cursors.len() / 2).cloned();
    Ok([middle.ok_or("too few tokens")?, cursors.pop().ok_or("too few tokens")?])
}

/// L2: pages of 100 with their totals, in depth and in bulk.
pub(crate) fn deep_pages(args: &Args) -> Outcome {
    let (many, few) = (Dataset::of(args.tokens)?, Dataset::of(args.tokens / 10)?);
    note("walking to the last page");
    let [middle, last] = Runtime::new()?.block_on(deep_cursors(&many))?;
    let (of_many, of_few) = (Server::countersign(&many.directory)?, Server::countersign(&few.directory)?);
    let deep = |cursor: &str| pages(&many, &format!("?limit=100&cursor={cursor}"));
    let mut contenders = [
        Contender::new(format!("first page of {}", few.tokens), &of_few, pages(&few, "?limit=100")),
        Contender::new(format!("first page of {}", many.tokens), &of_many, pages(&many, "?limit=100")),
        Contender::new("the page in the middle of these", &of_many, deep(&middle)),
        Contender::new("the last page of these", &of_many, deep(&last)),
    ];
    let costs = compete(args.rounds, args.turn(), &mut contenders)?;
    let mut table = Table::new(&["page of 100 and its total", "CPU µs per request, median"]);
    for (contender, cost) in contenders.iter().zip(&costs) {
        table.add([contender.name.clone(), number(cost.median())]);
    }
    table.print(&format!("L2: pages over HTTP, 64 clients; {} rounds of {} s", args.rounds, args.turn().as_secs()));
    let (floor, goal) = (Bound::AtMost(1.5), Bound::AtMost(1.1));
    let mut verdicts = Verdicts::new();
    verdicts.add("L2 last page over first", &costs[3].over(&costs[1]), floor, goal);
    verdicts.add("L2 middle page over first", &costs[2].over(&costs[1]), floor, goal);
    verdicts.add("L2 ten times the tokens", &costs[1].over(&costs[0]), floor, goal);
    verdicts.print("L2");
    Ok(())
}

/// A kind of filter: the name, and which of the two bounds.
type Kind = (&'static str, Option<&'static str>, [bool; 2]);

const KINDS: [Kind; 9] = [
    ("none", None, [false, false]),
    ("createdAfter", None, [true, false]),
    ("createdBefore", None, [false, true]),
    ("all four times", None, [true, true]),
    ("name of one token", Some("token 7"), [false, false]),
    ("name of a thousandth", Some("backup"), [false, false]),
    ("name of a thousandth, all four times", Some("backup"), [true, true]),
    ("name of half", Some("ci"), [false, false]),
    ("name of half, all four times", Some("ci"), [true, true]),
];

/// Filters with bounds anywhere, half of them inside the burst; the same ones each time.
struct Bounds {
    random: Random,
    burst_ms: u64,
}

impl Bounds {
    fn moment(&mut self) -> i64 {
        if self.random.below(2) == 0 {
            BEGIN + self.random.below((BURST - BEGIN).unsigned_abs()).cast_signed()
        } else {
            BURST + self.random.below(self.burst_ms).cast_signed()
        }
    }

    fn filter(&mut self, (_, name, [from, until]): Kind) -> Outcome<TokenFilter> {
        let (a, b) = (self.moment(), self.moment());
        let (low, high) = if from && until { (a.min(b), a.max(b)) } else { (a, b) };
        Ok(TokenFilter {
            name: name.map(named).transpose()?,
            from: if from { Timestamp::from_millis(low) } else { Timestamp::MIN },
            until: if until { Timestamp::from_millis(high) } else { Timestamp::MAX },
        })
    }
}

/// The filter as Grid's query. Both of either pair of bounds are given where the filter has both ends.
fn query(filter: &TokenFilter) -> String {
    let mut query = "?limit=100".to_owned();
    if let Some(name) = &filter.name {
        query.push_str(&format!("&name={}", name.as_str().replace(' ', "%20")));
    }
    let (from, until) = (filter.from != Timestamp::MIN, filter.until != Timestamp::MAX);
    let names: &[_] = if from && until { &["created", "updated"] } else { &["created"] };
    for name in names {
        if from {
            query.push_str(&format!("&{name}After={}", filter.from));
        }
        if until {
            query.push_str(&format!("&{name}Before={}", filter.until));
        }
    }
    query
}

/// L3: how long a filtered page and its total take, in the process and on one connection.
pub(crate) fn filters(args: &Args) -> Outcome {
    let data = Dataset::of(args.tokens)?;
    let runtime = Runtime::new()?;
    let (authority, reader) = runtime.block_on(reader(&data))?;
    let server = Server::countersign(&data.directory)?;
    let mut connection = Connection::open(server.address)?;
    let mut bounds = Bounds { random: Random(7), burst_ms: data.tokens / 2 / 40 };
    let mut who = data.credentials.iter().cycle();
    // (in the process, over HTTP) in milliseconds, by kind.
    let mut series = vec![[Series::default(), Series::default()]; KINDS.len()];
    for round in 0..=args.rounds {
        for at in 0..KINDS.len() {
            let at = if round % 2 == 1 { KINDS.len() - 1 - at } else { at };
            let end = now() + args.turn();
            for _ in (0..SAMPLES).take_while(|_| now() < end) {
                let filter = bounds.filter(KINDS[at])?;
                let credential = who.next().ok_or("a dataset without credentials")?;
                let asked = request("GET", &format!("{TARGET}{}", query(&filter)), &[("authorization", credential)], "");
                let list = page(filter, None, true)?;
                let began = now();
                runtime.block_on(authority.list_tokens(&reader, list))?;
                let inside = now() - began;
                let outside = on_core(Core::Load, || {
                    let began = now();
                    connection.exchange(&asked).map(|_| now() - began)
                })??;
                // The first round warms up.
                if round > 0 {
                    series[at][0].0.push(inside.as_secs_f64() * 1e3);
                    series[at][1].0.push(outside.as_secs_f64() * 1e3);
                }
            }
        }
        note(&format!("round {round} of {}", args.rounds));
    }
    let mut table = Table::new(&["filter, with its total", "in process p50, ms", "p99", "HTTP p50, ms", "p99"]);
    let mut verdicts = Verdicts::new();
    for ((name, ..), [inside, outside]) in KINDS.iter().zip(&series) {
        let values = [inside.quantile(0.5), inside.quantile(0.99), outside.quantile(0.5), outside.quantile(0.99)];
        table.add([(*name).to_owned()].into_iter().chain(values.map(number)));
        let p99 = Series(vec![inside.quantile(0.99)]);
        verdicts.add(&format!("L3 p99 in ms, {name}"), &p99, Bound::AtMost(2.0), Bound::AtMost(0.5));
    }
    let most = SAMPLES * args.rounds;
    table.print(&format!("L3: filters on {} tokens, one caller at a time; at most {most} samples each", data.tokens));
    verdicts.print("L3, in the process");
    Ok(())
}
