//! Notifications as clients see them.

use projections::notification::{Kind, NotificationRow};
use projections::{Wanted, World};
use schemars::JsonSchema;
use serde::Serialize;

use super::note::{Note, note};
use super::role::{Role, role};
use super::user::{UserLite, user_lite};
use super::{Look, Time};
use crate::api::param::{Id, UserId};

/// A notification.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    pub id: Id<domain::NotificationId>,
    pub created_at: Time,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// By whom it was caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserLite>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaction: Option<String>,
    /// What somebody tells those who begin to follow them: null when it is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Option<String>>,
    /// The role that the person was assigned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// What has to be in the world for these to be shown.
pub fn wanted(rows: &[NotificationRow]) -> Wanted {
    Wanted {
        notes: rows.iter().filter_map(|row| row.note).collect(),
        users: rows.iter().filter_map(|row| row.notifier).collect(),
        roles: rows.iter().filter_map(|row| row.role).collect(),
        ..Wanted::default()
    }
}

/// The notification; none when the note, the person, the request or the role that it is about is gone.
pub fn notification(look: &Look<'_>, world: &World, row: &NotificationRow) -> Option<Notification> {
    let user = match row.notifier {
        Some(notifier) => Some(world.user(notifier)?),
        None => None,
    };
    if row.kind == Kind::ReceiveFollowRequest && !world.relation(row.notifier?).request_to_me {
        return None;
    }
    let about = match row.note {
        Some(id) => Some(note(look, world, id)?),
        None => None,
    };
    let given = match row.role {
        Some(id) => world.role(id).map(|(row, people)| Some(role(row, *people)))?,
        None => None,
    };
    Some(Notification {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        kind: row.kind.as_str(),
        user_id: row.notifier.map(Id),
        user: user.map(|user| user_lite(look, user)),
        note: about,
        reaction: row.reaction.as_ref().map(|reaction| reaction.shown()),
        message: (row.kind == Kind::FollowRequestAccepted).then(|| row.message.clone()),
        role: given,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::note::tests::{note_id, note_of, now, person, user_id};
    use crate::presence::Presence;
    use domain::NotificationId;
    use domain::emoji::Reaction;
    use serde_json::{Value, json, to_value};
    use uuid::Uuid;

    fn shown(kind: Kind, change: impl FnOnce(&mut NotificationRow)) -> Value {
        let presence = Presence::default();
        let look = Look { origin: "https://a.example", presence: &presence, now: now() };
        let world = World::of(Some(user_id(1)), now(), [note_of(5, 1, |_| ())], [person(1), person(2)]);
        let id = NotificationId(Uuid::from_u128(9));
        let mut row = NotificationRow {
            id,
            kind,
            notifier: None,
            note: None,
            reaction: None,
            message: None,
            role: None,
        };
        change(&mut row);
        to_value(notification(&look, &world, &row)).unwrap()
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn each_type_has_its_keys() {
        assert_eq!(keys(&shown(Kind::Login, |_| ())), ["createdAt", "id", "type"]);
        let reaction = shown(Kind::Reaction, |row| {
            (row.notifier, row.note) = (Some(user_id(2)), Some(note_id(5)));
            row.reaction = Some(Reaction::local("blob"));
        });
        assert_eq!(keys(&reaction), ["createdAt", "id", "note", "reaction", "type", "user", "userId"]);
        assert_eq!(reaction["reaction"], ":blob:");
        let accepted = shown(Kind::FollowRequestAccepted, |row| row.notifier = Some(user_id(2)));
        assert_eq!(accepted["message"], json!(null));
        assert_eq!(keys(&accepted), ["createdAt", "id", "message", "type", "user", "userId"]);
    }

    #[test]
    fn what_is_gone_gives_no_notification() {
        assert!(shown(Kind::Follow, |row| row.notifier = Some(user_id(3))).is_null());
        assert!(shown(Kind::Mention, |row| row.note = Some(note_id(6))).is_null());
        let request = shown(Kind::ReceiveFollowRequest, |row| row.notifier = Some(user_id(2)));
        assert!(request.is_null(), "the request has been answered");
    }
}
