//! The configuration: four layers of the same flat settings, each value with where it came from.
//!
//! `config.default.toml` is the list of settings, their defaults and their manual at once; the command line's flags and
//! their help are made from it. The only file that reads the environment.

mod gateways;
mod keys;
mod remote;
mod shown;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use http::Uri;
use ipnet::IpNet;
use zeroize::Zeroizing;

pub(crate) use self::shown::without_password;
pub use self::{
    gateways::Gateway,
    remote::TokenSource,
    shown::{Origin, Shown},
};
use crate::{
    domain::{HeadSink, KeySource, OnDatabaseLoss, Rule},
    files,
};

const DEFAULTS: &str = include_str!("../config.default.toml");
const PREFIX: &str = "COUNTERSIGN_";

/// One setting, as the defaults document it.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its name in the file; `listen` is `--listen` and `COUNTERSIGN_LISTEN`.
    pub name: &'static str,
    /// Its default, as text.
    pub default: String,
    /// Its sentence.
    pub help: &'static str,
}

impl Setting {
    /// Whether it is a switch.
    pub fn is_switch(&self) -> bool {
        matches!(self.default.as_str(), "true" | "false")
    }
}

/// All settings, in the order of the defaults' file.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let values = DEFAULTS.parse::<toml::Table>().unwrap_or_default();
    let mut help = "";
    let mut settings = Vec::new();
    for line in DEFAULTS.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            help = comment;
        } else if let Some((name, _)) = line.split_once(" = ") {
            settings.push(Setting { name, default: values.get(name).and_then(text_of).unwrap_or_default(), help });
        }
    }
    settings
});

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Boolean(value) => Some(value.to_string()),
        toml::Value::Integer(value) => Some(value.to_string()),
        _ => None,
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

/// The settings, valid and typed. Each is documented in `config.default.toml`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the manual of each setting is in config.default.toml")]
pub struct Config {
    pub data: PathBuf,
    pub database: Option<String>,
    pub keys: KeySource,
    pub journal: PathBuf,
    pub audit_head: Vec<HeadSink>,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub ext_authz_listen: Option<SocketAddr>,
    pub tls_terminated_elsewhere: bool,
    pub lease: Duration,
    pub on_database_loss: OnDatabaseLoss,
    pub revocation_wait: bool,
    pub trusted_proxies: Vec<IpNet>,
    pub failed_attempts_per_source: u32,
    pub failed_attempts_per_client: u32,
    pub max_tokens: u32,
    pub use_sources: bool,
    pub operation_rules: Vec<Rule>,
    pub gateways: Vec<Gateway>,
    pub flush_interval: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub request_timeout: Duration,
    pub write_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_connections: usize,
    pub assertion: bool,
    pub assertion_lifetime: Duration,
    pub assertion_audience: Option<String>,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    pub log: String,
    pub log_format: LogFormat,
    pub otlp: Option<Uri>,
    pub trace_ratio: f64,
    pub server: Option<Uri>,
    pub operator_token: Option<TokenSource>,
    shown: Vec<Shown>,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// The layers on top of each other.
struct Layers {
    values: BTreeMap<&'static str, (String, Origin)>,
    problems: Vec<String>,
}

/// Bytes of a configuration file, at the most.
const LONGEST: u64 = 1 << 20;

impl Layers {
    fn set(&mut self, name: &str, value: String, origin: Origin) {
        match SETTINGS.iter().find(|setting| setting.name == name) {
            Some(setting) => drop(self.values.insert(setting.name, (value, origin))),
            None => self.problems.push(format!("{origin}: there is no setting {name:?} (see countersign config show)")),
        }
    }

    fn read_file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let parsed = files::read_text(path, LONGEST).map_err(|e| e.to_string()).and_then(|text| {
            text.parse::<toml::Table>().map_err(|e| {
                let line = e.span().map_or(1, |span| text[..span.start].lines().count().max(1));
                format!("line {line}: {}", e.message())
            })
        });
        match parsed {
            Err(e) => self.problems.push(format!("{origin}: {e}")),
            Ok(table) => {
                for (name, value) in table {
                    match text_of(&value) {
                        Some(text) => self.set(&name, text, origin.clone()),
                        None => self.problems.push(format!("{origin}: {name} must be a string, a whole number, true or false")),
                    }
                }
            }
        }
    }

