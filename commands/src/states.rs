//! Folded states kept ready, so that a hot command reads nothing from the log.
//!
//! Only states of streams that nobody has written since they were read are handed out. This process knows
//! of its own writes at once, and of those of others by the tail of the log; so a state is handed out only
//! while the tail is known to have caught up a moment ago ([`STALE_AFTER`]). The version guard of the append
//! decides all the same. Nothing else ages here: what isn't asked for makes room.

use std::any::Any;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::Fold;
use domain::log::{AppendError, Position, Recorded, StreamId, Version};
use lru::LruCache;
use tokio::time::Instant;

/// How long after the tail asked the log for the last time states may be used.
pub const STALE_AFTER: Duration = Duration::from_secs(2);

/// The kind after which any state may hold words that are no more.
const ERASED: &str = "user.erased";
/// The most streams remembered; about 1 KiB each.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(32_768).unwrap();

/// A state, the version it was folded at, and the position of its last event.
pub(crate) struct Loaded<S> {
    pub state: Arc<S>,
    pub version: Version,
    pub position: Position,
    /// Not read from the log just now.
    pub is_remembered: bool,
}

/// The states of one server.
pub(crate) struct States {
    kept: Mutex<Kept>,
}

struct Kept {
    streams: LruCache<StreamId, Stream>,
    /// Moves when something known is forgotten, such as a stream that made room for another.
    forgotten: u64,
    /// All that was in the log at this instant is known here; none while nobody follows the log.
    fresh: Option<Instant>,
}

enum Stream {
    Folded {
        state: Arc<dyn Any + Send + Sync>,
        version: Version,
        position: Position,
    },
    /// Written at this position, and not read since.
    Written(Position),
}

/// Taken before a stream is read from the log.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    forgotten: u64,
}

impl Default for States {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept { streams: LruCache::new(MAX_KEPT), forgotten: 0, fresh: None }) }
    }
}

impl States {
    /// The state of a stream, if it is known to be the newest.
    pub fn get<S: Fold>(&self, stream: &StreamId) -> Option<Loaded<S>> {
        let mut kept = self.lock();
        if kept.fresh?.elapsed() > STALE_AFTER {
            return None;
        }
        match kept.streams.get(stream)? {
            Stream::Folded { state, version, position } => {
                let state = Arc::clone(state).downcast().ok()?;
                Some(Loaded { state, version: *version, position: *position, is_remembered: true })
            }
            Stream::Written(_) => None,
        }
    }

    /// To be asked before a stream is read, for [`Self::put`].
    pub fn reading(&self) -> Reading {
        Reading { forgotten: self.lock().forgotten }
    }

    /// Keeps what was read, unless the stream may have been written in the meantime.
    pub fn put<S: Fold>(&self, stream: &StreamId, loaded: &Loaded<S>, reading: Reading) {
        let mut kept = self.lock();
        let is_newest = match kept.streams.peek(stream) {
            Some(Stream::Folded { position, .. } | Stream::Written(position)) => loaded.position >= *position,
            None => kept.forgotten == reading.forgotten,
        };
        if is_newest {
            let (version, position) = (loaded.version, loaded.position);
            kept.push(stream, Stream::Folded { state: loaded.state.clone(), version, position });
        }
    }

    /// Takes note of what became of an append to a stream.
    pub fn appended(&self, stream: &StreamId, outcome: &Result<Position, AppendError>) {
        let at = match outcome {
            Ok(position) => *position,
            // Whether it was written, or still will be, is unknown: that is for the tail to tell.
            Err(AppendError::Conflict { .. } | AppendError::Log(_)) => {
                let mut kept = self.lock();
                kept.streams.pop(stream);
                kept.forgotten += 1;
                return;
            }
            // Others went on without this process, who knows for how long.
            Err(AppendError::Fenced) => {
                self.clear();
                return;
            }
            Err(
                AppendError::Empty
                | AppendError::TooMany
                | AppendError::Overloaded
                | AppendError::Erased { .. },
            ) => return,
        };
        self.lock().written(stream, at);
    }

    /// Takes note of what the tail of the log has come to; without gaps since the first [`Self::fresh`].
    pub fn heard(&self, events: &[Arc<Recorded>]) {
        let mut kept = self.lock();
        for event in events {
            if event.kind == ERASED {
                kept.clear();
            }
            kept.written(&event.stream, event.position);
        }
    }

    /// All that was in the log at this instant has been heard. What was read before the first time is
    /// forgotten: nobody followed the log then.
    pub fn fresh(&self, asked: Instant) {
        let mut kept = self.lock();
        if kept.fresh.is_none() {
            kept.clear();
        }
        kept.fresh = kept.fresh.max(Some(asked));
    }

