//! Short texts: paths, times, queries, cursors, settings.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use countersign::{
    authority::{ListTokens, fuzzed::Ring, fuzzed::database_url},
    config::Config,
    domain::{Environment, PlatformId, Rule, Scope, Target, Timestamp, TokenFilter, TokenId},
    http::fuzzed,
};

/// Percent-decoded, where it is encoded well.
fn decoded(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::new();
    let mut pieces = text.split('%');
    let as_is = |piece: &str| if plus_is_space { piece.replace('+', " ") } else { piece.to_owned() };
    bytes.extend(as_is(pieces.next()?).into_bytes());
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(as_is(&piece[2..]).into_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// What different programs may make of a path that was decoded.
fn readings(path: &str) -> Vec<String> {
    let mut resolved: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." => drop(resolved.pop()),
            segment => resolved.push(segment),
        }
    }
    let cut = |at: char| path.split(at).next().unwrap().to_owned();
    let twice = decoded(path, false).unwrap_or_else(|| "refused".to_owned());
    let visible = path.chars().filter(|c| !c.is_ascii_control()).collect();
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    vec![resolved.join("/"), cut(';'), cut('?'), cut('#'), twice, visible, merged, path.replace('\\', "/")]
}

pub(super) fn path(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let raw = text.split('?').next().unwrap();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@%/".contains(c);
    let slowly = || {
        let whole = decoded(raw, false)?;
        let segments: Option<Vec<_>> = raw.split('/').map(|segment| decoded(segment, false)).collect();
        let alike = readings(&whole).iter().all(|reading| *reading == whole) && segments?.join("/") == whole;
        let same_count = whole.split('/').count() == raw.split('/').count();
        (raw.starts_with('/') && raw.chars().all(plain) && alike && same_count && raw.split('/').count() <= 65).then_some(whole)
    };
    let target = Target::parse(text).ok();
    assert_eq!(target.as_ref().map(|target| target.decoded().unwrap_or(target.raw()).to_owned()), slowly(), "{text:?}");
    assert!(target.is_none_or(|target| target.raw() == raw));
}

/// Days since 1970, counted one year and one month at a time.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let of_month = *months.get(usize::try_from(month - 1).ok()?)?;
    let before: i64 = months[..usize::try_from(month - 1).ok()?].iter().sum();
    let years: i64 = (0..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    // 719528 days from the year 0 to 1970.
    (1..=of_month).contains(&day).then_some(years + before + day - 1 - 719_528)
}

fn moment(text: &str, round_up: bool) -> Option<i64> {
    let mut rest = text;
    let mut next = |count: usize, separators: &str| {
        if !separators.is_empty() {
            rest = rest.strip_prefix(|c| separators.contains(c))?;
        }
        let digits = rest.get(..count).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        rest = &rest[count..];
        digits.parse::<i64>().ok()
    };
    let (year, month, day) = (next(4, "")?, next(2, "-")?, next(2, "-")?);
    let (hour, minute, second) = (next(2, "Tt")?, next(2, ":")?, next(2, ":")?);
    let decimals = match rest.strip_prefix('.') {
        Some(behind) => {
            let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
            rest = &behind[end..];
            Some(&behind[..end]).filter(|decimals| !decimals.is_empty())?
        }
        None => "",
    };
    let (padded, cut) = (format!("{decimals:0<3}"), decimals.get(3..).is_some_and(|cut| cut.contains(|c| c != '0')));
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = if rest.starts_with(['+', ' ']) { 1 } else { rest.starts_with('-').then_some(-1)? };
            let digits = rest[1..].replacen(':', "", usize::from(rest.find(':') == Some(3)));
            let valid = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number: i64 = digits.parse().ok().filter(|_| valid)?;
            (number / 100 < 24 && number % 100 < 60).then_some(sign * (number / 100 * 60 + number % 100))?
        }
    };
    (hour < 24 && minute < 60 && second <= 60).then_some(())?;
    let whole = ((days(year, month, day)? * 24 + hour) * 60 + minute - offset) * 60 + second;
    // The second behind the last one of a day, in UTC.
    (second < 60 || whole % 86_400 == 0).then_some(())?;
    let millis: i64 = padded[..3].parse().ok()?;
    let within = if second == 60 { 0 } else { millis + i64::from(round_up && cut) };
    Some((whole * 1000 + within).clamp(0, 253_402_128_000_000))
}

pub(super) fn time(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for round_up in [false, true] {
        let read = Timestamp::parse_rfc3339(text, round_up);
        assert_eq!(read.map(Timestamp::millis), moment(text, round_up), "{text:?}");
        assert!(read.is_none_or(|read| Timestamp::parse_rfc3339(&read.to_string(), !round_up) == Some(read)));
    }
}

pub(super) fn query(input: &[u8]) {
    const KNOWN: [&str; 3] = ["name", "limit", "cursor"];
    let Ok(text) = std::str::from_utf8(input) else { return };
    let slowly = || {
        let mut values = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = (pair.split('=').next()?, pair.find('=').map_or("", |at| &pair[at + 1..]));
            let name = decoded(name, true).filter(|name| KNOWN.contains(&name.as_str()))?;
            if values.insert(name, decoded(value, true)?).is_some() {
                return None;
            }
        }
        Some(KNOWN.iter().filter_map(|name| Some((*name, values.remove(*name)?))).collect::<Vec<_>>())
    };
    assert_eq!(fuzzed::query(text, &KNOWN).ok(), slowly(), "{text:?}");
    match fuzzed::list(text) {
        Ok(list) => {
            let given =
                text.split('&').filter_map(|pair| decoded(pair, true)).find_map(|pair| Some(pair.strip_prefix("limit=")?.to_owned()));
            assert_eq!(list.limit.get().to_string(), given.unwrap_or_else(|| "20".to_owned()));
            assert!((1..=100).contains(&list.limit.get()));
        }
        // A name is repeated, where it is a plain one; a value never.
        Err(invalid) => invalid.problems().iter().for_each(|problem| super::keeps_quiet(input, &problem.message)),
    }
}

