//! The database for a command-line tool: that of a running server, or of one that is stopped.
//!
//! With `database_url` it is that database. Else it is the embedded one: while a server has the data
//! directory, the tool connects to the server's socket; while none has, the tool takes the directory,
//! starts the database and stops it when it is done.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};

use super::data_dir::{DataDir, DataDirError};
use super::postgres::{self, Embedded, PostgresError};
use super::shutdown::Shutdown;
use super::{CLOSE_POOL_WITHIN, MIGRATIONS};
use crate::config::Config;

/// How a tool wants the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// Beside whoever uses it.
    Others,
    /// With nobody else: refused while a server has the data directory.
    Nobody,
    /// As above, and made when there is none yet.
    Nothing,
}

/// A database in a tool's hands. Give it back with [`Attached::detach`].
pub struct Attached {
    pub pool: PgPool,
    /// Absolute, where it exists.
    pub data_dir: PathBuf,
    /// The process of the server whose embedded database this is, as far as it is known.
    pub server: Option<u32>,
    embedded: Option<Embedded>,
    _lock: Option<DataDir>,
}

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error("the database can't be reached: {0}")]
    Database(#[from] sqlx::Error),
    #[error("{} holds no Kiroku: name its `data_dir`, or its `database_url`", .0.display())]
    NothingThere(PathBuf),
    #[error("the database is empty: no Kiroku has written there")]
    Empty,
    #[error("the server has the data directory, and its database takes no connections yet")]
    NotUp,
    #[error(
        "the tables are older than this program, and in use: stop what runs, or start a server of this version, which brings them up to date"
    )]
    Older,
    #[error("the tables are newer than this program: use the kiroku that wrote them")]
    Newer,
    #[error("the tables can't be brought up to date: {0}")]
    Migrate(#[from] MigrateError),
}

/// Where the tables are, seen from this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    None,
    Current,
    /// So many steps are still to be made.
    Older(usize),
    Newer,
}

/// Tools do one thing after another.
const CONNECTIONS: u32 = 6;
const ACQUIRE_WITHIN: Duration = Duration::from_secs(10);
/// How long a server that is only starting is waited for.
const UP_WITHIN: Duration = Duration::from_secs(15);
const POLL_EVERY: Duration = Duration::from_millis(100);
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Brings the tables up to date when nobody else is there to be surprised, and says so in the log.
pub async fn attach(config: &Config, with: With, shutdown: &Shutdown) -> Result<Attached, AttachError> {
    let mut attached = connect(config, with, shutdown).await?;
    match attached.bring_up_to_date(with).await {
        Ok(()) => Ok(attached),
        Err(error) => {
            attached.detach().await;
            Err(error)
        }
    }
}