    /// Forgets everything, also what is being read now: somebody was erased, whose words it may hold.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn written(&mut self, stream: &StreamId, at: Position) {
        let is_known = match self.streams.peek(stream) {
            Some(Stream::Folded { position, .. } | Stream::Written(position)) => *position >= at,
            None => false,
        };
        if !is_known {
            self.push(stream, Stream::Written(at));
        }
    }

    fn clear(&mut self) {
        self.streams.clear();
        self.forgotten += 1;
    }

    fn push(&mut self, stream: &StreamId, known: Stream) {
        if self.streams.push(stream.clone(), known).is_some_and(|(other, _)| other != *stream) {
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use domain::log::LogError;
    use domain::{CommandId, Event, EventId};
    use uuid::Uuid;

    #[derive(Default)]
    struct Nothing;

    impl Fold for Nothing {
        fn apply(&mut self, _: &Event) {}
    }

    fn at(position: u64) -> Loaded<Nothing> {
        let (version, position) = (Version(position), Position(position));
        Loaded { state: Arc::default(), version, position, is_remembered: false }
    }

    fn followed() -> States {
        let states = States::default();
        states.fresh(Instant::now());
        states
    }

    fn event(stream: &StreamId, position: u64) -> Arc<Recorded> {
        Arc::new(Recorded {
            position: Position(position),
            ordinal: 0,
            id: EventId(Uuid::nil()),
            stream: stream.clone(),
            version: Version(position),
            kind: "a.b".to_owned(),
            at: DateTime::UNIX_EPOCH,
            subject: None,
            actor: None,
            command: CommandId(Uuid::nil()),
            event: None,
        })
    }

    fn known(states: &States, stream: &StreamId) -> Option<u64> {
        states.get::<Nothing>(stream).map(|loaded| loaded.position.0)
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        let (states, stream) = (followed(), StreamId::new("a", 1));
        let reading = states.reading();
        states.put(&stream, &at(1), reading);
        assert_eq!(known(&states, &stream), Some(1));
        states.appended(&stream, &Ok(Position(2)));
        assert_eq!(known(&states, &stream), None);
        states.put(&stream, &at(1), reading);
        assert_eq!(known(&states, &stream), None, "it was read before the write");
        states.put(&stream, &at(2), states.reading());
        assert_eq!(known(&states, &stream), Some(2));
        states.appended(&stream, &Ok(Position(2)));
        assert_eq!(known(&states, &stream), Some(2), "the reader was faster than the writer's own note");
    }

    #[test]
    fn what_was_forgotten_meanwhile_is_not_kept() {
        let (states, stream) = (followed(), StreamId::new("a", 1));
        let reading = states.reading();
        states.appended(&stream, &Ok(Position(2)));
        for other in 0..MAX_KEPT.get() {
            states.appended(&StreamId::new("b", other), &Ok(Position(3)));
        }
        states.put(&stream, &at(1), reading);
        assert_eq!(known(&states, &stream), None);
        states.put(&stream, &at(2), states.reading());
        assert_eq!(known(&states, &stream), Some(2));
    }

    #[test]
    fn a_conflict_or_an_unknown_outcome_makes_a_state_unknown() {
        let (states, stream) = (followed(), StreamId::new("a", 1));
        states.put(&stream, &at(1), states.reading());
        states.appended(&stream, &Err(AppendError::Overloaded));
        assert_eq!(known(&states, &stream), Some(1));
        states.appended(&stream, &Err(AppendError::Conflict { actual: Version(2) }));
        assert_eq!(known(&states, &stream), None);
        states.put(&stream, &at(2), states.reading());
        let reading = states.reading();
        states.appended(&stream, &Err(LogError::Unavailable(String::new()).into()));
        assert_eq!(known(&states, &stream), None);
        states.put(&stream, &at(2), reading);
        assert_eq!(known(&states, &stream), None, "it was read before");
        states.put(&stream, &at(2), states.reading());
        assert_eq!(known(&states, &stream), Some(2));
        states.heard(&[event(&stream, 3)]);
        assert_eq!(known(&states, &stream), None, "it was written all the same");
    }

    #[test]
    fn what_others_have_written_is_not_known_any_more() {
        let (states, stream) = (followed(), StreamId::new("a", 1));
        states.put(&stream, &at(2), states.reading());
        states.heard(&[event(&stream, 1), event(&stream, 2)]);
        assert_eq!(known(&states, &stream), Some(2), "that is what it was folded of");
        states.heard(&[event(&stream, 3)]);
        assert_eq!(known(&states, &stream), None);

        let other = StreamId::new("a", 2);
        let reading = states.reading();
        states.heard(&[event(&other, 4)]);
        states.put(&other, &at(1), reading);
        assert_eq!(known(&states, &other), None, "it was read before the other's write");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_while_nobody_asks_the_log() {
        let (states, stream) = (States::default(), StreamId::new("a", 1));
        let reading = states.reading();
        states.put(&stream, &at(1), reading);
        assert_eq!(known(&states, &stream), None, "nobody follows the log");
        states.fresh(Instant::now());
        assert_eq!(known(&states, &stream), None, "nobody followed it when this was read");
        states.put(&stream, &at(1), reading);
        assert_eq!(known(&states, &stream), None, "nor when this was");

        states.put(&stream, &at(1), states.reading());
        tokio::time::advance(STALE_AFTER).await;
        assert_eq!(known(&states, &stream), Some(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(known(&states, &stream), None);
        states.fresh(Instant::now());
        assert_eq!(known(&states, &stream), Some(1), "and nobody had written it");
    }

    #[test]
    fn who_was_fenced_knows_nothing() {
        let (states, stream) = (followed(), StreamId::new("a", 1));
        states.put(&stream, &at(1), states.reading());
        let reading = states.reading();
        states.appended(&StreamId::new("a", 2), &Err(AppendError::Fenced));
        assert_eq!(known(&states, &stream), None);
        states.put(&stream, &at(1), reading);
        assert_eq!(known(&states, &stream), None, "it was read before");
    }
}
