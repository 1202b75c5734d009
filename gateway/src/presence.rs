//! Who is here now: kept in memory, forgotten at a restart. A person is here while a stream of theirs is
//! open, on this process or, as far as it tells, on another; calls alone don't count, as on Misskey.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Duration, NaiveDate, Utc};
use commands::bus::{Bus, Heard, MAX_UNSAID_PEOPLE, Word};
use domain::UserId;
use domain::log::Clock;
use lru::LruCache;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;

/// The most people remembered; beyond it those not seen for longest are forgotten.
pub const MAX_REMEMBERED: usize = 100_000;
/// Seen within this time, a person is online.
pub const ONLINE: Duration = Duration::minutes(10);
/// Seen within this time, a person is active.
pub const ACTIVE: Duration = Duration::days(3);
/// How often the other processes are told who was seen here.
pub const TELL_EVERY: std::time::Duration = std::time::Duration::from_secs(3);

/// Whether a person is here, as others are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnlineStatus {
    /// They don't tell, or haven't been seen.
    Unknown,
    Online,
    Active,
    Offline,
}

/// When people were here last.
pub struct Presence {
    seen: Mutex<LruCache<UserId, DateTime<Utc>>>,
    counted: Mutex<LruCache<UserId, NaiveDate>>,
    /// Those of whom the other processes are to be told.
    untold: Mutex<HashSet<UserId>>,
}

impl Default for Presence {
    fn default() -> Self {
        let size = NonZeroUsize::new(MAX_REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        let (seen, counted) = (Mutex::new(LruCache::new(size)), Mutex::new(LruCache::new(size)));
        Self { seen, counted, untold: Mutex::default() }
    }
}

impl Presence {
    /// Notes that a stream of this person is open: to be called when it opens and at each of its pings.
    pub fn seen(&self, user: UserId, now: DateTime<Utc>) {
        self.heard(user, now);
        let mut untold = lock(&self.untold);
        if untold.len() < MAX_UNSAID_PEOPLE {
            untold.insert(user);
        }
    }

    /// Notes that another process has seen this person.
    fn heard(&self, user: UserId, now: DateTime<Utc>) {
        lock(&self.seen).put(user, now);
    }

    /// Tells the other processes and hears them, for ever.
    pub async fn share(self: Arc<Self>, bus: Bus, clock: Arc<dyn Clock>) {
        let mut words = bus.hear();
        let mut tell = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                _ = tell.tick() => {
                    let untold = std::mem::take(&mut *lock(&self.untold));
                    if !untold.is_empty() {
                        bus.say(Word::Seen(untold.into_iter().collect()));
                    }
                }
                heard = words.recv() => match heard {
                    Ok(Heard::Word(Word::Seen(people))) => {
                        let now = clock.now();
                        people.into_iter().for_each(|user| self.heard(user, now));
                    }
                    // Who is still here is seen again.
                    Ok(_) | Err(RecvError::Lagged(_)) => (),
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    /// Whether the person is here.
    pub fn status(&self, user: UserId, now: DateTime<Utc>) -> OnlineStatus {
        let Some(seen) = self.last_seen(user) else { return OnlineStatus::Unknown };
        match now - seen {
            ago if ago < ONLINE => OnlineStatus::Online,
            ago if ago < ACTIVE => OnlineStatus::Active,
            _ => OnlineStatus::Offline,
        }
    }

    /// When the person was here last, as far as is remembered.
    pub fn last_seen(&self, user: UserId) -> Option<DateTime<Utc>> {
        lock(&self.seen).peek(&user).copied()
    }

    /// How many people are online.
    pub fn online(&self, now: DateTime<Utc>) -> usize {
        // The cache is in the order of having been seen, the last first.
        lock(&self.seen).iter().take_while(|(_, seen)| now - **seen < ONLINE).count()
    }

    /// Whether it is known already that the person used the server on this day.
    pub fn is_counted(&self, user: UserId, day: NaiveDate) -> bool {
        lock(&self.counted).peek(&user).is_some_and(|last| *last >= day)
    }

    /// Remembers that the log knows of this day.
    pub fn count(&self, user: UserId, day: NaiveDate) {
        lock(&self.counted).put(user, day);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    #[test]
    fn a_person_fades() {
        let (presence, now) = (Presence::default(), DateTime::UNIX_EPOCH);
        assert_eq!(presence.status(user(1), now), OnlineStatus::Unknown);
        presence.seen(user(1), now);
        assert_eq!(presence.status(user(1), now + Duration::minutes(9)), OnlineStatus::Online);
        assert_eq!(presence.status(user(1), now + Duration::minutes(10)), OnlineStatus::Active);
        assert_eq!(presence.status(user(1), now + Duration::days(3)), OnlineStatus::Offline);
    }

    #[test]
    fn only_those_online_are_counted() {
        let (presence, now) = (Presence::default(), DateTime::UNIX_EPOCH);
        presence.seen(user(1), now);
        presence.seen(user(2), now + Duration::minutes(5));
        presence.seen(user(1), now + Duration::minutes(6));
        presence.seen(user(3), now + Duration::minutes(16));
        assert_eq!(presence.online(now + Duration::minutes(14)), 3);
        assert_eq!(presence.online(now + Duration::minutes(15)), 2);
        assert_eq!(presence.online(now + Duration::minutes(26)), 0);
    }

    #[test]
    fn a_day_is_counted_once() {
        let (presence, day) = (Presence::default(), NaiveDate::default());
        assert!(!presence.is_counted(user(1), day));
        presence.count(user(1), day);
        assert!(presence.is_counted(user(1), day));
        assert!(!presence.is_counted(user(1), day.succ_opt().unwrap()));
    }
}
