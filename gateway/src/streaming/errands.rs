//! What a person is told on `main`, apart from notes: notifications and changes of their own affairs; and on
//! `drive`, of their files.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::follow::RequestEnd;
use domain::log::{Position, Recorded};
use domain::notification::Kind as Noticed;
use domain::user::Security;
use domain::{CommandId, Event, FileId, FolderId, UserId, registry};
use projections::announcement::{self, AnnouncementRow};
use projections::drive::{self, FolderRow};
use projections::notification::NotificationRow;
use projections::{Wanted, World, achievement, follow, notification};
use serde_json::{Value, json};

use super::channel::Kind;
use super::hub::Sources;
use super::telling::to_text;
use crate::api::ApiError;
use crate::api::param::{AnyId, Id};
use crate::json::{self, Look, Time, user::Eyes};
use crate::ops::security;

/// The event of a new notification.
pub const NOTIFICATION: &str = "notification";

/// What is to be told.
#[derive(Debug, Clone)]
pub enum What {
    /// They follow somebody now.
    Follow(UserId),
    /// Somebody follows them now.
    Followed(UserId),
    /// They don't follow somebody any more, or were not let.
    Unfollow(UserId),
    /// Somebody asks to follow them.
    Asked(UserId),
    /// Something of their own account has changed.
    Me,
    SignedIn(CommandId, DateTime<Utc>),
    TokenRegenerated,
    AllRead,
    /// A value was set that an app keeps; those of no app of their own are told.
    Kept(registry::Place, Value),
    Flushed,
    Notified(NotificationRow),
    /// Something is announced to them alone.
    Announced(AnnouncementRow),
    /// They have read an announcement; they are told when it was the last one.
    AnnouncementRead,
    /// A file is in their drive.
    FileKept(FileId),
    /// A file is there that they asked for from elsewhere; by what they know it again.
    FileFetched(FileId, Option<String>),
    /// Something became of their files and folders.
    Drive(Change),
}

/// What became of files and folders.
#[derive(Debug, Clone)]
pub enum Change {
    FileCreated(FileId),
    FileUpdated(FileId),
    FileDeleted(FileId),
    FolderCreated(FolderRow),
    FolderUpdated(FolderId),
    FolderDeleted(FolderId),
}

/// What is to be told to one person, and because of which append.
#[derive(Debug, Clone)]
pub struct Errand {
    pub position: Position,
    pub what: What,
}

/// A message for `main` or `drive`, ready to be sent.
#[derive(Debug, Clone)]
pub struct Message {
    pub position: Position,
    pub channel: Kind,
    pub event: &'static str,
    pub body: Arc<str>,
    /// A notification that is called unread at once, since it is a try.
    pub is_test: bool,
}