    fn take<T>(&mut self, name: &str, what: &str, parse: impl FnOnce(&str) -> Option<T>, fallback: T) -> T {
        let Some((value, origin)) = self.values.get(name) else {
            self.problems.push(format!("{name} has no default"));
            return fallback;
        };
        parse(value).unwrap_or_else(|| {
            // A URL can hold a password in more ways than can be blotted out.
            let given =
                if ["database", "audit_head", "otlp", "server"].contains(&name) { String::new() } else { format!(", not {value:?}") };
            self.problems.push(format!("{origin}: {name} must be {what}{given}"));
            fallback
        })
    }

    fn duration(&mut self, name: &str) -> Duration {
        self.take(name, "a time such as 250ms, 10s or 2m, at most a day", parse_duration, Duration::ZERO)
    }

    fn positive(&mut self, name: &str) -> Duration {
        let positive = |text: &str| parse_duration(text).filter(|duration| !duration.is_zero());
        self.take(name, "a time above zero such as 250ms, 10s or 2m, at most a day", positive, Duration::ZERO)
    }

    fn count(&mut self, name: &str) -> u32 {
        self.take(name, "a whole number up to 1000000", |text| text.parse().ok().filter(|n| *n <= 1_000_000), 0)
    }

    fn address(&mut self, name: &str) -> SocketAddr {
        self.take(name, "an address and port such as 127.0.0.1:8420", |text| text.parse().ok(), SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    (millis <= 86_400_000).then(|| Duration::from_millis(millis))
}

fn parse_on_database_loss(text: &str) -> Option<OnDatabaseLoss> {
    match text.split_once(' ') {
        None if text == "deny" => Some(OnDatabaseLoss::Deny),
        Some(("serve_stale", most)) => parse_duration(most.trim()).filter(|most| !most.is_zero()).map(OnDatabaseLoss::ServeStale),
        _ => None,
    }
}

/// Without what may be a secret: headers have their own place.
fn parse_collector(text: &str) -> Option<Option<Uri>> {
    if text.is_empty() {
        return Some(None);
    }
    let url: Uri = text.parse().ok()?;
    let plain = matches!(url.scheme_str(), Some("http" | "https")) && url.query().is_none() && !url.authority()?.as_str().contains('@');
    plain.then_some(Some(url))
}

/// None is SQLite.
fn parse_database(text: &str) -> Option<Option<String>> {
    match text {
        "" => Some(None),
        url if url.starts_with("postgres://") || url.starts_with("postgresql://") => Some(Some(url.to_owned())),
        _ => None,
    }
}

impl Config {
    /// The configuration of this process: `flags` are what the command line gave, by setting, and `file` is `--config`.
    ///
    /// # Errors
    /// All [`Problems`] at once.
    pub fn of_process(flags: &BTreeMap<String, String>, file: Option<&Path>) -> Result<Self, Problems> {
        #[expect(clippy::disallowed_methods, reason = "this is the configuration")]
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
            // What is not text is no setting's value; it is refused as one, by name.
            Some((name, value.into_string().unwrap_or_else(|_| "\u{fffd}".to_owned())))
        });
        Self::layered(flags, environment, file)
    }

