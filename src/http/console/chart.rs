//! How a token was used, as bars: the last day by quarters of hours, the last ninety days by days. Drawn here, so that it needs no
//! script; and as a table for whoever sees no bars.

use maud::{Markup, html};

use crate::domain::{Timestamp, TokenUse};

const QUARTER: i64 = 15 * 60 * 1000;
const DAY: i64 = 24 * 60 * 60 * 1000;
const QUARTERS: usize = 96;
const DAYS: usize = 90;
const HEIGHT: u64 = 60;

pub(super) fn of(used: &TokenUse, now: Timestamp) -> Markup {
    if used.last_used_at.is_none() {
        return html! { p .empty { "It was never used, as far as the servers have written it." } };
    }
    let quarters = sums(used.minutes.iter().map(|(at, count)| (*at, *count)), now, QUARTER, QUARTERS);
    let days = sums(used.days.iter().map(|(at, count)| (*at, *count)), now, DAY, DAYS);
    html! {
        div .charts {
            (bars("The last day", "a quarter of an hour", &quarters, used.last_24_hours()))
            (bars("The last 90 days", "a day", &days, days.iter().sum()))
        }
    }
}

/// How much falls into each of the last so many spans, the oldest first.
fn sums(counts: impl Iterator<Item = (Timestamp, u64)>, now: Timestamp, span: i64, many: usize) -> Vec<u64> {
    let mut sums = vec![0; many];
    let last = now.millis().div_euclid(span);
    for (at, count) in counts {
        let behind = usize::try_from(last - at.millis().div_euclid(span)).unwrap_or(usize::MAX);
        if let Some(sum) = many.checked_sub(behind.saturating_add(1)).and_then(|place| sums.get_mut(place)) {
            *sum += count;
        }
    }
    sums
}

fn bars(title: &str, unit: &str, sums: &[u64], total: u64) -> Markup {
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    let width = sums.len() * 4;
    html! {
        figure {
            figcaption { (title) ": " strong { (total) } " uses, at most " (most) " in " (unit) }
            svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(format!("{title}: {total} uses")) {
                @for (place, sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0) {
                    @let height = (sum * HEIGHT).div_ceil(most);
                    rect x=(place * 4) y=(HEIGHT - height) width="3" height=(height) { title { (sum) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_or_newer_than_the_chart_is_not_in_it() {
        let now = Timestamp::from_millis(100 * DAY + 5);
        let counts = [(0, 1), (99, 2), (100, 3), (101, 4), (98, 5)].map(|(day, count)| (Timestamp::from_millis(day * DAY), count));
        assert_eq!(sums(counts.into_iter(), now, DAY, 3), [5, 2, 3]);
    }
}
