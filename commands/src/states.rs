//! Folded states kept ready, so that a hot command reads nothing from the log.
//!
//! Only states of streams that nobody has written since they were read are handed out. This process is the
//! only writer of the log (it is opened as the sole one), so it knows of every write; the version guard of
//! the append decides all the same when it is wrong. Nothing here ages: what isn't asked for makes room.

use std::any::Any;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::Fold;
use domain::log::{AppendError, Position, StreamId, Version};
use lru::LruCache;

/// The most streams remembered; about 1 KiB each.
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(32_768).unwrap();

/// A state, the version it was folded at, and the position of its last event.
pub(crate) struct Loaded<S> {
    pub state: Arc<S>,
    pub version: Version,
    pub position: Position,
}

/// The states of one server.
pub(crate) struct States {
    kept: Mutex<Kept>,
}

struct Kept {
    streams: LruCache<StreamId, Stream>,
    /// How many streams have made room for others: what was known of them is forgotten.
    forgotten: u64,
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
        Self { kept: Mutex::new(Kept { streams: LruCache::new(MAX_KEPT), forgotten: 0 }) }
    }
}

impl States {
    /// The state of a stream, if it is known.
    pub fn get<S: Fold>(&self, stream: &StreamId) -> Option<Loaded<S>> {
        match self.lock().streams.get(stream)? {
            Stream::Folded { state, version, position } => {
                let state = Arc::clone(state).downcast().ok()?;
                Some(Loaded { state, version: *version, position: *position })
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
            // Whether it was written is unknown, so nothing is known of the stream any more.
            Err(AppendError::Log(_)) => Position(u64::MAX),
            Err(AppendError::Conflict { .. }) => {
                self.lock().streams.pop(stream);
                return;
            }
            Err(
                AppendError::Empty | AppendError::TooMany | AppendError::Fenced | AppendError::Overloaded,
            ) => {
                return;
            }
        };
        let mut kept = self.lock();
        let is_known = match kept.streams.peek(stream) {
            Some(Stream::Folded { position, .. } | Stream::Written(position)) => *position >= at,
            None => false,
        };
        if !is_known {
            kept.push(stream, Stream::Written(at));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, stream: &StreamId, known: Stream) {
        if self.streams.push(stream.clone(), known).is_some_and(|(other, _)| other != *stream) {
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Event;
    use domain::log::LogError;

    #[derive(Default)]
    struct Nothing;

    impl Fold for Nothing {
        fn apply(&mut self, _: &Event) {}
    }

    fn at(position: u64) -> Loaded<Nothing> {
        Loaded { state: Arc::default(), version: Version(position), position: Position(position) }
    }

    fn known(states: &States, stream: &StreamId) -> Option<u64> {
        states.get::<Nothing>(stream).map(|loaded| loaded.position.0)
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        let (states, stream) = (States::default(), StreamId::new("a", 1));
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
        let (states, stream) = (States::default(), StreamId::new("a", 1));
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
        let (states, stream) = (States::default(), StreamId::new("a", 1));
        states.put(&stream, &at(1), states.reading());
        states.appended(&stream, &Err(AppendError::Overloaded));
        assert_eq!(known(&states, &stream), Some(1));
        states.appended(&stream, &Err(AppendError::Conflict { actual: Version(2) }));
        assert_eq!(known(&states, &stream), None);
        states.put(&stream, &at(2), states.reading());
        states.appended(&stream, &Err(LogError::Unavailable(String::new()).into()));
        states.put(&stream, &at(2), states.reading());
        assert_eq!(known(&states, &stream), None);
    }
}
