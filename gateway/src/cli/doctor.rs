//! `kiroku doctor`: looks at everything a server stands on, and says what to do.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{ArgMatches, Command};
use commands::bus::Nats;
use commands::log::{Engine, Keyring};
use domain::Fold;
use domain::instance::{self, Instance};
use domain::log::{Clock, LogError, Position};
use nix::sys::statvfs::statvfs;
use serde::Serialize;
use sqlx::PgPool;

use super::desk::{self, Tool, master_key};
use super::files;
use super::output::{bytes, table};
use super::projections::standing;
use super::{Outcome, ToolError, tool};
use crate::config::{Config, LogKind};
use crate::drive::store::Store;
use crate::platform::attach::{self, AttachError, Attached, Tables, With};
use crate::platform::data_dir::DataDirError;
use crate::system::SystemClock;

/// Free space in the data directory below which it is told.
const LOW_SPACE_BYTES: u64 = 2 << 30;
const NO_SPACE_BYTES: u64 = 256 << 20;
/// Clocks that differ more than this.
const SKEW_MILLIS: i64 = 1_000;
const BAD_SKEW_MILLIS: i64 = 60_000;
/// Appends at the end of the log that are looked at.
const TAIL_APPENDS: u64 = 1_000;
/// The newest files that are looked for.
const NEWEST_FILES: usize = 1_000;
const NATS_WITHIN: Duration = Duration::from_secs(5);
/// The oldest PostgreSQL, as it numbers its versions.
const MIN_SERVER_VERSION: i32 = 140_000;
/// Connections besides those of the pool and of the projectors: leases, the log, tools.
const FURTHER_CONNECTIONS: usize = 10;

