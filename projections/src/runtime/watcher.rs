//! Sees, in every process, how far the projectors are that others run and whether they live, and renews the
//! leases of those that are active here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::log::Position;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{STANDBY_POLL, Shared, in_time};
use crate::backoff::{Backoff, stopped};
use crate::lease::{self, RENEW_EVERY, Sighting};

/// How long after a lease has run out that is looked at.
const A_MOMENT: Duration = Duration::from_millis(2);
/// How long that look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn run(
    shared: Arc<Shared>,
    options: Arc<PgConnectOptions>,
    mut stop: watch::Receiver<bool>,
) {
    let names: Vec<&str> = shared.members.iter().map(|member| member.projector.name()).collect();
    let options = options.as_ref().clone().options([("synchronous_commit", "off")]);
    let mut connection = None;
    let mut renew_at = Instant::now();
    let mut backoff = Backoff::default();
    let mut tables = None;
    loop {
        let sessions = shared
            .members
            .iter()
            .filter_map(|member| Some((member.projector.name(), member.progress.borrow().session?)));
        let mut mine: Vec<(&str, i32)> = sessions.collect();
        let (none_mine, all_mine) = (mine.is_empty(), mine.len() == names.len());
        let mut pause = if all_mine { RENEW_EVERY } else { STANDBY_POLL };
        let now = Instant::now();
        if now < renew_at {
            mine.clear();
        } else {
            renew_at = now + RENEW_EVERY;
        }
        let was_behind = shared.is_behind.load(Ordering::SeqCst);
        let known: Vec<Position> =
            shared.members.iter().map(|member| member.progress.borrow().committed).collect();
        match in_time(LOOK_WITHIN, see(connection.take(), &options, &names, &mine)).await {
            Ok((stands, seen)) => {
                connection = Some(stands);
                backoff.reset();
                let head = shared.tail.head();
                // Tables that were built again may have other rows.
                let here = seen.first().map(|sighting| sighting.tables);
                if tables.is_some() && tables != here {
                    shared.doubt();
                }
                tables = here;
                let is_behind = |(sighting, known): (&Sighting, &Position)| sighting.position < *known;
                if was_behind && !seen.iter().zip(&known).any(is_behind) {
                    shared.is_behind.store(false, Ordering::SeqCst);
                    shared.doubt();
                }
                for sighting in seen {
                    if let Some(member) =
                        shared.members.iter().find(|m| m.projector.name() == sighting.projector)
                    {
                        // A lease of another that may run out is looked at when it does.
                        if let Some(left) = sighting.left
                            && member.progress.borrow().session.is_none()
                        {
                            pause = pause.min(left + A_MOMENT);
                        }
                        if member.saw(sighting, &head) {
                            shared.doubt();
                        }
                    }
                }
                shared.publish();
            }
            Err(error) => {
                tracing::warn!(%error, "the projectors can't be watched; trying again");
                renew_at = now;
                shared.members.iter().for_each(|member| member.doubted.notify_one());
                if backoff.pause(&mut stop).await {
                    return;
                }
                continue;
            }
        }
        if !none_mine {
            pause = pause.min(renew_at.saturating_duration_since(Instant::now()));
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = shared.look.notified() => (),
            () = tokio::time::sleep(pause) => (),
        }
    }
}

async fn see(
    connection: Option<PgConnection>,
    options: &PgConnectOptions,
    names: &[&str],
    renewed: &[(&str, i32)],
) -> sqlx::Result<(PgConnection, Vec<Sighting>)> {
    let mut conn = match connection {
        Some(conn) => conn,
        None => PgConnection::connect_with(options).await?,
    };
    let seen = lease::see(&mut conn, names, renewed).await?;
    Ok((conn, seen))
}
