//! One projector that builds its tables again, on a connection of its own.

use std::sync::Arc;

use domain::log::{Position, Recorded};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::Instant;

use super::tables::{self, Table};
use super::{BUSY_FOR, BUSY_POLL, NEXT_SCHEMA, OLD_SCHEMA, RebuildError};
use crate::runtime::{Projector, hears, to_position, version};

pub(super) struct Lane {
    pub projector: Arc<dyn Projector>,
    pub tables: Vec<Table>,
    pub position: Position,
    /// Where it has to get to.
    pub target: Position,
    /// Whether the live tables are of the same version.
    pub comparable: bool,
    /// Holds the lock of this rebuild, too.
    conn: PgConnection,
}

impl Lane {
    /// Goes on with the tables that an earlier run has left, or makes new ones.
    pub async fn open(
        options: &PgConnectOptions,
        projector: Arc<dyn Projector>,
    ) -> Result<Self, RebuildError> {
        let mut conn = connect(options, projector.as_ref()).await?;
        let mut tx = conn.begin().await?;
        let mut tables = Vec::with_capacity(projector.tables().len());
        for table in projector.tables() {
            tables.push(Table::describe(&mut tx, table).await?);
        }
        tables::drop(&mut tx, OLD_SCHEMA, projector.tables()).await?;
        let definition: Vec<&str> = tables.iter().map(|table| table.definition.as_str()).collect();
        let definition = definition.join("\n\n");
        let found: Option<i64> = sqlx::query_scalar(
            "select position from ops.rebuilds
              where projector = $1 and version = $2 and fingerprint = md5($3)
                and not exists (select from unnest($4::text[]) as t(name)
                                 where to_regclass($5 || '.' || t.name) is null)",
        )
        .bind(projector.name())
        .bind(version(projector.as_ref()))
        .bind(&definition)
        .bind(projector.tables())
        .bind(NEXT_SCHEMA)
        .fetch_optional(&mut *tx)
        .await?;
        let position = match found {
            Some(position) => to_position(position),
            None => {
                tables::drop(&mut tx, NEXT_SCHEMA, projector.tables()).await?;
                for table in &tables {
                    table.create(&mut tx).await?;
                }
                sqlx::query(
                    "insert into ops.rebuilds (projector, version, fingerprint, position)
                     values ($1, $2, md5($3), 0)
                     on conflict (projector) do update
                        set version = excluded.version, fingerprint = excluded.fingerprint,
                            position = 0, started_at = excluded.started_at",
                )
                .bind(projector.name())
                .bind(version(projector.as_ref()))
                .bind(&definition)
                .execute(&mut *tx)
                .await?;
                Position::START
            }
        };
        tx.commit().await?;
        Ok(Self { projector, tables, position, target: position, comparable: false, conn })
    }

    /// Drops what an earlier run has left.
    pub async fn discard(options: &PgConnectOptions, projector: &dyn Projector) -> Result<(), RebuildError> {
        let mut conn = connect(options, projector).await?;
        clear(&mut conn, projector).await?;
        conn.close().await?;
        Ok(())
    }

    /// Drops what is left beside the live tables.
    pub async fn clear(&mut self) -> Result<(), RebuildError> {
        clear(&mut self.conn, self.projector.as_ref()).await
    }

    /// Applies what it has not yet applied and wants. `last` is the position of the last of the batch.
    pub async fn apply(&mut self, batch: &[Arc<Recorded>], last: Position) -> Result<(), RebuildError> {
        let (from, to) = (self.position, last.min(self.target));
        if to <= from {
            return Ok(());
        }
        let projector = self.projector.as_ref();
        let heard: Vec<Arc<Recorded>> = batch
            .iter()
            .filter(|event| event.position > from && event.position <= to && hears(projector, event))
            .cloned()
            .collect();
        let mut tx = self.conn.begin().await?;
        if !heard.is_empty() {
            let projected = projector.apply(&mut tx, &heard).await;
            let projector = projector.name();
            projected.map_err(|source| RebuildError::Apply { projector, after: from, to, source })?;
        }
        let moved =
            sqlx::query("update ops.rebuilds set position = $3 where projector = $1 and position = $2")
                .bind(projector.name())
                .bind(from.0 as i64)
                .bind(to.0 as i64)
                .execute(&mut *tx)
                .await?;
        if moved.rows_affected() != 1 {
            return Err(RebuildError::Moved { projector: projector.name() });
        }
        tx.commit().await?;
        self.position = to;
        Ok(())
    }

    /// Makes the tables ready for readers, who are to come all at once: the planner knows them, and no
    /// reader has to find out which rows are seen by all.
    pub async fn vacuum(&mut self) -> sqlx::Result<()> {
        for table in &self.tables {
            let vacuum = format!("vacuum (analyze) {NEXT_SCHEMA}.{}", table.name);
            sqlx::query(AssertSqlSafe(vacuum)).execute(&mut self.conn).await?;
        }
        Ok(())
    }

    /// The checkpoint of the tables that have become the live ones.
    pub async fn take_over(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query("delete from ops.rebuilds where projector = $1")
            .bind(self.projector.name())
            .execute(&mut *tx)
            .await?;
        if !self.comparable {
            sqlx::query(
                "insert into ops.checkpoints (projector, version, position) values ($1, $2, $3)
                 on conflict (projector) do update
                    set version = excluded.version, position = excluded.position,
                        stopped_at = null, stop_reason = null",
            )
            .bind(self.projector.name())
            .bind(version(self.projector.as_ref()))
            .bind(self.position.0 as i64)
            .execute(tx)
            .await?;
        }
        Ok(())
    }
}

/// Connects and takes the lock, which the session that writes holds, so that it dies with it.
async fn connect(
    options: &PgConnectOptions,
    projector: &dyn Projector,
) -> Result<PgConnection, RebuildError> {
    let options = options.clone().options([
        ("synchronous_commit", "off"),
        ("search_path", NEXT_SCHEMA),
        ("jit", "off"),
    ]);
    let mut conn = PgConnection::connect_with(&options).await?;
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        let locked: bool =
            sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('kiroku.rebuild.' || $1, 0))")
                .bind(projector.name())
                .fetch_one(&mut conn)
                .await?;
        if locked {
            return Ok(conn);
        }
        if Instant::now() >= deadline {
            return Err(RebuildError::Busy { projector: projector.name() });
        }
        tokio::time::sleep(BUSY_POLL).await;
    }
}

async fn clear(conn: &mut PgConnection, projector: &dyn Projector) -> Result<(), RebuildError> {
    let mut tx = conn.begin().await?;
    for schema in [NEXT_SCHEMA, OLD_SCHEMA] {
        tables::drop(&mut tx, schema, projector.tables()).await?;
    }
    sqlx::query("delete from ops.rebuilds where projector = $1")
        .bind(projector.name())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
