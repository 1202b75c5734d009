//! The end of the log, read once for all projectors: a bounded ring of the newest events, without what
//! was said by people who have been erased. Who is further behind reads the log itself.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use domain::UserId;
use domain::log::{EventLog, LogError, Position, Recorded};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::backoff::{Backoff, stopped};
use crate::erased;

/// Events kept in memory.
pub const MAX_RING_EVENTS: usize = 8_192;
/// Events asked of the log at once.
pub const READ_EVENTS: usize = 1_000;
/// How long the next reading waits after one that found something, so that what is written meanwhile is projected
/// together: to begin and end a transaction of each projector costs more than what is written in it. Who writes
/// now and then never waits for it.
const GATHERED_FOR: Duration = Duration::from_millis(3);
/// How long a lost wake-up of the log can delay an event.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How far this process has read the log.
#[derive(Debug, Clone)]
pub struct Head {
    pub position: Position,
    /// Everything that was in the log at this instant is up to `position`; none before the first reading.
    pub asked: Option<Instant>,
    /// Why the tail can't go on: an event after `position` can't be read by this program.
    pub broken: Option<Arc<str>>,
}

#[derive(Default)]
struct Ring {
    /// Everything after this position, up to the head, is in the ring; none before the first read.
    floor: Option<Position>,
    events: VecDeque<Arc<Recorded>>,
}

pub(crate) struct Tail {
    log: Arc<dyn EventLog>,
    ring: RwLock<Ring>,
    head: watch::Sender<Head>,
    nudged: Notify,
}

impl Tail {
    pub(crate) fn new(log: Arc<dyn EventLog>) -> Self {
        let head = Head { position: Position::START, asked: None, broken: None };
        Self { log, ring: RwLock::default(), head: watch::Sender::new(head), nudged: Notify::new() }
    }