/// Who is to be told what because of an event, notifications apart.
pub fn errands(recorded: &Recorded) -> Vec<(UserId, What)> {
    let Some(event) = &recorded.event else { return Vec::new() };
    match event {
        Event::FollowStarted(e) => {
            let mut told =
                vec![(e.followee, What::Followed(e.follower)), (e.follower, What::Follow(e.followee))];
            if e.by_request {
                // One request less.
                told.push((e.followee, What::Me));
            }
            told
        }
        Event::FollowEnded(e) => vec![(e.follower, What::Unfollow(e.followee))],
        Event::FollowRequested(e) => vec![(e.followee, What::Asked(e.follower)), (e.followee, What::Me)],
        Event::FollowRequestEnded(e) => match e.how {
            RequestEnd::Cancelled => vec![(e.followee, What::Me)],
            RequestEnd::Rejected => vec![(e.follower, What::Unfollow(e.followee))],
        },
        Event::UserChanged(e) => vec![(e.user, What::Me)],
        // A new password is seen nowhere.
        Event::UserSecurityChanged(e) if e.what != Security::Password => vec![(e.user, What::Me)],
        Event::UserSignedIn(e) => vec![(e.user, What::SignedIn(recorded.command, recorded.at))],
        Event::RegistrySet(e) if e.place.domain.is_none() => {
            vec![(e.user, What::Kept(e.place.clone(), e.value.clone()))]
        }
        Event::UserTokenRegenerated(e) => vec![(e.user, What::TokenRegenerated)],
        Event::NotificationsRead(e) => vec![(e.user, What::AllRead)],
        Event::NotificationsFlushed(e) => vec![(e.user, What::Flushed)],
        Event::AnnouncementCreated(e) => {
            let (id, definition) = (e.announcement, e.definition.clone());
            let row = AnnouncementRow { id, definition, updated_at: None, is_read: false };
            e.definition.user.map(|user| (user, What::Announced(row))).into_iter().collect()
        }
        Event::AnnouncementRead(e) => vec![(e.user, What::AnnouncementRead)],
        Event::FileAdded(e) => {
            vec![(e.owner, What::FileKept(e.id)), (e.owner, What::Drive(Change::FileCreated(e.id)))]
        }
        Event::FileChanged(e) => vec![(e.owner, What::Drive(Change::FileUpdated(e.id)))],
        Event::FileDeleted(e) => vec![(e.owner, What::Drive(Change::FileDeleted(e.id)))],
        Event::FileFetched(e) => vec![(e.owner, What::FileFetched(e.file, e.marker.clone()))],
        Event::FolderAdded(e) => {
            let (id, owner, name, parent) = (e.id, e.owner, e.name.clone(), e.parent);
            vec![(owner, What::Drive(Change::FolderCreated(FolderRow { id, owner, name, parent })))]
        }
        Event::FolderChanged(e) => vec![(e.owner, What::Drive(Change::FolderUpdated(e.id)))],
        Event::FolderDeleted(e) => vec![(e.owner, What::Drive(Change::FolderDeleted(e.id)))],
        _ => Vec::new(),
    }
}

/// The messages of one person, loaded together.
pub async fn messages(
    sources: &Sources,
    user: UserId,
    errands: Vec<Errand>,
) -> Result<Vec<Message>, ApiError> {
    let now = sources.clock.now();
    let world = sources.cache.hydrate(wanted(user, &errands), Some(user), now).await?;
    let needs_eyes = |errand: &Errand| matches!(errand.what, What::Me | What::AnnouncementRead);
    let eyes = if errands.iter().any(needs_eyes) { eyes(sources, user).await? } else { Eyes::default() };
    let changed = errands.iter().filter_map(|errand| match errand.what {
        What::Drive(Change::FolderUpdated(id)) => Some(id),
        _ => None,
    });
    let folders = drive::folders_by_ids(&sources.pool, &changed.collect::<Vec<_>>()).await?;
    let look = Look { origin: &sources.core.origin, presence: &sources.presence, now };
    let told = errands.into_iter().filter_map(|errand| {
        let is_test = matches!(&errand.what, What::Notified(row) if row.kind == Noticed::Test);
        let channel = errand.what.channel();
        let (event, body) = present(&look, &world, &folders, user, &eyes, errand.what)?;
        Some(Message { position: errand.position, channel, event, body, is_test })
    });
    Ok(told.collect())
}

fn wanted(user: UserId, errands: &[Errand]) -> Wanted {
    let mut wanted = Wanted::default();
    for errand in errands {
        match &errand.what {
            What::Follow(other) | What::Unfollow(other) => {
                wanted.users.push(*other);
                (wanted.pins, wanted.pages) = (true, true);
            }
            What::Followed(other) | What::Asked(other) => wanted.users.push(*other),
            What::Me => {
                wanted.users.push(user);
                (wanted.pins, wanted.pages) = (true, true);
            }
            What::Notified(row) => {
                wanted.notes.extend(row.note);
                wanted.users.extend(row.notifier);
                wanted.roles.extend(row.role);
            }
            What::FileKept(id)
            | What::FileFetched(id, _)
            | What::Drive(Change::FileCreated(id) | Change::FileUpdated(id)) => wanted.files.push(*id),
            What::SignedIn(..) | What::TokenRegenerated | What::AllRead | What::Flushed => (),
            What::Announced(_) | What::AnnouncementRead | What::Kept(..) | What::Drive(_) => (),
        }
    }
    wanted
}

