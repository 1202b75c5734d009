//! One running server: what every endpoint, page and stream works with, and how it is put together.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, Utc};
use commands::bus::{Bus, Nats, NatsError};
use commands::log::{Engine, EventStoreLog, Keyring, KeysError, MasterKey, MemoryLog, PostgresLog, Takeover};
use commands::{Commands, Failed, Receipt};
use domain::instance::AddressDiffers;
use domain::log::{By, Clock, EventLog, Ids, LogError};
use domain::policy::Viewer;
use domain::{CommandId, UserId};
use projections::{Cache, Mode, Projections, Status, Wanted, World, is_passing};
use sqlx::{PgConnection, PgPool};

use crate::accounts::ReadAccounts;
use crate::api::client::TrustedProxies;
use crate::api::{self, ApiError, Core, SignedIn};
use crate::config::{Config, LogKind};
use crate::deliver;
use crate::drive::store::StoreError;
use crate::drive::{self, Drive};
use crate::erase::{Eraser, asked};
use crate::feed::Feed;
use crate::fetch::{FetchError, Fetcher};
use crate::follower::Follower;
use crate::jobs;
use crate::mail;
use crate::metered::{self, MeteredLog};
use crate::names::{Names, SystemNames};
use crate::neighbours;
use crate::pages;
use crate::platform::shutdown::Shutdown;
use crate::platform::{Ground, ServeError, Service};
use crate::presence::Presence;
use crate::preview;
use crate::streaming::{self, Hub, Sources};
use crate::system::{SystemClock, TimeOrderedIds};
use crate::timekeeper::Timekeeper;
use crate::webpush::{NoKey, Vapid};
use crate::wellknown;

/// How long an answer to a write waits until the read models show it.
pub const READ_YOUR_WRITES_DEADLINE: Duration = Duration::from_secs(5);
/// The pauses before a page is loaded again, when the connection was lost.
const HYDRATE_PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];
/// The file of the master key, in the data directory.
pub const MASTER_KEY_FILE: &str = "master.key";

/// What the subject begins with on which processes talk over NATS; the rest is a hash of the server's address.
const BUS_SUBJECT_PREFIX: &str = "kiroku.bus";

/// The running server. Cheap to clone: every clone is the same.
#[derive(Clone)]
pub struct App(Arc<Running>);

/// What a running server has.
pub struct Running {
    pub config: Arc<Config>,
    pub pool: PgPool,
    pub log: Arc<dyn EventLog>,
    pub bus: Bus,
    pub commands: Commands,
    pub projections: Projections,
    /// What pages show, as far as it is in memory.
    pub cache: Cache,
    pub core: Arc<Core>,
    pub presence: Arc<Presence>,
    pub hub: Hub,
    pub eraser: Arc<Eraser>,
    /// The bytes of files.
    pub drive: Arc<Drive>,
    /// Fetches from elsewhere.
    pub fetcher: Fetcher,
    /// By which push services know this server.
    pub vapid: Arc<Vapid>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    /// Of other hosts.
    pub names: Arc<dyn Names>,
}

/// What a server is made of besides its database: real in the binary, held still in tests.
pub struct Parts {
    pub config: Arc<Config>,
    pub pool: PgPool,
    pub log: Arc<dyn EventLog>,
    pub keyring: Arc<Keyring>,
    /// To the other processes on the same log.
    pub bus: Bus,
    /// Where the feed goes.
    pub nats: Option<Nats>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    /// Of other hosts.
    pub names: Arc<dyn Names>,
    /// This program.
    pub program: PathBuf,
    pub shutdown: Shutdown,
}

