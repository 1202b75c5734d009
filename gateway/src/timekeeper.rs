//! Does what is due: polls end at their time, and notes are posted at theirs.
//!
//! What is due stands in a read model, so it survives a restart; that something has been done is an event that
//! can be appended once, so several processes do it once. The clock of the server says what time it is.

use std::sync::Arc;
use std::time::Duration;

use commands::{Commands, Failed};
use domain::log::{By, Clock, Ids};
use domain::note::Allowed;
use domain::{CommandId, UserId};
use sqlx::PgPool;
use tokio::time::sleep;

use crate::api::{Accounts, ApiError};

/// How often it is looked at what is due; so late are people told at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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
            if let Err(error) = self.end_polls().await {
                tracing::warn!(%error, "it can't be looked at which polls have ended; trying again");
            }
            if let Err(error) = self.post_notes().await {
                tracing::warn!(%error, "it can't be looked at which notes are to be posted; trying again");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn end_polls(&self) -> sqlx::Result<()> {
        let now = self.clock.now();
        for note in projections::poll::due(&self.pool, now, MAX_POLLS).await? {
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
        Ok(())
    }

    async fn post_notes(&self) -> sqlx::Result<()> {
        let now = self.clock.now();
        for (user, draft) in projections::draft::due(&self.pool, now, MAX_NOTES).await? {
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
        Ok(())
    }

    /// What somebody's notes may be, if they may write any.
    async fn allowed(&self, user: UserId) -> Result<Option<Allowed>, ApiError> {
        let account = self.accounts.account(user).await?;
        let writes =
            account.filter(|account| !account.is_suspended && !account.is_deleted && !account.has_moved);
        Ok(writes.map(|account| account.notes()))
    }
}
