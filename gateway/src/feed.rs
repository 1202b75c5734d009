//! The feed: what happens here, as messages of a JetStream stream, for pipelines of the operator's own.
//!
//! Stream `KIROKU_EVENTS`, subject `kiroku.events.<kind>` (such as `kiroku.events.note.created`). Headers:
//! `Nats-Msg-Id` is the id of the event, `Kiroku-Position` and `Kiroku-Ordinal` are its place in the log,
//! `Kiroku-Subject` is whose data it is, where the fact tells that: a vote doesn't. The body is one JSON
//! object:
//!
//! | field | what |
//! | --- | --- |
//! | `id` | of the event |
//! | `kind` | as in the subject, such as `reaction.added` |
//! | `position`, `ordinal` | the place in the log; both numbers, ordered, `ordinal` within `position` |
//! | `at` | when it happened, RFC 3339 |
//! | `data` | the fact; its fields are those of [`facts`] |
//!
//! Only what anybody may see without an account is told, unless `nats_feed` is `all`; then `data` is the
//! whole payload of every event. What is deleted before it was told is not told; what was told stays when it
//! is deleted or hidden later, and `note.deleted` says so. When a person is erased, their messages are deleted
//! from the stream before `user.erased` tells those who have copied them.
//!
//! The log is the truth: this task goes on after the last message that the stream has, so a stream that
//! comes back empty is filled again from the start, one that comes back without its end gets that again, and
//! one that is whole gets nothing twice. Each message says which one it expects before it, so a second
//! publisher can't mix in. One process publishes, by an advisory lock; another takes over when its session ends.
//!
//! A stream that ends with what this log doesn't have, as after a restore, is not gone on with: it has to be
//! deleted, and is filled anew. So it is, too, with what was told while `nats_feed` was `all`.

mod facts;

use std::future::IntoFuture;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{HeaderMap, NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{self, Stream};
use async_nats::jetstream::{self, Context};
use commands::Commands;
use domain::log::{Clock, EventLog, LogError, Position, Recorded};
use domain::{Event, UserId};
use futures_util::{StreamExt, TryStreamExt};
use projections::Projections;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, PgPool};

use crate::config::FeedScope;

/// The stream, which is made when it isn't there.
pub const STREAM: &str = "KIROKU_EVENTS";
/// What the subjects begin with; the kind of the event follows.
pub const SUBJECT_PREFIX: &str = "kiroku.events";
pub const POSITION_HEADER: &str = "Kiroku-Position";
pub const ORDINAL_HEADER: &str = "Kiroku-Ordinal";
pub const SUBJECT_HEADER: &str = "Kiroku-Subject";

/// Events taken up at once; their messages are on the way together.
const MAX_BATCH_EVENTS: usize = 256;
/// How long a publisher without work waits before it looks whether its lock still stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often one that is not active asks whether it may be.
const STANDBY_POLL: Duration = Duration::from_secs(1);
/// The first and the longest pause after trouble.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Messages asked for at once when a person is taken out.
const MAX_SEARCHED: usize = 500;
/// How long the stream may take for them.
const SEARCH_WITHIN: Duration = Duration::from_secs(5);

/// What the feed is made from.
pub struct Feed {
    pub nats: async_nats::Client,
    pub scope: FeedScope,
    pub log: Arc<dyn EventLog>,
    pub commands: Commands,
    pub projections: Projections,
    pub pool: PgPool,
    pub clock: Arc<dyn Clock>,
}

/// Why it doesn't go on for now; all of it is tried again.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("JetStream: {0}")]
    Stream(#[from] async_nats::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("another publisher has written to the stream")]
    Overtaken,
    #[error(
        "the stream {STREAM} tells of another log, or of this one before it was restored: delete the stream, \
         and it is filled anew"
    )]
    OtherLog,
    #[error("the stream could not be searched to its end for an erased person")]
    Unsearched,
}

/// The place of a message in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    position: Position,
    ordinal: u32,
}

/// What stands in the stream, and what comes next.
struct Cursor {
    /// Told up to here; the rest of its append may be missing.
    told: Place,
    /// The last message of the stream.
    sequence: u64,
}

