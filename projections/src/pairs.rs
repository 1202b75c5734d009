//! Tables with at most one row for each two people, in this order: what one is to the other.

use std::collections::BTreeMap;

use domain::UserId;
use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::types::Json;
use uuid::Uuid;

use crate::page::Page;

/// A table by its name and the columns of the two people.
#[derive(Clone, Copy)]
pub(crate) struct Pairs {
    pub table: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

/// What becomes of rows: the new row of each pair, or none.
pub(crate) type Changes<R> = BTreeMap<(Uuid, Uuid), Option<R>>;

impl Pairs {
    /// Puts rows in the place of others. The fields of a row have the names of the columns.
    pub async fn replace<R: Serialize + Send + Sync>(
        self,
        tx: &mut PgConnection,
        changes: Changes<R>,
    ) -> sqlx::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let Self { table, from, to } = self;
        let (froms, tos): (Vec<Uuid>, Vec<Uuid>) = changes.keys().copied().unzip();
        let sql = format!(
            "delete from {table} p using unnest($1::uuid[], $2::uuid[]) as d(a, b)
              where p.{from} = d.a and p.{to} = d.b"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(froms).bind(tos).execute(&mut *tx).await?;
        let rows: Vec<R> = changes.into_values().flatten().collect();
        if rows.is_empty() {
            return Ok(());
        }
        let sql = format!("insert into {table} select * from jsonb_populate_recordset(null::{table}, $1)");
        sqlx::query(AssertSqlSafe(sql)).bind(Json(rows)).execute(tx).await?;
        Ok(())
    }

    /// Removes what there is of a person, on either side.
    pub async fn purge(self, tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
        let Self { table, from, to } = self;
        let sql = format!("delete from {table} where {from} = $1 or {to} = $1");
        sqlx::query(AssertSqlSafe(sql)).bind(user.0).execute(tx).await?;
        Ok(())
    }

    /// The rows of one person, by their id: the id and the other person.
    pub async fn page(self, pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<(Uuid, UserId)>> {
        let (Self { table, from, to }, order) = (self, page.order());
        let sql = format!(
            "select id, {to} from read.{table}
              where {from} = $1 and id > $2 and id < $3 order by id {order} limit $4"
        );
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(user.0)
            .bind(page.since())
            .bind(page.until())
            .bind(page.limit())
            .fetch_all(pool)
            .await?;
        Ok(rows.into_iter().map(|(id, other)| (id, UserId(other))).collect())
    }
}
