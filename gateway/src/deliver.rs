//! What happens here is told to webhooks, and by Web Push to browsers that are closed.
//!
//! One task makes out of the log what is to be told to whom ([`ops::deliveries`](crate::ops::deliveries)): each
//! event once, whichever process it is. Another sends what is due, and tries again; a process that dies while it
//! sends leaves it to be sent again, so the other side may hear of a thing twice, and knows that by its id. What
//! is said is read when it is sent, as the person may see it then: what has gone meanwhile isn't told.

mod hook;
mod push;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::log::{LogError, Position, Recorded};
use domain::notification::Kind;
use domain::{Event, UserId};
use projections::notification;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::api::ApiError;
use crate::app::App;
use crate::fetch::FetchError;
use crate::ops::deliveries::{Deliveries, Delivery, MAX_ATTEMPTS};

pub use hook::{Message as HookMessage, send as send_hook};

/// Events looked at in one go.
const MAX_BATCH_EVENTS: usize = 256;
/// What nobody wanted to be told of is noted when it is so many positions, for the next start.
const NOTED_EVERY: u64 = 1_000;
/// How long it is waited with the next events where nobody wants to be told of any.
const NOBODY_PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked at what is due when nothing is heard of it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Told at the same time.
const MAX_AT_ONCE: usize = 32;
/// How long a notification may be read before it is pushed.
const PUSHED_AFTER: TimeDelta = TimeDelta::seconds(2);
/// The first and the longest pause after trouble.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What a push that tells of a notification is called, and one that tells that all have been read.
const NOTIFICATION: &str = "notification";
const ALL_READ: &str = "readAllNotifications";

/// Why nothing can be made out or sent; tried again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{0:?}")]
    Api(ApiError),
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Trouble::Api(error)
    }
}

/// What became of something that was to be told.
enum Outcome {
    /// Told, or there is nobody or nothing to be told any more.
    Done,
    /// Another time, perhaps.
    Again,
}

/// Runs for ever.
pub async fn run(app: App) {
    tokio::join!(make_out(&app), send(&app));
}