    /// Follows the log until it is asked to stop, or meets an event that it can't read. `came` is told whenever it
    /// has got further: from where, and by which events. It is told of none at the first look, and at the last.
    pub(crate) async fn follow(
        &self,
        mut stop: watch::Receiver<bool>,
        came: impl Fn(Position, &[Arc<Recorded>]),
    ) {
        let mut backoff = Backoff::default();
        let mut at = loop {
            let asked = Instant::now();
            match self.log.head().await {
                Ok(position) => {
                    self.ring.write().unwrap_or_else(PoisonError::into_inner).floor = Some(position);
                    self.head.send_modify(|head| (head.position, head.asked) = (position, Some(asked)));
                    came(position, &[]);
                    break position;
                }
                Err(error) => {
                    tracing::warn!(%error, "the head of the log can't be read; trying again");
                    if backoff.pause(&mut stop).await {
                        return;
                    }
                }
            }
        };
        while !*stop.borrow() {
            let asked = Instant::now();
            match self.log.after(at, READ_EVENTS).await {
                Ok(events) => {
                    backoff.reset();
                    let (read, last) = (events.len(), events.last().map(|event| event.position));
                    let events: Vec<Arc<Recorded>> = events.into_iter().map(Arc::new).collect();
                    self.push(&events);
                    self.head.send_modify(|head| {
                        head.position = last.unwrap_or(at);
                        if read < READ_EVENTS {
                            head.asked = Some(asked);
                        }
                    });
                    if let Some(last) = last {
                        came(at, &events);
                        at = last;
                        if read < READ_EVENTS {
                            tokio::select! {
                                () = stopped(&mut stop) => return,
                                () = tokio::time::sleep(GATHERED_FOR) => (),
                            }
                        }
                        continue;
                    }
                    tokio::select! {
                        () = stopped(&mut stop) => return,
                        () = self.log.wait(at) => (),
                        () = self.nudged.notified() => (),
                        () = tokio::time::sleep(ASK_AGAIN) => (),
                    }
                }
                Err(error @ LogError::Unreadable { .. }) => {
                    tracing::error!(%error, after = at.0, "the log can't be followed any further");
                    self.head.send_modify(|head| head.broken = Some(error.to_string().into()));
                    came(at, &[]);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, after = at.0, "the log can't be read; trying again");
                    if backoff.pause(&mut stop).await {
                        return;
                    }
                }
            }
        }
    }

    fn push(&self, events: &[Arc<Recorded>]) {
        let gone: HashSet<UserId> = events.iter().filter_map(|event| erased::who(event)).collect();
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        ring.events.extend(events.iter().cloned());
        if !gone.is_empty() {
            let theirs = |event: &&mut Arc<Recorded>| event.subject.is_some_and(|of| gone.contains(&of));
            for event in ring.events.iter_mut().filter(theirs) {
                *event = Arc::new(Recorded { event: None, ..Recorded::clone(event) });
            }
        }
        while ring.events.len() > MAX_RING_EVENTS {
            // Whole appends only: a position is either in the ring or not.
            let Some(oldest) = ring.events.front().map(|event| event.position) else { break };
            while ring.events.front().is_some_and(|event| event.position == oldest) {
                ring.events.pop_front();
            }
            ring.floor = Some(oldest);
        }
    }

    pub(crate) fn head(&self) -> Head {
        self.head.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Returns when the tail has come to `position`, is broken, or it is late; says where it is.
    pub(crate) async fn reach(&self, position: Position, deadline: Instant) -> Head {
        let mut head = self.head.subscribe();
        let there = head.wait_for(|head| head.position >= position || head.broken.is_some());
        let _ = timeout_at(deadline, there).await;
        self.head()
    }

    /// Asks the log again now, if it is known to have something at `position`.
    pub(crate) fn nudge(&self, position: Position) {
        if self.head.borrow().position < position {
            self.nudged.notify_one();
        }
    }

    /// Asks the log again now.
    pub(crate) fn ask(&self) {
        self.nudged.notify_one();
    }

    /// The last event in memory after `from` and up to `to` that is wanted.
    pub(crate) fn last(
        &self,
        from: Position,
        to: Position,
        wanted: impl Fn(&Recorded) -> bool,
    ) -> Option<Position> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let until = ring.events.partition_point(|event| event.position <= to);
        let mut newest_first = ring.events.range(..until).rev().take_while(|event| event.position > from);
        newest_first.find(|event| wanted(event)).map(|event| event.position)
    }

    /// All events after `from` and up to `to`, if they are in memory.
    pub(crate) fn between(&self, from: Position, to: Position) -> Option<Vec<Arc<Recorded>>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if ring.floor.is_none_or(|floor| from < floor) {
            return None;
        }
        let first = ring.events.partition_point(|event| event.position <= from);
        let last = ring.events.partition_point(|event| event.position <= to);
        Some(ring.events.range(first..last.max(first)).cloned().collect())
    }

    /// Events after a position: about `limit`, always whole appends.
    pub(crate) async fn after(
        &self,
        position: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, LogError> {
        if let Some(events) = self.recent(position, limit) {
            return Ok(events);
        }
        let events = self.log.after(position, limit).await?;
        Ok(events.into_iter().map(Arc::new).collect())
    }

    fn recent(&self, position: Position, limit: usize) -> Option<Vec<Arc<Recorded>>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if ring.floor.is_none_or(|floor| position < floor) {
            return None;
        }
        let from = ring.events.partition_point(|event| event.position <= position);
        let mut events: Vec<Arc<Recorded>> = Vec::new();
        for event in ring.events.range(from..) {
            if events.len() >= limit && events.last().is_none_or(|last| last.position != event.position) {
                break;
            }
            events.push(Arc::clone(event));
        }
        Some(events)
    }

    /// How many events there are after a position; an estimate when they are not in memory.
    pub(crate) fn count_after(&self, position: Position) -> u64 {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if ring.floor.is_some_and(|floor| position >= floor) {
            let from = ring.events.partition_point(|event| event.position <= position);
            return (ring.events.len() - from) as u64;
        }
        let head = self.head.borrow().position;
        head.0.saturating_sub(position.0).max(ring.events.len() as u64)
    }
}
