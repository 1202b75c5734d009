//! What is in two tables of the same kind: equal, or where not.

use serde::Serialize;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::NEXT_SCHEMA;
use super::tables::Table;
use crate::runtime::LIVE_SCHEMA;

/// The most differing rows of one table that are shown; all are counted.
pub const MAX_DIFFERENCES_SHOWN: i64 = 20;

/// What is in a table: how many rows, and a hash of 128 bits in which their order makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sum {
    pub rows: i64,
    pub hash: String,
}

/// One table, live and rebuilt.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    pub name: &'static str,
    /// None when it was not to be compared.
    pub live: Option<Sum>,
    pub rebuilt: Sum,
    /// How many rows differ.
    pub differing: i64,
    /// The first of them, in the order of the primary key.
    pub differences: Vec<Difference>,
}

impl TableReport {
    /// Whether it is the same on both sides, or could not be compared.
    pub fn is_same(&self) -> bool {
        self.live.as_ref().is_none_or(|live| *live == self.rebuilt)
    }
}

/// A row that is not the same on both sides. Of what is in it, only the primary key is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub key: Value,
    #[serde(flatten)]
    pub how: How,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "how", content = "columns", rename_all = "snake_case")]
pub enum How {
    /// The log does not say that it is there.
    OnlyLive,
    /// The log says that it is there.
    OnlyRebuilt,
    /// These columns differ.
    Columns(Vec<String>),
}

/// Compares a table, as the snapshot of the connection has it.
pub(super) async fn table(
    snapshot: &mut PgConnection,
    table: &Table,
    comparable: bool,
) -> sqlx::Result<TableReport> {
    let rebuilt = sum(snapshot, NEXT_SCHEMA, table).await?;
    let live = if comparable { Some(sum(snapshot, LIVE_SCHEMA, table).await?) } else { None };
    let mut report = TableReport { name: table.name, live, rebuilt, differing: 0, differences: Vec::new() };
    if !report.is_same() {
        (report.differing, report.differences) = differences(snapshot, table).await?;
    }
    Ok(report)
}

async fn sum(snapshot: &mut PgConnection, schema: &str, table: &Table) -> sqlx::Result<Sum> {
    let sql = format!(
        "select count(*),
                coalesce(sum(hashtextextended(t::text, 1)), 0)::text,
                coalesce(sum(hashtextextended(t::text, 2)), 0)::text
           from {schema}.{} t",
        table.name
    );
    let (rows, first, second): (i64, String, String) =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_one(snapshot).await?;
    let bits =
        |sum: &str| sum.parse::<i128>().map(|sum| sum as u64).map_err(|e| sqlx::Error::Decode(e.into()));
    Ok(Sum { rows, hash: format!("{:016x}{:016x}", bits(&first)?, bits(&second)?) })
}

async fn differences(snapshot: &mut PgConnection, table: &Table) -> sqlx::Result<(i64, Vec<Difference>)> {
    let list = |each: &dyn Fn(&String) -> String, columns: &[String], between: &str| {
        columns.iter().map(each).collect::<Vec<_>>().join(between)
    };
    let key = list(&|c| format!("'{c}', coalesce(l.\"{c}\", n.\"{c}\")"), &table.key, ", ");
    let same_key = list(&|c| format!("l.\"{c}\" = n.\"{c}\""), &table.key, " and ");
    let order = list(&|c| format!("coalesce(l.\"{c}\", n.\"{c}\")"), &table.key, ", ");
    let differing = list(
        &|c| format!("case when l.\"{c}\"::text is distinct from n.\"{c}\"::text then '{c}' end"),
        &table.columns,
        ", ",
    );
    let (name, first) = (table.name, table.key.first().map_or("", String::as_str));
    let sql = format!(
        "select count(*) over (), jsonb_build_object({key}), l.\"{first}\" is null, n.\"{first}\" is null,
                array_remove(array[{differing}], null)
           from {LIVE_SCHEMA}.{name} l
           full join {NEXT_SCHEMA}.{name} n on {same_key}
          where l::text is distinct from n::text
          order by {order}
          limit {MAX_DIFFERENCES_SHOWN}"
    );
    type Row = (i64, Value, bool, bool, Vec<String>);
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(snapshot).await?;
    let count = rows.first().map_or(0, |(count, ..)| *count);
    let difference = |(_, key, not_live, not_rebuilt, columns): Row| {
        let how = match (not_live, not_rebuilt) {
            (true, _) => How::OnlyRebuilt,
            (_, true) => How::OnlyLive,
            _ => How::Columns(columns),
        };
        Difference { key, how }
    };
    Ok((count, rows.into_iter().map(difference).collect()))
}
