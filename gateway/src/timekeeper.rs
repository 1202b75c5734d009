//! Does what is due: polls end at their time.
//!
//! What is due stands in a read model, so it survives a restart; that something has been done is an event that
//! can be appended once, so several processes do it once. The clock of the server says what time it is.

use std::sync::Arc;
use std::time::Duration;

use commands::{Commands, Failed};
use domain::CommandId;
use domain::log::{By, Clock, Ids};
use sqlx::PgPool;
use tokio::time::sleep;

/// How often it is looked at what is due; so late are people told at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Polls ended in one go.
const MAX_POLLS: i64 = 100;

pub struct Timekeeper {
    pub commands: Commands,
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
}
