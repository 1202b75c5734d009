//! The command line: `kiroku serve`, `config`, `health`, `version`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{self, Given, KEYS, Key, Loaded};
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
            Some(("print", matches)) => with_settings(matches, |loaded| print(&loaded.to_string())),
            Some(("check", matches)) => with_settings(matches, |_| print("the configuration is good\n")),
            _ => USAGE.into(),
        },
        Some(("health", matches)) => with_settings(matches, |loaded| health(loaded.config.listen)),
        Some(("version", matches)) => print(&version(matches.get_flag("json"))),
        _ => USAGE.into(),
    }
}

/// Time for threads that are still computing, after everything else has stopped.
const THREADS_WITHIN: Duration = Duration::from_millis(200);
const HEALTH_WITHIN: Duration = Duration::from_secs(5);
/// The status line is at the front.
const MAX_HEALTH_BYTES: u64 = 1024;

const EXIT_CODES: &str = "Exit codes:
  0  done, or stopped as asked
  1  could not start or go on; for health: not well
  2  wrong arguments or configuration
  3  the data directory is in use by another kiroku
  4  `url` is not the one this server has been writing under

A setting is taken from its flag, else from KIROKU_NAME in the environment, else from the TOML file, else
from its default. Secrets are also read from files: --name-file, KIROKU_NAME_FILE, name_file.";

fn commands() -> Command {
    let config = Command::new("config")
        .about("Look at the configuration")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(settings(Command::new("print").about("Show each value and where it comes from")))
        .subcommand(settings(Command::new("check").about("Check the configuration and do nothing else")));
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON");
    Command::new("kiroku")
        .about("A Misskey-compatible server on an event log")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(settings(Command::new("serve").about("Run the server")))
        .subcommand(config)
        .subcommand(settings(
            Command::new("health").about("Ask the server at `listen` whether it is well (for containers)"),
        ))
        .subcommand(Command::new("version").about("Show the version").arg(json))
}

fn settings(command: Command) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file with settings, also by KIROKU_CONFIG [default: kiroku.toml, if present]");
    command.arg(file).args(KEYS.iter().map(|key| {
        let help = match key.default {
            Some(default) if !default.is_empty() => format!("{} [default: {default}]", key.help),
            _ => key.help.to_owned(),
        };
        let value = if key.secret { "FILE" } else { "VALUE" };
        Arg::new(flag(key)).long(flag(key)).value_name(value).help(help)
    }))
}

fn flag(key: &Key) -> String {
    if key.secret { format!("{}-file", key.flag()) } else { key.flag() }
}

fn with_settings(matches: &ArgMatches, then: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    let flags = KEYS.iter().filter_map(|key| {
        let flag = flag(key);
        let value = matches.get_one::<String>(&flag)?.clone();
        Some((flag, value))
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

fn health(listen: SocketAddr) -> ExitCode {
    match ask_health(reachable(listen)) {
        Ok(200) => print("ok\n"),
        Ok(status) => complain(&format!("/healthz answers {status}"), FAILED),
        Err(error) => complain(&error, FAILED),
    }
}

fn ask_health(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_WITHIN)?;
    stream.set_read_timeout(Some(HEALTH_WITHIN))?;
    stream.set_write_timeout(Some(HEALTH_WITHIN))?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.take(MAX_HEALTH_BYTES).read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply);
    let status = reply.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::other("what listens there does not speak HTTP"))
}

/// An address that means "all of this machine's" can be listened on but not called.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
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

    #[test]
    fn health_calls_a_reachable_address() {
        let called = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(called("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(called("[::]:80"), "[::1]:80");
        assert_eq!(called("10.1.2.3:80"), "10.1.2.3:80");
    }

    #[test]
    fn health_reads_the_status() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for reply in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "SSH-2.0\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        assert_eq!(ask_health(address).unwrap(), 503);
        assert!(ask_health(address).is_err());
        server.join().unwrap();
    }
}
