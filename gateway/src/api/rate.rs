//! How often one caller may call: at most so many calls in any stretch of time (a sliding window, in
//! which refused calls count as well), and a shortest interval between two calls. Here calls are counted in
//! memory, which a restart forgets; [`super::limiter`] says when.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// The most windows kept at once; beyond it the ended ones go, then any.
pub const MAX_WINDOWS: usize = 100_000;
/// The most calls remembered at once, over all windows.
pub const MAX_CALLS: usize = 2_000_000;
/// The most calls that one window may allow.
pub const MAX_PER_WINDOW: u32 = 10_000;

/// Durations for limits, in milliseconds.
pub mod per {
    pub const SECOND: u64 = 1_000;
    pub const MINUTE: u64 = 60 * SECOND;
    pub const HOUR: u64 = 60 * MINUTE;
}

/// The limit of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// Endpoints with the same key share their limit; the endpoint's path when none is given.
    pub key: Option<&'static str>,
    /// Calls and the duration in which they may be made, in milliseconds.
    pub window: Option<(u32, u64)>,
    /// The shortest time between two calls, in milliseconds.
    pub interval: Option<u64>,
}

/// A call came too early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TooOften {
    /// When a call will be possible again, if none is made until then.
    pub reset_ms: i64,
    /// Calls allowed in a window.
    pub total: f64,
}

impl TooOften {
    /// Whole seconds to wait.
    pub fn retry_after(&self, now: DateTime<Utc>) -> u64 {
        let millis = (self.reset_ms - now.timestamp_millis()).max(1) as u64;
        millis.div_ceil(1_000)
    }
}

/// One count that a call adds to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Count {
    pub key: String,
    /// Calls that the window allows.
    pub max: f64,
    pub duration_ms: i64,
}

/// The calls of one window, as they are handed on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Remembered {
    pub key: String,
    pub duration_ms: i64,
    /// How long ago calls were made, the longest first, in milliseconds.
    pub ago_ms: Vec<i64>,
}

/// The calls of all callers.
#[derive(Default)]
pub struct RateLimiter {
    windows: Mutex<Windows>,
}

#[derive(Default)]
struct Windows {
    by_key: HashMap<String, Window>,
    calls: usize,
}

struct Window {
    duration_ms: i64,
    /// When calls were made, oldest first, in milliseconds.
    calls: VecDeque<i64>,
}

impl RateLimiter {
    /// Counts a call of `actor`. A `factor` of 2 means half as many calls and twice the interval.
    pub fn admit(
        &self,
        limit: &Limit,
        path: &str,
        actor: &str,
        factor: f64,
        now: DateTime<Utc>,
    ) -> Result<(), TooOften> {
        counts(limit, path, actor, factor).try_for_each(|count| self.count(count, now))
    }

    /// Hands all windows over that have not ended, and forgets them.
    pub(super) fn take(&self, now: DateTime<Utc>) -> Vec<Remembered> {
        let now = now.timestamp_millis();
        let windows = std::mem::take(&mut *self.windows.lock().unwrap_or_else(PoisonError::into_inner));
        let taken = windows.by_key.into_iter().filter_map(|(key, mut window)| {
            window.expire(now);
            let ago_ms = window.calls.iter().map(|call| now.saturating_sub(*call)).collect();
            let duration_ms = window.duration_ms;
            (!window.calls.is_empty()).then_some(Remembered { key, duration_ms, ago_ms })
        });
        taken.collect()
    }

    /// Takes windows in, beside what is known already.
    pub(super) fn give(&self, remembered: impl IntoIterator<Item = Remembered>, now: DateTime<Utc>) {
        let now = now.timestamp_millis();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        for Remembered { key, duration_ms, ago_ms } in remembered {
            windows.make_room(now);
            windows.calls += ago_ms.len();
            let window =
                windows.by_key.entry(key).or_insert_with(|| Window { duration_ms, calls: VecDeque::new() });
            window.calls.extend(ago_ms.into_iter().map(|ago| now.saturating_sub(ago)));
            window.calls.make_contiguous().sort_unstable();
        }
    }

    fn count(&self, count: Count, now: DateTime<Utc>) -> Result<(), TooOften> {
        let now = now.timestamp_millis();
        let kept = count.kept();
        let Count { key, max, duration_ms } = count;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.make_room(now);
        let window =
            windows.by_key.entry(key).or_insert_with(|| Window { duration_ms, calls: VecDeque::new() });
        window.duration_ms = duration_ms;
        let before = window.calls.len();
        window.expire(now);
        let counted = window.calls.len();
        window.calls.push_back(now);
        while window.calls.len() > kept {
            window.calls.pop_front();
        }
        let (after, oldest) = (window.calls.len(), window.calls.front().copied().unwrap_or(now));
        windows.calls = (windows.calls + after).saturating_sub(before);
        verdict(counted, max, oldest.saturating_add(duration_ms))
    }
}

/// What a call counts towards, in this order: what refuses it is the last.
pub(super) fn counts(
    limit: &Limit,
    path: &str,
    actor: &str,
    factor: f64,
) -> impl Iterator<Item = Count> + use<> {
    let key = limit.key.unwrap_or(path);
    let interval = limit.interval.map(|interval| Count {
        key: format!("{actor}:{key}:min"),
        max: 1.0,
        duration_ms: scaled(interval, factor),
    });
    let window = limit.window.map(|(calls, duration)| Count {
        key: format!("{actor}:{key}"),
        max: f64::from(calls) / factor,
        duration_ms: scaled(duration, 1.0),
    });
    interval.into_iter().chain(window)
}

