//! Campaigns: what must hold while something is broken on purpose, for as long as one likes. Each is one command, and prints
//! one line for each thing that it has tried.
//!
//! ```text
//! cargo test --release --test campaigns -- NAME [--OPTION VALUE]…      one, at its full length
//! cargo test --test campaigns                                          the short form of all
//! cargo test --test campaigns -- NAME --short                          of one
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a program of tests, which measures real time")]

mod answered;
mod broken;
mod bulk;
#[path = "../prove/cluster.rs"]
#[expect(dead_code, reason = "tests/prove has it too")]
mod cluster;
mod crash;
mod database;
mod disks;
#[path = "../prove/node.rs"]
#[expect(dead_code, reason = "tests/prove has it too")]
mod node;
mod overload;
mod power;
mod pressure;
#[path = "../prove/proxy.rs"]
#[expect(dead_code, reason = "tests/prove has it too")]
mod proxy;
mod soak;
mod timing;
mod torn;

use std::process::ExitCode;

/// What a campaign is told: its options by their names, and whether it is the short form.
pub(crate) struct Args {
    pub(crate) short: bool,
    options: Vec<(String, String)>,
}

impl Args {
    /// The number that an option says, or else what is usual in the short form and in the full one.
    pub(crate) fn number(&self, name: &str, short: u64, full: u64) -> u64 {
        let said = self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        said.map_or(if self.short { short } else { full }, |value| value.parse().unwrap_or_else(|_| panic!("--{name} is a number")))
    }

    /// The word that an option says.
    pub(crate) fn word(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A campaign: its name, what it tries, and how; it says whether all held.
type Campaign = (&'static str, &'static str, fn(&Args) -> bool);

const CAMPAIGNS: &[Campaign] = &[
    ("bulk", "many tokens end by one command, whose processes are killed; each ends once, and is counted once", bulk::run),
    ("crash", "servers, databases and single sessions are killed under load; what was answered is there, and nothing by half", crash::run),
    ("database", "PostgreSQL is down, silent, slow, coming and going, takes no changes or nobody's word; it passes", database::run),
    ("disks", "the embedded database's disk is full, slow, fails, takes nothing; nobody takes the log or heads; it passes", disks::run),
    (
        "overload",
        "more than a server can serve, and clients that mean no good; who has a token is served, and ends are made",
        overload::run,
    ),
    ("power", "what was not on the disk when the power went is gone; what was answered is there", power::run),
    ("soak", "half of what a server can do, for long; its memory and its open files stay as they are", soak::run),
    ("timing", "whoever is refused cannot tell by the time why", timing::run),
    ("torn", "the embedded database's files are cut and changed; nothing wrong is served", torn::run),
];

fn main() -> ExitCode {
    // A runner that asks for the tests in it.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("campaigns: test");
        }
        return ExitCode::SUCCESS;
    }
    let (mut names, mut options) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some(name) => {
                let value = arguments.next_if(|value| !value.starts_with("--")).unwrap_or_default();
                options.push((name.to_owned(), value));
            }
            // What `cargo test` says to every test program goes with the options, but for a name that it filters by.
            None if argument == "campaigns" => {}
            None => names.push(argument),
        }
    }
    let known = |name: &String| CAMPAIGNS.iter().any(|(known, ..)| known == name);
    if !names.iter().all(known) {
        println!("campaigns are:");
        CAMPAIGNS.iter().for_each(|(name, what, _)| println!("  {name:12} {what}"));
        return ExitCode::from(2);
    }
    let short = names.is_empty() || options.iter().any(|(name, _)| name == "short");
    let args = Args { short, options };
    let chosen = CAMPAIGNS.iter().filter(|(name, ..)| names.is_empty() || names.iter().any(|chosen| chosen == name));
    let mut held = true;
    for (name, what, run) in chosen {
        println!("{name}: {what}");
        held &= run(&args);
    }
    println!("{}", if held { "all held" } else { "something did not hold" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
