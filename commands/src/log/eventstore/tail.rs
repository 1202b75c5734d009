//! The end of the log as the server tells it by itself: a subscription, and the newest appends in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::log::Position;
use eventstore::{
    ReadAllOptions, StreamPosition, SubscribeToAllOptions, SubscriptionEvent, SubscriptionFilter,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::super::{MAX_WAIT, Sealed};
use super::from;
use super::server::{FIRST_PAUSE, Fault, LONGEST_PAUSE, Link, Server, next, opened};
use super::stored::{Appends, Names, place};

/// The most events that are kept in memory.
const MAX_RECENT_EVENTS: usize = 4096;
/// How long a subscription that says nothing is taken for one that has nothing to say.
const TRUSTED_FOR: Duration = Duration::from_millis(500);
/// How many events the server looks at before it tells a subscription how far it is.
const FILTER_WINDOW: u32 = 512;

pub(super) struct Tail {
    /// The last append that this process knows of.
    head: watch::Sender<Position>,
    recent: watch::Sender<Recent>,
}

struct Recent {
    /// Everything after this position, up to the other one, is here.
    since: u64,
    until: u64,
    rows: VecDeque<Sealed>,
    /// Nothing more of ours is up to this place.
    passed: u64,
    heard: Option<Instant>,
}

impl Tail {
    pub fn new(head: Position) -> Self {
        Self { head: watch::Sender::new(head), recent: watch::Sender::new(Recent::from(head.0)) }
    }

    pub fn head(&self) -> Position {
        *self.head.borrow()
    }

    /// Something was appended.
    pub fn advance(&self, to: Position) {
        self.head.send_if_modified(|known| {
            let ahead = to > *known;
            *known = to.max(*known);
            ahead
        });
    }

    pub async fn wait(&self, position: Position) {
        let mut head = self.head.subscribe();
        _ = timeout(MAX_WAIT, head.wait_for(|head| *head > position)).await;
    }

    /// What is after a position; none when the server must be asked.
    pub async fn after(&self, position: u64, limit: usize) -> Option<Vec<Sealed>> {
        let head = self.head().0;
        if self.recent.borrow().since <= position {
            // What is there is about to be told.
            let mut recent = self.recent.subscribe();
            let told = recent.wait_for(|recent| recent.until >= head || recent.since > position);
            _ = timeout(MAX_WAIT, told).await;
        }
        let recent = self.recent.borrow();
        let rows = recent.after(position, limit)?;
        let is_new = recent.heard.is_some_and(|heard| heard.elapsed() < TRUSTED_FOR);
        (rows.len() >= limit || (is_new && recent.until >= head)).then_some(rows)
    }

    /// The place up to which there is nothing of ours after a position, as far as is known.
    pub fn passed(&self, position: u64) -> u64 {
        let recent = self.recent.borrow();
        if position < recent.until { position } else { position.max(recent.passed) }
    }

    /// Listens to the server for as long as the log is open.
    pub async fn follow(self: Arc<Self>, server: Arc<Server>, names: Names) {
        let mut pause = FIRST_PAUSE;
        loop {
            let link = server.link();
            let mut appends = Appends::default();
            let mut at = self.recent.borrow().until;
            let options = SubscribeToAllOptions::default()
                .position(from(at))
                .requires_leader(true)
                .filter(SubscriptionFilter::on_stream_name().max(FILTER_WINDOW).add_prefix(&names.events));
            let mut events = link.client.subscribe_to_all(&options).await;
            let error = loop {
                let told = match events.next_subscription_event().await {
                    Ok(told) => told,
                    Err(error) => break error,
                };
                pause = FIRST_PAUSE;
                match told {
                    SubscriptionEvent::EventAppeared(told) => {
                        // Some are told twice.
                        let is_new = |place| place > at;
                        let Some(event) = told.event.filter(|event| is_new(event.position.commit)) else {
                            continue;
                        };
                        at = event.position.commit;
                        match appends.push(&names, &event) {
                            Ok(()) => self.heard(appends.take_whole(), None),
                            // Whoever reads the log meets it, and says so.
                            Err(_) => self.give_up(at),
                        }
                    }
                    SubscriptionEvent::Checkpoint(place) if appends.is_empty() => {
                        self.heard(Vec::new(), Some(place.commit));
                    }
                    _ => self.heard(Vec::new(), None),
                }
            };
            tracing::debug!(%error, "the log is subscribed to again");
            server.replace(&link);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn heard(&self, appends: Vec<Sealed>, passed: Option<u64>) {
        let last = appends.last().map(|row| row.position);
        self.recent.send_if_modified(|recent| {
            recent.heard = Some(Instant::now());
            recent.passed = recent.passed.max(passed.unwrap_or_default());
            recent.push(appends);
            last.is_some()
        });
        if let Some(last) = last {
            self.advance(Position(last));
        }
    }

    /// Nothing is told from memory any more.
    fn give_up(&self, at: u64) {
        self.recent.send_modify(|recent| *recent = Recent { since: u64::MAX, ..Recent::from(at) });
        self.advance(Position(at));
    }
}

impl Recent {
    fn from(position: u64) -> Self {
        Self { since: position, until: position, rows: VecDeque::new(), passed: position, heard: None }
    }

    fn push(&mut self, appends: Vec<Sealed>) {
        let Some(last) = appends.last() else { return };
        self.until = last.position;
        if self.since == u64::MAX {
            return;
        }
        self.rows.extend(appends);
        while self.rows.len() > MAX_RECENT_EVENTS {
            // Whole appends only.
            let Some(oldest) = self.rows.front().map(|row| row.position) else { break };
            while self.rows.front().is_some_and(|row| row.position == oldest) {
                self.rows.pop_front();
            }
            self.since = oldest;
        }
    }

    /// Whole appends after a position, about `limit` events; none when older ones are asked for.
    fn after(&self, position: u64, limit: usize) -> Option<Vec<Sealed>> {
        if position < self.since {
            return None;
        }
        let mut found: Vec<Sealed> = Vec::new();
        for row in self.rows.range(self.rows.partition_point(|row| row.position <= position)..) {
            if found.len() >= limit && found.last().is_none_or(|last| last.position != row.position) {
                break;
            }
            found.push(row.clone());
        }
        Some(found)
    }
}

/// The last append; nothing up to `known`, which is one or before the first, is looked at.
pub(super) async fn stored_head(link: &Link, names: &Names, known: u64) -> Result<Option<Position>, Fault> {
    let options = ReadAllOptions::default().position(StreamPosition::End).requires_leader(true);
    let mut events = opened(link.client.read_all(&options)).await?;
    while let Some(event) = next(&mut events).await? {
        if event.position.commit <= known {
            break;
        }
        if names.is_ours(&event)
            && let Ok((row, events)) = names.row(&event)
            && row.ordinal.checked_add(1) == Some(events)
        {
            return Ok(Some(Position(place(&event)?)));
        }
    }
    Ok(None)
}