/// Whether a call may pass that found so many in its window.
pub(super) fn verdict(counted: usize, max: f64, reset_ms: i64) -> Result<(), TooOften> {
    if (counted as f64) < max { Ok(()) } else { Err(TooOften { reset_ms, total: max }) }
}

impl Count {
    /// The newest calls, so many of which say all that must be known.
    pub(super) fn kept(&self) -> usize {
        self.max.ceil().clamp(1.0, f64::from(MAX_PER_WINDOW)) as usize
    }
}

impl Window {
    fn expire(&mut self, now: i64) {
        while self.calls.front().is_some_and(|call| call.saturating_add(self.duration_ms) <= now) {
            self.calls.pop_front();
        }
    }

    fn has_ended(&self, now: i64) -> bool {
        self.calls.back().is_none_or(|call| call.saturating_add(self.duration_ms) <= now)
    }
}

impl Windows {
    fn make_room(&mut self, now: i64) {
        if self.by_key.len() < MAX_WINDOWS && self.calls < MAX_CALLS {
            return;
        }
        self.by_key.retain(|_, window| !window.has_ended(now));
        // Still full: a tenth is forgotten, so that this isn't done again at every call.
        if self.by_key.len() >= MAX_WINDOWS || self.remembered() >= MAX_CALLS {
            let spare: Vec<String> = self.by_key.keys().take(self.by_key.len() / 10 + 1).cloned().collect();
            for key in spare {
                self.by_key.remove(&key);
            }
        }
        self.calls = self.remembered();
    }

    fn remembered(&self) -> usize {
        self.by_key.values().map(|window| window.calls.len()).sum()
    }
}

fn scaled(duration_ms: u64, factor: f64) -> i64 {
    (duration_ms as f64 * factor) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + millis).unwrap()
    }

    const THREE_A_MINUTE: Limit = Limit { key: None, window: Some((3, per::MINUTE)), interval: None };

    #[test]
    fn three_pass_and_a_refused_call_counts_too() {
        let limiter = RateLimiter::default();
        let call = |millis| limiter.admit(&THREE_A_MINUTE, "x", "a", 1.0, at(millis));
        for millis in [0, 10, 20] {
            assert_eq!(call(millis), Ok(()));
        }
        // The oldest of the last three calls, the refused one among them, decides.
        let refused = call(30).unwrap_err();
        assert_eq!(refused.reset_ms, at(10).timestamp_millis() + 60_000);
        assert_eq!(refused.retry_after(at(30)), 60);
        assert!(call(60_005).is_err(), "10, 20 and 30 are still in the window");
        assert_eq!(call(60_025), Ok(()), "30 and 60,005 are");
    }

    #[test]
    fn callers_and_keys_are_apart() {
        let limiter = RateLimiter::default();
        let shared = Limit { key: Some("shared"), window: Some((1, per::HOUR)), interval: None };
        assert!(limiter.admit(&shared, "x", "a", 1.0, at(0)).is_ok());
        assert!(limiter.admit(&shared, "x", "b", 1.0, at(0)).is_ok());
        assert!(limiter.admit(&shared, "y", "a", 1.0, at(0)).is_err());
        assert!(limiter.admit(&THREE_A_MINUTE, "x", "a", 1.0, at(0)).is_ok());
    }

    #[test]
    fn an_interval_is_waited_for() {
        let limiter = RateLimiter::default();
        let limit = Limit { interval: Some(per::SECOND), window: Some((100, per::HOUR)), key: None };
        assert!(limiter.admit(&limit, "x", "a", 1.0, at(0)).is_ok());
        let refused = limiter.admit(&limit, "x", "a", 1.0, at(900)).unwrap_err();
        assert_eq!((refused.total, refused.retry_after(at(900))), (1.0, 1));
        assert!(limiter.admit(&limit, "x", "a", 1.0, at(1_900)).is_ok());
        assert!(limiter.admit(&limit, "x", "a", 2.0, at(3_000)).is_err(), "twice the interval");
        assert!(limiter.admit(&limit, "x", "a", f64::MAX, at(9_000)).is_err(), "longer than there is time");
    }

    #[test]
    fn a_factor_divides_the_number_of_calls() {
        let limiter = RateLimiter::default();
        for _ in 0..6 {
            assert!(limiter.admit(&THREE_A_MINUTE, "x", "a", 0.5, at(0)).is_ok());
        }
        assert!(limiter.admit(&THREE_A_MINUTE, "x", "a", 0.5, at(0)).is_err());
    }

    #[test]
    fn what_is_handed_over_is_counted_elsewhere() {
        let (first, second) = (RateLimiter::default(), RateLimiter::default());
        let call = |limiter: &RateLimiter, millis| limiter.admit(&THREE_A_MINUTE, "x", "a", 1.0, at(millis));
        assert!(call(&first, 0).is_ok() && call(&second, 10).is_ok() && call(&first, 20).is_ok());
        second.give(first.take(at(30)), at(30));
        assert_eq!(first.take(at(30)), []);
        assert_eq!(call(&second, 30).unwrap_err().reset_ms, at(10).timestamp_millis() + 60_000);
        assert_eq!(call(&first, 30), Ok(()));
        assert_eq!(second.take(at(120_000)), [], "what has ended is not handed over");
        assert_eq!(second.windows.lock().unwrap().calls, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = RateLimiter::default();
        for n in 0..MAX_WINDOWS + 10 {
            assert!(limiter.admit(&THREE_A_MINUTE, "x", &n.to_string(), 1.0, at(0)).is_ok());
        }
        let windows = limiter.windows.lock().unwrap();
        assert!(windows.by_key.len() <= MAX_WINDOWS);
        assert_eq!(windows.calls, windows.remembered());
    }
}
