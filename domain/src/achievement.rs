//! Achievements: what a person has reached, once and for all, in the stream `achievements-{user}`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::UserId;
use crate::log::StreamId;
use crate::{Event, Fold};

/// Somebody keeps a note of theirs: the one that the server itself notices.
pub const MY_NOTE_FAVORITED: &str = "myNoteFavorited1";

/// Every achievement there is, by its name in the API. Clients notice most of them, and claim them.
pub const NAMES: [&str; 78] = [
    "notes1",
    "notes10",
    "notes100",
    "notes500",
    "notes1000",
    "notes5000",
    "notes10000",
    "notes20000",
    "notes30000",
    "notes40000",
    "notes50000",
    "notes60000",
    "notes70000",
    "notes80000",
    "notes90000",
    "notes100000",
    "login3",
    "login7",
    "login15",
    "login30",
    "login60",
    "login100",
    "login200",
    "login300",
    "login400",
    "login500",
    "login600",
    "login700",
    "login800",
    "login900",
    "login1000",
    "passedSinceAccountCreated1",
    "passedSinceAccountCreated2",
    "passedSinceAccountCreated3",
    "loggedInOnBirthday",
    "loggedInOnNewYearsDay",
    "noteClipped1",
    "noteFavorited1",
    "myNoteFavorited1",
    "profileFilled",
    "markedAsCat",
    "following1",
    "following10",
    "following50",
    "following100",
    "following300",
    "followers1",
    "followers10",
    "followers50",
    "followers100",
    "followers300",
    "followers500",
    "followers1000",
    "collectAchievements30",
    "viewAchievements3min",
    "iLoveMisskey",
    "foundTreasure",
    "client30min",
    "client60min",
    "noteDeletedWithin1min",
    "postedAtLateNight",
    "postedAt0min0sec",
    "selfQuote",
    "htl20npm",
    "viewInstanceChart",
    "outputHelloWorldOnScratchpad",
    "open3windows",
    "driveFolderCircularReference",
    "reactWithoutRead",
    "clickedClickHere",
    "justPlainLucky",
    "setNameToSyuilo",
    "cookieClicked",
    "brainDiver",
    "smashTestNotificationButton",
    "tutorialCompleted",
    "bubbleGameExplodingHead",
    "bubbleGameDoubleExplodingHead",
];

/// The stream of one person's achievements.
pub fn stream(user: UserId) -> StreamId {
    StreamId::new("achievements", user)
}

/// `achievement.earned`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earned {
    pub user: UserId,
    pub name: String,
}

impl Payload for Earned {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

/// What a person has earned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Achievements {
    pub names: BTreeSet<String>,
}

impl Fold for Achievements {
    fn apply(&mut self, event: &Event) {
        if let Event::AchievementEarned(e) = event {
            self.names.insert(e.name.clone());
        }
    }
}

/// There is no such achievement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such achievement")]
pub struct NoSuchAchievement;

/// Decides an achievement; earning it again changes nothing.
pub fn earn(current: &Achievements, user: UserId, name: &str) -> Result<Vec<Event>, NoSuchAchievement> {
    if !NAMES.contains(&name) {
        return Err(NoSuchAchievement);
    }
    if current.names.contains(name) {
        return Ok(Vec::new());
    }
    Ok(vec![Earned { user, name: name.to_owned() }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::user;

    #[test]
    fn an_achievement_is_earned_once() {
        let mut current = Achievements::default();
        let events = earn(&current, user(1), MY_NOTE_FAVORITED).unwrap();
        assert_eq!(events.len(), 1);
        events.iter().for_each(|event| current.apply(event));
        assert_eq!(earn(&current, user(1), MY_NOTE_FAVORITED), Ok(Vec::new()));
        assert_eq!(earn(&current, user(1), "nosuch"), Err(NoSuchAchievement));
    }
}
