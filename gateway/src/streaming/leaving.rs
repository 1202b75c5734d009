//! Ends the sockets whose token has ended. The end of a person's own token is also an event, which their
//! client hears first; this is for every other end, and for an event that doesn't come.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::UserId;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::sleep;

use super::listeners::{Ending, Listeners};
use crate::ops::Tokens;
use crate::ops::tokens::{Ended, TokenHash};

/// Between the end of a token and that of its sockets: for the event to be told, and for more to end.
pub const LEAVE_AFTER: Duration = Duration::from_secs(1);
/// Tokens looked up at once.
const MAX_TOKENS: usize = 1_000;
/// The pause before a lookup that failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs for ever.
pub async fn watch(tokens: Tokens, mut ends: Receiver<Ended>, listeners: Arc<Mutex<Listeners>>) {
    let lock = || listeners.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some(mut whose) = next(&mut ends).await else { return };
        sleep(LEAVE_AFTER).await;
        while !ends.is_empty() {
            let Some(more) = next(&mut ends).await else { return };
            whose.add(more);
        }
        let open: Vec<TokenHash> = match &whose {
            Whose::Of(people) => lock().tokens(Some(people)),
            Whose::Everybody => lock().tokens(None),
        }
        .into_iter()
        .collect();
        for some in open.chunks(MAX_TOKENS) {
            let dead = dead(&tokens, some).await;
            if !dead.is_empty() {
                lock().end_with(&dead, Ending::SignedOut);
            }
        }
    }
}

/// Whose tokens are to be looked up.
enum Whose {
    Of(HashSet<UserId>),
    Everybody,
}

impl Whose {
    fn add(&mut self, more: Self) {
        match (&mut *self, more) {
            (Whose::Of(people), Whose::Of(more)) => people.extend(more),
            (Whose::Everybody, _) => (),
            (_, Whose::Everybody) => *self = Whose::Everybody,
        }
    }
}

/// The next end; none when there will be none.
async fn next(ends: &mut Receiver<Ended>) -> Option<Whose> {
    match ends.recv().await {
        Ok(Ended::Of(user)) => Some(Whose::Of(HashSet::from([user]))),
        Ok(Ended::Unknown) | Err(RecvError::Lagged(_)) => Some(Whose::Everybody),
        Err(RecvError::Closed) => None,
    }
}

/// Asks until there is an answer.
async fn dead(tokens: &Tokens, some: &[TokenHash]) -> HashSet<TokenHash> {
    loop {
        match tokens.dead(some).await {
            Ok(dead) => return dead.into_iter().collect(),
            Err(error) => tracing::warn!(%error, "streams can't be checked for ended tokens; trying again"),
        }
        sleep(PAUSE).await;
    }
}
