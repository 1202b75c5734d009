//! The engines as the tests keep them: in memory, in a database of its own, on a double or a server of EventStoreDB.

use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use commands::log::{EventStoreLog, Keyring, KeysError, MasterKey, MemoryLog, PostgresLog, Takeover};
use domain::log::{AppendError, Position, StreamId, Version};
use futures_util::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Log, MASTER, PATIENCE, by, claimed};

/// One log, and what it is kept in.
pub struct Engine {
    pub keyring: Arc<Keyring>,
    kept: Kept,
}

enum Kept {
    Memory(MemoryLog),
    Postgres(PgPool),
    EventStore { url: String, namespace: String },
}

impl Engine {
    pub fn memory() -> Self {
        let keyring = Arc::new(Keyring::memory());
        Self { kept: Kept::Memory(MemoryLog::new(keyring.clone())), keyring }
    }

    /// A server may hold the logs of many tests.
    pub fn eventstore(url: String) -> Self {
        let namespace = format!("kirokutest{}", Uuid::from_u128(rand::random()).simple());
        Self { kept: Kept::EventStore { url, namespace }, keyring: Arc::new(Keyring::memory()) }
    }

    /// A new handle, as after a restart, beside those that are still there.
    pub async fn open(&self) -> Log {
        self.open_as(Takeover::Shared).await
    }

    pub async fn open_as(&self, takeover: Takeover) -> Log {
        match &self.kept {
            Kept::Memory(log) => Arc::new(log.clone()),
            Kept::Postgres(pool) => {
                Arc::new(PostgresLog::open(pool.clone(), self.keyring.clone(), takeover).await.unwrap())
            }
            Kept::EventStore { url, namespace } => {
                let keyring = self.keyring.clone();
                Arc::new(EventStoreLog::open(url, namespace, keyring).await.unwrap())
            }
        }
    }

    /// Another log of the same kind, under the same keys.
    pub async fn another(&self) -> Self {
        let keyring = self.keyring.clone();
        let kept = match &self.kept {
            Kept::Memory(_) => Kept::Memory(MemoryLog::new(keyring.clone())),
            Kept::Postgres(pool) => Kept::Postgres(database(&pool.connect_options()).await),
            Kept::EventStore { url, .. } => return Self { keyring, ..Self::eventstore(url.clone()) },
        };
        Self { keyring, kept }
    }

    pub async fn end(self) {
        if let Kept::Postgres(pool) = self.kept {
            drop_database(pool).await;
        }
    }

    /// A statement on the database.
    pub async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(self.pool()).await.unwrap();
    }

    pub fn pool(&self) -> &PgPool {
        match &self.kept {
            Kept::Postgres(pool) => pool,
            _ => panic!("no database"),
        }
    }

    pub async fn open_keyring(&self, master: [u8; 32]) -> Result<Keyring, KeysError> {
        Keyring::open(self.pool().clone(), &MasterKey::given(master)).await
    }

    pub fn database(&self) -> String {
        self.pool().connect_options().get_database().unwrap().to_owned()
    }

    /// A connection to the server, outside the database of the test.
    pub async fn admin(&self) -> sqlx::PgConnection {
        self.pool().connect_options().as_ref().clone().database("postgres").connect().await.unwrap()
    }

    /// Holds the lock of the appenders, with the appender of `log` waiting for it.
    pub async fn plug(&self, log: &Log) -> Plug {
        let mut lock = self.pool().begin().await.unwrap();
        sqlx::query("select log.lock_appends()").execute(&mut *lock).await.unwrap();
        let log = log.clone();
        let waiting = tokio::spawn(async move {
            let act = by(None);
            log.append(&StreamId::new("plug", 0), Version::NONE, &act, vec![claimed("plug")]).await
        });
        let deadline = Instant::now() + PATIENCE;
        let waits = "select exists (select 1 from pg_locks l join pg_database d on d.oid = l.database
                      where d.datname = current_database() and l.locktype = 'advisory' and not l.granted)";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(self.pool()).await.unwrap() {
            assert!(Instant::now() < deadline, "the appender never asked for the lock");
        }
        Plug { lock, waiting }
    }
}

pub struct Plug {
    lock: sqlx::Transaction<'static, sqlx::Postgres>,
    waiting: tokio::task::JoinHandle<Result<Position, AppendError>>,
}

impl Plug {
    pub async fn pull(self) {
        self.lock.rollback().await.unwrap();
        self.waiting.await.unwrap().unwrap();
    }
}

/// Runs a property in a database of its own.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration but this")]
pub async fn on_postgres<F, T>(property: F)
where
    F: FnOnce(Engine) -> T,
    T: Future<Output = ()>,
{
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names no PostgreSQL: use scripts/test");
    let pool = database(&PgConnectOptions::from_str(&url).unwrap()).await;
    let keyring = Arc::new(Keyring::open(pool.clone(), &MasterKey::given(MASTER)).await.unwrap());
    let engine = Engine { keyring, kept: Kept::Postgres(pool.clone()) };
    let outcome = AssertUnwindSafe(property(engine)).catch_unwind().await;
    drop_database(pool).await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// A new database with the schemas of the server.
async fn database(server: &PgConnectOptions) -> PgPool {
    static DATABASES: AtomicU64 = AtomicU64::new(0);
    let name = format!("kiroku_log_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
    let mut admin = server.clone().database("postgres").connect().await.unwrap();
    sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let pool = PgPoolOptions::new().connect_with(server.clone().database(&name)).await.unwrap();
    sqlx::migrate!("../migrations").run(&pool).await.unwrap();
    pool
}

async fn drop_database(pool: PgPool) {
    let options = PgConnectOptions::clone(&pool.connect_options());
    let name = options.get_database().unwrap();
    pool.close().await;
    let mut admin = options.clone().database("postgres").connect().await.unwrap();
    sqlx::query(AssertSqlSafe(format!("drop database {name} with (force)")))
        .execute(&mut admin)
        .await
        .unwrap();
    admin.close().await.unwrap();
}

/// Runs a property on the server that is named, or says that it isn't run.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration but this")]
pub async fn on_eventstore<F: AsyncFnOnce(Engine)>(property: F) {
    match std::env::var("KIROKU_TEST_EVENTSTORE_URL") {
        Ok(url) => property(Engine::eventstore(url)).await,
        // Past the capture of the test runner: a test that isn't run must be seen.
        Err(_) => {
            _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"not run: the log on EventStoreDB (KIROKU_TEST_EVENTSTORE_URL is not set)\n",
            );
        }
    }
}
