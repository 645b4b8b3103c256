//! Settings as they are shown: without what is secret in them, and with where they came from.

use std::{fmt, path::PathBuf};

use super::Setting;

/// What stands for something that is not shown.
const REDACTED: &str = "[REDACTED]";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The defaults.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// The command line.
    Flag(String),
    /// The limit on open files, which allows no more.
    OpenFiles,
}

impl Origin {
    /// What it is, in a word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File(_) => "file",
            Self::Environment(_) => "environment",
            Self::Flag(_) => "flag",
            Self::OpenFiles => "open files",
        }
    }

    /// Which of them: the file, the variable or the flag.
    pub fn which(&self) -> Option<String> {
        match self {
            Self::Default | Self::OpenFiles => None,
            Self::File(path) => Some(path.display().to_string()),
            Self::Environment(name) | Self::Flag(name) => Some(name.clone()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        self.which().map_or(Ok(()), |which| write!(f, " {which}"))
    }
}

/// A setting as it is in force.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its name.
    pub name: &'static str,
    /// Its value, secrets in it blotted out.
    pub value: String,
    /// Where that came from.
    pub origin: Origin,
    /// What it would be if nobody had said anything.
    pub default: String,
    /// Its sentence.
    pub help: &'static str,
}

impl Shown {
    pub(super) fn of(setting: &Setting, value: &str, origin: Origin) -> Self {
        let value = match setting.name {
            "audit_head" => without_logins(value),
            "key_command" => without_arguments(value),
            _ => without_password(value),
        };
        Self { name: setting.name, value, origin, default: setting.default.clone(), help: setting.help }
    }

    /// The value for people who do not run this process: of a command nobody can tell whether a secret is in it.
    pub fn told(&self) -> &str {
        if self.name == "key_command" && !self.value.is_empty() { REDACTED } else { &self.value }
    }
}

/// A URL without the password in it; anything else as it is, unless it speaks of a password.
pub(crate) fn without_password(value: &str) -> String {
    if value.to_ascii_lowercase().contains("password") {
        return REDACTED.to_owned();
    }
    let hidden = || {
        let (scheme, rest) = value.split_once("://")?;
        let (login, place) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:{REDACTED}@{place}"))
    };
    hidden().unwrap_or_else(|| value.to_owned())
}

/// A command without its arguments: of none of them can anybody tell whether it is a secret.
fn without_arguments(command: &str) -> String {
    match command.trim().split_once(char::is_whitespace) {
        // What stands before a program may be a variable for it.
        Some((program, _)) if !program.contains('=') => format!("{} {REDACTED}", without_password(program)),
        Some(_) => REDACTED.to_owned(),
        None => without_password(command),
    }
}