/// Without a look at the tables.
pub async fn connect(config: &Config, with: With, shutdown: &Shutdown) -> Result<Attached, AttachError> {
    let (options, data_dir, server, embedded, lock) = match &config.database_url {
        Some(url) => {
            let options = PgConnectOptions::from_str(url.expose())?;
            let lock = if with == With::Others { None } else { Some(DataDir::open(&config.data_dir)?) };
            let data_dir = config.data_dir.canonicalize().unwrap_or_else(|_| config.data_dir.clone());
            (options, data_dir, None, None, lock)
        }
        None => {
            if with != With::Nothing && !postgres::is_in(&config.data_dir) {
                return Err(AttachError::NothingThere(config.data_dir.clone()));
            }
            match DataDir::open(&config.data_dir) {
                Ok(lock) => {
                    let path = lock.path().to_owned();
                    let embedded = Embedded::start(&path, &config.search_path, CONNECTIONS, shutdown).await?;
                    (embedded.connect_options.clone(), path, None, Some(embedded), Some(lock))
                }
                Err(DataDirError::InUse { path, holder }) if with == With::Others => {
                    (of_the_server(&path, shutdown).await?, path, holder, None, None)
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    let options = options.application_name("kiroku tool");
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_WITHIN)
        .connect_with(options)
        .await;
    match pool {
        Ok(pool) => Ok(Attached { pool, data_dir, server, embedded, _lock: lock }),
        Err(error) => {
            if let Some(embedded) = embedded {
                embedded.stop(Instant::now() + STOP_WITHIN).await;
            }
            Err(error.into())
        }
    }
}

impl Attached {
    /// Closes what was opened, and stops what was started.
    pub async fn detach(self) {
        // What is still out is cut off with the process.
        tokio::time::timeout(CLOSE_POOL_WITHIN, self.pool.close()).await.ok();
        if let Some(embedded) = self.embedded {
            embedded.stop(Instant::now() + STOP_WITHIN).await;
        }
    }

    /// Whether this process has started the database, so that nobody else uses it.
    pub fn is_ours(&self) -> bool {
        self.embedded.is_some()
    }

    pub async fn tables(&self) -> sqlx::Result<Tables> {
        tables(&self.pool, &MIGRATIONS).await
    }

    async fn bring_up_to_date(&mut self, with: With) -> Result<(), AttachError> {
        match self.tables().await? {
            Tables::Current => return Ok(()),
            Tables::Newer => return Err(AttachError::Newer),
            Tables::None if with != With::Nothing => return Err(AttachError::Empty),
            Tables::None | Tables::Older(_) if !self.is_ours() && others(&self.pool).await? > 0 => {
                return Err(AttachError::Older);
            }
            Tables::None => (),
            Tables::Older(steps) => tracing::warn!(steps, "bringing the tables up to date: nobody uses them"),
        }
        Ok(MIGRATIONS.run(&self.pool).await?)
    }
}

/// Other programs that are connected to the database.
pub async fn others(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from pg_catalog.pg_stat_activity
          where datname = current_database() and backend_type = 'client backend'
            and application_name <> 'kiroku tool'",
    )
    .fetch_one(pool)
    .await
}

async fn tables(pool: &PgPool, known: &Migrator) -> sqlx::Result<Tables> {
    let is_made = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null");
    let is_made: bool = is_made.fetch_one(pool).await?;
    if !is_made {
        return Ok(Tables::None);
    }
    let made: Vec<i64> =
        sqlx::query_scalar("select version from _sqlx_migrations where success order by version")
            .fetch_all(pool)
            .await?;
    let is_known = |version: &i64| known.iter().any(|step| step.version == *version);
    if !made.iter().all(is_known) {
        return Ok(Tables::Newer);
    }
    match known.iter().filter(|step| !made.contains(&step.version)).count() {
        0 => Ok(Tables::Current),
        _ if made.is_empty() => Ok(Tables::None),
        steps => Ok(Tables::Older(steps)),
    }
}

/// The socket of a server that has the data directory.
async fn of_the_server(data_dir: &Path, shutdown: &Shutdown) -> Result<PgConnectOptions, AttachError> {
    let deadline = Instant::now() + UP_WITHIN;
    loop {
        if let Some(options) = postgres::running_in(data_dir)
            && let Ok(connection) = options.clone().disable_statement_logging().connect().await
        {
            // Only the close is lost when this fails.
            sqlx::Connection::close(connection).await.ok();
            return Ok(options);
        }
        if Instant::now() >= deadline || shutdown.begun().is_some() {
            return Err(AttachError::NotUp);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

impl AttachError {
    /// Whether somebody else has what was asked for.
    pub fn is_in_use(&self) -> bool {
        matches!(self, AttachError::DataDir(DataDirError::InUse { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test(migrations = false)]
    async fn tables_are_older_current_or_newer(pool: PgPool) {
        assert_eq!(tables(&pool, &MIGRATIONS).await.unwrap(), Tables::None);
        MIGRATIONS.run(&pool).await.unwrap();
        assert_eq!(tables(&pool, &MIGRATIONS).await.unwrap(), Tables::Current);
        let last: i64 = MIGRATIONS.iter().map(|step| step.version).max().unwrap();
        sqlx::query("update _sqlx_migrations set version = version + 1 where version = $1")
            .bind(last)
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(tables(&pool, &MIGRATIONS).await.unwrap(), Tables::Newer);
        sqlx::query("delete from _sqlx_migrations where version > $1")
            .bind(last)
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(tables(&pool, &MIGRATIONS).await.unwrap(), Tables::Older(1));
    }
}
