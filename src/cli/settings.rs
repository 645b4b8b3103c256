//! Settings as flags: made from the list of settings, so that a new one needs no line here.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, error::Error, parser::ValueSource};

use crate::config::{SETTINGS, Setting};

/// What every command needs to find the data.
const OF_STORE: [&str; 4] = ["data", "database", "key_file", "key_command"];

/// The flags of a command that works on the data.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreSettings {
    pub(super) flags: BTreeMap<String, String>,
    pub(super) file: Option<PathBuf>,
}

/// The flags of a command that serves: all settings.
#[derive(Debug, Clone, Default)]
pub(super) struct AllSettings(pub(super) StoreSettings);

fn of_store(setting: &Setting) -> bool {
    OF_STORE.contains(&setting.name)
}

fn augment(mut command: Command, wanted: fn(&Setting) -> bool) -> Command {
    command = command
        .arg(Arg::new("config").long("config").value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help("A configuration file"));
    for setting in SETTINGS.iter().filter(|setting| wanted(setting)) {
        let default = if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
        let mut arg =
            Arg::new(setting.name).long(setting.name.replace('_', "-")).help(format!("{}{default}", setting.help.trim_end_matches('.')));
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

impl Args for AllSettings {
    fn augment_args(command: Command) -> Command {
        augment(command, |_| true)
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