/// Why the server can't be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Address(#[from] AddressDiffers),
    #[error("where files are kept: {0}")]
    Files(#[from] StoreError),
    #[error("fetching from elsewhere: {0}")]
    Fetch(#[from] FetchError),
    #[error("the key for push services: {0}")]
    PushKey(#[from] NoKey),
    #[error("this program can't be found: {0}")]
    Program(std::io::Error),
    #[error("NATS: {0}")]
    Nats(#[from] NatsError),
    #[error("the address of the server can't be written down: {0}")]
    Claim(String),
}

impl Deref for App {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl App {
    /// Claims the log for the configured address and starts everything that runs.
    pub async fn start(parts: Parts) -> Result<Self, BuildError> {
        let Parts { config, pool, log, keyring, bus, nats, clock, ids, names, program, shutdown } = parts;
        let log: Arc<dyn EventLog> = Arc::new(MeteredLog(log));
        let fetcher = Fetcher::new(config.allowed_private_networks.clone())?;
        let drive = Arc::new(Drive::open(&config, program)?);
        drive.ready().await?;
        let commands = Commands::new(log.clone(), keyring.clone(), ids.clone(), bus.clone());
        let now = clock.now();
        let by = By { user: None, now, command: CommandId(ids.at(now)) };
        commands.claim(by, &config.url).await.map_err(|failed| match failed {
            Failed::Refused(differs) => BuildError::Address(differs),
            other => BuildError::Claim(other.to_string()),
        })?;
        let eraser = Arc::new(Eraser {
            pool: pool.clone(),
            log: log.clone(),
            keyring: keyring.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            files: drive.store.clone(),
            is_fed: config.nats_url.is_some(),
        });
        if config.roles.projector {
            shutdown.spawn(asked::run(eraser.clone()));
        }
        let mode = if config.roles.projector { Mode::Project } else { Mode::Watch };
        let projections = Projections::start(&pool, log.clone(), projections::projectors(), mode);
        let shared = bus.is_shared().then(|| log.clone());
        let cache = Cache::new(pool.clone(), projections.clone(), shared, config.page_memory << 20);
        shutdown.spawn(cache.clone().follow());
        let follower = Follower {
            commands: commands.clone(),
            keyring: keyring.clone(),
            projections: projections.clone(),
            bus: bus.clone(),
        };
        follower.start(&shutdown);
        if let Some(nats) = nats.filter(|_| config.roles.projector) {
            let feed = Feed {
                nats: nats.client,
                scope: config.nats_feed,
                log: log.clone(),
                commands: commands.clone(),
                projections: projections.clone(),
                pool: pool.clone(),
                clock: clock.clone(),
            };
            shutdown.spawn(feed.run());
        }
        let accounts = Arc::new(ReadAccounts::new(pool.clone(), projections.clone(), clock.clone()));
        if config.roles.projector {
            let timekeeper = Timekeeper {
                commands: commands.clone(),
                accounts: accounts.clone(),
                pool: pool.clone(),
                clock: clock.clone(),
                ids: ids.clone(),
            };
            shutdown.spawn(timekeeper.run());
        }
        shutdown.spawn(metered::watch(projections.clone()));
        let presence = Arc::new(Presence::default());
        let core = Arc::new(Core::new(
            pool.clone(),
            keyring.derive("tokens"),
            keyring.cipher("second factors"),
            config.url.clone(),
            TrustedProxies::new(config.trusted_proxies.clone()),
            accounts,
            clock.clone(),
        ));
        let vapid = Arc::new(Vapid::of(&core.server_secrets).await?);
        core.deliveries.begin(log.head().await?).await?;
        if config.roles.api {
            shutdown.spawn(core.tokens.clone().keep_writing_uses());
        }
        if config.roles.api || config.roles.stream {
            neighbours::join(core.clone(), &pool, config.roles.api, shutdown.clone()).await;
        }
        if bus.is_shared() {
            shutdown.spawn(presence.clone().share(bus.clone(), clock.clone()));
        }
        let stopping = shutdown.clone();
        let hub = if config.roles.stream {
            let sources = Sources {
                projections: projections.clone(),
                log: log.clone(),
                pool: pool.clone(),
                cache: cache.clone(),
                clock: clock.clone(),
                core: core.clone(),
                presence: presence.clone(),
                shutdown,
            };
            Hub::start(sources).await?
        } else {
            Hub::silent(shutdown)
        };
        let app = Self(Arc::new(Running {
            config,
            pool,
            log,
            bus,
            commands,
            projections,
            cache,
            core,
            presence,
            hub,
            eraser,
            drive,
            fetcher,
            vapid,
            clock,
            ids,
            names,
        }));
        if app.config.roles.api {
            stopping.spawn(drive::stray::watch(app.clone(), stopping.clone()));
            stopping.spawn(mail::run(app.clone()));
            stopping.spawn(deliver::run(app.clone()));
            tokio::spawn(jobs::run(app.clone(), stopping.clone()));
        }
        Ok(app)
    }

    /// Everything that is served in the roles of this process.
    pub fn router(&self) -> Router {
        let roles = self.config.roles;
        let mut router = Router::new();
        if roles.api {
            router = router.merge(api::http::routes()).merge(pages::routes()).merge(drive::serve::routes());
            router = router.merge(drive::proxy::routes()).merge(drive::emoji::routes());
            router = router.merge(preview::routes());
        }
        if roles.stream {
            router = router.merge(streaming::routes());
        }
        if roles.api || roles.federation {
            router = router.merge(wellknown::routes());
        }
        router.with_state(self.clone())
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// An act of somebody who is signed in.
    pub fn by(&self, me: &SignedIn) -> By {
        self.by_user(Some(me.id()))
    }

    /// An act of a person, or of the server itself.
    pub fn by_user(&self, user: Option<UserId>) -> By {
        let now = self.now();
        By { user, now, command: CommandId(self.ids.at(now)) }
    }

    /// Waits until the read models show what a command did, so that the caller's next read has it; not for one
    /// that is being filled. What is appended stays appended: past the deadline the caller is told of success all
    /// the same.
    pub async fn shown(&self, receipt: Receipt) {
        let shown = self.projections.wait_to_answer(receipt.position, READ_YOUR_WRITES_DEADLINE);
        if let Err(lagging) = shown.await {
            tracing::warn!(position = %receipt.position, %lagging, "the read models are late");
        }
    }

    /// Loads what a page shows.
    pub async fn hydrate(&self, wanted: Wanted, viewer: Viewer) -> Result<World, ApiError> {
        // A connection that was lost fails no call: what is shown here may have been written already, and
        // whoever is told of a failure writes it again.
        for pause in HYDRATE_PAUSES {
            match self.cache.hydrate(wanted.clone(), viewer, self.now()).await {
                Err(error) if is_passing(&error) && !matches!(error, sqlx::Error::PoolTimedOut) => {
                    tracing::debug!(%error, "loading a page again");
                    tokio::time::sleep(pause).await;
                }
                loaded => return Ok(loaded?),
            }
        }
        Ok(self.cache.hydrate(wanted, viewer, self.now()).await?)
    }
}

/// Opens the log in one of the engines, as the settings say where that is.
pub async fn open_log(
    kind: LogKind,
    config: &Config,
    pool: &PgPool,
    keyring: &Arc<Keyring>,
    takeover: Takeover,
) -> Result<Arc<dyn Engine>, LogError> {
    Ok(match kind {
        LogKind::Postgres => Arc::new(PostgresLog::open(pool.clone(), keyring.clone(), takeover).await?),
        LogKind::EventStore => {
            let url = config.eventstore_url.as_ref().map(|url| url.expose()).unwrap_or_default();
            Arc::new(EventStoreLog::open(url, &config.eventstore_namespace, keyring.clone()).await?)
        }
        LogKind::Memory => Arc::new(MemoryLog::new(keyring.clone())),
    })
}

/// Builds the application of the binary on its ground.
pub async fn build(ground: Ground) -> Result<Service, ServeError> {
    let (url, gate) = (ground.config.url.clone(), ground.gate.clone());
    let app = start(ground).await.map_err(|error| match error {
        BuildError::Address(AddressDiffers { claimed }) => {
            ServeError::UrlChanged { configured: url, recorded: claimed }
        }
        other => ServeError::Build(Box::new(other)),
    })?;
    let projections = app.projections.clone();
    // Set by nobody else.
    _ = gate.set(Box::new(move |connection| Box::pin(let_in(projections.clone(), connection))));
    let (lagging, stopping) = (app.projections.clone(), app.projections.clone());
    Ok(Service {
        router: app.router(),
        lag: Box::new(move || lag(&lagging.status())),
        finish: Box::pin(async move {
            tokio::join!(app.hub.drained(), app.core.jobs.working(), stopping.stop());
        }),
    })
}

/// Lets nobody read what is older than what they were shown before a crash of the database.
async fn let_in(projections: Projections, connection: &mut PgConnection) -> sqlx::Result<()> {
    if let Err(lagging) = projections.regained(connection, READ_YOUR_WRITES_DEADLINE).await? {
        tracing::warn!(%lagging, "the read models are late after a crash of the database");
    }
    Ok(())
}

/// How many events the slowest projector is behind; none when one has stopped. Of one whose tables are being built
/// again, readers see those that were there before.
fn lag(status: &[Status]) -> Option<u64> {
    if status.iter().any(|projector| projector.stopped.is_some()) {
        return None;
    }
    let served = status.iter().filter(|projector| !projector.anew);
    Some(served.map(|projector| projector.lag_events).max().unwrap_or(0))
}

async fn start(ground: Ground) -> Result<App, BuildError> {
    let Ground { config, data_dir, pool, shutdown, .. } = ground;
    let key_file = data_dir.join(MASTER_KEY_FILE);
    let master = match &config.master_key {
        Some(given) => given.clone(),
        None if Keyring::is_new(&pool).await? => MasterKey::load_or_create(&key_file)?,
        None => MasterKey::load(&key_file)?,
    };
    let keyring = Arc::new(Keyring::open(pool.clone(), &master).await?);
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(TimeOrderedIds::new()));
    let log = open_log(config.log, &config, &pool, &keyring, Takeover::Shared).await?;
    if projections::follow_log(&pool, &log.identity()).await? {
        tracing::warn!(
            log = log.identity(),
            "the log is another one than before: the read models are filled anew"
        );
    }
    let nats = match &config.nats_url {
        Some(url) => Some(Nats::connect(url.expose()).await?),
        None => None,
    };
    let bus = match (&config.database_url, config.log, &nats) {
        // The data directory is ours alone, and so are the database and the log.
        (None, ..) | (_, LogKind::Memory, _) => Bus::local(),
        (Some(_), _, Some(nats)) => {
            let subject = format!("{BUS_SUBJECT_PREFIX}.{}", keyring.hash("bus", &config.url));
            Bus::nats(nats.clone(), subject, keyring.clone())
        }
        (Some(_), _, None) => Bus::postgres(&pool),
    };
    let names = Arc::new(SystemNames::new());
    let program = std::env::current_exe().map_err(BuildError::Program)?;
    App::start(Parts { config, pool, log, keyring, bus, nats, clock, ids, names, program, shutdown }).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::log::Position;

    #[test]
    fn the_server_is_as_late_as_the_slowest_whose_tables_are_not_built_again() {
        let status = |lag_events, anew| Status {
            name: "users",
            position: Position::START,
            lag_events,
            active: true,
            stopped: None,
            anew,
        };
        let all = [status(3, false), status(7, false), status(1_000_000, true)];
        assert_eq!(lag(&all), Some(7));
        assert_eq!(lag(&all[2..]), Some(0), "readers see the tables that were there");
        let stopped = Status { stopped: Some("it can't go on".to_owned()), ..status(0, false) };
        assert_eq!(lag(&[all[0].clone(), stopped]), None);
    }
}