    /// The configuration of the given layers.
    ///
    /// # Errors
    /// All [`Problems`] at once.
    pub fn layered(
        flags: &BTreeMap<String, String>,
        environment: impl IntoIterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Self, Problems> {
        let mut layers = Layers { values: BTreeMap::new(), problems: Vec::new() };
        for setting in SETTINGS.iter() {
            layers.set(setting.name, setting.default.clone(), Origin::Default);
        }
        let (mut file, mut key, mut token) = (file.map(Path::to_owned), None, None);
        let mut from_environment = Vec::new();
        for (variable, value) in environment {
            match variable.strip_prefix(PREFIX).map(str::to_ascii_lowercase).as_deref() {
                // What Kubernetes sets for a service of our name.
                Some(name) if name == "port" || name.starts_with("port_") || name.starts_with("service_") => {}
                Some("config") => drop(file.get_or_insert_with(|| value.into())),
                // No settings: as flags everybody could read them, and in a file the one would be a key file, the other a token's.
                Some("key") => key = Some((Zeroizing::new(value), Origin::Environment(variable.clone()))),
                Some("operator_token") => token = Some((Zeroizing::new(value), Origin::Environment(variable.clone()))),
                Some(name) => from_environment.push((name.to_owned(), value, variable.clone())),
                None => {}
            }
        }
        if let Some(path) = &file {
            layers.read_file(path);
        }
        for (name, value, variable) in from_environment {
            layers.set(&name, value, Origin::Environment(variable));
        }
        for (name, value) in flags {
            layers.set(name, value.clone(), Origin::Flag(format!("--{}", name.replace('_', "-"))));
        }
        Self::typed(layers, key, token)
    }

    fn typed(mut layers: Layers, key: Option<remote::Given>, token: Option<remote::Given>) -> Result<Self, Problems> {
        let some = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let data = layers.take("data", "a directory", some, PathBuf::new());
        let operator_token = layers.operator_token(token);
        let keys = layers.keys(key).unwrap_or_else(|| KeySource::File(data.join("keys.json")));
        let journal =
            layers.take("journal", "a file", |text| Some(some(text).unwrap_or_else(|| data.join("revocations.jsonl"))), PathBuf::new());
        let database = layers.take("database", "empty, or a URL such as postgres://user@host/database", parse_database, None);
        for name in ["database", "audit_head"] {
            if let Some((url, Origin::Flag(flag))) = layers.values.get(name)
                && without_password(url) != *url
            {
                // Everybody on the machine can read a command line.
                layers.problems.push(format!("{flag}: a password is never an argument; put the URL into the environment or the file"));
            }
        }
        let config = Self {
            data,
            database,
            keys,
            journal,
            audit_head: layers.take(
                "audit_head",
                "empty, or sinks such as file:/mnt/elsewhere/heads.jsonl; syslog; https://collector.internal/heads",
                HeadSink::parse_all,
                Vec::new(),
            ),
            listen: layers.address("listen"),
            admin_listen: layers.address("admin_listen"),
            ext_authz_listen: layers.take(
                "ext_authz_listen",
                "an address and port such as 127.0.0.1:8422, or empty",
                |text| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) },
                None,
            ),
            tls_terminated_elsewhere: layers.take("tls_terminated_elsewhere", "true or false", |text| text.parse().ok(), false),
            lease: layers.positive("lease"),
            on_database_loss: layers.take(
                "on_database_loss",
                "deny, or serve_stale and a time above zero such as serve_stale 5m",
                parse_on_database_loss,
                OnDatabaseLoss::Deny,
            ),
            revocation_wait: layers.take("revocation_wait", "true or false", |text| text.parse().ok(), true),
            trusted_proxies: layers.take(
                "trusted_proxies",
                "networks such as 10.0.0.0/8, ::1/128",
                |text| text.split(',').map(str::trim).filter(|network| !network.is_empty()).map(|network| network.parse().ok()).collect(),
                Vec::new(),
            ),
            failed_attempts_per_source: layers.count("failed_attempts_per_source"),
            failed_attempts_per_client: layers.count("failed_attempts_per_client"),
            max_tokens: layers.count("max_tokens"),
            use_sources: layers.take("use_sources", "true or false", |text| text.parse().ok(), true),
            operation_rules: layers.take(
                "operation_rules",
                "rules such as GET,HEAD -> VIEW; tag=Reports -> VIEW",
                Rule::parse_all,
                Vec::new(),
            ),
            gateways: layers.take(
                "gateways",
                "gateways such as nginx=X-Original-Method,X-Original-URI; envoy=request",
                gateways::parse,
                Vec::new(),
            ),
            flush_interval: layers.positive("flush_interval"),
            header_timeout: layers.positive("header_timeout"),
            body_timeout: layers.positive("body_timeout"),
            request_timeout: layers.positive("request_timeout"),
            write_timeout: layers.positive("write_timeout"),
            idle_timeout: layers.positive("idle_timeout"),
            max_connections: layers.take(
                "max_connections",
                "a whole number from 1 to 1000000",
                |text| text.parse().ok().filter(|n| (1..=1_000_000).contains(n)),
                1,
            ),
            assertion: layers.take("assertion", "true or false", |text| text.parse().ok(), false),
            assertion_lifetime: layers.take(
                "assertion_lifetime",
                "whole seconds from 1s to 30s",
                |text| parse_duration(text).filter(|time| time.subsec_nanos() == 0 && (1..=30).contains(&time.as_secs())),
                Duration::ZERO,
            ),
            assertion_audience: Some(layers.take(
                "assertion_audience",
                "at most 200 characters, none of them a control character",
                |text| (text.chars().count() <= 200 && !text.chars().any(char::is_control)).then(|| text.to_owned()),
                String::new(),
            ))
            .filter(|text| !text.is_empty()),
            drain_delay: layers.duration("drain_delay"),
            drain_timeout: layers.duration("drain_timeout"),
            log: layers.take(
                "log",
                "error, warn, info, debug or trace",
                |text| ["error", "warn", "info", "debug", "trace"].contains(&text).then(|| text.to_owned()),
                String::new(),
            ),
            log_format: layers.take(
                "log_format",
                "json or text",
                |text| match text {
                    "json" => Some(LogFormat::Json),
                    "text" => Some(LogFormat::Text),
                    _ => None,
                },
                LogFormat::Json,
            ),
            otlp: layers.take("otlp", "empty, or a URL such as http://127.0.0.1:4318, without a login", parse_collector, None),
            trace_ratio: layers.take(
                "trace_ratio",
                "a number from 0 to 1 such as 0.01",
                |text| text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)),
                0.0,
            ),
            server: layers.take("server", remote::SERVER, remote::parse_server, None),
            operator_token,
            shown: SETTINGS
                .iter()
                .filter_map(|setting| {
                    let (value, origin) = layers.values.get(setting.name)?.clone();
                    Some(Shown::of(setting, &value, origin))
                })
                .collect(),
        };
        let ext_authz = config.ext_authz_listen.map(|address| ("ext_authz_listen", address));
        for (name, address) in [("listen", config.listen), ("admin_listen", config.admin_listen)].into_iter().chain(ext_authz) {
            if !address.ip().is_loopback() && !config.tls_terminated_elsewhere {
                layers.problems.push(format!(
                    "{name}: {address} can be reached from elsewhere, and credentials would cross the network in the clear; listen on 127.0.0.1 \
                     behind something that ends TLS, or say --tls-terminated-elsewhere if that is so"
                ));
            }
        }
        if config.request_timeout <= config.lease + config.lease / 5 + config.body_timeout {
            layers.problems.push(
                "request_timeout must be longer than lease, a fifth of it and body_timeout together, or a revoke could not be answered"
                    .to_owned(),
            );
        }
        if let OnDatabaseLoss::ServeStale(most) = config.on_database_loss
            && most <= config.lease
        {
            layers.problems.push("on_database_loss: serve_stale must be longer than lease, which is believed in any case".to_owned());
        }
        if layers.problems.is_empty() { Ok(config) } else { Err(Problems(layers.problems)) }
    }

    /// Every setting as it is in force.
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// Allows no more connections than the limit on open files leaves room for.
    pub fn limit_connections(&mut self, most: usize) {
        self.max_connections = self.max_connections.min(most);
        let shown = self.shown.iter_mut().find(|shown| shown.name == "max_connections");
        if let Some(shown) = shown.filter(|shown| shown.value != self.max_connections.to_string()) {
            (shown.value, shown.origin) = (self.max_connections.to_string(), Origin::OpenFiles);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn layered(flags: &[(&str, &str)], environment: &[(&str, &str)], file: Option<&str>) -> Result<Config, Problems> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let directory = tempfile::tempdir().unwrap();
        let path = file.map(|text| {
            let path = directory.path().join("countersign.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        Config::layered(&flags.iter().map(owned).collect(), environment.iter().map(owned), path.as_deref())
    }

    #[test]
    fn the_defaults_are_valid_and_documented() {
        let config = layered(&[], &[], None).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8420");
        assert_eq!(config.keys, KeySource::File("./countersign-data/keys.json".into()));
        for setting in SETTINGS.iter() {
            assert!(setting.help.ends_with('.'), "{} has no sentence", setting.name);
        }
        assert_eq!(SETTINGS.len(), DEFAULTS.parse::<toml::Table>().unwrap().len());
        assert!(config.shown().iter().all(|shown| shown.origin == Origin::Default));
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let file = Some("lease = '1s'\nlog = 'warn'\nflush_interval = '1m'");
        let environment = [("COUNTERSIGN_LEASE", "2s"), ("COUNTERSIGN_LOG", "debug")];
        let config = layered(&[("lease", "3s")], &environment, file).unwrap();
        assert_eq!((config.lease.as_secs(), &*config.log, config.flush_interval.as_secs()), (3, "debug", 60));
        let origins: Vec<_> = config.shown().iter().filter(|s| s.origin != Origin::Default).map(|s| s.origin.to_string()).collect();
        assert!(origins[0].ends_with("flag --lease") || origins[0].contains("lease"), "{origins:?}");
    }

    #[test]
    fn u_06_unknown_settings_and_bad_values_are_refused_all_at_once() {
        let Problems(problems) =
            layered(&[("lease", "fast")], &[("COUNTERSIGN_LISTENN", "x")], Some("colour = 1\nlog = ['a']")).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn a_15_a_reachable_address_needs_a_word() {
        let reachable = [("listen", "0.0.0.0:80"), ("admin_listen", "[::]:81"), ("ext_authz_listen", "10.0.0.1:82")];
        let Problems(problems) = layered(&reachable, &[], None).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        let config = layered(&[("ext_authz_listen", "127.0.0.1:0")], &[], None).unwrap();
        assert_eq!(config.ext_authz_listen.map(|address| address.port()), Some(0));
        assert_eq!(layered(&[], &[], None).unwrap().ext_authz_listen, None);
        layered(&[("ext_authz_listen", "8422")], &[], None).unwrap_err();
        layered(&[("listen", "0.0.0.0:80"), ("tls_terminated_elsewhere", "true")], &[], None).unwrap();
        layered(&[("listen", "[::1]:80")], &[], None).unwrap();
    }

    #[test]
    fn an_assertion_holds_whole_seconds_and_at_most_thirty() {
        let config = layered(&[], &[], None).unwrap();
        assert_eq!((config.assertion, config.assertion_lifetime.as_secs(), config.assertion_audience), (false, 30, None));
        let config = layered(&[("assertion_lifetime", "1000ms"), ("assertion_audience", "ledger")], &[], None).unwrap();
        assert_eq!((config.assertion_lifetime.as_secs(), config.assertion_audience.as_deref()), (1, Some("ledger")));
        for lifetime in ["0s", "999ms", "1500ms", "31s", "1m", ""] {
            layered(&[("assertion_lifetime", lifetime)], &[], None).unwrap_err();
        }
        for audience in ["a\nb", &"a".repeat(201)] {
            layered(&[("assertion_audience", audience)], &[], None).unwrap_err();
        }
    }

    #[test]
    fn what_to_do_at_a_loss() {
        let of = |text: &str| layered(&[("on_database_loss", text)], &[], None).map(|config| config.on_database_loss);
        assert_eq!(layered(&[], &[], None).unwrap().on_database_loss, OnDatabaseLoss::Deny);
        assert_eq!(of("serve_stale 5m"), Ok(OnDatabaseLoss::ServeStale(Duration::from_secs(300))));
        for text in ["", "serve_stale", "serve_stale 0s", "serve_stale 1s", "serve_stale ever", "deny 5m", "allow"] {
            of(text).unwrap_err();
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for text in ["", "5", "s", "-1s", "1.5s", "25h", "1d", "99999999999999999999s", " 1s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
