//! Notifications as clients see them.

use domain::notification::Kind;
use domain::policy::wants_to_hear;
use projections::notification::NotificationRow;
use projections::world::UserRow;
use projections::{Wanted, World};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

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
    /// Of several reactions in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reactions: Option<Vec<Reacted>>,
    /// Who renoted, of several renotes in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<UserLite>>,
    /// The role that the person was assigned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What else there is of this type.
    #[serde(flatten)]
    #[schemars(with = "Map<String, Value>")]
    pub details: Map<String, Value>,
}

/// One of several reactions.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Reacted {
    user: UserLite,
    reaction: Value,
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

/// The notification; none when the note, the person, the request or the role that it is about is gone, or when it
/// is of somebody whom the viewer doesn't want to hear of any more.
pub fn notification(look: &Look<'_>, world: &World, row: &NotificationRow) -> Option<Notification> {
    let user = match row.notifier {
        Some(_) => Some(user_lite(look, notifier(world, row)?)),
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
        user,
        note: about,
        reactions: None,
        users: None,
        role: given,
        details: row.details.clone(),
    })
}

/// The person who caused it, if the viewer wants to hear of them.
fn notifier<'w>(world: &'w World, row: &NotificationRow) -> Option<&'w UserRow> {
    let notifier = row.notifier?;
    world.user(notifier).filter(|_| wants_to_hear(world.stance(notifier)))
}

/// Puts neighbours together that are reactions to the same note, or renotes of the same.
pub fn grouped(rows: &[NotificationRow]) -> impl Iterator<Item = &[NotificationRow]> {
    rows.chunk_by(|a, b| {
        a.kind == b.kind
            && match a.kind {
                Kind::Reaction => a.note == b.note,
                Kind::Renote => a.target == b.target,
                _ => false,
            }
    })
}

/// Neighbours in one. Which of them it has its id, its time and its note from is recorded behaviour.
pub fn group(look: &Look<'_>, world: &World, rows: &[NotificationRow]) -> Option<Notification> {
    let (newest, second, oldest) = (rows.first()?, rows.get(1), rows.last()?);
    let Some(second) = second else { return notification(look, world, newest) };
    let lite = |row: &NotificationRow| Some(user_lite(look, notifier(world, row)?));
    let mut shown = Notification {
        id: Id(oldest.id),
        created_at: Time(newest.id.time()),
        kind: "reaction:grouped",
        user_id: None,
        user: None,
        note: Some(note(look, world, newest.note?)?),
        reactions: None,
        users: None,
        role: None,
        details: Map::new(),
    };
    if newest.kind == Kind::Reaction {
        let reacted = |row: &NotificationRow| {
            Some(Reacted { user: lite(row)?, reaction: row.details.get("reaction").cloned()? })
        };
        shown.reactions = Some(rows.iter().filter_map(reacted).collect());
    } else {
        shown.kind = "renote:grouped";
        shown.created_at = Time(second.id.time());
        shown.users = Some(rows.iter().filter_map(lite).collect());
    }
    let is_empty =
        shown.reactions.as_ref().is_none_or(Vec::is_empty) && shown.users.as_ref().is_none_or(Vec::is_empty);
    (!is_empty).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::note::tests::{note_id, note_of, now, person, user_id};
    use crate::presence::Presence;
    use domain::NotificationId;
    use serde_json::{json, to_value};
    use uuid::Uuid;

    fn shown(kind: Kind, change: impl FnOnce(&mut NotificationRow)) -> Value {
        let presence = Presence::default();
        let look = Look { origin: "https://a.example", presence: &presence, now: now() };
        let world = World::of(Some(user_id(1)), now(), [note_of(5, 1, |_| ())], [person(1), person(2)]);
        let id = NotificationId(Uuid::from_u128(9));
        let (notifier, note, target, role, details) = (None, None, None, None, Map::new());
        let mut row = NotificationRow { id, kind, notifier, note, target, role, details };
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
            row.details.insert("reaction".to_owned(), json!(":blob:"));
        });
        assert_eq!(keys(&reaction), ["createdAt", "id", "note", "reaction", "type", "user", "userId"]);
        assert_eq!(reaction["reaction"], ":blob:");
        let accepted = shown(Kind::FollowRequestAccepted, |row| row.notifier = Some(user_id(2)));
        assert_eq!(keys(&accepted), ["createdAt", "id", "type", "user", "userId"]);
    }

    #[test]
    fn what_is_gone_gives_no_notification() {
        assert!(shown(Kind::Follow, |row| row.notifier = Some(user_id(3))).is_null());
        assert!(shown(Kind::Mention, |row| row.note = Some(note_id(6))).is_null());
        let request = shown(Kind::ReceiveFollowRequest, |row| row.notifier = Some(user_id(2)));
        assert!(request.is_null(), "the request has been answered");
    }

    #[test]
    fn neighbours_are_put_together() {
        let presence = Presence::default();
        let look = Look { origin: "https://a.example", presence: &presence, now: now() };
        let notes = [note_of(5, 1, |_| ()), note_of(6, 1, |_| ()), note_of(7, 2, |_| ())];
        let world = World::of(Some(user_id(1)), now(), notes, [person(1), person(2), person(3)]);
        let row = |n: u8, kind, by: u8, note: u8, target: Option<u8>| NotificationRow {
            id: NotificationId(Uuid::from_u128(u128::from(n) << 80)),
            kind,
            notifier: Some(user_id(by)),
            note: Some(note_id(note)),
            target: target.map(note_id),
            role: None,
            details: [("reaction".to_owned(), json!("👍"))].into_iter().collect(),
        };
        let rows = [
            row(9, Kind::Reaction, 2, 5, None),
            row(8, Kind::Reaction, 3, 5, None),
            row(7, Kind::Reaction, 3, 6, None),
            // Of the renotes only the newest is there; one was by somebody who is gone.
            row(6, Kind::Renote, 2, 7, Some(6)),
            row(5, Kind::Renote, 2, 8, Some(6)),
            row(4, Kind::Renote, 9, 9, Some(6)),
        ];
        let shown: Vec<Value> =
            grouped(&rows).map(|rows| to_value(group(&look, &world, rows)).unwrap()).collect();
        let kinds: Vec<_> = shown.iter().map(|one| one["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["reaction:grouped", "reaction", "renote:grouped"]);
        assert_eq!(keys(&shown[0]), ["createdAt", "id", "note", "reactions", "type"]);
        assert_eq!(shown[0]["reactions"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&shown[0]["id"], &shown[0]["createdAt"]),
            (&json!(Id(rows[1].id)), &json!(Time(rows[0].id.time())))
        );
        assert_eq!(shown[2]["users"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&shown[2]["id"], &shown[2]["createdAt"]),
            (&json!(Id(rows[5].id)), &json!(Time(rows[4].id.time())))
        );
    }
}