/// With which eyes a person sees themselves in a stream. An app may listen too, so nothing is in it that
/// needs the person's own token.
async fn eyes(sources: &Sources, user: UserId) -> Result<Eyes, ApiError> {
    let account = sources.core.accounts.account(user).await?;
    Ok(Eyes {
        moderates: account.as_ref().is_some_and(|account| account.moderates()),
        own_token: false,
        policies: account.map(|account| account.policies.clone()).unwrap_or_default(),
        security: security::load(&sources.pool, &[user]).await?,
        address: None,
        passkeys: Vec::new(),
        unread: notification::unread_count(&sources.pool, user).await?,
        asked: follow::asked(&sources.pool, &[user]).await?,
        announcements: announcement::unread(&sources.pool, user).await?,
        achievements: achievement::of_people(&sources.pool, &[user]).await?,
        ..Eyes::default()
    })
}

/// The event's name and its body; none when what it tells of is gone again.
fn present(
    look: &Look<'_>,
    world: &World,
    folders: &HashMap<FolderId, FolderRow>,
    user: UserId,
    eyes: &Eyes,
    what: What,
) -> Option<(&'static str, Arc<str>)> {
    let detailed = |id| json::user::user_detailed_not_me(look, world, id, eyes);
    let lite = |id| world.user(id).map(|row| json::user::user_lite(look, row));
    let file = |id| world.file(id).map(|row| json::drive::own_file(look, row));
    let body = match &what {
        What::Follow(other) | What::Unfollow(other) => to_text(&detailed(*other)?),
        What::Followed(other) | What::Asked(other) => to_text(&lite(*other)?),
        What::Me => to_text(&json::user::me_detailed(look, world, user, eyes)?),
        What::SignedIn(id, at) => to_text(&signed_in(*id, *at)),
        What::Kept(place, value) => {
            to_text(&json!({ "scope": place.scope, "key": place.key, "value": value }))
        }
        What::TokenRegenerated | What::AllRead | What::Flushed => to_text(&Value::Null),
        What::Announced(row) => {
            to_text(&json!({ "announcement": json::announcement::announcement(row, Some(user)) }))
        }
        What::AnnouncementRead if eyes.announcements.is_empty() => to_text(&Value::Null),
        What::AnnouncementRead => return None,
        What::Notified(row) => to_text(&json::notification::notification(look, world, row)?),
        What::FileKept(id) | What::Drive(Change::FileCreated(id) | Change::FileUpdated(id)) => {
            to_text(&file(*id)?)
        }
        What::FileFetched(id, marker) => to_text(&json!({ "marker": marker, "file": file(*id)? })),
        What::Drive(Change::FileDeleted(id)) => to_text(&Id(*id)),
        What::Drive(Change::FolderCreated(row)) => to_text(&json::drive::folder(row)),
        What::Drive(Change::FolderUpdated(id)) => to_text(&json::drive::folder(folders.get(id)?)),
        What::Drive(Change::FolderDeleted(id)) => to_text(&Id(*id)),
    };
    Some((name(&what), body?))
}

