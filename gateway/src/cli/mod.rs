//! The command line: the server, and the tools with which an operator looks after it. One file per
//! command, with what it is called (`command`) and what it does (`run`).

mod at;
mod backup;
mod desk;
mod doctor;
mod erase;
mod files;
mod health;
mod log;
mod output;
mod projections;
mod rebuild;
mod restore;
mod secrets;
mod segments;
mod when;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use commands::log::KeysError;
use domain::log::{AppendError, LogError};

use crate::config::{self, Given, KEYS, Key, Loaded};
use crate::drive::{archive, picture};
use crate::platform::attach::AttachError;
use crate::platform::data_dir::DataDirError;
use crate::platform::{self, Ground, ServeError, Service};

/// It could not start, or could not go on.
pub const FAILED: u8 = 1;
/// Wrong arguments or configuration.
pub const USAGE: u8 = 2;
/// Another process has the data directory.
pub const IN_USE: u8 = 3;
/// `url` is not the one this server has been writing under.
pub const URL_CHANGED: u8 = 4;
/// What was compared is not the same.
pub const DIFFERS: u8 = 5;

/// Does what `arguments` (with the program's name first) say. `build` makes the application for `serve`.
pub fn run<B>(arguments: impl IntoIterator<Item = OsString>, build: B) -> ExitCode
where
    B: AsyncFnOnce(Ground) -> Result<Service, ServeError>,
{
    let matches = match commands().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Also the way of --help, which is not a failure. A closed pipe can't be told anything.
            error.print().ok();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match matches.subcommand() {
        Some(("serve", matches)) => with_settings(matches, |loaded| serve(loaded, build)),
        Some(("config", matches)) => match matches.subcommand() {
            Some(("print", matches)) => with_settings(matches, |loaded| match matches.get_flag("json") {
                true => print(&format!("{}\n", loaded.json())),
                false => print(&loaded.to_string()),
            }),
            Some(("check", matches)) => with_settings(matches, |_| match matches.get_flag("json") {
                true => print("{\"good\":true}\n"),
                false => print("the configuration is good\n"),
            }),
            _ => USAGE.into(),
        },
        Some(("health", matches)) => {
            let json = matches.get_flag("json");
            with_settings(matches, |loaded| health::run(loaded.config.listen, json))
        }
        Some(("version", matches)) => print(&version(matches.get_flag("json"))),
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("log", matches)) => log::run(matches),
        Some(("at", matches)) => at::run(matches),
        Some(("projections", matches)) => projections::run(matches),
        Some(("rebuild", matches)) => rebuild::run_rebuild(matches),
        Some(("verify", matches)) => rebuild::run_verify(matches),
        Some(("erase", matches)) => erase::run(matches),
        Some(("backup", matches)) => backup::run(matches),
        Some(("restore", matches)) => restore::run(matches),
        Some((picture::COMMAND, matches)) => look(matches),
        Some((archive::COMMAND, matches)) => unpack(matches),
        _ => USAGE.into(),
    }
}

/// How a tool ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// What was compared is not the same.
    Differs,
    /// What was looked at is not well.
    Unwell,
}

/// Why a tool could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The arguments can't be meant.
    #[error("{0}")]
    Wrong(String),
    /// What was asked for is not so.
    #[error("{0}")]
    Refused(String),
    #[error("nothing was done")]
    Declined,
    #[error("stopped before the end; run it again to go on")]
    Stopped,
    #[error("it can't be said: {0}")]
    Output(io::Error),
}

impl ToolError {
    fn code(&self) -> u8 {
        match self {
            ToolError::Wrong(_) => USAGE,
            ToolError::Attach(error) if error.is_in_use() => IN_USE,
            _ => FAILED,
        }
    }
}

/// Time for threads that are still computing, after everything else has stopped.
const THREADS_WITHIN: Duration = Duration::from_millis(200);

const EXIT_CODES: &str = "Exit codes:
  0  done, or stopped as asked
  1  could not start or go on, or not well
  2  wrong arguments or configuration
  3  the data directory is in use by another kiroku
  4  `url` is not the one this server has been writing under
  5  what was compared is not the same

A setting is taken from its flag, else from KIROKU_NAME in the environment, else from the TOML file, else
from its default. Secrets are also read from files: --name-file, KIROKU_NAME_FILE, name_file.

Tools find the server by the same settings, whether it runs or not. With --json they print one JSON
document; those that list events print one for each, line by line.";

