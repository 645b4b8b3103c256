//! M1, M2 and M3: what a server with many tokens takes of memory, and how long it takes to start.

use std::time::Duration;

use crate::{
    Args, Outcome, chart,
    dataset::Dataset,
    report::{Bound, Series, Table, Verdicts, note, number},
    server::Server,
    verify::hits,
};

/// What the floors and goals of M2 and M3 were set for; those of fewer tokens are in proportion.
const MEANT: f64 = 1e7;
/// Longer than until a server gives back what it outgrew while loading.
const REST: Duration = Duration::from_secs(3);
/// Tokens of the server whose memory is taken for that of one without any.
const FEW: u64 = 1000;

pub(crate) fn rows(args: &Args) -> Outcome {
    for tokens in [Some(args.tokens), args.many].into_iter().flatten() {
        of_tokens(args, tokens)?;
    }
    Ok(())
}

/// The process' own memory, files left out, once it has given back what loading took.
fn at_rest(server: &Server) -> Outcome<f64> {
    std::thread::sleep(REST);
    server.memory("RssAnon")
}

fn of_tokens(args: &Args, tokens: u64) -> Outcome {
    let (few, data) = (Dataset::of(FEW)?, Dataset::of(tokens)?);
    let load = hits(&data)?;
    // Each in bytes, or in seconds.
    let (mut of_token, mut whole, mut starting, mut anonymous, mut peak) = Default::default();
    let push = |series: &mut Series, value: f64| series.0.push(value);
    for round in 1..=args.rounds {
        let without = at_rest(&Server::countersign(&few.directory)?)?;
        let server = Server::countersign(&data.directory)?;
        let with = at_rest(&server)?;
        push(&mut of_token, (with - without) / (tokens - FEW) as f64);
        push(&mut starting, server.starting.as_secs_f64());
        // Whatever it allocates for its work: connections, use times that it notes and writes.
        server.cost(&load, args.long_turn())?;
        push(&mut whole, server.memory("VmRSS")?);
        push(&mut anonymous, server.memory("RssAnon")?);
        push(&mut peak, server.memory("VmHWM")?);
        note(&format!("round {round} of {}", args.rounds));
    }
    let count = chart::count(tokens);
    let mut table = Table::new(&["server", "median"]);
    let megabytes = |series: &Series| number(series.median() / 1e6);
    table.add(["resident before it was asked, beyond one of 1 k tokens, bytes a token".to_owned(), number(of_token.median())]);
    table.add(["resident under load, MB".to_owned(), megabytes(&whole)]);
    table.add(["of these neither program nor files, MB".to_owned(), megabytes(&anonymous)]);
    table.add(["resident at the most, since it started, MB".to_owned(), megabytes(&peak)]);
    table.add(["from its start to serving, s".to_owned(), number(starting.median())]);
    table.print(&format!("M1, M2, M3: a server with {count} tokens, on one core; {} starts", args.rounds));
    let at_most = |of_meant: f64| Bound::AtMost((of_meant * tokens as f64 / MEANT * 1e4).round() / 1e4);
    let gigabytes = Series(whole.0.iter().map(|bytes| bytes / 1e9).collect());
    let mut verdicts = Verdicts::new();
    verdicts.add("M1 bytes a token in the index", &of_token, Bound::AtMost(75.0), Bound::AtMost(40.0));
    verdicts.add(&format!("M2 whole process, {count} tokens, GB"), &gigabytes, at_most(1.0), at_most(0.5));
    verdicts.add(&format!("M3 start to serving, {count} tokens, s"), &starting, at_most(5.0), at_most(1.5));
    verdicts.print("M1, M2, M3");
    Ok(())
}
