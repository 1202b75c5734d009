//! All read models made anew from the log, against PostgreSQL's own copy of the finished tables.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use gateway::platform::postgres::running_in;
use serde::Deserialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::process::Command;
use tokio::time::Instant;

use crate::Plan;
use crate::figure::Figure;
use crate::grown::Grown;

const PART: &str = "rebuild";
const ALLOWED_TIMES: f64 = 3.0;

/// What `kiroku rebuild` tells.
#[derive(Deserialize)]
struct Report {
    switched: bool,
    events: u64,
    seconds: f64,
}

/// What a copy took, in seconds, and how much it was.
struct Copied {
    out: f64,
    back: f64,
    rows: u64,
    bytes: i64,
}

pub async fn run(plan: &Plan, world: Grown) -> Result<(Vec<Figure>, Grown), String> {
    let options = running_in(&world.server.data_dir).ok_or("the server's PostgreSQL is not there")?;
    let mut connection = options.connect().await.map_err(told)?;
    sqlx::query("checkpoint").execute(&mut connection).await.map_err(told)?;
    let (usage, start) = (world.server.meter.usage(), Instant::now());
    let report = rebuild(plan, &world.server.data_dir).await?;
    let took = start.elapsed().as_secs_f64();
    let usage = world.server.meter.usage() - usage;
    for statement in ["vacuum analyze", "checkpoint"] {
        sqlx::query(statement).execute(&mut connection).await.map_err(told)?;
    }
    let copied = copy(&mut connection, &world.directory.join("copies")).await?;
    connection.close().await.map_err(told)?;
    let copy_took = copied.out + copied.back;
    let figure = |what: &str, value: f64, unit: &'static str| Figure::new(PART, what, value, unit);
    let figures = vec![
        figure("events", report.events as f64, ""),
        figure("kiroku rebuild, from start to end", took, "s"),
        figure("of that, reading, comparing, switching", report.seconds, "s"),
        figure("processor time of the database in that", usage.database_cpu.as_secs_f64(), "CPU s"),
        figure("not switched", f64::from(u8::from(!report.switched)), "").exactly(0.0),
        figure("rows of the finished tables", copied.rows as f64, ""),
        figure("size of the finished tables with indexes", copied.bytes as f64 / 1e6, "MB"),
        figure("COPY to files", copied.out, "s"),
        figure("COPY from files, with indexes", copied.back, "s"),
        figure("times COPY to and from files", took / copy_took, "").at_most(ALLOWED_TIMES),
        figure("times COPY from files alone", took / copied.back, ""),
    ];
    Ok((figures, world))
}

async fn rebuild(plan: &Plan, data_dir: &Path) -> Result<Report, String> {
    let ended = Command::new(&plan.kiroku)
        .args(["rebuild", "--json", "--data-dir"])
        .arg(data_dir)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(told)?;
    if !ended.status.success() {
        return Err(format!("kiroku rebuild: {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr)));
    }
    serde_json::from_slice(&ended.stdout).map_err(told)
}

/// Every read table to a file, and from there into a new one that is defined alike.
async fn copy(connection: &mut PgConnection, directory: &Path) -> Result<Copied, String> {
    DirBuilder::new().mode(0o700).create(directory).map_err(told)?;
    // PostgreSQL writes them, as whoever it is.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).map_err(told)?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select tablename::text from pg_tables where schemaname = 'read' order by tablename",
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(told)?;
    let mut did = async |statement: String| {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.map_err(told)
    };
    let file = |table: &str| directory.join(table).display().to_string();
    did("create schema bench_copy".to_owned()).await?;
    for table in &tables {
        did(format!("create table bench_copy.{table} (like read.{table} including all)")).await?;
    }
    let start = Instant::now();
    for table in &tables {
        did(format!("copy read.{table} to '{}'", file(table))).await?;
    }
    let out = start.elapsed().as_secs_f64();
    let (start, mut rows) = (Instant::now(), 0);
    for table in &tables {
        rows += did(format!("copy bench_copy.{table} from '{}'", file(table))).await?.rows_affected();
    }
    let back = start.elapsed().as_secs_f64();
    did("drop schema bench_copy cascade".to_owned()).await?;
    let size = sqlx::query_scalar(
        "select sum(pg_total_relation_size(c.oid))::bigint
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = 'read' and c.relkind = 'r'",
    );
    let bytes = size.fetch_one(&mut *connection).await.map_err(told)?;
    std::fs::remove_dir_all(directory).map_err(told)?;
    Ok(Copied { out, back, rows, bytes })
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