impl Feed {
    /// Publishes for ever.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(trouble) = self.publish(&mut pause).await;
            tracing::warn!(%trouble, "the feed waits; nothing is lost");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns only with trouble.
    async fn publish(&self, pause: &mut Duration) -> Result<std::convert::Infallible, Trouble> {
        let mut conn = PgConnection::connect_with(&self.pool.connect_options()).await?;
        while !lock(&mut conn).await? {
            tokio::time::sleep(STANDBY_POLL).await;
        }
        let context = jetstream::new(self.nats.clone());
        let stream = context.get_or_create_stream(description()).await.map_err(boxed)?;
        let mut cursor = self.resume(&mut conn, &stream).await?;
        save(&mut conn, &stream, &cursor, self.scope).await?;
        tracing::info!(position = %cursor.told.position, "the feed publishes");
        let mut advanced = self.projections.advanced();
        loop {
            // The rest of an append that was cut off is in the batch again.
            let after = Position(cursor.told.position.0.saturating_sub(1));
            let events = self.projections.events_after(after, MAX_BATCH_EVENTS).await?;
            let mut new: Vec<Arc<Recorded>> =
                events.into_iter().filter(|event| place(event) > cursor.told).collect();
            let Some(last) = new.last().map(|event| place(event)) else {
                *pause = FIRST_PAUSE;
                let more = advanced.wait_for(|reached| *reached > cursor.told.position);
                if tokio::time::timeout(LOOK_EVERY, more).await.is_err() {
                    conn.ping().await?;
                }
                continue;
            };
            // First, because nobody comes back to an event that was told.
            let gone = erased(&new);
            for person in &gone {
                take_out(&stream, *person).await?;
            }
            new.retain(|event| event.subject.is_none_or(|subject| !gone.contains(&subject)));
            cursor.sequence = self.send(&context, &new, cursor.sequence).await?;
            cursor.told = last;
            save(&mut conn, &stream, &cursor, self.scope).await?;
        }
    }

    /// Where to go on: after the last message, or after what was told to this very stream.
    async fn resume(&self, conn: &mut PgConnection, stream: &Stream) -> Result<Cursor, Trouble> {
        let info = stream.get_info().await.map_err(boxed)?;
        let mut told = Place { position: Position::START, ordinal: 0 };
        if info.state.messages > 0 {
            let last = stream
                .get_last_raw_message_by_subject(&format!("{SUBJECT_PREFIX}.>"))
                .await
                .map_err(boxed)?;
            told.position = Position(number(&last.headers, POSITION_HEADER));
            told.ordinal = number(&last.headers, ORDINAL_HEADER);
            let id = last.headers.get(NATS_MESSAGE_ID).map(|id| id.as_str());
            if !self.has(told, id.unwrap_or_default()).await? {
                return Err(Trouble::OtherLog);
            }
        }
        if let Some(saved) = saved(conn, stream).await? {
            if saved.scope.as_deref() == Some(word(FeedScope::All)) && self.scope == FeedScope::Public {
                tracing::warn!(
                    "the stream {STREAM} was told everything while `nats_feed` was `all`, and still has it: \
                     delete the stream, and it is filled anew with public facts"
                );
            }
            // Messages may have been deleted or have ended by themselves since; but where the stream ends earlier
            // than it did, NATS has lost what it had acknowledged.
            if saved.sequence.is_none_or(|sequence| sequence <= info.state.last_sequence) {
                told = told.max(saved.told);
            }
        }
        if told.position > self.log.head().await? {
            return Err(Trouble::OtherLog);
        }
        Ok(Cursor { told, sequence: info.state.last_sequence })
    }

    /// Whether the log has this event there; of what a stranger wrote into the stream nothing is asked.
    async fn has(&self, told: Place, id: &str) -> Result<bool, LogError> {
        if told.position == Position::START {
            return Ok(true);
        }
        let before = Position(told.position.0.saturating_sub(1));
        let events = self.log.after(before, 1).await?;
        Ok(events.iter().any(|event| place(event) == told && event.id.to_string() == id))
    }

    /// Sends what is to be told; the new last sequence, when all of it is stored.
    async fn send(
        &self,
        context: &Context,
        events: &[Arc<Recorded>],
        mut sequence: u64,
    ) -> Result<u64, Trouble> {
        let now = self.clock.now();
        let mut stored = Vec::new();
        for event in events {
            let Some(data) = facts::told(&self.commands, event, self.scope, now).await? else { continue };
            let body = json!({
                "id": event.id, "kind": event.kind, "position": event.position.0,
                "ordinal": event.ordinal, "at": event.at, "data": data,
            });
            let body = body.to_string();
            if body.len() > self.nats.server_info().max_payload {
                tracing::error!(position = %event.position, "an event is too large for NATS; the feed leaves it out");
                continue;
            }
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, event.id.to_string());
            headers.insert(NATS_EXPECTED_LAST_SEQUENCE, sequence.to_string());
            headers.insert(POSITION_HEADER, event.position.to_string());
            headers.insert(ORDINAL_HEADER, event.ordinal.to_string());
            if let Some(subject) = facts::whose(event, self.scope) {
                headers.insert(SUBJECT_HEADER, subject.to_string());
            }
            let subject = format!("{SUBJECT_PREFIX}.{}", event.kind);
            let sent = context.publish_with_headers(subject, headers, body.into()).await;
            stored.push(sent.map_err(boxed)?.into_future());
            sequence += 1;
        }
        let mut last = None;
        for answer in stored {
            let answer = answer.await.map_err(boxed)?;
            if answer.duplicate {
                return Err(Trouble::Overtaken);
            }
            last = Some(answer.sequence);
        }
        if last.is_some_and(|last| last != sequence) { Err(Trouble::Overtaken) } else { Ok(sequence) }
    }
}

