//! What the server stands on: the data directory, PostgreSQL, HTTP, logs, metrics, health, and the order
//! in which they come up and go down. Knows nothing of the application it carries.

pub mod attach;
pub mod data_dir;
pub mod health;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod postgres;
pub mod shutdown;
pub mod telemetry;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::{Router, middleware};
use futures_util::future::BoxFuture;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool};
use tokio::net::TcpListener;

use crate::config::Config;
use data_dir::{DataDir, DataDirError};
use health::{Health, Lag};
use http::Patience;
use metrics::MetricsError;
use postgres::{Embedded, PostgresError};
use shutdown::{Shutdown, Stop};

/// What the application is built on.
pub struct Ground {
    pub config: Arc<Config>,
    /// Absolute, and ours alone.
    pub data_dir: PathBuf,
    /// Migrated. `pool.connect_options()` is for connections that must not come from the pool.
    pub pool: PgPool,
    /// Set once; from then on each new connection of the pool waits for it.
    pub gate: Gate,
    /// Long-lived sockets and loops end when this begins. `begin(Stop::Failed)` takes the server down.
    pub shutdown: Shutdown,
}

/// Lets a new connection be used. A database that has crashed comes back with new connections only, and may
/// have lost what didn't wait for the disk.
pub type LetIn = Box<dyn Fn(&mut PgConnection) -> BoxFuture<'_, sqlx::Result<()>> + Send + Sync>;
pub type Gate = Arc<OnceLock<LetIn>>;

/// What the application hands back to be served.
pub struct Service {
    pub router: Router,
    /// For `/readyz`.
    pub lag: Lag,
    /// Awaited after the last request and before the database goes: finish what was begun. Cut off after
    /// [`FINISH_WITHIN`].
    pub finish: BoxFuture<'static, ()>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("signals can't be handled: {0}")]
    Signals(std::io::Error),
    #[error("the database can't be reached: {0}")]
    Database(sqlx::Error),
    #[error("the tables can't be brought up to date: {0}")]
    Migrate(#[from] MigrateError),
    #[error("HTTP can't be served on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(
        "`url` is {configured}, but this server is {recorded} in all that was written; set `url` back, or start with an empty data directory and database"
    )]
    UrlChanged { configured: String, recorded: String },
    #[error("the application can't be built: {0}")]
    Build(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("something the server can't live without is gone; the log says what")]
    Failed,
}

/// Runs the server until it is told to stop or can't go on. `build` makes the application once everything
/// below it is there; it is also the one to refuse a changed `url`.
pub async fn serve<B>(config: Config, build: B) -> Result<(), ServeError>
where
    B: AsyncFnOnce(Ground) -> Result<Service, ServeError>,
{
    telemetry::init(&config);
    allow_open_files();
    let shutdown = Shutdown::default();
    shutdown.on_signals().map_err(ServeError::Signals)?;
    let data_dir = DataDir::open(&config.data_dir)?;
    if let Some(address) = config.metrics_listen {
        metrics::serve(address, &shutdown).await?;
    }

    let embedded = match &config.database_url {
        Some(_) => None,
        None => {
            let connections = config.database_connections;
            match Embedded::start(data_dir.path(), &config.search_path, connections, &shutdown).await {
                Ok(embedded) => Some(embedded),
                Err(PostgresError::Interrupted) => return outcome(&shutdown),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let served = run(config, &data_dir, embedded.as_ref(), &shutdown, build).await;
    let stop_by = served.as_ref().ok().copied().unwrap_or_else(|| Instant::now() + STOP_WITHIN);
    if let Some(embedded) = embedded {
        embedded.stop(stop_by).await;
    }
    served?;
    tracing::info!("stopped");
    outcome(&shutdown)
}

/// A socket is an open file, and the usual limit is far below what a server may hold: takes what the
/// system gives without asking.
fn allow_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// From the signal to the end of the process, PostgreSQL included.
pub const STOP_WITHIN: Duration = Duration::from_millis(9_500);
/// For [`Service::finish`].
pub const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// For connections to be given back to the pool.
const CLOSE_POOL_WITHIN: Duration = Duration::from_millis(500);
const ACQUIRE_WITHIN: Duration = Duration::from_secs(10);
/// A pooled connection that rested longer is tried before it is handed out.
const FRESH_FOR: Duration = Duration::from_secs(1);

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Everything above the embedded database. Says by when the process must be gone.
async fn run<B>(
    config: Config,
    data_dir: &DataDir,
    embedded: Option<&Embedded>,
    shutdown: &Shutdown,
    build: B,
) -> Result<Instant, ServeError>
where
    B: AsyncFnOnce(Ground) -> Result<Service, ServeError>,
{
    let options = match (&config.database_url, embedded) {
        (Some(url), _) => PgConnectOptions::from_str(url.expose()).map_err(ServeError::Database)?,
        (None, Some(embedded)) => embedded.connect_options.clone(),
        (None, None) => return Err(ServeError::Failed),
    };
    let max_lag_events = config.ready_max_lag_events;
    let address = config.listen;
    let starting = async {
        let gate = Gate::default();
        let pool = connect(options, config.database_connections, gate.clone()).await?;
        MIGRATIONS.run(&pool).await?;
        let config = Arc::new(config);
        let data_dir = data_dir.path().to_owned();
        let ground = Ground { config, data_dir, pool: pool.clone(), gate, shutdown: shutdown.clone() };
        Ok::<_, ServeError>((build(ground).await?, pool))
    };
    let (Service { router, lag, finish }, pool) = tokio::select! {
        started = starting => started?,
        _ = shutdown.wait() => return Ok(Instant::now() + STOP_WITHIN),
    };
    let router = router
        .merge(health::routes(Health { pool: pool.clone(), lag, max_lag_events }))
        .layer(middleware::from_fn(telemetry::observe));
    let refused = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");

    let began = http::serve(listener, router, Patience::default(), shutdown).await;
    if tokio::time::timeout(FINISH_WITHIN, finish).await.is_err() {
        tracing::warn!("some work was cut off; it is taken up at the next start");
    }
    // What is still out is cut off with the database.
    tokio::time::timeout(CLOSE_POOL_WITHIN, pool.close()).await.ok();
    Ok(began + STOP_WITHIN)
}

async fn connect(options: PgConnectOptions, connections: u32, gate: Gate) -> Result<PgPool, ServeError> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_WITHIN)
        .after_connect(move |connection, _| {
            let gate = gate.clone();
            Box::pin(async move {
                match gate.get() {
                    Some(let_in) => let_in(connection).await,
                    None => Ok(()),
                }
            })
        })
        .test_before_acquire(false)
        .before_acquire(|connection, rested| {
            Box::pin(async move { Ok(rested.idle_for < FRESH_FOR || connection.ping().await.is_ok()) })
        })
        // No plan here runs for long enough to be worth compiling, though the planner may think so.
        .connect_with(options.options([("jit", "off")]))
        .await
        .map_err(ServeError::Database)
}

fn outcome(shutdown: &Shutdown) -> Result<(), ServeError> {
    match shutdown.begun() {
        Some(Stop::Failed) => Err(ServeError::Failed),
        Some(Stop::Asked) | None => Ok(()),
    }
}
