//! What `backup`, `restore` and `migrate-store` tell while they copy, and at their end; and how far long work is.

use std::{io::IsTerminal as _, time::Duration};

use serde_json::Value;

use super::{
    Failure, Outcome,
    output::{self, list},
};
use crate::{
    authority::{Clock as _, Copied, SystemClock},
    domain::KeySource,
    http::v1::wire,
};

/// How often a terminal is told, and how often a log.
const ON_A_TERMINAL: Duration = Duration::from_millis(100);
const IN_A_LOG: Duration = Duration::from_secs(5);

/// Tells on standard error how far it is.
pub(super) struct Progress {
    began: Duration,
    told: Duration,
    terminal: bool,
    /// What is counted.
    what: &'static str,
}

impl Progress {
    /// Of what is called so, which are many.
    pub(super) fn new(what: &'static str) -> Self {
        let now = SystemClock.boot();
        Self { began: now, told: now, terminal: std::io::stderr().is_terminal(), what }
    }

    /// What is waited for before anything is done.
    pub(super) fn wait(&self, what: &str) {
        if self.terminal {
            output::standing(&format!("{what} …"));
        }
    }

    /// So many are done, of about so many.
    pub(super) fn tell(&mut self, done: u64, of: u64) {
        let (now, every) = (SystemClock.boot(), if self.terminal { ON_A_TERMINAL } else { IN_A_LOG });
        if now.saturating_sub(self.told) < every {
            return;
        }
        self.told = now;
        let line = line(self.what, done, of, now.saturating_sub(self.began));
        if self.terminal {
            let full = usize::try_from(done * 30 / of.max(1)).unwrap_or(30).min(30);
            output::standing(&format!("{}{} {line}", "█".repeat(full), "░".repeat(30 - full)));
        } else {
            output::error(&line);
        }
    }

    /// How long it took.
    pub(super) fn end(self) -> Duration {
        if self.terminal {
            output::standing("");
        }
        SystemClock.boot().saturating_sub(self.began)
    }
}

fn line(what: &str, done: u64, of: u64, took: Duration) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let left = of.saturating_sub(done).saturating_mul(millis) / done.max(1) / 1000;
    let (percent, speed) = ((done * 100 / of.max(1)).min(100), done.saturating_mul(1000) / millis);
    format!("{percent} %, {} of {} {what}, {} a second, {left} s left", number(done), number(of), number(speed))
}

/// A number with commas.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    parts.join(",")
}

/// What was copied and how long that took, as JSON.
pub(super) fn json(copied: &Copied, took: Duration) -> Value {
    timed(wire::copied(copied), took)
}

/// The same of what a server says that it has copied.
pub(super) fn timed(mut copied: Value, took: Duration) -> Value {
    copied["seconds"] = ((took.as_secs_f64() * 1000.0).round() / 1000.0).into();
    copied
}

/// What was done, in words.
pub(super) fn text(did: &str, copied: &Value) -> String {
    let of = |name: &str| copied[name].as_u64().unwrap_or_default();
    format!(
        "{did} {} rows in {:.1} s, every one compared ({} had to be written), up to place {} of the feed",
        number(of("rows")),
        copied["seconds"].as_f64().unwrap_or_default(),
        number(of("written")),
        of("seq")
    )
}

/// Refuses to end as if nothing were wrong, where rows were edited.
pub(super) fn outcome(copied: &Value) -> Outcome {
    let (edited, rows) = (copied["edited"].as_u64().unwrap_or_default(), list(copied, "editedRows"));
    if edited == 0 {
        return Ok(());
    }
    let more = if edited > rows.len() as u64 { " and others" } else { "" };
    let named = output::words(copied, "editedRows", ", ");
    Err(Failure::Refused(match edited {
        1 => {
            format!("it was done as said, but one row is not as it was sealed ({named}); it was copied as it is, and is refused there too")
        }
        edited => format!(
            "it was done as said, but {} rows are not as they were sealed ({named}{more}); they were copied as they are, and are refused there too",
            number(edited)
        ),
    }))
}

/// What to say of the key file.
pub(super) fn of_key_file(keys: &KeySource) -> String {
    format!("The key is not in it: keep {keys} elsewhere. Without it nothing of this verifies.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is() {
        assert_eq!(line("rows", 250_000, 1_000_000, Duration::from_secs(5)), "25 %, 250,000 of 1,000,000 rows, 50,000 a second, 15 s left");
        assert_eq!(line("rows", 0, 0, Duration::ZERO), "0 %, 0 of 0 rows, 0 a second, 0 s left");
        assert_eq!((number(999), number(1000), number(1_234_567)), ("999".to_owned(), "1,000".to_owned(), "1,234,567".to_owned()));
    }
}