/// Makes out what is to be told.
async fn make_out(app: &App) {
    let mut advanced = app.projections.advanced();
    let (mut at, mut noted) = (Position::START, Position::START);
    let mut pause = FIRST_PAUSE;
    loop {
        // Can't fail while the projections are there.
        let Ok(reached) = advanced.wait_for(|reached| *reached > at).await.map(|reached| *reached) else {
            return;
        };
        match batch(app, reached, &mut noted).await {
            Ok(made) => {
                at = made;
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                tracing::warn!(%error, "it can't be made out what is to be told elsewhere; trying again");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Makes out what the next events tell, up to what the read models show. Says how far it came.
async fn batch(app: &App, reached: Position, noted: &mut Position) -> Result<Position, Trouble> {
    let deliveries = &app.core.deliveries;
    let (hooks, pushes) = deliveries.is_wanted().await?;
    if !hooks && !pushes {
        if reached.0.saturating_sub(noted.0) >= NOTED_EVERY {
            deliveries.skip(reached).await?;
            *noted = reached;
        }
        sleep(NOBODY_PAUSE).await;
        return Ok(reached);
    }
    let (tx, mut made) = deliveries.made().await?;
    if made >= reached {
        // Another process was faster, or the log was restored and is shorter than it was.
        let head = app.log.head().await?;
        if made > head {
            made = head;
            deliveries.keep(tx, &[], made).await?;
        }
        return Ok(made.max(reached));
    }
    let mut events = app.projections.events_after(made, MAX_BATCH_EVENTS).await?;
    if events.is_empty() {
        events = app.log.after(made, MAX_BATCH_EVENTS).await?.into_iter().map(Arc::new).collect();
    }
    events.retain(|event| event.position <= reached);
    let Some(last) = events.last().map(|last| last.position) else { return Ok(reached) };
    let mut new = Vec::new();
    if hooks {
        for_hooks(app, &events, &mut new).await?;
    }
    if pushes {
        for_pushes(app, &events, made, last, &mut new).await?;
    }
    deliveries.keep(tx, &new, last).await?;
    Ok(last)
}

async fn for_hooks(app: &App, events: &[Arc<Recorded>], new: &mut Vec<Delivery>) -> sqlx::Result<()> {
    let told: Vec<(&Arc<Recorded>, hook::Told)> = events
        .iter()
        .flat_map(|event| hook::told_by(event).into_iter().map(move |told| (event, told)))
        .collect();
    let mut people: Vec<UserId> = told.iter().map(|(_, told)| told.user).collect();
    people.sort_unstable();
    people.dedup();
    if people.is_empty() {
        return Ok(());
    }
    let mut hooks: HashMap<UserId, Vec<(Uuid, Vec<String>)>> = HashMap::new();
    for (id, user, told_of) in app.core.webhooks.listening(&people).await? {
        hooks.entry(user).or_default().push((id, told_of));
    }
    for (event, told) in told {
        for (hook, told_of) in hooks.get(&told.user).into_iter().flatten() {
            if told_of.iter().any(|name| name == told.what) && is_news(event, *hook) {
                new.push(Delivery {
                    about: Some(told.about),
                    other: told.other,
                    ..delivery(app, event, *hook, told.user, told.what)
                });
            }
        }
    }
    Ok(())
}

async fn for_pushes(
    app: &App,
    events: &[Arc<Recorded>],
    after: Position,
    to: Position,
    new: &mut Vec<Delivery>,
) -> sqlx::Result<()> {
    let told = notification::told_between(&app.pool, after, to).await?;
    let read = events.iter().filter_map(|recorded| match &recorded.event {
        Some(Event::NotificationsRead(read)) => Some((recorded, read.user)),
        _ => None,
    });
    let read: Vec<(&Arc<Recorded>, UserId)> = read.collect();
    let mut people: Vec<UserId> =
        told.iter().map(|told| told.user).chain(read.iter().map(|(_, user)| *user)).collect();
    people.sort_unstable();
    people.dedup();
    if people.is_empty() {
        return Ok(());
    }
    let mut devices: HashMap<UserId, Vec<(Uuid, bool)>> = HashMap::new();
    for (id, user, send_read) in app.core.subscriptions.of_people(&people).await? {
        devices.entry(user).or_default().push((id, send_read));
    }
    for told in &told {
        let Some(event) = events.iter().find(|event| event.position == told.position) else { continue };
        for (device, _) in devices.get(&told.user).into_iter().flatten() {
            if is_news(event, *device) {
                let pushed = delivery(app, event, *device, told.user, NOTIFICATION);
                let waits = if told.kind == Kind::Test { TimeDelta::zero() } else { PUSHED_AFTER };
                let due_at = pushed.due_at + waits;
                new.push(Delivery { is_push: true, about: Some(told.id.0), due_at, ..pushed });
            }
        }
    }
    for (event, user) in read {
        for (device, _) in devices.get(&user).into_iter().flatten().filter(|(_, send_read)| *send_read) {
            if is_news(event, *device) {
                new.push(Delivery { is_push: true, ..delivery(app, event, *device, user, ALL_READ) });
            }
        }
    }
    Ok(())
}

/// Whether it happened since the webhook or subscription was made, whose id says when that was.
fn is_news(event: &Recorded, target: Uuid) -> bool {
    event.at >= domain::CommandId(target).time()
}

fn delivery(app: &App, event: &Recorded, target: Uuid, user: UserId, what: &str) -> Delivery {
    Delivery {
        id: app.ids.at(event.at),
        target,
        is_push: false,
        user,
        what: what.to_owned(),
        about: None,
        other: None,
        at: event.at,
        due_at: event.at,
        attempts: 0,
    }
}

/// Sends what is due.
async fn send(app: &App) {
    let news: &Deliveries = &app.core.deliveries;
    let mut sending: JoinSet<Uuid> = JoinSet::new();
    let mut busy: Vec<Uuid> = Vec::new();
    loop {
        let room = MAX_AT_ONCE.saturating_sub(busy.len());
        let taken = match room {
            0 => Vec::new(),
            room => news.take(app.now(), &busy, room).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what is to be told elsewhere can't be read; trying again");
                Vec::new()
            }),
        };
        for delivery in taken {
            busy.push(delivery.target);
            let app = app.clone();
            sending.spawn(async move {
                let target = delivery.target;
                attempt(&app, delivery).await;
                target
            });
        }
        tokio::select! {
            // One that panicked leaves its target busy until the next start; none does.
            Some(Ok(target)) = sending.join_next(), if !sending.is_empty() => busy.retain(|one| *one != target),
            () = news.news.notified() => (),
            () = sleep(LOOK_EVERY) => (),
        }
    }
}

async fn attempt(app: &App, delivery: Delivery) {
    let tried = if delivery.is_push {
        push::deliver(app, &delivery).await
    } else {
        hook::deliver(app, &delivery).await
    };
    let done = match tried {
        Ok(Outcome::Done) => true,
        Ok(Outcome::Again) if delivery.attempts >= MAX_ATTEMPTS => {
            tracing::info!(delivery.id = %delivery.id, what = delivery.what, "given up to tell it elsewhere");
            true
        }
        Ok(Outcome::Again) => false,
        Err(error) => {
            tracing::warn!(delivery.id = %delivery.id, %error, "it can't be told elsewhere; trying again");
            delivery.attempts >= MAX_ATTEMPTS
        }
    };
    if done && let Err(error) = app.core.deliveries.done(delivery.id).await {
        tracing::warn!(delivery.id = %delivery.id, %error, "it may be told elsewhere twice");
    }
}

/// Whether this person may still be told anything.
async fn is_here(app: &App, user: UserId) -> Result<bool, Trouble> {
    let account = app.core.accounts.account(user).await?;
    Ok(account.is_some_and(|account| !account.is_suspended && !account.is_deleted))
}

/// Whether trying again would come to the same.
fn is_for_good(error: &FetchError) -> bool {
    matches!(error, FetchError::NotAnAddress | FetchError::Forbidden)
}
