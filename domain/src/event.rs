//! Everything that can happen, as one enum: the only persistent format.
//!
//! To add a kind: write the payload struct in its feature's file, add one line below, and put a
//! golden file `domain/tests/events/{kind}.{schema}.json` beside the others. A released payload never
//! changes meaning: a new optional field is fine, anything else is a new kind, or a new schema number
//! and a step in [`crate::upcast`].

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ids::UserId;
use crate::{drive, follow, instance, list, note, notification, poll, reaction, role, upcast, user};

/// A payload knows whose data it holds.
pub trait Payload: Serialize + DeserializeOwned {
    /// The person with whose key the payload is sealed; none for what belongs to the server.
    fn subject(&self) -> Option<UserId>;
}

/// A stored payload that no code here can read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("unknown kind {0}")]
    Kind(String),
    #[error("{kind} has schema {schema}, newer than {newest}")]
    Schema { kind: &'static str, schema: u16, newest: u16 },
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

macro_rules! events {
    ($($kind:literal $schema:literal $variant:ident($payload:ty)),* $(,)?) => {
        /// One fact. The variant's name is for code; the stored kind is the explicit string.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($variant($payload)),*
        }

        /// Every kind with its newest schema number, in the order of their features.
        pub const KINDS: &[(&str, u16)] = &[$(($kind, $schema)),*];

        impl Event {
            /// The stored kind and the newest schema number.
            pub fn kind(&self) -> (&'static str, u16) {
                match self {
                    $(Event::$variant(_) => ($kind, $schema)),*
                }
            }

            /// Whose data the payload is.
            pub fn subject(&self) -> Option<UserId> {
                match self {
                    $(Event::$variant(payload) => payload.subject()),*
                }
            }

            /// The payload to be sealed, as JSON.
            pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self {
                    $(Event::$variant(payload) => serde_json::to_vec(payload)),*
                }
            }

            /// Reads a stored payload of any schema ever written.
            pub fn from_json(kind: &str, schema: u16, json: &[u8]) -> Result<Self, UnreadableEvent> {
                match kind {
                    $($kind if schema > $schema => {
                        Err(UnreadableEvent::Schema { kind: $kind, schema, newest: $schema })
                    }
                    $kind if schema == $schema => Ok(Event::$variant(serde_json::from_slice(json)?)),
                    $kind => {
                        let old: Value = serde_json::from_slice(json)?;
                        Ok(Event::$variant(serde_json::from_value(upcast::to_newest($kind, schema, old))?))
                    })*
                    _ => Err(UnreadableEvent::Kind(kind.to_owned())),
                }
            }
        }

        $(impl From<$payload> for Event {
            fn from(payload: $payload) -> Self {
                Event::$variant(payload)
            }
        })*
    };
}

events! {
    "instance.claimed" 1 InstanceClaimed(instance::Claimed),
    "instance.rooted" 1 InstanceRooted(instance::Rooted),
    "instance.settings_changed" 1 SettingsChanged(instance::SettingsChanged),
    "instance.policies_changed" 1 PoliciesChanged(instance::PoliciesChanged),
    "username.reserved" 1 UsernameReserved(user::UsernameReserved),
    "user.created" 1 UserCreated(user::Created),
    "user.erased" 1 UserErased(user::Erased),
    "user.abandoned" 1 UserAbandoned(user::Abandoned),
    "user.changed" 1 UserChanged(user::Changed),
    "user.active" 1 UserActive(user::Active),
    "user.signed_in" 1 UserSignedIn(user::SignedIn),
    "user.app_authorized" 1 UserAppAuthorized(user::AppAuthorized),
    "user.token_regenerated" 1 UserTokenRegenerated(user::TokenRegenerated),
    "user.security_changed" 1 UserSecurityChanged(user::SecurityChanged),
    "follow.requested" 1 FollowRequested(follow::Requested),
    "follow.request_ended" 1 FollowRequestEnded(follow::RequestEnded),
    "follow.started" 1 FollowStarted(follow::Started),
    "follow.greeted" 1 FollowGreeted(follow::Greeted),
    "follow.changed" 1 FollowChanged(follow::Changed),
    "follow.ended" 1 FollowEnded(follow::Ended),
    "note.created" 1 NoteCreated(note::Created),
    "note.deleted" 1 NoteDeleted(note::Deleted),
    "reaction.added" 1 ReactionAdded(reaction::Added),
    "reaction.removed" 1 ReactionRemoved(reaction::Removed),
    "poll.voted" 1 PollVoted(poll::Voted),
    "list.created" 1 ListCreated(list::Created),
    "list.changed" 1 ListChanged(list::Changed),
    "list.deleted" 1 ListDeleted(list::Deleted),
    "list.member_added" 1 ListMemberAdded(list::MemberAdded),
    "list.member_changed" 1 ListMemberChanged(list::MemberChanged),
    "list.member_removed" 1 ListMemberRemoved(list::MemberRemoved),
    "list.favorited" 1 ListFavorited(list::Favorited),
    "list.unfavorited" 1 ListUnfavorited(list::Unfavorited),
    "role.created" 1 RoleCreated(role::Created),
    "role.changed" 1 RoleChanged(role::Changed),
    "role.deleted" 1 RoleDeleted(role::Deleted),
    "role.assigned" 1 RoleAssigned(role::Assigned),
    "role.unassigned" 1 RoleUnassigned(role::Unassigned),
    "notifications.read" 1 NotificationsRead(notification::Read),
    "drive.file_added" 1 FileAdded(drive::FileAdded),
    "drive.file_changed" 1 FileChanged(drive::FileChanged),
    "drive.file_deleted" 1 FileDeleted(drive::FileDeleted),
    "drive.file_fetched" 1 FileFetched(drive::FileFetched),
    "drive.folder_added" 1 FolderAdded(drive::FolderAdded),
    "drive.folder_changed" 1 FolderChanged(drive::FolderChanged),
    "drive.folder_deleted" 1 FolderDeleted(drive::FolderDeleted),
}
