//! One running server: what every endpoint, page and stream works with, and how it is put together.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, Utc};
#[cfg(feature = "eventstore")]
use commands::log::EventStoreLog;
use commands::log::{Keyring, KeysError, MasterKey, MemoryLog, PostgresLog, Takeover};
use commands::{Commands, Failed, Receipt};
use domain::instance::AddressDiffers;
use domain::log::{By, Clock, EventLog, Ids, LogError};
use domain::policy::Viewer;
use domain::{CommandId, UserId};
use projections::{Projections, Wanted, World, hydrate};
use sqlx::{PgConnection, PgPool};

use crate::accounts::ReadAccounts;
use crate::api::client::TrustedProxies;
use crate::api::{self, ApiError, Core, SignedIn};
use crate::config::{Config, LogKind};
use crate::metered::{self, MeteredLog};
use crate::pages;
use crate::platform::shutdown::Shutdown;
use crate::platform::{Ground, ServeError, Service};
use crate::presence::Presence;
use crate::streaming::{self, Hub, Sources};
use crate::system::{SystemClock, TimeOrderedIds};
use crate::wellknown;

/// How long an answer to a write waits until the read models show it.
pub const READ_YOUR_WRITES_DEADLINE: Duration = Duration::from_secs(5);
/// The file of the master key, in the data directory.
const MASTER_KEY_FILE: &str = "master.key";
/// What the streams of a log in EventStoreDB begin with.
#[cfg(feature = "eventstore")]
const EVENTSTORE_NAMESPACE: &str = "kiroku";

/// The running server. Cheap to clone: everything in it is shared.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub pool: PgPool,
    pub log: Arc<dyn EventLog>,
    pub commands: Commands,
    pub projections: Projections,
    pub core: Arc<Core>,
    pub presence: Arc<Presence>,
    pub hub: Hub,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
}

/// What a server is made of besides its database: real in the binary, held still in tests.
pub struct Parts {
    pub config: Arc<Config>,
    pub pool: PgPool,
    pub log: Arc<dyn EventLog>,
    pub keyring: Arc<Keyring>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
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
    #[error("the address of the server can't be written down: {0}")]
    Claim(String),
}

impl App {
    /// Claims the log for the configured address and starts everything that runs.
    pub async fn start(parts: Parts) -> Result<Self, BuildError> {
        let Parts { config, pool, log, keyring, clock, ids, shutdown } = parts;
        let log: Arc<dyn EventLog> = Arc::new(MeteredLog(log));
        let commands = Commands::new(log.clone(), keyring.clone(), ids.clone());
        let now = clock.now();
        let by = By { user: None, now, command: CommandId(ids.at(now)) };
        commands.claim(by, &config.url).await.map_err(|failed| match failed {
            Failed::Refused(differs) => BuildError::Address(differs),
            other => BuildError::Claim(other.to_string()),
        })?;
        let projections = Projections::start(&pool, log.clone(), projections::projectors());
        tokio::spawn(metered::watch(projections.clone(), shutdown.clone()));
        let presence = Arc::new(Presence::default());
        let accounts = Arc::new(ReadAccounts::new(pool.clone(), projections.clone()));
        let core = Arc::new(Core::new(
            pool.clone(),
            keyring.derive("tokens"),
            config.url.clone(),
            TrustedProxies::new(config.trusted_proxies.clone()),
            accounts,
            clock.clone(),
        ));
        let hub = Hub::start(Sources {
            projections: projections.clone(),
            log: log.clone(),
            pool: pool.clone(),
            clock: clock.clone(),
            core: core.clone(),
            presence: presence.clone(),
            shutdown,
        })
        .await?;
        Ok(Self { config, pool, log, commands, projections, core, presence, hub, clock, ids })
    }

    /// Everything that is served.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(api::http::routes())
            .merge(streaming::routes())
            .merge(wellknown::routes())
            .merge(pages::routes())
            .with_state(self.clone())
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

    /// Waits until every read model shows what a command did, so that the caller's next read has it.
    /// What is appended stays appended: past the deadline the caller is told of success all the same.
    pub async fn shown(&self, receipt: Receipt) {
        if let Err(lagging) = self.projections.wait(receipt.position, READ_YOUR_WRITES_DEADLINE).await {
            tracing::warn!(position = %receipt.position, %lagging, "the read models are late");
        }
    }

    /// Loads what a page shows.
    pub async fn hydrate(&self, wanted: Wanted, viewer: Viewer) -> Result<World, ApiError> {
        Ok(hydrate(&self.pool, wanted, viewer, self.now()).await?)
    }
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
        lag: Box::new(move || lag(&lagging)),
        finish: Box::pin(async move {
            tokio::join!(app.hub.drained(), stopping.stop());
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

/// How many events the slowest projector is behind; none when one has stopped.
fn lag(projections: &Projections) -> Option<u64> {
    let status = projections.status();
    if status.iter().any(|projector| projector.stopped.is_some()) {
        return None;
    }
    status.iter().map(|projector| projector.lag_events).max()
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
    let log: Arc<dyn EventLog> = match config.log {
        LogKind::Postgres => {
            Arc::new(PostgresLog::open(pool.clone(), keyring.clone(), Takeover::Sole).await?)
        }
        #[cfg(feature = "eventstore")]
        LogKind::EventStore => {
            let url = config.eventstore_url.as_ref().map(|url| url.expose()).unwrap_or_default();
            Arc::new(EventStoreLog::open(url, EVENTSTORE_NAMESPACE, keyring.clone()).await?)
        }
        LogKind::Memory => {
            // The log begins anew, so nothing may be left that an earlier one said.
            projections::forget_checkpoints(&pool).await?;
            Arc::new(MemoryLog::new(keyring.clone()))
        }
    };
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(TimeOrderedIds::new()));
    App::start(Parts { config, pool, log, keyring, clock, ids, shutdown }).await
}
