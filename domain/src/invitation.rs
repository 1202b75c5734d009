//! Invitations: codes with which accounts are made while registration is closed, each once. A code stands in a
//! stream that is named by its keyed hash.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{InvitationId, UserId};
use crate::log::StreamId;
use crate::{Event, Fold};

/// The stream of one code.
pub fn stream(keyed_hash: &str) -> StreamId {
    StreamId::new("invitation", keyed_hash)
}

/// `invitation.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub invitation: InvitationId,
    pub code: String,
    pub by: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Made by a moderator as one, and not by somebody who may invite a few.
    pub as_moderator: bool,
}

/// `invitation.deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub invitation: InvitationId,
    pub by: UserId,
}

/// `invitation.used`. It is nobody's data, so that a code stays used when nothing else can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub invitation: InvitationId,
    pub user: UserId,
}

impl Payload for Created {
    fn subject(&self) -> Option<UserId> {
        Some(self.by)
    }
}

impl Payload for Deleted {
    fn subject(&self) -> Option<UserId> {
        Some(self.by)
    }
}

impl Payload for Used {
    fn subject(&self) -> Option<UserId> {
        None
    }
}

/// One code, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invitation {
    /// None before it is made, after it was deleted, and when its maker was erased.
    pub created: Option<Created>,
    pub used_by: Option<UserId>,
}

impl Fold for Invitation {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::InvitationCreated(e) => self.created = Some(e.clone()),
            Event::InvitationDeleted(_) => self.created = None,
            Event::InvitationUsed(e) => self.used_by = Some(e.user),
            _ => (),
        }
    }
}

/// Why a code lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the code lets nobody in")]
pub struct NotInvited;

/// Why a code isn't deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotDeleteInvitation {
    #[error("no such code")]
    NoSuchCode,
    #[error("it is somebody else's")]
    NotTheirs,
    #[error("somebody used it")]
    Used,
}

/// Decides an invitation.
pub fn create(current: &Invitation, new: &Created) -> Vec<Event> {
    let is_free = current.created.is_none() && current.used_by.is_none();
    if is_free { vec![new.clone().into()] } else { Vec::new() }
}

/// Decides that a code lets somebody in now; the same person asks as often as they like.
pub fn admit(current: &Invitation, user: UserId, now: DateTime<Utc>) -> Result<Vec<Event>, NotInvited> {
    let created = current.created.as_ref().ok_or(NotInvited)?;
    match current.used_by {
        Some(used_by) if used_by == user => Ok(Vec::new()),
        Some(_) => Err(NotInvited),
        None if created.expires_at.is_some_and(|end| end <= now) => Err(NotInvited),
        None => Ok(vec![Used { invitation: created.invitation, user }.into()]),
    }
}

/// Decides that a code is no more. Moderators take back any, others their own that nobody used.
pub fn delete(
    current: &Invitation,
    user: UserId,
    moderates: bool,
) -> Result<Vec<Event>, CannotDeleteInvitation> {
    let created = current.created.as_ref().ok_or(CannotDeleteInvitation::NoSuchCode)?;
    if !moderates && created.by != user {
        return Err(CannotDeleteInvitation::NotTheirs);
    }
    if !moderates && current.used_by.is_some() {
        return Err(CannotDeleteInvitation::Used);
    }
    Ok(vec![Deleted { invitation: created.invitation, by: created.by }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{id, user};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn made(expires_at: Option<i64>) -> Invitation {
        let new = Created {
            invitation: InvitationId(id(1)),
            code: "CODE".to_owned(),
            by: user(1),
            expires_at: expires_at.map(at),
            as_moderator: false,
        };
        Invitation::of(&create(&Invitation::default(), &new))
    }

    #[test]
    fn a_code_lets_one_person_in_until_it_ends() {
        assert_eq!(admit(&Invitation::default(), user(2), at(0)), Err(NotInvited));
        assert_eq!(admit(&made(Some(10)), user(2), at(10)), Err(NotInvited));
        let mut code = made(Some(10));
        code.apply(&admit(&code, user(2), at(9)).unwrap()[0]);
        assert_eq!(admit(&code, user(2), at(20)), Ok(Vec::new()));
        assert_eq!(admit(&code, user(3), at(9)), Err(NotInvited));
        let unreadable = Invitation { created: None, ..code };
        assert_eq!(admit(&unreadable, user(3), at(9)), Err(NotInvited));
    }

    #[test]
    fn a_code_is_deleted_by_its_maker_until_it_is_used_and_by_moderators() {
        use CannotDeleteInvitation::{NoSuchCode, NotTheirs, Used};
        let mut code = made(None);
        assert_eq!(delete(&code, user(2), false), Err(NotTheirs));
        assert!(delete(&code, user(1), false).is_ok());
        code.apply(&admit(&code, user(2), at(0)).unwrap()[0]);
        assert_eq!(delete(&code, user(1), false), Err(Used));
        code.apply(&delete(&code, user(3), true).unwrap()[0]);
        assert_eq!(delete(&code, user(1), true), Err(NoSuchCode));
    }
}