/// A list, of many: by name and times.
fn list(name: &str) -> ListTokens {
    fuzzed::list(name).unwrap()
}

pub(super) const KEY_FILE: &str =
    r#"{"version":1,"keys":[{"id":7,"state":"active","root":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}"#;

fn scope(environment: Environment) -> Scope {
    Scope { platform: PlatformId::parse("019542f5-b3e7-7d02-8000-000000000001").unwrap(), environment }
}

/// A cursor; and an id of sixteen bytes, for which one is made, and then changed where the rest says.
pub(super) fn cursor(input: &[u8]) {
    static RING: LazyLock<Ring> = LazyLock::new(|| Ring::of(KEY_FILE, [3; 16]).unwrap());
    let ours = scope(Environment::Sandbox);
    let (all, named) = (list(""), list("name=a&createdAfter=2025-07-21T17:32:28Z"));
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(id) = RING.place(ours, &all, text)
    {
        assert_eq!(RING.cursor(ours, &all, id).as_deref(), Some(text));
    }
    let Some((id, changes)) = input.split_first_chunk::<16>() else { return };
    let id = TokenId(uuid::Uuid::from_bytes(*id));
    let made = RING.cursor(ours, &all, id).unwrap();
    assert!(made.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    assert_eq!(RING.place(ours, &all, &made), Ok(id));
    let filter = TokenFilter { name: named.filter.name.clone(), ..all.filter.clone() };
    for (scope, other) in [
        (scope(Environment::Production), all.clone()),
        (ours, named.clone()),
        (ours, ListTokens { filter, ..all.clone() }),
        (ours, ListTokens { order: countersign::domain::Order::OldestFirst, ..all.clone() }),
        (ours, ListTokens { liveness: countersign::domain::Liveness::All, ..all.clone() }),
    ] {
        assert!(RING.place(scope, &other, &made).is_err());
    }
    let mut changed = made.clone().into_bytes();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % changed.len();
        changed[at] = change[1];
    }
    if let Ok(changed) = String::from_utf8(changed) {
        assert_eq!(RING.place(ours, &all, &changed).is_ok(), changed == made, "{changed}");
    }
}

/// A duration as the manual has it.
fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let of = |(unit, millis): &(&str, u128)| {
        let digits = text.strip_suffix(unit)?;
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u128 = digits.parse().ok().filter(|_| valid)?;
        u64::try_from(number.checked_mul(*millis)?).ok().filter(|millis| *millis <= 86_400_000).map(Duration::from_millis)
    };
    units.iter().find_map(of)
}

/// Settings, one a line, as flags; and all of it as a file.
pub(super) fn settings(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let pairs = text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    let flags: BTreeMap<_, _> = pairs.collect();
    let read = Config::layered(&flags, [], None);
    for (name, value) in &flags {
        if ["drain_delay", "drain_timeout"].contains(&name.as_str()) {
            let one = BTreeMap::from([(name.clone(), value.clone())]);
            let read = Config::layered(&one, [], None)
                .ok()
                .map(|config| if name == "drain_delay" { config.drain_delay } else { config.drain_timeout });
            assert_eq!(read, duration(value), "{name}={value}");
        }
        if let Some(rules) = Rule::parse_all(value) {
            let shown: Vec<_> = rules.iter().map(Rule::to_string).collect();
            let again = Rule::parse_all(&shown.join(";")).unwrap();
            assert_eq!(shown, again.iter().map(Rule::to_string).collect::<Vec<_>>());
        }
    }
    if let Ok(config) = read {
        assert!(config.request_timeout > config.lease && config.lease > Duration::ZERO && config.max_connections > 0);
        let addresses = [Some(config.listen), Some(config.admin_listen), config.ext_authz_listen];
        assert!(config.tls_terminated_elsewhere || addresses.iter().flatten().all(|address| address.ip().is_loopback()));
    }
    let file = std::env::temp_dir().join(format!("countersign-fuzz-{}.toml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let _ = Config::layered(&BTreeMap::new(), [], Some(&file));
    std::fs::remove_file(&file).unwrap();
}

/// A password with anything around it, in the URL of a database and of a collector.
pub(super) fn password(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let middle = (text.len() / 2..).find(|at| text.is_char_boundary(*at)).unwrap();
    let password = format!("{}CANARY{}", &text[..middle], &text[middle..]);
    // Who names certificates has them read each time.
    for url in [format!("postgres://me:{password}@db/x?sslmode=disable"), format!("postgres://db/x?sslmode=disable&password={password}")] {
        if !password.contains("ssl") {
            let problem = database_url(&url).err().unwrap_or_default();
            assert!(!problem.contains("CANARY"), "{url:?}: {problem}");
        }
        let environment = |name: &str| {
            [(format!("COUNTERSIGN_{name}"), url.replacen("postgres", if name == "DATABASE" { "postgres" } else { "https" }, 1))]
        };
        for name in ["DATABASE", "AUDIT_HEAD"] {
            let said = match Config::layered(&BTreeMap::new(), environment(name), None) {
                Ok(config) => config.shown().iter().map(|shown| shown.value.clone()).collect::<String>(),
                Err(problems) => problems.to_string(),
            };
            assert!(!said.contains("CANARY"), "{url:?}: {said}");
        }
    }
}