/// Sinks of heads without anything by which a collector may know who writes: a login, of which the name may be a token, and
/// what a query says.
fn without_logins(sinks: &str) -> String {
    let words: Vec<_> = sinks.split([';', ' ']).filter(|word| !word.is_empty()).collect();
    let url = words.iter().position(|word| word.contains("://")).unwrap_or(words.len());
    let login = words.iter().rposition(|word| word.contains('@')).unwrap_or(0);
    let shown = words.iter().enumerate().map(|(at, word)| match word.split_once("://") {
        // All from the first URL to the last @ may be one login, in which somebody forgot to encode what stands between sinks.
        Some((scheme, _)) if at < login => format!("{scheme}://{REDACTED}"),
        Some((scheme, rest)) => format!("{scheme}://{}", without_login(rest)),
        None if (url..=login).contains(&at) => REDACTED.to_owned(),
        None => (*word).to_owned(),
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// What is behind the scheme of a URL.
fn without_login(rest: &str) -> String {
    // A login with a question mark in it, or a query with an @: what is a secret of it, only its reader knows.
    if rest.find(['?', '#']).zip(rest.rfind('@')).is_some_and(|(query, at)| query < at) {
        return REDACTED.to_owned();
    }
    let (login, place) = rest.rsplit_once('@').map_or(("", rest), |(_, place)| ("[REDACTED]@", place));
    let (place, query) = place.split_once(['?', '#']).map_or((place, ""), |(place, _)| (place, "?[REDACTED]"));
    format!("{login}{place}{query}")
}

#[cfg(test)]
mod tests {
    use super::{super::tests::layered, *};

    #[test]
    fn arguments_of_a_command_are_not_shown() {
        assert_eq!(without_arguments("/usr/bin/vault kv get -token=hvs.x"), "/usr/bin/vault [REDACTED]");
        assert_eq!(without_arguments("VAULT_TOKEN=hvs.x vault get"), "[REDACTED]");
        assert_eq!([without_arguments("/etc/keys.sh"), without_arguments("")], ["/etc/keys.sh", ""]);
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("postgres://me:pa@ss@db/x"), "postgres://me:[REDACTED]@db/x");
        assert_eq!(without_password("postgres://db/x"), "postgres://db/x");
        assert_eq!(without_password("postgres://db/x?password=y"), "[REDACTED]");
        assert_eq!(without_password("syslog;https://me:a@b/x;https://me:c@d/y"), "syslog;https://me:[REDACTED]@d/y");
        let problems = layered(&[("audit_head", "https://me:secret@b/x")], &[("COUNTERSIGN_DATABASE", "x:secret")], None).unwrap_err();
        assert!(problems.0.len() == 2 && !problems.to_string().contains("secret"), "{problems:?}");
    }

    #[test]
    fn what_a_collector_asks_for_is_not_shown() {
        for (sinks, shown) in [
            ("", ""),
            ("file:/mnt/heads.jsonl;syslog", "file:/mnt/heads.jsonl; syslog"),
            ("https://t0ken@b/x; syslog:/run/log", "https://[REDACTED]@b/x; syslog:/run/log"),
            ("https://b/x?of=us;https://me:c@d/y?of=us", "https://[REDACTED]; https://[REDACTED]@d/y?[REDACTED]"),
            ("https://me:t0ken;https://me@d/y;https://e/z", "https://[REDACTED]; https://[REDACTED]@d/y; https://e/z"),
            (
                "file:/a@b https://me:a file:/t0ken syslog:/t0ken@b file:/c",
                "file:/a@b; https://[REDACTED]; [REDACTED]; [REDACTED]; file:/c",
            ),
            ("https://b/x?key=t0ken", "https://b/x?[REDACTED]"),
            ("https://b/x?mail=a@b", "https://[REDACTED]"),
            ("https://me:a?b@c/x#t0ken", "https://[REDACTED]"),
            ("https://me:a@c/x#t0ken", "https://[REDACTED]@c/x?[REDACTED]"),
        ] {
            assert_eq!(without_logins(sinks), shown);
        }
    }

    #[test]
    fn what_is_told_of_a_process_elsewhere() {
        let environment = [
            ("COUNTERSIGN_KEY_COMMAND", "curl -H 'X-Token: hunter2' https://vault"),
            ("COUNTERSIGN_AUDIT_HEAD", "https://hunter2@b/x"),
            ("COUNTERSIGN_DATABASE", "postgres://me:hunter2@db/x"),
        ];
        let mut config = layered(&[("lease", "2s")], &environment, None).unwrap();
        assert!(config.shown().iter().all(|shown| !shown.told().contains("hunter2")));
        let of = |config: &crate::config::Config, name: &str| {
            let shown = config.shown().iter().find(|shown| shown.name == name).unwrap();
            (shown.told().to_owned(), shown.origin.kind(), shown.origin.which())
        };
        assert_eq!(of(&config, "lease"), ("2s".to_owned(), "flag", Some("--lease".to_owned())));
        assert_eq!(of(&config, "key_command"), (REDACTED.to_owned(), "environment", Some("COUNTERSIGN_KEY_COMMAND".to_owned())));
        assert_eq!(of(&config, "key_file"), (String::new(), "default", None));
        config.limit_connections(20_000);
        assert_eq!((config.max_connections, of(&config, "max_connections")), (10_000, ("10000".to_owned(), "default", None)));
        config.limit_connections(200);
        assert_eq!((config.max_connections, of(&config, "max_connections")), (200, ("200".to_owned(), "open files", None)));
        // The key itself, where its file would stand.
        let config = layered(&[], &[("COUNTERSIGN_KEY", "hunter2")], None).unwrap();
        assert_eq!(of(&config, "key_file"), (REDACTED.to_owned(), "environment", Some("COUNTERSIGN_KEY".to_owned())));
    }
}
