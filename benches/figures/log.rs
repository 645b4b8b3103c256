//! L4: how long `countersign audit verify` takes over the log of many tokens, against a head of all of it, and over what lives.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    Args, Outcome,
    dataset::Dataset,
    load::{Core, on_core},
    report::{Bound, Series, Verdicts, note},
};

/// Seconds that a million entries may take.
const SECONDS: f64 = 30.0;

fn json(data: &Path, arguments: &[&str]) -> Outcome<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(arguments).arg("--data").arg(data);
    let output = on_core(Core::Server, || command.output())??;
    if !output.status.success() {
        return Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub(crate) fn verify(args: &Args) -> Outcome {
    let data = Dataset::of(args.tokens)?.copy()?.directory;
    // Where nothing has ended, what lives need not be looked at.
    let made = json(&data, &["platform", "create", "--name", "Other", "--output", "json"])?;
    let platform = made["platform"]["id"].as_str().ok_or("a platform without an id")?;
    json(&data, &["platform", "disable", platform, "--output", "json"])?;
    let (proof, heads) = (json(&data, &["audit", "prove", "1"])?, data.join("heads"));
    fs::write(&heads, proof["head"].as_str().ok_or("a proof without a head")?)?;
    let heads = heads.to_str().ok_or("a path that is no text")?;
    let (mut seconds, mut entries) = (Series::default(), 0);
    for round in 1..=args.rounds {
        let verified = json(&data, &["audit", "verify", "--heads", heads, "--output", "json"])?;
        if verified["intact"] != true || verified["heads"]["fit"] != 1 {
            return Err(format!("the log is not right: {verified}").into());
        }
        entries = verified["entries"].as_u64().unwrap_or_default();
        seconds.0.push(verified["seconds"].as_f64().ok_or("it does not say how long it took")?);
        note(&format!("round {round} of {}", args.rounds));
    }
    let may_take = SECONDS * entries as f64 / 1e6;
    let mut verdicts = Verdicts::new();
    verdicts.add(&format!("L4 s, {entries} entries"), &seconds, Bound::AtMost(may_take), Bound::AtMost(may_take));
    verdicts.print(&format!("L4: verifying the whole audit log, on one core; {} rounds", args.rounds));
    Ok(fs::remove_dir_all(data)?)
}
