//! Settings as flags: made from the list of settings, so that a new one needs no line here.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, error::Error, parser::ValueSource};

use super::Failure;
use crate::config::{Config, Origin, SETTINGS, Setting};

/// What every command needs to find the data.
const OF_STORE: [&str; 4] = ["data", "database", "key_file", "key_command"];
/// What a command needs to find a server instead.
const OF_REACH: [&str; 2] = ["server", "operator_token_file"];

/// The flags of a command that works on the data.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreSettings {
    pub(super) flags: BTreeMap<String, String>,
    pub(super) file: Option<PathBuf>,
}

/// The flags of a command that asks the operator API, over the data or of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct ReachSettings(pub(super) StoreSettings);

/// The flags of a command that serves: all settings.
#[derive(Debug, Clone, Default)]
pub(super) struct AllSettings(pub(super) StoreSettings);

/// How a setting is a flag of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    Shown,
    /// Taken, so that it can be refused in more words than "unexpected".
    Hidden,
    None,
}

fn of_store(setting: &Setting) -> Flag {
    match setting.name {
        name if OF_STORE.contains(&name) => Flag::Shown,
        "server" => Flag::Hidden,
        _ => Flag::None,
    }
}

fn of_reach(setting: &Setting) -> Flag {
    if OF_STORE.contains(&setting.name) || OF_REACH.contains(&setting.name) { Flag::Shown } else { Flag::None }
}

fn of_all(setting: &Setting) -> Flag {
    if OF_REACH.contains(&setting.name) { Flag::Hidden } else { Flag::Shown }
}

impl StoreSettings {
    /// The configuration, whatever it says.
    fn read(&self) -> Result<Config, Failure> {
        Config::of_process(&self.flags, self.file.as_deref())
            .map_err(|problems| Failure::CouldNotRun(format!("the configuration is not valid: {problems}")))
    }

    /// The configuration of a command that works on the data. Where it says another server, the data at hand is not what was
    /// meant.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let config = self.read()?;
        match origin(&config, "server") {
            Some(origin) if config.server.is_some() => Err(Failure::CouldNotRun(format!(
                "this command works on the data itself, where that is, and asks no server: leave out the server ({origin}), or say --server ''"
            ))),
            _ => Ok(config),
        }
    }
}

impl ReachSettings {
    /// The configuration of a command that asks. What the command line says is said of one of the two.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let config = self.0.read()?;
        let given = |names: &[&str]| names.iter().find(|name| self.0.flags.contains_key(**name)).map(|name| name.replace('_', "-"));
        match (&config.server, given(&OF_STORE), given(&["operator_token_file"])) {
            (Some(_), Some(flag), _) => Err(Failure::CouldNotRun(format!(
                "--{flag} says that the data is here, but the server is to be asked ({}): leave out one of them",
                origin(&config, "server").unwrap_or(Origin::Default)
            ))),
            (None, _, Some(flag)) => Err(Failure::CouldNotRun(format!("--{flag} is for a server: say which with --server URL"))),
            _ => Ok(config),
        }
    }
}

impl AllSettings {
    /// All of it, to be shown.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        self.0.read()
    }

    /// The configuration of a process that serves. Its environment may name a server for the commands beside it.
    pub(super) fn to_serve(&self) -> Result<Config, Failure> {
        match OF_REACH.iter().find(|name| self.0.flags.contains_key(**name)) {
            Some(name) => {
                Err(Failure::CouldNotRun(format!("--{} is for commands that ask a server; this one is a server", name.replace('_', "-"))))
            }
            None => self.0.read(),
        }
    }
}

fn origin(config: &Config, name: &str) -> Option<Origin> {
    config.shown().iter().find(|shown| shown.name == name).map(|shown| shown.origin.clone())
}

fn augment(mut command: Command, flag: fn(&Setting) -> Flag) -> Command {
    command = command
        .arg(Arg::new("config").long("config").value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help("A configuration file"));
    for setting in SETTINGS.iter().filter(|setting| flag(setting) != Flag::None) {
        let default = if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
        let mut arg =
            Arg::new(setting.name).long(setting.name.replace('_', "-")).help(format!("{}{default}", setting.help.trim_end_matches('.')));
        arg = arg.hide(flag(setting) == Flag::Hidden);
        arg = if setting.is_switch() {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false")
        } else {
            arg.value_name("VALUE")
        };
        command = command.arg(arg);
    }
    command
}

fn given(matches: &ArgMatches) -> StoreSettings {
    let names = matches.ids().map(clap::Id::as_str).filter(|id| SETTINGS.iter().any(|setting| setting.name == *id));
    let flags = names
        .filter(|name| matches.value_source(name) == Some(ValueSource::CommandLine))
        .filter_map(|name| Some((name.to_owned(), matches.get_one::<String>(name)?.clone())))
        .collect();
    StoreSettings { flags, file: matches.get_one("config").cloned() }
}

impl Args for StoreSettings {
    fn augment_args(command: Command) -> Command {
        augment(command, of_store)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for StoreSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(given(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = given(matches);
        Ok(())
    }
}

impl Args for ReachSettings {
    fn augment_args(command: Command) -> Command {
        augment(command, of_reach)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ReachSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(given(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0 = given(matches);
        Ok(())
    }
}

impl Args for AllSettings {
    fn augment_args(command: Command) -> Command {
        augment(command, of_all)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for AllSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(given(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0 = given(matches);
        Ok(())
    }
}
