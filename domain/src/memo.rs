//! Memos: what one person notes down about another, for their own eyes.

use serde::{Deserialize, Serialize};

use crate::Event;
use crate::event::Payload;
use crate::follow::Relation;
use crate::ids::UserId;
use crate::user::User;

/// `memo.changed`: none when it was thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub user: UserId,
    pub about: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
}

impl Payload for Changed {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

/// Why nothing is noted down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotNote {
    #[error("no such user")]
    NoSuchUser,
}

/// Decides a memo; an empty one is none. People may note down what they like about themselves, too.
pub fn note_down(
    current: &Relation,
    user: UserId,
    about: (UserId, &User),
    memo: Option<String>,
) -> Result<Vec<Event>, CannotNote> {
    let (about, them) = about;
    if !them.exists() {
        return Err(CannotNote::NoSuchUser);
    }
    let memo = memo.filter(|memo| !memo.is_empty());
    if memo == current.memo {
        return Ok(Vec::new());
    }
    Ok(vec![Changed { user, about, memo }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fold;
    use crate::note::tests::{person, user};

    #[test]
    fn a_memo_is_written_changed_and_thrown_away() {
        let bob = person(2, |_| ());
        let write = |current: &Relation, memo: Option<&str>| {
            note_down(current, user(1), (user(2), &bob), memo.map(str::to_owned)).unwrap()
        };
        let first = Relation::of(&write(&Relation::default(), Some("a friend")));
        assert_eq!(first.memo.as_deref(), Some("a friend"));
        assert_eq!(write(&first, Some("a friend")), []);
        for nothing in [None, Some("")] {
            let events = write(&first, nothing);
            assert_eq!(Relation::of(&events).memo, None);
            assert_eq!(events.len(), 1);
        }
        assert_eq!(write(&Relation::default(), None), []);
        let nobody = note_down(&first, user(1), (user(2), &User::default()), None);
        assert_eq!(nobody, Err(CannotNote::NoSuchUser));
    }
}
