//! What commands print: for a person, or one JSON document. The only file that prints.

use std::io::Write as _;

use clap::ValueEnum;
use serde_json::Value;

use super::{Failure, Outcome};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Output {
    /// For a person.
    #[default]
    Text,
    /// One JSON document on standard output, and nothing else there.
    Json,
}

/// Prints text or JSON.
///
/// # Errors
/// It could not be written. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(output: Output, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Outcome {
    match write(output, text, json) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::CouldNotRun(format!("cannot write to standard output: {e}"))),
        _ => Ok(()),
    }
}

/// Prints what is shown this once.
///
/// # Errors
/// It could not be written: a secret must not be lost silently.
pub(super) fn print_once(output: Output, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Outcome {
    write(output, text, json).map_err(|e| {
        Failure::CouldNotRun(format!(
            "it was made, but standard output did not take its secret ({e}), which is lost; revoke it (countersign token list) and make another"
        ))
    })
}

fn write(output: Output, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> std::io::Result<()> {
    let document = match output {
        Output::Text => text(),
        Output::Json => format!("{:#}", json()),
    };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", document.trim_end_matches('\n')).and_then(|()| stdout.flush())
}

/// Many lines on standard output, as they come.
pub(super) struct Lines {
    stdout: std::io::BufWriter<std::io::Stdout>,
    failed: Option<std::io::Error>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { stdout: std::io::BufWriter::with_capacity(1 << 16, std::io::stdout()), failed: None }
    }

    /// Writes a text with its line's end.
    pub(super) fn write(&mut self, text: &str) {
        if self.failed.is_none() {
            self.failed = self.stdout.write_all(text.as_bytes()).err();
        }
    }

    /// Whether nobody takes any more.
    pub(super) const fn is_over(&self) -> bool {
        self.failed.is_some()
    }

    /// Sees to it that all of it is written.
    ///
    /// # Errors
    /// As [`print`].
    pub(super) fn finish(mut self) -> Outcome {
        match self.failed.take().map_or_else(|| self.stdout.flush(), Err) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::CouldNotRun(format!("cannot write to standard output: {e}")))
            }
            _ => Ok(()),
        }
    }
}

/// Prints one line on standard error, if that still takes lines.
pub(super) fn error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", line.lines().map(str::trim).collect::<Vec<_>>().join(" "));
}

/// Puts text in the place of the last line of a terminal.
pub(super) fn standing(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush());
}

/// Text that somebody chose, made harmless for a terminal: what could move the cursor or hide something is escaped.
pub(super) fn harmless(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || ('\u{200b}'..='\u{200f}').contains(&c)
            || ('\u{2028}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    text.chars().flat_map(|c| if odd(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// No name that anything may have is as wide; what was edited into a database may be wider than can be padded.
const WIDEST: usize = 300;

/// Rows under headings, in columns as wide as they need to be.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines = vec![headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().cloned());
    let width =
        |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0).min(WIDEST);
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let row = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// A member of an answer, for a terminal: whoever answered, and whoever chose a name, may have put anything into it.
pub(super) fn member(json: &Value, name: &str) -> String {
    match &json[name] {
        Value::String(text) => harmless(text),
        Value::Null => String::new(),
        other => harmless(&other.to_string()),
    }
}

/// The same, with a dash where there is nothing.
pub(super) fn member_or_dash(json: &Value, name: &str) -> String {
    Some(member(json, name)).filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// A member of an answer that is a list.
pub(super) fn list<'j>(json: &'j Value, name: &str) -> &'j [Value] {
    json[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A member of an answer that is a list of words, with commas between them.
pub(super) fn words(json: &Value, name: &str, between: &str) -> String {
    list(json, name).iter().map(|word| harmless(word.as_str().unwrap_or_default())).collect::<Vec<_>>().join(between)
}

/// Where a change is in force: one line. Which nodes were not heard of matters only while one of them may not go by it.
pub(super) fn receipt_text(receipt: &Value) -> String {
    let change = receipt["seq"].as_u64().map_or_else(|| "It".to_owned(), |seq| format!("Change {seq}"));
    if receipt["boundMillis"] == 0 {
        return format!("{change} is in force on every server.");
    }
    let (by, unheard) = (member(receipt, "effectiveAt"), words(receipt, "unheard", ", "));
    format!("{change} is in force on every server by {by}; not heard of yet: {unheard}.")
}

/// A token that was issued, with its secret.
pub(super) fn issued_text(issued: &Value) -> String {
    let of = |name| member(issued, name);
    let secret = Some(of("clientSecret")).filter(|secret| !secret.is_empty()).unwrap_or_else(|| "(not shown again)".to_owned());
    format!(
        "{} {}\n  permissions   {}\n  clientId      {}\n  clientSecret  {secret}\n",
        of("environment"),
        of("id"),
        words(issued, "permissions", ","),
        of("clientId"),
    )
}
