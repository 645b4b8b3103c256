//! Rounds, medians, ratios and the Markdown that they end in.

use std::time::Duration;

use countersign::authority::{Clock as _, SystemClock};

/// Measured values of one kind, one a round or one a sample.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(pub(crate) Vec<f64>);

impl Series {
    /// The value that a share of them does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let place = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The middle one, or the mean of the two.
    pub(crate) fn median(&self) -> f64 {
        let above = Self(self.0.iter().map(|value| -value).collect());
        f64::midpoint(self.quantile(0.5), -above.quantile(0.5))
    }

    /// Round by round, how many times `other` this is.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(this, other)| this / other).collect())
    }
}

/// Gives each of `contenders` its turn, in rounds, every other one in reverse; returns what each measured.
pub(crate) fn take_turns<C>(
    rounds: usize,
    contenders: &mut [C],
    mut turn: impl FnMut(&mut C) -> crate::Outcome<f64>,
) -> crate::Outcome<Vec<Series>> {
    let mut series = vec![Series::default(); contenders.len()];
    for round in 0..rounds {
        let mut order: Vec<_> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            series[at].0.push(turn(&mut contenders[at])?);
        }
        note(&format!("round {} of {rounds}", round + 1));
    }
    Ok(series)
}

/// What a ratio must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    const fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::AtMost(bound) => format!("≤ {bound}"),
        }
    }
}

/// The table that decides: each figure with its floor and its goal.
#[derive(Debug)]
pub(crate) struct Verdicts(Table);

impl Verdicts {
    pub(crate) fn new() -> Self {
        Self(Table::new(&["figure", "median", "least – most", "floor", "goal", "verdict"]))
    }

    /// Adds a figure that was measured once a round.
    pub(crate) fn add(&mut self, figure: &str, series: &Series, floor: Bound, goal: Bound) {
        let value = series.median();
        let spread = format!("{} – {}", number(series.quantile(0.0)), number(series.quantile(1.0)));
        let verdict = match (goal.holds(value), floor.holds(value)) {
            (true, _) => "goal reached",
            (false, true) => "floor holds",
            (false, false) => "**below the floor**",
        };
        self.0.add([figure.to_owned(), number(value), spread, floor.text(), goal.text(), verdict.to_owned()]);
    }

    pub(crate) fn print(&self, title: &str) {
        self.0.print(title);
    }
}

/// A Markdown table.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&text| text.to_owned()).collect()] }
    }

    pub(crate) fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    #[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
    pub(crate) fn print(&self, title: &str) {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<_> = (0..columns).map(width).collect();
        let line = |row: &[String]| {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            format!("| {} |", cells.join(" | "))
        };
        println!("\n### {title}\n\n{}", line(&self.rows[0]));
        println!("|{}", widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect::<String>());
        self.rows[1..].iter().for_each(|row| println!("{}", line(row)));
        println!();
    }
}

/// Three digits that mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Names, among the figures, what could not be measured here.
#[expect(clippy::print_stdout, reason = "a figure that is missing must be missed")]
pub(crate) fn left_out(what: &str, why: &(dyn std::error::Error + Send + Sync)) {
    println!("\nLeft out: {what}: {why}");
}

/// Says, among the figures, why they are not to be relied on.
#[expect(clippy::print_stdout, reason = "whoever copies the figures has to meet it")]
pub(crate) fn doubtful(why: &str) {
    println!("**Doubtful:** {why}.\n");
}

/// Says what goes on, beside the figures.
#[expect(clippy::print_stderr, reason = "progress")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Time, for differences.
pub(crate) fn now() -> Duration {
    SystemClock.boot()
}
