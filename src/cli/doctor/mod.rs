//! `countersign doctor`: what is wrong with an installation, and what to do about it. It changes nothing.
//!
//! | file | what it looks at |
//! |---|---|
//! | `machine.rs` | files and who may read them, disks, the clock, how many files may be open, addresses |
//! | `data.rs` | the database and its settings, the keys, servers and how far each is, what is sent elsewhere |

mod data;
mod machine;

use clap::Args;
use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    output::{self, Output},
    settings::AllSettings,
};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: AllSettings,
}

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// It works, and there is a better way.
    Doubtful,
    /// It does not work, or not for long, or lets somebody in.
    Bad,
}

/// Something that was looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
    /// What to do, if there is something.
    then: Option<String>,
}

/// All that was looked at, in order.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: &'static str, found: impl Into<String>) {
        self.0.push(Finding { what, state: State::Good, found: found.into(), then: None });
    }

    fn doubtful(&mut self, what: &'static str, found: impl Into<String>, then: impl Into<String>) {
        self.0.push(Finding { what, state: State::Doubtful, found: found.into(), then: Some(then.into()) });
    }

    fn bad(&mut self, what: &'static str, found: impl Into<String>, then: impl Into<String>) {
        self.0.push(Finding { what, state: State::Bad, found: found.into(), then: Some(then.into()) });
    }

    fn count(&self, state: State) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Doubtful => "doubtful",
            Self::Bad => "bad",
        }
    }
}

impl Doctor {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.to_serve()?;
        let mut findings = Findings::default();
        machine::look(&config, &mut findings).await;
        data::look(config, &mut findings).await;
        let text = || findings.0.iter().map(line).collect::<Vec<_>>().join("\n");
        output::print(self.output, text, || json!({ "findings": findings.0.iter().map(finding).collect::<Vec<_>>() }))?;
        match (findings.count(State::Bad), findings.count(State::Doubtful)) {
            (0, _) => Ok(()),
            (1, _) => Err(Failure::Refused("one thing is bad; do what is said of it, and run this again".to_owned())),
            (bad, _) => Err(Failure::Refused(format!("{bad} things are bad; do what is said of each, and run this again"))),
        }
    }
}

fn line(finding: &Finding) -> String {
    let then = finding.then.iter().map(|then| format!("\n          {:16}  → {then}", ""));
    format!("{:8}  {:16}  {}{}", finding.state.name(), finding.what, finding.found, then.collect::<String>())
}

fn finding(finding: &Finding) -> Value {
    json!({ "what": finding.what, "state": finding.state.name(), "found": finding.found, "then": finding.then })
}
