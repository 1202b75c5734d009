//! Read tables as the database defines them, so that the same can be made beside them.

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgDatabaseError};

use super::{NEXT_SCHEMA, OLD_SCHEMA, RebuildError};
use crate::runtime::LIVE_SCHEMA;

pub(super) struct Table {
    pub name: &'static str,
    pub columns: Vec<String>,
    /// The columns of the primary key.
    pub key: Vec<String>,
    /// All that defines it, as text: another text is another table.
    pub definition: String,
    /// Storage parameters, such as `fillfactor=85`.
    options: Option<String>,
    /// Primary keys, unique and exclusion constraints: name and definition.
    constraints: Vec<(String, String)>,
    /// The statements that make the other indexes; the table is named in them without a schema.
    indexes: Vec<String>,
}

impl Table {
    /// A live table as it is now.
    pub async fn describe(tx: &mut PgConnection, name: &'static str) -> Result<Self, RebuildError> {
        // What is in the path is printed without its schema, and can so be made in another.
        path(tx, LIVE_SCHEMA).await?;
        let oid: Option<(i64, Option<String>)> = sqlx::query_as(
            "select oid::bigint, array_to_string(reloptions, ', ')
               from pg_class where oid = to_regclass($1)",
        )
        .bind(format!("{LIVE_SCHEMA}.{name}"))
        .fetch_optional(&mut *tx)
        .await?;
        let (oid, options) = oid.ok_or(RebuildError::NoTable { table: name })?;
        let columns: Vec<(String, String)> = sqlx::query_as(
            "select a.attname::text,
                    concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation,
                              a.attnotnull, a.attstorage, a.attcompression, a.attidentity, a.attgenerated,
                              pg_get_expr(d.adbin, d.adrelid))
               from pg_attribute a
               left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
              where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped
              order by a.attnum",
        )
        .bind(oid)
        .fetch_all(&mut *tx)
        .await?;
        let constraints: Vec<(String, String, String)> = sqlx::query_as(
            "select contype::text, conname::text, pg_get_constraintdef(oid)
               from pg_constraint where conrelid = $1::oid order by contype, conname",
        )
        .bind(oid)
        .fetch_all(&mut *tx)
        .await?;
        let key: Vec<String> = sqlx::query_scalar(
            "select a.attname::text
               from pg_index i
              cross join unnest(i.indkey::smallint[]) with ordinality as k(attnum, n)
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where i.indrelid = $1::oid and i.indisprimary
              order by k.n",
        )
        .bind(oid)
        .fetch_all(&mut *tx)
        .await?;
        if key.is_empty() {
            return Err(RebuildError::NoTable { table: name });
        }
        let indexes: Vec<String> = sqlx::query_scalar(
            "select pg_get_indexdef(i.indexrelid, 0, true)
               from pg_index i
               join pg_class c on c.oid = i.indexrelid
              where i.indrelid = $1::oid
                and not exists (select from pg_constraint k
                                 where k.conindid = i.indexrelid and k.conrelid = i.indrelid)
              order by c.relname",
        )
        .bind(oid)
        .fetch_all(&mut *tx)
        .await?;

        let mut definition = format!("{name} ({})", options.as_deref().unwrap_or_default());
        for (column, is) in &columns {
            definition.push_str(&format!("\n{column} {is}"));
        }
        for (_, constraint, is) in &constraints {
            definition.push_str(&format!("\n{constraint} {is}"));
        }
        for is in &indexes {
            definition.push_str(&format!("\n{is}"));
        }
        let constraints =
            constraints.into_iter().filter(|(kind, ..)| ["p", "u", "x"].contains(&kind.as_str()));
        Ok(Self {
            name,
            columns: columns.into_iter().map(|(name, _)| name).collect(),
            key,
            definition,
            options,
            constraints: constraints.map(|(_, name, is)| (name, is)).collect(),
            indexes,
        })
    }

    /// Makes it in the schema of new tables, with all its indexes: projectors, too, look rows up by them,
    /// and would read all of a table without.
    pub async fn create(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        path(tx, NEXT_SCHEMA).await?;
        let name = self.name;
        let with = self.options.as_ref().map_or_else(String::new, |options| format!("with ({options})"));
        let create =
            format!("create table {name} (like {LIVE_SCHEMA}.{name} including all excluding indexes) {with}");
        sqlx::query(AssertSqlSafe(create)).execute(&mut *tx).await?;
        for (constraint, is) in &self.constraints {
            let add = format!("alter table {name} add constraint \"{constraint}\" {is}");
            sqlx::query(AssertSqlSafe(add)).execute(&mut *tx).await?;
        }
        for index in &self.indexes {
            sqlx::query(AssertSqlSafe(index.clone())).execute(&mut *tx).await?;
        }
        Ok(())
    }
}

/// Locks live tables until the end of the transaction.
pub(super) async fn lock(tx: &mut PgConnection, tables: &[&Table], mode: &str) -> sqlx::Result<()> {
    let mut names: Vec<String> = tables.iter().map(|table| format!("{LIVE_SCHEMA}.{}", table.name)).collect();
    names.sort_unstable();
    let lock = format!("lock table {} in {mode} mode", names.join(", "));
    sqlx::query(AssertSqlSafe(lock)).execute(tx).await?;
    Ok(())
}

/// Puts the new tables in the place of the live ones. Indexes and constraints go along.
pub(super) async fn switch(tx: &mut PgConnection, tables: &[&Table]) -> sqlx::Result<()> {
    for table in tables {
        for (from, to) in [(LIVE_SCHEMA, OLD_SCHEMA), (NEXT_SCHEMA, LIVE_SCHEMA)] {
            let alter = format!("alter table {from}.{} set schema {to}", table.name);
            sqlx::query(AssertSqlSafe(alter)).execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// Drops those of the tables that are in this schema.
pub(super) async fn drop(tx: &mut PgConnection, schema: &str, tables: &[&str]) -> Result<(), RebuildError> {
    let names: Vec<String> = tables.iter().map(|table| format!("{schema}.{table}")).collect();
    let drop = format!("drop table if exists {}", names.join(", "));
    let dropped = sqlx::query(AssertSqlSafe(drop)).execute(tx).await;
    dropped.map(|_| ()).map_err(|error| held(&error).unwrap_or(RebuildError::Sql(error)))
}

/// What a table can't be dropped for, since it hangs on it.
fn held(error: &sqlx::Error) -> Option<RebuildError> {
    const DEPENDENT_OBJECTS_STILL_EXIST: &str = "2BP01";
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    let objects = error.detail().filter(|_| error.code() == DEPENDENT_OBJECTS_STILL_EXIST)?;
    Some(RebuildError::InTheWay { objects: objects.to_owned() })
}

/// Where names are looked up until the transaction ends.
pub(super) async fn path(tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!("set local search_path to {schema}"))).execute(tx).await?;
    Ok(())
}