fn description() -> stream::Config {
    stream::Config {
        name: STREAM.to_owned(),
        description: Some("What happens on a Kiroku server".to_owned()),
        subjects: vec![format!("{SUBJECT_PREFIX}.>")],
        ..stream::Config::default()
    }
}

fn place(event: &Recorded) -> Place {
    Place { position: event.position, ordinal: event.ordinal }
}

fn boxed(error: impl Into<async_nats::Error>) -> Trouble {
    Trouble::Stream(error.into())
}

fn word(scope: FeedScope) -> &'static str {
    match scope {
        FeedScope::Public => "public",
        FeedScope::All => "all",
    }
}

fn number<T: FromStr + Default>(headers: &HeaderMap, name: &str) -> T {
    headers.get(name).and_then(|value| value.as_str().parse().ok()).unwrap_or_default()
}

/// Who is erased by these events.
fn erased(events: &[Arc<Recorded>]) -> Vec<UserId> {
    let who = |recorded: &Arc<Recorded>| match &recorded.event {
        Some(Event::UserErased(erased)) => Some(erased.user),
        _ => None,
    };
    events.iter().filter_map(who).collect()
}

/// Deletes all messages with a person's data, so that nothing is left of them on the disk of NATS.
async fn take_out(stream: &Stream, person: UserId) -> Result<(), Trouble> {
    let config = pull::Config {
        headers_only: true,
        ack_policy: AckPolicy::None,
        inactive_threshold: SEARCH_WITHIN * 2,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(boxed)?;
    let mut left = consumer.cached_info().num_pending;
    let person = person.to_string();
    let mut deleted = 0_u64;
    while left > 0 {
        let page = consumer.fetch().max_messages(MAX_SEARCHED).expires(SEARCH_WITHIN).messages().await;
        let page: Vec<_> = page.map_err(boxed)?.try_collect().await?;
        if page.is_empty() {
            return Err(Trouble::Unsearched);
        }
        left = left.saturating_sub(page.len() as u64);
        let theirs = page.into_iter().filter(|message| {
            let headers = message.headers.as_ref();
            headers.and_then(|h| h.get(SUBJECT_HEADER)).is_some_and(|value| value.as_str() == person)
        });
        let sequences: Vec<u64> = theirs
            .map(|message| message.info().map(|info| info.stream_sequence))
            .collect::<Result<_, _>>()?;
        deleted += sequences.len() as u64;
        let deletions = futures_util::stream::iter(sequences).map(|sequence| stream.delete_message(sequence));
        let _: Vec<bool> = deletions.buffer_unordered(16).try_collect().await.map_err(boxed)?;
    }
    tracing::info!(deleted, "the feed has taken out an erased person");
    Ok(())
}

async fn lock(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('kiroku.feed', 0))")
        .fetch_one(conn)
        .await
}

/// A stream that is deleted and made again has another time of creation.
fn identity(stream: &Stream) -> String {
    stream.cached_info().created.to_string()
}

/// What was told to a stream.
struct Saved {
    told: Place,
    /// The last message of the stream then; none when that is not known.
    sequence: Option<u64>,
    /// The most that it was ever told; none when that is not known.
    scope: Option<String>,
}

async fn saved(conn: &mut PgConnection, stream: &Stream) -> sqlx::Result<Option<Saved>> {
    let saved: Option<(i64, i32, Option<i64>, Option<String>)> =
        sqlx::query_as("select position, ordinal, sequence, scope from ops.feed where stream = $1")
            .bind(identity(stream))
            .fetch_optional(conn)
            .await?;
    Ok(saved.map(|(position, ordinal, sequence, scope)| {
        let position = Position(position.unsigned_abs());
        let told = Place { position, ordinal: ordinal.unsigned_abs() };
        Saved { told, sequence: sequence.map(i64::unsigned_abs), scope }
    }))
}

async fn save(
    conn: &mut PgConnection,
    stream: &Stream,
    cursor: &Cursor,
    scope: FeedScope,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into ops.feed as f (one, stream, position, ordinal, sequence, scope)
         values (true, $1, $2, $3, $4, $5)
         on conflict (one) do update
            set stream = excluded.stream, position = excluded.position, ordinal = excluded.ordinal,
                sequence = excluded.sequence,
                scope = case when f.stream = excluded.stream and f.scope = 'all' then 'all'
                             else excluded.scope end",
    )
    .bind(identity(stream))
    .bind(cursor.told.position.0 as i64)
    .bind(cursor.told.ordinal as i32)
    .bind(cursor.sequence as i64)
    .bind(word(scope))
    .execute(conn)
    .await?;
    Ok(())
}
