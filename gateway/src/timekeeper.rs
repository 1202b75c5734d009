//! Does what is due: polls end at their time, and notes are posted at theirs.
//!
//! What is due stands in a read model, so it survives a restart; that something has been done is an event that
//! can be appended once, so several processes do it once. The clock of the server says what time it is.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use commands::{Commands, Failed};
use domain::log::{By, Clock, Ids};
use domain::note::Allowed;
use domain::{CommandId, UserId};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::api::{Accounts, ApiError};

/// How often it is looked at what is due, and what will be until the next look: that is done at its time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest rest between two looks.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(5);
/// Polls ended in one go.
const MAX_POLLS: i64 = 100;
/// Notes posted in one go.
const MAX_NOTES: i64 = 100;

pub struct Timekeeper {
    pub commands: Commands,
    /// What those whose notes are posted may do.
    pub accounts: Arc<dyn Accounts>,
    pub pool: PgPool,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
}

impl Timekeeper {
    /// Runs for ever.
    pub async fn run(self) {
        loop {
            let now = self.clock.now();
            let polls = self.end_polls(now).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "it can't be looked at which polls have ended; trying again");
                None
            });
            let notes = self.post_notes(now).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "it can't be looked at which notes are to be posted; trying again");
                None
            });
            let next = [polls, notes].into_iter().flatten().min();
            let rest = next.map(|next| (next - self.clock.now()).to_std().unwrap_or_default());
            sleep(rest.unwrap_or(LOOK_EVERY).clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY)).await;
        }
    }

    /// When the next poll ends, if that is before the next look.
    async fn end_polls(&self, now: DateTime<Utc>) -> sqlx::Result<Option<DateTime<Utc>>> {
        let due = projections::poll::due(&self.pool, now + LOOK_EVERY, MAX_POLLS).await?;
        let (due, next) = by_now(due, now);
        for note in due {
            let by = By { user: None, now, command: CommandId(self.ids.at(now)) };
            match self.commands.end_poll(by, note).await {
                Ok(_) => (),
                // The read models don't know yet that the note has gone with its author.
                Err(Failed::Refused(refusal)) => {
                    tracing::debug!(note.id = %note, %refusal, "a poll doesn't end")
                }
                Err(error) => tracing::warn!(note.id = %note, %error, "a poll can't be ended; trying again"),
            }
        }
        Ok(next)
    }

    /// When the next note is to be posted, if that is before the next look.
    async fn post_notes(&self, now: DateTime<Utc>) -> sqlx::Result<Option<DateTime<Utc>>> {
        let due = projections::draft::due(&self.pool, now + LOOK_EVERY, MAX_NOTES).await?;
        let (due, next) = by_now(due, now);
        for (user, draft) in due {
            let allowed = match self.allowed(user).await {
                Ok(allowed) => allowed,
                Err(error) => {
                    tracing::warn!(draft.id = %draft, ?error, "it isn't known who posts a note; trying again");
                    continue;
                }
            };
            let by = By { user: Some(user), now, command: CommandId(self.ids.at(now)) };
            if let Err(error) = self.commands.post_scheduled(by, user, draft, allowed).await {
                tracing::warn!(draft.id = %draft, %error, "a note can't be posted; trying again");
            }
        }
        Ok(next)
    }

    /// What somebody's notes may be, if they may write any.
    async fn allowed(&self, user: UserId) -> Result<Option<Allowed>, ApiError> {
        let account = self.accounts.account(user).await?;
        let writes =
            account.filter(|account| !account.is_suspended && !account.is_deleted && !account.has_moved);
        Ok(writes.map(|account| account.notes()))
    }
}

/// Of what comes soon, in the order of its time: what is due, and the time of the first that isn't.
fn by_now<T>(soon: Vec<(T, DateTime<Utc>)>, now: DateTime<Utc>) -> (Vec<T>, Option<DateTime<Utc>>) {
    let next = soon.iter().map(|(_, at)| *at).find(|at| *at > now);
    (soon.into_iter().filter(|(_, at)| *at <= now).map(|(thing, _)| thing).collect(), next)
}