fn commands() -> Command {
    let config = Command::new("config")
        .about("Look at the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(tool(Command::new("print").about("Show each value and where it comes from")))
        .subcommand(tool(Command::new("check").about("Check the configuration and do nothing else")));
    Command::new("kiroku")
        .about("A Misskey-compatible server on an event log")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(settings(Command::new("serve").about("Run the server")))
        .subcommand(config)
        .subcommand(health::command())
        .subcommand(Command::new("version").about("Show the version").arg(json()))
        .subcommand(doctor::command())
        .subcommand(log::command())
        .subcommand(at::command())
        .subcommand(projections::command())
        .subcommand(rebuild::rebuild_command())
        .subcommand(rebuild::verify_command())
        .subcommand(erase::command())
        .subcommand(backup::command())
        .subcommand(restore::command())
        .subcommand(look_command())
        .subcommand(unpack_command())
}

/// What a server calls to have a picture looked at; nobody else needs it.
fn look_command() -> Command {
    let path = |name: &'static str| Arg::new(name).required(true).value_parser(value_parser!(PathBuf));
    Command::new(picture::COMMAND)
        .hide(true)
        .arg(path("picture"))
        .arg(path("made"))
        .arg(Arg::new("wanted").required(true))
}

fn look(matches: &ArgMatches) -> ExitCode {
    let path = |name| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    let wanted = matches.get_one::<String>("wanted").map(String::as_str).unwrap_or_default();
    picture::look::run(&path("picture"), &path("made"), wanted)
}

/// The same for an archive.
fn unpack_command() -> Command {
    let path = |name: &'static str| Arg::new(name).required(true).value_parser(value_parser!(PathBuf));
    Command::new(archive::COMMAND).hide(true).arg(path("archive")).arg(path("made"))
}

fn unpack(matches: &ArgMatches) -> ExitCode {
    let path = |name| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    archive::run(&path("archive"), &path("made"))
}

/// A command that takes the settings of the server.
fn settings(command: Command) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help_heading(SETTINGS_HEADING)
        .help("TOML file with settings, also by KIROKU_CONFIG [default: kiroku.toml, if present]");
    command.arg(file).args(KEYS.iter().map(|key| {
        let help = match key.default {
            Some(default) if !default.is_empty() => format!("{} [default: {default}]", key.help),
            _ => key.help.to_owned(),
        };
        let value = if key.secret { "FILE" } else { "VALUE" };
        let arg = Arg::new(setting(key)).long(flag(key)).value_name(value).help(help);
        arg.help_heading(SETTINGS_HEADING)
    }))
}

/// A command that also prints JSON.
fn tool(command: Command) -> Command {
    settings(command).arg(json())
}

const SETTINGS_HEADING: &str = "Settings";

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON")
}

/// Answers the question of a command that can't be undone.
fn yes() -> Arg {
    Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Don't ask")
}

fn flag(key: &Key) -> String {
    if key.secret { format!("{}-file", key.flag()) } else { key.flag() }
}

/// The name of a setting among a command's arguments, which have names of their own.
fn setting(key: &Key) -> String {
    format!("setting:{}", key.name)
}

fn with_settings(matches: &ArgMatches, then: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    let flags = KEYS.iter().filter_map(|key| {
        let value = matches.get_one::<String>(&setting(key))?.clone();
        Some((flag(key), value))
    });
    let flags = flags.collect();
    let file = matches.get_one::<PathBuf>("config").cloned();
    match config::load(&Given { flags, file, ..Given::from_process() }) {
        Ok(loaded) => then(loaded),
        Err(error) => complain(&error, USAGE),
    }
}

fn serve<B>(loaded: Loaded, build: B) -> ExitCode
where
    B: AsyncFnOnce(Ground) -> Result<Service, ServeError>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, FAILED),
    };
    let served = runtime.block_on(platform::serve(loaded.config, build));
    runtime.shutdown_timeout(THREADS_WITHIN);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                ServeError::DataDir(DataDirError::InUse { .. }) => IN_USE.into(),
                ServeError::UrlChanged { .. } => URL_CHANGED.into(),
                _ => FAILED.into(),
            }
        }
    }
}

fn version(json: bool) -> String {
    let (name, version) = ("kiroku", env!("CARGO_PKG_VERSION"));
    if json {
        format!("{{\"name\":\"{name}\",\"version\":\"{version}\"}}\n")
    } else {
        format!("{name} {version}\n")
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => FAILED.into(),
    }
}

fn complain(problem: &impl std::fmt::Display, code: u8) -> ExitCode {
    // With standard error closed there is nobody to tell; the exit code still says it.
    writeln!(io::stderr(), "kiroku: {problem}").ok();
    code.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        commands().debug_assert();
    }

    #[test]
    fn every_setting_has_a_flag_and_secrets_only_a_file() {
        let given = ["kiroku", "serve", "--listen", "127.0.0.1:1", "--master-key-file", "f", "--config", "c"];
        assert!(commands().try_get_matches_from(given).is_ok());
        assert!(commands().try_get_matches_from(["kiroku", "serve", "--master-key", "k"]).is_err());
        for key in &KEYS {
            let flag = format!("--{}", flag(key));
            assert!(
                commands().try_get_matches_from(["kiroku", "config", "print", &flag, "x"]).is_ok(),
                "{flag}"
            );
        }
    }
}
