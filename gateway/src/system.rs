//! The clock and the ids of a real server, behind the ports of `domain`.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use domain::ids::DERIVED_BITS;
use domain::log::{Clock, Ids};
use rand::RngExt;
use uuid::Uuid;

/// The clock of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port that everything else asks")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Ids counted within one millisecond: the 12 bits after the version.
const COUNTS: u16 = 1 << 12;

/// UUIDv7, each greater than the last. The count of a millisecond starts at random in its lower half,
/// and the 34 bits between it and the bits for derived ids are random, so that two processes don't meet:
/// when each makes `n` ids in a millisecond, once in 2^45 / n² of such milliseconds. That is once in a
/// thousand years while each makes 1,000 a second.
pub struct TimeOrderedIds {
    last: Mutex<(i64, u16)>,
}

impl TimeOrderedIds {
    pub fn new() -> Self {
        Self { last: Mutex::new((0, 0)) }
    }
}

impl Default for TimeOrderedIds {
    fn default() -> Self {
        Self::new()
    }
}

impl Ids for TimeOrderedIds {
    fn at(&self, at: DateTime<Utc>) -> Uuid {
        let random: u64 = rand::rng().random();
        let start = (random % u64::from(COUNTS / 2)) as u16;
        let asked = at.timestamp_millis().clamp(0, (1 << 48) - 1);
        let (millis, count) = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // A full millisecond borrows from the next, which goes on counting when its own time comes. Any
            // other instant (also an earlier one, for what was published elsewhere) starts anew.
            *last = match *last {
                (millis, _) if millis != asked && millis != asked + 1 => (asked, start),
                (millis, count) if count + 1 == COUNTS => (millis + 1, 0),
                (millis, count) => (millis, count + 1),
            };
            *last
        };
        let low = (u128::from(random) >> 2) >> DERIVED_BITS << DERIVED_BITS;
        Uuid::from_u128((millis as u128) << 80 | 0x7 << 76 | u128::from(count) << 64 | 0b10 << 62 | low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::time_of;
    use std::collections::HashSet;

    #[test]
    fn a_full_millisecond_borrows_from_the_next() {
        let ids = TimeOrderedIds::new();
        let at = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let made: Vec<Uuid> = (0..COUNTS + COUNTS / 2).map(|_| ids.at(at)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn two_processes_do_not_meet_in_one_instant() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let made = |ids: TimeOrderedIds| (0..COUNTS / 2).map(move |_| ids.at(at));
        let all: HashSet<Uuid> = made(TimeOrderedIds::new()).chain(made(TimeOrderedIds::new())).collect();
        assert_eq!(all.len(), usize::from(COUNTS));
        let random = |bit: u32| all.iter().map(|id| id.as_u128() >> bit & 1).sum::<u128>();
        for bit in DERIVED_BITS..62 {
            let ones = random(bit);
            assert!((1_500..2_600).contains(&ones), "bit {bit} is set in {ones} of {}", all.len());
        }
    }

    #[test]
    fn ids_of_one_instant_go_up_and_tell_their_time() {
        let ids = TimeOrderedIds::new();
        let at = DateTime::from_timestamp_millis(1_700_000_000_123).unwrap();
        let made: Vec<Uuid> = (0..COUNTS / 2).map(|_| ids.at(at)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(made.iter().all(|id| time_of(*id) == at && id.get_version_num() == 7));
        assert!(made.iter().all(|id| id.as_u128() % (1 << DERIVED_BITS) == 0));
    }
}
