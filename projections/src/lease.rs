//! Who does the work of a projector: one session, by an advisory lock, while its process shows that it lives.
//!
//! The lock goes with its session, so a process that ends leaves it at once. One that hangs doesn't: so it
//! also has a lease, which it renews, and whose session is ended by the next in line when it has run out.

use std::time::Duration;

use domain::log::Position;
use sqlx::postgres::PgConnection;

use crate::runtime::{LIVE_SCHEMA, to_position};

/// How often a process renews the leases of its projectors.
pub const RENEW_EVERY: Duration = Duration::from_millis(250);
/// A lease that was not renewed for so long has run out.
pub const LEASE: Duration = Duration::from_millis(1_000);
/// How long the session of a copy that hangs may take to end.
const END_WITHIN: Duration = Duration::from_millis(500);

/// Whether there is something to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Held,
    Free,
    /// Somebody holds it who doesn't renew the lease.
    Hung,
}

/// What can be seen of a projector from outside.
pub(crate) struct Sighting {
    pub projector: String,
    pub version: Option<i32>,
    pub position: Position,
    pub stop_reason: Option<String>,
    /// The session of the active copy, if it still lives.
    pub session: Option<i32>,
    pub place: Place,
    /// When the lease of a living session runs out, unless it is renewed; as it was before this renewal.
    pub left: Option<Duration>,
    /// Another number when read tables have taken the place of others.
    pub tables: i64,
}

/// The columns of [`see`].
type Row = (String, Option<i32>, Option<i64>, Option<String>, Option<i32>, bool, Option<f64>, i64);

/// Renews the leases of these projectors' sessions, and looks at all of `names`.
pub(crate) async fn see(
    conn: &mut PgConnection,
    names: &[&str],
    renewed: &[(&str, i32)],
) -> sqlx::Result<Vec<Sighting>> {
    let (mine, sessions): (Vec<&str>, Vec<i32>) = renewed.iter().copied().unzip();
    let rows: Vec<Row> = sqlx::query_as(
        "with renewed as (
            update ops.leases l set renewed_at = clock_timestamp()
              from unnest($2::text[], $3::int[]) as mine(projector, pid)
             where l.projector = mine.projector and l.pid = mine.pid
         )
         select n.projector, c.version, c.position, c.stop_reason, l.pid,
                case when l.pid is null then false else exists (select from pg_stat_get_activity(l.pid)) end,
                abs(extract(epoch from clock_timestamp() - l.renewed_at))::float8, t.tables
           from (select coalesce(sum(c.oid::bigint), 0)::bigint as tables
                   from pg_class c
                  where c.relnamespace = to_regnamespace($4)::oid and c.relkind = 'r') t
          cross join unnest($1::text[]) as n(projector)
           left join ops.checkpoints c on c.projector = n.projector
           left join ops.leases l on l.projector = n.projector",
    )
    .bind(names)
    .bind(mine)
    .bind(sessions)
    .bind(LIVE_SCHEMA)
    .fetch_all(conn)
    .await?;
    let sighting = |(projector, version, position, stop_reason, pid, lives, age_s, tables): Row| {
        let age = age_s.and_then(|age_s| Duration::try_from_secs_f64(age_s).ok());
        let left = age.and_then(|age| LEASE.checked_sub(age)).filter(|_| lives);
        Sighting {
            projector,
            version,
            position: position.map_or(Position::START, to_position),
            stop_reason,
            session: pid.filter(|_| lives),
            place: match (lives, left) {
                (false, _) => Place::Free,
                (true, Some(_)) => Place::Held,
                (true, None) => Place::Hung,
            },
            left,
            tables,
        }
    };
    Ok(rows.into_iter().map(sighting).collect())
}

/// Takes the lock of a projector, and its lease; says which session has it now. None when it belongs to
/// somebody else. Asked again by the one who has it, it stays theirs.
pub(crate) async fn take(conn: &mut PgConnection, projector: &str) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar(
        "with lock as (select pg_try_advisory_lock(hashtextextended('kiroku.projector.' || $1, 0)) as taken)
         insert into ops.leases as l (projector, pid, renewed_at)
         select $1, pg_backend_pid(), clock_timestamp() from lock where taken
             on conflict (projector) do update set pid = excluded.pid, renewed_at = excluded.renewed_at
         returning l.pid",
    )
    .bind(projector)
    .fetch_optional(conn)
    .await
}

/// Ends the session that holds the lock of a projector and whose lease has run out; whether there was one.
pub(crate) async fn end_hanging(conn: &mut PgConnection, projector: &str) -> sqlx::Result<bool> {
    let ended: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(l.pid, $3)
           from ops.leases e
           join pg_locks l on l.pid = e.pid
          cross join hashtextextended('kiroku.projector.' || e.projector, 0) as key
          where e.projector = $1
            and abs(extract(epoch from clock_timestamp() - e.renewed_at)) > $2
            and l.locktype = 'advisory' and l.granted and l.objsubid = 1
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.classid = ((key >> 32) & 4294967295)::oid and l.objid = (key & 4294967295)::oid",
    )
    .bind(projector)
    .bind(LEASE.as_secs_f64())
    .bind(END_WITHIN.as_millis() as i64)
    .fetch_all(conn)
    .await?;
    Ok(!ended.is_empty())
}
