//! What was measured, as a table and as a picture.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::load::Measured;

/// Where it was measured.
pub(super) struct Place {
    pub(super) on: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
}

/// One kind of request, the medians of its rounds.
pub(super) struct Row {
    name: &'static str,
    /// Whether it took turns with bare HTTP.
    in_turns: bool,
    per_second: f64,
    /// The server's processor time a request, round by round, in microseconds.
    cpu: Vec<f64>,
    p50: f64,
    p99: f64,
}

/// All of it.
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) tokens: u32,
    pub(super) clients: u16,
    pub(super) rounds: u16,
    pub(super) turn: Duration,
    /// How long a server with the tokens took to start.
    pub(super) started: Duration,
    /// What they take of its memory, in bytes.
    pub(super) memory: u64,
    pub(super) place: Place,
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn micros(of: Duration) -> f64 {
    of.as_secs_f64() * 1e6
}

/// Three digits, as far as there are any.
fn number(of: f64) -> String {
    match of {
        _ if !of.is_finite() => "-".to_owned(),
        _ if of >= 100.0 => format!("{of:.0}"),
        _ if of >= 10.0 => format!("{of:.1}"),
        _ => format!("{of:.2}"),
    }
}

impl Row {
    /// Of something that was measured by itself.
    pub(super) fn once(name: &'static str, measured: Measured) -> Self {
        Self { in_turns: false, ..Self::of(name, &[measured]) }
    }

    /// Of the rounds in which it took turns.
    pub(super) fn of(name: &'static str, rounds: &[Measured]) -> Self {
        let quantile = |measured: &Measured, share: f64| {
            let mut waited = measured.waited.clone();
            waited.sort_unstable();
            let place = (waited.len() as f64 * share) as usize;
            waited.get(place.min(waited.len().saturating_sub(1))).copied().map_or(f64::NAN, micros)
        };
        Self {
            name,
            in_turns: true,
            per_second: median(rounds.iter().map(|measured| measured.waited.len() as f64 / measured.took.as_secs_f64())),
            cpu: rounds.iter().map(|measured| micros(measured.cpu) / measured.waited.len() as f64).collect(),
            p50: median(rounds.iter().map(|measured| quantile(measured, 0.5))),
            p99: median(rounds.iter().map(|measured| quantile(measured, 0.99))),
        }
    }

    /// How many times that of another it costs, where both had the same rounds.
    fn over(&self, other: &Self) -> Option<f64> {
        self.in_turns.then(|| median(self.cpu.iter().zip(&other.cpu).map(|(this, other)| this / other)))
    }
}

impl Report {
    fn bare(&self) -> &Row {
        &self.rows[0]
    }

    fn conditions(&self) -> String {
        let Self { tokens, clients, rounds, turn, place, .. } = self;
        let Place { on, processor, cores, kernel } = place;
        format!(
            "countersign {}, {on}, {tokens} tokens, {clients} clients on the same machine, {rounds} rounds of {} s; {processor}, {cores} cores, Linux {kernel}",
            env!("CARGO_PKG_VERSION"),
            turn.as_secs()
        )
    }

    /// As Markdown.
    pub(super) fn text(&self) -> String {
        let mut text = "| | requests/s | p50 µs | p99 µs | server CPU µs | × bare HTTP |\n|---|---|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let over = row.over(self.bare()).map_or_else(|| "-".to_owned(), number);
            let [per_second, p50, p99, cpu] = [row.per_second, row.p50, row.p99, median(row.cpu.iter().copied())].map(number);
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {} | {per_second} | {p50} | {p99} | {cpu} | {over} |", row.name);
        }
        let per_token = self.memory as f64 / f64::from(self.tokens);
        let _ = write!(
            text,
            "\nWith these tokens a server starts in {:.2} s, and they take {} bytes of its memory each.\nNone was accepted behind the answer to its revoke.\n{}",
            self.started.as_secs_f64(),
            number(per_token),
            self.conditions()
        );
        text
    }

    pub(super) fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name, "perSecond": row.per_second, "p50Micros": row.p50, "p99Micros": row.p99,
                "cpuMicros": median(row.cpu.iter().copied()), "timesBare": row.over(self.bare()),
            })
        };
        let Place { on, processor, cores, kernel } = &self.place;
        json!({
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "tokens": self.tokens, "clients": self.clients, "rounds": self.rounds, "seconds": self.turn.as_secs(),
            "startSeconds": self.started.as_secs_f64(), "memoryBytes": self.memory,
            "version": env!("CARGO_PKG_VERSION"), "database": on, "processor": processor, "cores": cores, "kernel": kernel,
        })
    }

    /// Bars of processor time on one scale from zero, readable on white and on black.
    pub(super) fn chart(&self) -> String {
        const STEP: usize = 34;
        let costs: Vec<_> = self.rows.iter().map(|row| (row.name, median(row.cpu.iter().copied()))).collect();
        let most = costs.iter().map(|(_, cost)| *cost).fold(f64::MIN_POSITIVE, f64::max);
        let height = 64 + costs.len() * STEP + 44;
        let title = "Server CPU a request, microseconds; less is better";
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 840 {height}\" role=\"img\" font-family=\"system-ui, sans-serif\" \
             font-size=\"14\">\n<title>{title}</title>\n<style>text {{ fill: #24292f }} rect {{ fill: #1a7f37 }} .bare {{ fill: #8c959f }} \
             @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} rect {{ fill: #3fb950 }} }}</style>\n\
             <text x=\"16\" y=\"34\" font-size=\"17\" font-weight=\"600\">{title}</text>\n"
        );
        for (at, (name, cost)) in costs.iter().enumerate() {
            let (top, length) = (64 + at * STEP, (cost / most * 400.0).max(1.0));
            let (base, class) = (top + 17, if at == 0 { " class=\"bare\"" } else { "" });
            let _ = writeln!(
                svg,
                "<text x=\"250\" y=\"{base}\" text-anchor=\"end\">{name}</text><rect{class} x=\"260\" y=\"{top}\" width=\"{length:.1}\" \
                 height=\"24\"/><text x=\"{:.1}\" y=\"{base}\">{}</text>",
                268.0 + length,
                number(*cost)
            );
        }
        let escaped = self.conditions().replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(svg, "<text x=\"16\" y=\"{}\" font-size=\"11\">{escaped}</text>", height - 16);
        svg + "</svg>\n"
    }
}
