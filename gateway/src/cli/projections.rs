//! `kiroku projections`: where each read model stands, and who fills it.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{ArgMatches, Command};
use commands::log::Engine;
use domain::log::Position;
use serde::Serialize;
use sqlx::PgPool;

use super::output::table;
use super::{Outcome, ToolError, desk, tool};
use crate::platform::attach::With;

pub fn command() -> Command {
    tool(Command::new("projections").about("Show where each read model stands, and who fills it"))
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    desk::at_desk(matches, With::Others, async |desk| {
        desk.follows().await?;
        let standing = standing(&desk.attached.pool, desk.log.as_ref()).await?;
        let rows: Vec<[String; 6]> = standing.iter().map(Standing::row).collect();
        let text = table(["PROJECTOR", "VERSION", "POSITION", "LAG", "ACTIVE", "STOPPED"], &rows);
        desk.output.either(&standing, text)?;
        Ok(Outcome::Done)
    })
}

/// Where one projector stands.
#[derive(Debug, Serialize)]
pub struct Standing {
    pub name: &'static str,
    /// Of this program.
    pub version: u32,
    /// Of the tables; none before they are filled.
    pub stored_version: Option<i32>,
    pub position: u64,
    /// Events between it and the head of the log; counted up to [`MAX_COUNTED_LAG`].
    pub lag_events: u64,
    /// Who fills it: none when nobody does.
    pub active: Option<Active>,
    pub stopped_at: Option<DateTime<Utc>>,
    pub stopped: Option<String>,
}

/// The session that fills a read model.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Active {
    #[serde(skip)]
    projector: String,
    /// Of the session in PostgreSQL.
    pub pid: i32,
    /// Where it connects from; none for this machine's socket.
    pub address: Option<String>,
    /// Since when it is connected.
    pub since: Option<DateTime<Utc>>,
    /// When it showed last that it lives.
    pub renewed_at: DateTime<Utc>,
}

/// Beyond so many events, only that there are more is told.
pub const MAX_COUNTED_LAG: u64 = 100_000;
/// Who has not been heard of for longer is not active; well beyond a lease.
const ACTIVE_WITHIN: Duration = Duration::from_secs(5);
/// Events asked of the log at once.
const PAGE: usize = 5_000;

/// A row of `ops.checkpoints`.
type Checkpoint = (String, i32, i64, Option<DateTime<Utc>>, Option<String>);

pub async fn standing(pool: &PgPool, log: &dyn Engine) -> Result<Vec<Standing>, ToolError> {
    let stored: Vec<Checkpoint> =
        sqlx::query_as("select projector, version, position, stopped_at, stop_reason from ops.checkpoints")
            .fetch_all(pool)
            .await?;
    let mut stored: HashMap<String, Checkpoint> =
        stored.into_iter().map(|row| (row.0.clone(), row)).collect();
    let active: Vec<Active> = sqlx::query_as(
        "select l.projector, l.pid, host(a.client_addr) as address, a.backend_start as since, l.renewed_at
           from ops.leases l
           join pg_catalog.pg_stat_activity a on a.pid = l.pid
          where l.renewed_at > clock_timestamp() - make_interval(secs => $1)",
    )
    .bind(ACTIVE_WITHIN.as_secs_f64())
    .fetch_all(pool)
    .await?;
    let mut active: HashMap<String, Active> =
        active.into_iter().map(|active| (active.projector.clone(), active)).collect();
    let projectors = projections::projectors();
    let mut standing: Vec<Standing> = projectors
        .iter()
        .map(|projector| {
            let name = projector.name();
            let (stored_version, position, stopped_at, stopped) = match stored.remove(name) {
                Some((_, version, at, stopped_at, reason)) => (Some(version), at, stopped_at, reason),
                None => (None, 0, None, None),
            };
            Standing {
                name,
                version: projector.version(),
                stored_version,
                position: u64::try_from(position).unwrap_or(0),
                lag_events: 0,
                active: active.remove(name),
                stopped_at,
                stopped,
            }
        })
        .collect();
    count_lag(log, &mut standing).await?;
    Ok(standing)
}

/// Counts the end of the log once for all.
async fn count_lag(log: &dyn Engine, standing: &mut [Standing]) -> Result<(), ToolError> {
    let Some(least) = standing.iter().map(|one| one.position).min() else { return Ok(()) };
    let head = log.head().await?;
    let (mut at, mut counted) = (Position(least), 0);
    while at < head && counted < MAX_COUNTED_LAG {
        let page = log.sealed_after(at, PAGE).await?;
        let Some(last) = page.last() else { break };
        at = Position(last.position);
        counted += page.len() as u64;
        for one in standing.iter_mut() {
            one.lag_events += page.iter().filter(|event| event.position > one.position).count() as u64;
        }
    }
    Ok(())
}

impl Standing {
    pub fn lag(&self) -> String {
        match self.lag_events {
            MAX_COUNTED_LAG.. => format!("{MAX_COUNTED_LAG} or more"),
            lag => lag.to_string(),
        }
    }

    fn row(&self) -> [String; 6] {
        let version = match self.stored_version {
            Some(stored) if i64::from(stored) == i64::from(self.version) => stored.to_string(),
            Some(stored) => format!("{stored} (wanted {})", self.version),
            None => format!("none (wanted {})", self.version),
        };
        let active = match &self.active {
            Some(Active { pid, address: Some(address), .. }) => format!("session {pid} from {address}"),
            Some(Active { pid, address: None, .. }) => format!("session {pid}"),
            None => "nobody".to_owned(),
        };
        let stopped = self.stopped.clone().unwrap_or_default();
        [self.name.to_owned(), version, self.position.to_string(), self.lag(), active, stopped]
    }
}
