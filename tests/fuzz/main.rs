//! Fuzzing: what reads bytes of strangers, and what it must hold whatever comes. Each target is a function of bytes that
//! panics where that does not hold; it is given the seeds in `seeds/TARGET`, and what comes of changing them.
//!
//! ```text
//! cargo test --test fuzz                                            a number of runs each, the same ones every time
//! cargo test --release --test fuzz -- --seconds 60 [TARGET]…        for as long as that, other ones every time
//! cargo fuzz run …                                                  led by coverage: `fuzz/Cargo.toml`
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a program of tests, which measures real time")]

mod mutate;
mod targets;

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use self::{
    mutate::Random,
    targets::{TARGETS, Target},
};

/// For how long each target is run.
#[derive(Clone, Copy)]
enum Length {
    /// As many runs as the target says: no clock decides what is tried.
    Counted,
    For(Duration),
}

/// What all inputs of a target begin from: what somebody thought of, a file each; and what was found by coverage and is the
/// least that reaches all of it, a line each in base64, because it is much and nobody reads it.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no seeds");
    let found = fs::read_to_string(folder.with_extension("lines")).unwrap();
    files.iter().map(|file| fs::read(file).unwrap()).chain(found.lines().map(|line| STANDARD.decode(line).unwrap())).collect()
}

/// Whether a target held for every input; prints how many there were.
fn run(target: &Target, length: Length, seed: u64) -> bool {
    let (seeds, began) = (seeds(target.name), Instant::now());
    let mut random = Random::new(seed);
    let mut runs = 0;
    let mut try_one = |input: &[u8]| {
        runs += 1;
        let held = catch_unwind(|| (target.run)(input)).is_ok();
        if !held {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{seed}-{runs}", target.name));
            fs::write(&kept, input).unwrap();
            println!("{} does not hold for {}: \"{}\"", target.name, kept.display(), input.escape_ascii());
        }
        held
    };
    let mut held = seeds.iter().all(|input| try_one(input));
    let mut left = target.runs;
    while held {
        match length {
            Length::Counted if left == 0 => break,
            Length::For(time) if began.elapsed() >= time => break,
            _ => left = left.saturating_sub(1),
        }
        held = try_one(&mutate::mutated(&seeds, &mut random));
    }
    println!(
        "  {:14} {} seeds, {runs} runs, {:.1} s (seed {seed}): {}",
        target.name,
        seeds.len(),
        began.elapsed().as_secs_f64(),
        target.holds
    );
    held
}

fn main() -> ExitCode {
    // A runner that asks for the tests in it.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("fuzz: test");
        }
        return ExitCode::SUCCESS;
    }
    let (mut names, mut length, mut seed) = (Vec::new(), Length::Counted, None);
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{argument} is a number"));
        match argument.as_str() {
            "--seconds" => length = Length::For(Duration::from_secs(number())),
            "--seed" => seed = Some(number()),
            name if TARGETS.iter().any(|target| target.name == name) => names.push(argument),
            // What `cargo test` says to every test program.
            other if other.starts_with("--") || other == "fuzz" => {}
            _ => {
                println!("targets are:");
                TARGETS.iter().for_each(|target| println!("  {:14} {}", target.name, target.holds));
                return ExitCode::from(2);
            }
        }
    }
    let new = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let seed = seed.unwrap_or_else(|| if matches!(length, Length::Counted) { 1 } else { new() });
    let chosen = TARGETS.iter().filter(|target| names.is_empty() || names.iter().any(|name| name == target.name));
    // All of them, so that one that fails hides none.
    let failed = chosen.filter(|target| !run(target, length, seed)).count();
    println!("{}", if failed == 0 { "all held" } else { "something did not hold" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
