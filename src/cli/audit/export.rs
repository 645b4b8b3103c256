//! `countersign audit export`

use std::ops::ControlFlow;

use clap::{Args, ValueEnum};

use super::moment;
use crate::{
    authority::audit::{self, Exported, MEMBERS, Member},
    cli::{
        Failure, Outcome, database,
        output::{Lines, harmless},
        platform,
        settings::StoreSettings,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// One JSON object a line: the very lines that heads are over.
    #[default]
    Jsonl,
    /// For a spreadsheet (RFC 4180), in which nothing is a formula.
    Csv,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only on this platform
    #[arg(long)]
    platform: Option<String>,
    /// Only behind this place: where the export before ended
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after_seq: u64,
    /// Only at or after this moment, in RFC 3339
    #[arg(long)]
    after: Option<String>,
    /// Only at or before this moment, in RFC 3339
    #[arg(long)]
    before: Option<String>,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Export {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let wanted = audit::Export {
            platform: self.platform.as_deref().map(platform::parse_id).transpose()?,
            after_seq: self.after_seq,
            after: moment(self.after.as_deref(), "--after", true)?,
            before: moment(self.before.as_deref(), "--before", false)?,
        };
        let mut lines = Lines::new();
        if self.format == Format::Csv {
            lines.write(&format!("{}\r\n", MEMBERS.join(",")));
        }
        let unreadable = audit::export(&database(&config), &wanted, |entry| {
            lines.write(&match self.format {
                Format::Jsonl => format!("{}\n", entry.line()),
                Format::Csv => csv(&entry),
            });
            if lines.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await
        .map_err(Failure::CouldNotRun)?;
        lines.finish()?;
        match unreadable {
            None => Ok(()),
            Some((count, first)) => Err(Failure::Refused(format!(
                "{count} audit entries are nothing that countersign writes, and were left out ({first}); ask countersign audit verify"
            ))),
        }
    }
}

fn csv(entry: &Exported<'_>) -> String {
    let cells: Vec<_> = entry.members().iter().map(cell).collect();
    format!("{}\r\n", cells.join(","))
}

/// A cell that is a text in every spreadsheet: what one might compute has a mark before it, and what moves a cursor or ends a
/// line is escaped.
fn cell(member: &Member<'_>) -> String {
    match member {
        Member::None => String::new(),
        Member::Number(number) => number.to_string(),
        Member::Text(text) => {
            let text = harmless(text);
            let computed = text.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
            format!("\"{}{}\"", if computed { "'" } else { "" }, text.replace('"', "\"\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_03_no_cell_is_a_formula() {
        let text = |text: &str| cell(&Member::Text(text.to_owned().into()));
        for begins in ["=", "+", "-", "@", "\u{ff1d}", "\u{ff0b}", "\u{ff0d}", "\u{ff20}"] {
            assert_eq!(text(&format!("{begins}1")), format!("\"'{begins}1\""));
        }
        for escaped in ["\t=1", "\r=1", "\n=1", "\u{1b}[2J", "\u{202e}", "\u{9b}1"] {
            let cell = text(escaped);
            assert!(cell.starts_with("\"\\u{") && !cell.contains(char::is_control), "{cell}");
        }
        assert_eq!(text("say \"a,b\""), "\"say \"\"a,b\"\"\"");
        assert_eq!((cell(&Member::None), cell(&Member::Number(7)), text("")), (String::new(), "7".to_owned(), "\"\"".to_owned()));
    }
}
