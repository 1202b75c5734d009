//! What a tool works with: the settings, the database of a running or stopped server, its keys, its log.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;
use commands::log::{Engine, Keyring, MasterKey, Takeover};
use domain::UserId;
use domain::log::{Recorded, StreamId};
use sqlx::PgPool;

use super::output::Output;
use super::{FAILED, Outcome, THREADS_WITHIN, ToolError, complain, with_settings};
use crate::app::{self, MASTER_KEY_FILE};
use crate::config::{Config, LogKind, Origin};
use crate::drive::store::Store;
use crate::erase::{EraseError, Eraser};
use crate::platform::attach::{self, Attached, With};
use crate::platform::shutdown::Shutdown;
use crate::platform::telemetry;
use crate::system::{SystemClock, TimeOrderedIds};

/// A tool that has not looked for the server yet.
pub struct Tool {
    pub config: Arc<Config>,
    pub output: Output,
    /// Begins when the operator interrupts.
    pub shutdown: Shutdown,
}

/// A tool with the server's database before it.
pub struct Desk {
    pub config: Arc<Config>,
    pub output: Output,
    /// Begins when the operator interrupts.
    pub shutdown: Shutdown,
    pub attached: Attached,
    pub keyring: Arc<Keyring>,
    pub log: Arc<dyn Engine>,
}

/// Runs a tool to its exit code.
pub fn run<W>(matches: &ArgMatches, work: W) -> ExitCode
where
    W: AsyncFnOnce(Tool) -> Result<Outcome, ToolError>,
{
    with_settings(matches, |loaded| {
        let is_quiet = loaded
            .settings
            .iter()
            .any(|setting| setting.name == "log_filter" && setting.origin == Origin::Default);
        let mut config = loaded.config;
        if is_quiet {
            config.log_filter = QUIET.to_owned();
        }
        telemetry::init(&config);
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return complain(&error, FAILED),
        };
        let (config, output) = (Arc::new(config), Output { json: matches.get_flag("json") });
        let ended = runtime.block_on(async {
            let shutdown = Shutdown::default();
            shutdown.on_signals().map_err(ToolError::Output)?;
            work(Tool { config, output, shutdown }).await
        });
        runtime.shutdown_timeout(THREADS_WITHIN);
        match ended {
            Ok(Outcome::Done) => ExitCode::SUCCESS,
            Ok(Outcome::Differs) => super::DIFFERS.into(),
            Ok(Outcome::Unwell) => FAILED.into(),
            // Whoever reads has enough, as with `| head`.
            Err(ToolError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => FAILED.into(),
            Err(error) => complain(&error, error.code()),
        }
    })
}

/// Runs a tool at the desk; an interruption cuts it off where it waits.
pub fn at_desk<W>(matches: &ArgMatches, with: With, work: W) -> ExitCode
where
    W: AsyncFnOnce(&Desk) -> Result<Outcome, ToolError>,
{
    run(matches, async |tool| {
        tool.at_desk(with, async |desk| {
            tokio::select! {
                biased;
                ended = work(desk) => ended,
                _ = desk.shutdown.wait() => Err(ToolError::Stopped),
            }
        })
        .await
    })
}

impl Tool {
    /// Goes to the desk; the work listens for an interruption itself.
    pub async fn at_desk<W>(self, with: With, work: W) -> Result<Outcome, ToolError>
    where
        W: AsyncFnOnce(&Desk) -> Result<Outcome, ToolError>,
    {
        let Self { config, output, shutdown } = self;
        let attached = attach::attach(&config, with, &shutdown).await?;
        let opened = async {
            let keyring = keyring(&config, &attached).await?;
            let log = open_log(config.log, &config, &attached.pool, &keyring, with).await?;
            Ok::<_, ToolError>((keyring, log))
        };
        let (keyring, log) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                attached.detach().await;
                return Err(error);
            }
        };
        let desk = Desk { config, output, shutdown, attached, keyring, log };
        let ended = work(&desk).await;
        let Desk { attached, log, .. } = desk;
        close_log(log.as_ref()).await;
        drop(log);
        attached.detach().await;
        ended
    }
}

/// Opens a log beside whoever writes it, or alone: others can't append then, until it is closed.
pub async fn open_log(
    kind: LogKind,
    config: &Config,
    pool: &PgPool,
    keyring: &Arc<Keyring>,
    with: With,
) -> Result<Arc<dyn Engine>, ToolError> {
    match kind {
        LogKind::Memory => {
            return Err(ToolError::Wrong("a log in memory is gone with its server".to_owned()));
        }
        LogKind::EventStore if config.eventstore_url.is_none() => {
            return Err(ToolError::Wrong("`eventstore_url` is needed".to_owned()));
        }
        LogKind::Postgres | LogKind::EventStore => (),
    }
    let takeover = if with == With::Others { Takeover::Shared } else { Takeover::Sole };
    Ok(app::open_log(kind, config, pool, keyring, takeover).await?)
}

pub async fn close_log(log: &dyn Engine) {
    if let Err(error) = log.close().await {
        tracing::debug!(%error, "the log will notice later that this tool is gone");
    }
}

/// What tools log unless the operator sets it.
const QUIET: &str = "warn,sqlx=error";

impl Desk {
    /// The person of an id, or of a name with or without its `@`.
    pub async fn person(&self, who: &str) -> Result<UserId, ToolError> {
        self.eraser()?.find(who).await.map_err(|error| match error {
            EraseError::NoSuchUser => ToolError::Refused(format!("nobody is called {who}")),
            other => other.into(),
        })
    }

    /// Where people's files are kept.
    pub fn files(&self) -> Result<Store, ToolError> {
        Ok(Store::open(&self.config)?)
    }

    pub fn eraser(&self) -> Result<Eraser, ToolError> {
        Ok(Eraser {
            pool: self.attached.pool.clone(),
            log: self.log.clone(),
            keyring: self.keyring.clone(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(TimeOrderedIds::new()),
            files: self.files()?,
            is_fed: self.config.nats_url.is_some(),
        })
    }

    /// Refuses when the read models were filled from another log, whose positions mean nothing in this one.
    pub async fn follows(&self) -> Result<(), ToolError> {
        let followed: Option<String> = sqlx::query_scalar("select identity from ops.followed_log")
            .fetch_optional(&self.attached.pool)
            .await?;
        match followed == Some(self.log.identity()) {
            true => Ok(()),
            false => Err(ToolError::Refused(
                "the read models were filled from another log: start the server, it fills them anew"
                    .to_owned(),
            )),
        }
    }

    /// Refuses a stream that has no events.
    pub async fn existing(&self, stream: &StreamId) -> Result<Vec<Recorded>, ToolError> {
        let (recorded, _) = self.log.stream(stream).await?;
        if recorded.is_empty() {
            return Err(ToolError::Refused(format!("nothing was ever written in {stream}")));
        }
        Ok(recorded)
    }
}

/// The master key as the server finds it; never made here.
pub fn master_key(config: &Config, data_dir: &Path) -> Result<MasterKey, ToolError> {
    match &config.master_key {
        Some(given) => Ok(given.clone()),
        None => Ok(MasterKey::load(&data_dir.join(MASTER_KEY_FILE))?),
    }
}

async fn keyring(config: &Config, attached: &Attached) -> Result<Arc<Keyring>, ToolError> {
    if Keyring::is_new(&attached.pool).await? {
        return Err(attach::AttachError::Empty.into());
    }
    let master = master_key(config, &attached.data_dir)?;
    Ok(Arc::new(Keyring::open(attached.pool.clone(), &master).await?))
}