pub fn command() -> Command {
    tool(Command::new("doctor").about("Look at everything the server stands on, and say what to do"))
        .after_help("Changes nothing. Exits with 1 when a line says FAIL.")
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::run(matches, async |tool| {
        let mut report = Report::default();
        tokio::select! {
            biased;
            () = report.examine(&tool) => (),
            _ = tool.shutdown.wait() => return Err(ToolError::Stopped),
        }
        tool.output.either(&report.lines, report.told())?;
        let is_unwell = report.lines.iter().any(|line| line.verdict == Verdict::Fail);
        Ok(if is_unwell { Outcome::Unwell } else { Outcome::Done })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

#[derive(Default)]
struct Report {
    lines: Vec<Line>,
}

impl Report {
    async fn examine(&mut self, tool: &Tool) {
        let config = &tool.config;
        self.settings(config);
        self.data_dir(&config.data_dir);
        match attach::connect(config, With::Others, &tool.shutdown).await {
            Ok(attached) => {
                if let Err(error) = self.database(tool, &attached).await {
                    self.fail("database", error.to_string(), "see what PostgreSQL logs");
                }
                attached.detach().await;
            }
            Err(error) => self.unreachable(&error),
        }
        self.nats(config).await;
    }

    fn settings(&mut self, config: &Config) {
        let is_local = ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| config.host().starts_with(host));
        if config.url.starts_with("http://") && !is_local {
            let advice = "put a proxy with TLS before it, and set `url` before anything is written";
            self.warn("settings", format!("`url` is {}, without TLS", config.url), advice);
        } else if config.log == LogKind::Memory {
            let advice = "set `log` to postgres for anything that is to last";
            self.warn("settings", "the log is kept in memory", advice);
        } else {
            self.ok("settings", format!("{} on {}", config.url, config.listen));
        }
    }

    fn data_dir(&mut self, path: &Path) {
        let shown = path.display();
        let Ok(metadata) = path.metadata() else {
            return self.warn("data directory", format!("{shown} is not there"), "the first start makes it");
        };
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            let advice = format!("chmod 700 {shown}");
            self.fail("data directory", format!("{shown} is open to others (mode {mode:03o})"), advice);
        } else {
            self.ok("data directory", format!("{shown}, mode {mode:03o}"));
        }
        match statvfs(path) {
            Ok(disk) => {
                let free = disk.blocks_available().saturating_mul(disk.fragment_size());
                let found = format!("{} free in {shown}", bytes(free));
                match free {
                    ..NO_SPACE_BYTES => {
                        self.fail("disk", found, "make room: the database stops when it is full");
                    }
                    NO_SPACE_BYTES..LOW_SPACE_BYTES => self.warn("disk", found, "make room"),
                    _ => self.ok("disk", found),
                }
            }
            Err(error) => {
                self.warn("disk", format!("free space is unknown: {error}"), "look yourself: df -h")
            }
        }
    }

    fn unreachable(&mut self, error: &AttachError) {
        let advice = match error {
            AttachError::NothingThere(_) => {
                return self.warn("database", error.to_string(), "start the server: it makes its database");
            }
            AttachError::DataDir(DataDirError::Unusable { .. }) => "run this as the user of the server",
            AttachError::NotUp => {
                "try again when the server has started; see postgres.log in the data directory"
            }
            _ => "look at `database_url`, and at what PostgreSQL logs",
        };
        self.fail("database", error.to_string(), advice);
    }

    /// The database, and everything in it.
    async fn database(&mut self, tool: &Tool, attached: &Attached) -> Result<(), ToolError> {
        match (attached.server, attached.is_ours()) {
            (Some(process), _) => self.ok("server", format!("runs (process {process})")),
            (None, true) => self.ok("server", "does not run; its database was started for this look"),
            (None, false) => self.sessions(&attached.pool).await?,
        }
        self.clock(&attached.pool).await?;
        self.postgres(tool, &attached.pool).await?;
        match attached.tables().await? {
            Tables::Current => self.ok("tables", "up to date"),
            Tables::None => {
                self.warn("tables", "there are none", "start the server: it makes them");
                return Ok(());
            }
            Tables::Older(steps) => {
                let found = format!("{steps} steps older than this program");
                self.warn("tables", found, "start a server of this version: it brings them up to date");
                return Ok(());
            }
            Tables::Newer => {
                self.fail("tables", "newer than this program", "use the kiroku that wrote them");
                return Ok(());
            }
        }
        let Some(keyring) = self.keys(tool, attached).await? else { return Ok(()) };
        match desk::open_log(tool.config.log, &tool.config, &attached.pool, &keyring, With::Others).await {
            Ok(log) => {
                let ended = self.log(tool, attached, log.as_ref()).await;
                desk::close_log(log.as_ref()).await;
                ended
            }
            Err(error) => {
                self.fail(
                    "log",
                    error.to_string(),
                    "see that its engine runs, and nothing else has it alone",
                );
                Ok(())
            }
        }
    }

    async fn sessions(&mut self, pool: &PgPool) -> Result<(), ToolError> {
        let sessions: Vec<(String, Option<String>, i64)> = sqlx::query_as(
            "select application_name, host(client_addr), count(*)
               from pg_catalog.pg_stat_activity
              where datname = current_database() and backend_type = 'client backend'
                and application_name <> 'kiroku tool'
              group by 1, 2 order by 1, 2",
        )
        .fetch_all(pool)
        .await?;
        let told = sessions.into_iter().map(|(name, address, count)| {
            let name = if name.is_empty() { "unnamed" } else { &name };
            format!("{count} {name} from {}", address.as_deref().unwrap_or("this machine"))
        });
        let told: Vec<String> = told.collect();
        match told.is_empty() {
            true => self.ok("sessions", "nobody else uses the database"),
            false => self.ok("sessions", told.join(", ")),
        }
        Ok(())
    }

    async fn clock(&mut self, pool: &PgPool) -> Result<(), ToolError> {
        let before = SystemClock.now();
        let there: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await?;
        let after = SystemClock.now();
        let skew = (there - (before + (after - before) / 2)).num_milliseconds();
        let found = format!("the database's clock is {skew} ms from this one's");
        match skew.abs() {
            ..SKEW_MILLIS => self.ok("clock", found),
            SKEW_MILLIS..BAD_SKEW_MILLIS => {
                self.warn("clock", found, "let both machines follow a time server")
            }
            _ => self.fail("clock", found, "set the clocks right: leases and times of notes depend on them"),
        }
        Ok(())
    }

    async fn postgres(&mut self, tool: &Tool, pool: &PgPool) -> Result<(), ToolError> {
        let settings: Vec<(String, String)> = sqlx::query_as(
            "select name, setting from pg_catalog.pg_settings
              where name = any(array['server_version', 'server_version_num', 'fsync', 'full_page_writes',
                                     'synchronous_commit', 'wal_recycle', 'max_connections', 'data_checksums'])",
        )
        .fetch_all(pool)
        .await?;
        let value = |name: &str| {
            settings
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
                .unwrap_or_default()
        };
        let version = format!("version {}", value("server_version"));
        match value("server_version_num").parse::<i32>() {
            Ok(number) if number >= MIN_SERVER_VERSION => self.ok("postgresql", version),
            _ => self.fail("postgresql", version, "use version 14 or newer"),
        }
        for name in ["fsync", "full_page_writes"] {
            if value(name) != "on" {
                let advice = format!("set {name} = on: without it a crash can lose what was acknowledged");
                self.fail("postgresql", format!("{name} is {}", value(name)), advice);
            }
        }
        if value("synchronous_commit") == "off" {
            let advice =
                "set synchronous_commit = on: the log asks for it itself, passwords and tokens don't";
            self.warn("postgresql", "synchronous_commit is off", advice);
        }
        if value("wal_recycle") == "on" {
            let advice = "set wal_recycle = off, so that what was erased leaves the disk with its WAL files";
            self.warn("postgresql", "wal_recycle is on", advice);
        }
        if value("data_checksums") == "off" {
            let advice = "turn them on (pg_checksums), so that a failing disk is noticed";
            self.warn("postgresql", "data checksums are off", advice);
        }
        let room = value("max_connections").parse::<usize>().unwrap_or_default();
        let wanted =
            tool.config.database_connections as usize + projections::projectors().len() + FURTHER_CONNECTIONS;
        if tool.config.database_url.is_some() && room < wanted {
            let advice = format!("set max_connections to {wanted} or more, or lower `database_connections`");
            self.warn("postgresql", format!("max_connections is {room}"), advice);
        }
        Ok(())
    }

    async fn keys(&mut self, tool: &Tool, attached: &Attached) -> Result<Option<Arc<Keyring>>, ToolError> {
        if Keyring::is_new(&attached.pool).await? {
            self.warn("keys", "no server has written here yet", "start the server");
            return Ok(None);
        }
        let opened = async {
            let master = master_key(&tool.config, &attached.data_dir)?;
            Ok::<_, ToolError>(Keyring::open(attached.pool.clone(), &master).await?)
        };
        match opened.await {
            Ok(keyring) => {
                let (all, live): (i64, i64) = sqlx::query_as("select count(*), count(wrapped) from ops.keys")
                    .fetch_one(&attached.pool)
                    .await?;
                let found = format!("the master key is right; {all} keys, {} of them destroyed", all - live);
                self.ok("keys", found);
                Ok(Some(Arc::new(keyring)))
            }
            Err(error) => {
                let advice = "put the right master key in its place: nothing can be read without it";
                self.fail("keys", error.to_string(), advice);
                Ok(None)
            }
        }
    }

    async fn log(&mut self, tool: &Tool, attached: &Attached, log: &dyn Engine) -> Result<(), ToolError> {
        match tail(log).await {
            Ok((head, events)) => {
                self.ok("log", format!("head at {head}; {events} events looked at, all of them open"));
            }
            Err(error) => {
                self.fail("log", error, "run `kiroku log check`, and restore a backup if it agrees");
                return Ok(());
            }
        }
        let (recorded, _) = log.stream(&instance::stream()).await?;
        let claimed = Instance::of(recorded.iter().filter_map(|event| event.event.as_ref())).url;
        if let Some(url) = claimed.filter(|url| *url != tool.config.url) {
            let found = format!("the log belongs to {url}, and `url` is {} here", tool.config.url);
            self.warn(
                "settings",
                found,
                "give tools the settings of the server; it starts with no other `url`",
            );
        }
        let is_shared = !attached.is_ours() && attach::others(&attached.pool).await? > 0;
        let is_run = attached.server.is_some() || is_shared;
        for one in standing(&attached.pool, log).await? {
            let found = format!("{}: {} events behind", one.name, one.lag());
            if let Some(reason) = &one.stopped {
                let advice = format!("see the log; after a repair restart, or `kiroku rebuild {}`", one.name);
                self.fail("read models", format!("{} has stopped: {reason}", one.name), advice);
            } else if one.lag_events > tool.config.ready_max_lag_events && is_run {
                self.warn("read models", found, "wait; if it grows, see what the server logs");
            } else if is_run && one.active.is_none() {
                self.warn(
                    "read models",
                    format!("{found}, and nobody fills it"),
                    "run a server with this role",
                );
            } else {
                self.ok("read models", found);
            }
        }
        self.files(tool, attached, log).await
    }

    async fn files(&mut self, tool: &Tool, attached: &Attached, log: &dyn Engine) -> Result<(), ToolError> {
        let store = Store::open(&tool.config)?;
        if let Err(error) = store.check().await {
            let advice = "look at the settings that begin with `object_storage`, and that the store runs";
            self.fail("files", error.to_string(), advice);
            return Ok(());
        }
        let found = files::missing(&attached.pool, log, NEWEST_FILES, async |owner, key| {
            Ok(store.size(owner, key).await?.is_some())
        })
        .await?;
        match found.missing {
            0 => self.ok("files", format!("the newest {} are there", found.looked_at)),
            missing => self.fail(
                "files",
                format!("{missing} of the newest {} are missing", found.looked_at),
                "give tools the `data_dir` of the server, or its object storage; if it is that, bring its files \
                 back from a backup",
            ),
        }
        Ok(())
    }

    async fn nats(&mut self, config: &Config) {
        let Some(url) = &config.nats_url else { return };
        let advice = "look at `nats_url`, and that NATS runs";
        let nats = match Nats::connect(url.expose()).await {
            Ok(nats) => nats,
            Err(error) => return self.fail("nats", error.to_string(), advice),
        };
        match tokio::time::timeout(NATS_WITHIN, nats.client.flush()).await {
            Ok(Ok(())) => {
                let info = nats.client.server_info();
                match info.jetstream {
                    true => self.ok("nats", format!("version {}, with JetStream", info.version)),
                    false => {
                        let found = format!("version {}, without JetStream", info.version);
                        self.warn("nats", found, "turn JetStream on if you want the feed");
                    }
                }
            }
            Ok(Err(error)) => self.fail("nats", error.to_string(), advice),
            Err(_) => self.fail("nats", "it does not answer", advice),
        }
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.lines.push(Line { check, verdict: Verdict::Ok, found: found.into(), advice: None });
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        let advice = Some(advice.into());
        self.lines.push(Line { check, verdict: Verdict::Warn, found: found.into(), advice });
    }

    fn fail(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        let advice = Some(advice.into());
        self.lines.push(Line { check, verdict: Verdict::Fail, found: found.into(), advice });
    }

    fn told(&self) -> String {
        let rows: Vec<[String; 3]> = self.lines.iter().map(Line::row).collect();
        table(["", "CHECK", "FOUND"], &rows)
    }
}

impl Line {
    fn row(&self) -> [String; 3] {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let found = match &self.advice {
            Some(advice) => format!("{}. {advice}", self.found),
            None => self.found.clone(),
        };
        [verdict.to_owned(), self.check.to_owned(), found]
    }
}

/// Looks at the end of the log; says where its head is and how many events were looked at.
async fn tail(log: &dyn Engine) -> Result<(Position, usize), String> {
    let told = |error: LogError| error.to_string();
    let head = log.head().await.map_err(told)?;
    if !log.is_gapless() {
        // Positions can't be counted back: the beginning says as much about keys and engine.
        let events = log.after(Position::START, TAIL_APPENDS as usize).await.map_err(told)?;
        return Ok((head, events.len()));
    }
    let mut at = Position(head.0.saturating_sub(TAIL_APPENDS));
    let mut events = 0;
    while at < head {
        let page = log.after(at, TAIL_APPENDS as usize).await.map_err(told)?;
        if page.is_empty() {
            return Err(format!("the head is at {head}, but nothing comes after {at}"));
        }
        for append in page.chunk_by(|a, b| a.position == b.position) {
            let Some(first) = append.first() else { continue };
            if first.position.0 != at.0 + 1 || append.iter().zip(0u32..).any(|(e, n)| e.ordinal != n) {
                return Err(format!("after position {at} comes {}: something is missing", first.position));
            }
            at = first.position;
            events += append.len();
        }
    }
    Ok((head, events))
}
