//! What moderators do about people: they suspend them, and note what others should know (in the stream
//! `moderation-{user}`).

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::UserId;
use crate::log::StreamId;
use crate::user::User;
use crate::{Event, Fold};

/// The longest note about a person, in characters.
pub const MAX_NOTE_CHARS: usize = 8_192;

/// The stream of what moderators note about one person.
pub fn stream(user: UserId) -> StreamId {
    StreamId::new("moderation", user)
}

/// `user.suspended`: nobody sees what they wrote, and they can't come in. In the stream of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    pub user: UserId,
}

/// `user.unsuspended`. In the stream of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsuspended {
    pub user: UserId,
}

/// `user.noted`: what moderators read about a person from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    pub user: UserId,
    pub text: String,
    /// What they read until then.
    pub before: String,
}

/// `user.password_reset`: a moderator gave them another password (which is never in the log).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordReset {
    pub user: UserId,
}

macro_rules! of_the_user {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.user)
            }
        }
    )*};
}
of_the_user!(Suspended, Unsuspended, Noted, PasswordReset);

/// What moderators noted about one person, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    pub text: String,
}

impl Fold for Note {
    fn apply(&mut self, event: &Event) {
        if let Event::UserNoted(e) = event {
            self.text = e.text.clone();
        }
    }
}

/// Why nothing is done about somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotModerate {
    #[error("no such user")]
    NoSuchUser,
    #[error("they moderate themselves")]
    Moderates,
    #[error("the note is too long")]
    TooLong,
}

/// Decides a suspension; those who moderate aren't suspended.
pub fn suspend(current: &User, user: UserId, moderates: bool) -> Result<Vec<Event>, CannotModerate> {
    if !current.exists() {
        return Err(CannotModerate::NoSuchUser);
    }
    if moderates {
        return Err(CannotModerate::Moderates);
    }
    Ok(if current.suspended { Vec::new() } else { vec![Suspended { user }.into()] })
}

/// Decides the end of a suspension.
pub fn unsuspend(current: &User, user: UserId) -> Result<Vec<Event>, CannotModerate> {
    if !current.exists() {
        return Err(CannotModerate::NoSuchUser);
    }
    Ok(if current.suspended { vec![Unsuspended { user }.into()] } else { Vec::new() })
}

/// Decides what is noted about a person.
pub fn note(current: &Note, about: &User, user: UserId, text: &str) -> Result<Vec<Event>, CannotModerate> {
    if !about.exists() {
        return Err(CannotModerate::NoSuchUser);
    }
    if text.chars().count() > MAX_NOTE_CHARS {
        return Err(CannotModerate::TooLong);
    }
    if current.text == text {
        return Ok(Vec::new());
    }
    Ok(vec![Noted { user, text: text.to_owned(), before: current.text.clone() }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{person, user};

    #[test]
    fn people_are_suspended_and_let_in_again_but_not_moderators() {
        let mut alice = person(1, |_| ());
        assert_eq!(suspend(&User::default(), user(1), false), Err(CannotModerate::NoSuchUser));
        assert_eq!(suspend(&alice, user(1), true), Err(CannotModerate::Moderates));
        assert_eq!(unsuspend(&alice, user(1)), Ok(Vec::new()));
        alice.apply(&suspend(&alice, user(1), false).unwrap()[0]);
        assert!(alice.suspended);
        assert_eq!(suspend(&alice, user(1), false), Ok(Vec::new()));
        alice.apply(&unsuspend(&alice, user(1)).unwrap()[0]);
        assert!(!alice.suspended);
    }

    #[test]
    fn a_note_tells_what_was_there_before() {
        let (alice, mut current) = (person(1, |_| ()), Note::default());
        current.apply(&note(&current, &alice, user(1), "watch").unwrap()[0]);
        let events = note(&current, &alice, user(1), "fine").unwrap();
        let expected = Noted { user: user(1), text: "fine".to_owned(), before: "watch".to_owned() };
        assert_eq!(events, [expected.into()]);
        assert_eq!(note(&current, &alice, user(1), "watch"), Ok(Vec::new()));
        let long = "x".repeat(MAX_NOTE_CHARS + 1);
        assert_eq!(note(&current, &alice, user(1), &long), Err(CannotModerate::TooLong));
        assert_eq!(note(&current, &User::default(), user(1), "x"), Err(CannotModerate::NoSuchUser));
    }
}