fn name(what: &What) -> &'static str {
    match what {
        What::Follow(_) => "follow",
        What::Followed(_) => "followed",
        What::Unfollow(_) => "unfollow",
        What::Asked(_) => "receiveFollowRequest",
        What::Me => "meUpdated",
        What::SignedIn(..) => "signin",
        What::TokenRegenerated => "myTokenRegenerated",
        What::AllRead => "readAllNotifications",
        What::Flushed => "notificationFlushed",
        What::Kept(..) => "registryUpdated",
        What::Notified(_) => NOTIFICATION,
        What::Announced(_) => "announcementCreated",
        What::AnnouncementRead => "readAllAnnouncements",
        What::FileKept(_) => "driveFileCreated",
        What::FileFetched(..) => "urlUploadFinished",
        What::Drive(change) => match change {
            Change::FileCreated(_) => "fileCreated",
            Change::FileUpdated(_) => "fileUpdated",
            Change::FileDeleted(_) => "fileDeleted",
            Change::FolderCreated(_) => "folderCreated",
            Change::FolderUpdated(_) => "folderUpdated",
            Change::FolderDeleted(_) => "folderDeleted",
        },
    }
}

impl What {
    /// Where it is told.
    pub fn channel(&self) -> Kind {
        match self {
            What::Drive(_) => Kind::Drive,
            _ => Kind::Main,
        }
    }
}

/// An entry of the sign-in history. From where it came is not for apps, which may listen too; clients expect
/// the keys.
fn signed_in(id: CommandId, at: DateTime<Utc>) -> Value {
    json!({ "id": Id(AnyId(id.0)), "createdAt": Time(at), "ip": "", "headers": {}, "success": true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::follow::{Ended, RequestEnded, Requested, Started};
    use domain::log::{StreamId, Version};
    use domain::{EventId, FollowId, FollowRequestId};
    use uuid::Uuid;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    const FAN: u128 = 1;
    const STAR: u128 = 2;

    /// Whom it tells what.
    fn told(event: impl Into<Event>) -> Vec<(UserId, &'static str)> {
        let event = event.into();
        let recorded = Recorded {
            position: Position(1),
            ordinal: 0,
            id: EventId(Uuid::nil()),
            stream: StreamId::new("test", 1),
            version: Version(1),
            kind: event.kind().0.to_owned(),
            at: DateTime::UNIX_EPOCH,
            subject: event.subject(),
            actor: None,
            command: CommandId(Uuid::nil()),
            event: Some(event),
        };
        errands(&recorded).into_iter().map(|(user, what)| (user, name(&what))).collect()
    }

    #[test]
    fn followings_are_told_on_both_sides() {
        let (follower, followee) = (user(FAN), user(STAR));
        let started = |by_request| Started {
            id: FollowId(Uuid::nil()),
            follower,
            followee,
            with_replies: false,
            by_request,
            message: None,
        };
        assert_eq!(told(started(false)), [(followee, "followed"), (follower, "follow")]);
        assert_eq!(
            told(started(true)),
            [(followee, "followed"), (follower, "follow"), (followee, "meUpdated")]
        );
        assert_eq!(told(Ended { follower, followee, by_followee: true }), [(follower, "unfollow")]);
    }

    #[test]
    fn requests_are_told_to_those_who_are_asked() {
        let (follower, followee) = (user(FAN), user(STAR));
        let id = FollowRequestId(Uuid::nil());
        assert_eq!(
            told(Requested { id, follower, followee, with_replies: false }),
            [(followee, "receiveFollowRequest"), (followee, "meUpdated")]
        );
        let ended = |how| told(RequestEnded { follower, followee, how });
        assert_eq!(ended(RequestEnd::Cancelled), [(followee, "meUpdated")]);
        assert_eq!(ended(RequestEnd::Rejected), [(follower, "unfollow")]);
    }

    #[test]
    fn people_are_told_of_their_own_account() {
        let me = user(FAN);
        let changes = domain::user::ProfileChanges::default();
        assert_eq!(told(domain::user::Changed { user: me, changes }), [(me, "meUpdated")]);
        assert_eq!(told(domain::user::SignedIn { user: me }), [(me, "signin")]);
        assert_eq!(told(domain::user::TokenRegenerated { user: me }), [(me, "myTokenRegenerated")]);
        assert_eq!(told(domain::notification::Read { user: me }), [(me, "readAllNotifications")]);
        assert_eq!(told(domain::notification::Flushed { user: me }), [(me, "notificationFlushed")]);
    }
}
