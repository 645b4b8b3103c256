//! The picture of a table: bars on one scale from zero, as SVG by hand.

use std::fmt::Write as _;

use crate::report::number;

const BAR: usize = 24;
const STEP: usize = 36;
/// Above the first bar, and below the last.
const MARGIN: [usize; 2] = [64, 40];
/// Of names, and of the longest bar.
const WIDTH: [usize; 2] = [320, 340];
const WHOLE: usize = 840;

/// A count as it is said.
pub(crate) fn count(of: u64) -> String {
    match of {
        _ if of >= 1_000_000 && of.is_multiple_of(100_000) => format!("{} M", of as f64 / 1e6),
        _ if of >= 1000 && of.is_multiple_of(100) => format!("{} k", of as f64 / 1e3),
        _ => of.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws bars: name, microseconds, and how many times ours that is. Readable on white and on black.
pub(crate) fn draw(bars: &[(String, f64, f64)]) -> String {
    let most = bars.iter().map(|(_, micros, _)| *micros).fold(f64::MIN_POSITIVE, f64::max);
    let height = MARGIN[0] + bars.len() * STEP + MARGIN[1];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WHOLE} {height}\" role=\"img\" font-family=\"system-ui, sans-serif\" \
         font-size=\"14\">\n<title>Processor time to answer whose a credential is</title>\n\
         <style>text {{ fill: #24292f }} .other {{ fill: #8c959f }} .ours {{ fill: #1a7f37 }} \
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .ours {{ fill: #3fb950 }} }}</style>\n\
         <text x=\"16\" y=\"28\" font-size=\"17\" font-weight=\"600\">Processor time to answer whose a credential is</text>\n\
         <text x=\"16\" y=\"48\">server CPU, microseconds per request; less is better</text>\n"
    );
    for (at, (name, micros, times)) in bars.iter().enumerate() {
        let (top, left) = (MARGIN[0] + at * STEP, WIDTH[0]);
        let (text, length) = (top + BAR - 7, (micros / most * WIDTH[1] as f64).max(1.0));
        let class = if name.starts_with("countersign") { "ours" } else { "other" };
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"{left}\" y=\"{top}\" \
             width=\"{length:.1}\" height=\"{BAR}\"/><text x=\"{:.1}\" y=\"{text}\">{} µs, {} ×</text>",
            left - 10,
            escaped(name),
            left as f64 + length + 8.0,
            number(*micros),
            number(*times),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"16\" y=\"{}\" font-size=\"12\">× of the second green bar. Made by: cargo bench --bench figures -- verify</text>",
        height - 14
    );
    svg + "</svg>\n"
}
