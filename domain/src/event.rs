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
use crate::{
    achievement, ad, announcement, antenna, block, channel, clip, decoration, draft, drive, emoji, export,
    favorite, follow, instance, invitation, list, memo, moderation, mute, note, notification, pin, poll,
    reaction, registry, report, role, upcast, user, work,
};

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
    "block.started" 1 BlockStarted(block::Started),
    "block.ended" 1 BlockEnded(block::Ended),
    "mute.started" 1 MuteStarted(mute::Started),
    "mute.ended" 1 MuteEnded(mute::Ended),
    "renote_mute.started" 1 RenoteMuteStarted(mute::RenotesStarted),
    "renote_mute.ended" 1 RenoteMuteEnded(mute::RenotesEnded),
    "thread_mute.started" 1 ThreadMuteStarted(mute::ThreadStarted),
    "thread_mute.ended" 1 ThreadMuteEnded(mute::ThreadEnded),
    "memo.changed" 1 MemoChanged(memo::Changed),
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
    "user.suspended" 1 UserSuspended(moderation::Suspended),
    "user.unsuspended" 1 UserUnsuspended(moderation::Unsuspended),
    "user.noted" 1 UserNoted(moderation::Noted),
    "user.password_reset" 1 UserPasswordReset(moderation::PasswordReset),
    "report.filed" 1 ReportFiled(report::Filed),
    "report.resolved" 1 ReportResolved(report::Resolved),
    "report.annotated" 1 ReportAnnotated(report::Annotated),
    "announcement.created" 1 AnnouncementCreated(announcement::Created),
    "announcement.changed" 1 AnnouncementChanged(announcement::Changed),
    "announcement.deleted" 1 AnnouncementDeleted(announcement::Deleted),
    "announcement.read" 1 AnnouncementRead(announcement::Read),
    "invitation.created" 1 InvitationCreated(invitation::Created),
    "invitation.deleted" 1 InvitationDeleted(invitation::Deleted),
    "invitation.used" 1 InvitationUsed(invitation::Used),
    "decoration.created" 1 DecorationCreated(decoration::Created),
    "decoration.changed" 1 DecorationChanged(decoration::Changed),
    "decoration.deleted" 1 DecorationDeleted(decoration::Deleted),
    "emoji.claimed" 1 EmojiClaimed(emoji::Claimed),
    "emoji.unclaimed" 1 EmojiUnclaimed(emoji::Unclaimed),
    "emoji.added" 1 EmojiAdded(emoji::Added),
    "emoji.changed" 1 EmojiChanged(emoji::Changed),
    "emoji.deleted" 1 EmojiDeleted(emoji::Deleted),
    "ad.created" 1 AdCreated(ad::Created),
    "ad.changed" 1 AdChanged(ad::Changed),
    "ad.deleted" 1 AdDeleted(ad::Deleted),
    "role.created" 1 RoleCreated(role::Created),
    "role.changed" 1 RoleChanged(role::Changed),
    "role.deleted" 1 RoleDeleted(role::Deleted),
    "role.assigned" 1 RoleAssigned(role::Assigned),
    "role.unassigned" 1 RoleUnassigned(role::Unassigned),
    "poll.ended" 1 PollEnded(poll::Ended),
    "channel.created" 1 ChannelCreated(channel::Created),
    "channel.changed" 1 ChannelChanged(channel::Changed),
    "channel.followed" 1 ChannelFollowed(channel::Followed),
    "channel.unfollowed" 1 ChannelUnfollowed(channel::Unfollowed),
    "channel.favorited" 1 ChannelFavorited(channel::Favorited),
    "channel.unfavorited" 1 ChannelUnfavorited(channel::Unfavorited),
    "channel.muted" 1 ChannelMuted(channel::Muted),
    "channel.unmuted" 1 ChannelUnmuted(channel::Unmuted),
    "antenna.created" 1 AntennaCreated(antenna::Created),
    "antenna.changed" 1 AntennaChanged(antenna::Changed),
    "antenna.deleted" 1 AntennaDeleted(antenna::Deleted),
    "antenna.used" 1 AntennaUsed(antenna::Used),
    "notifications.read" 1 NotificationsRead(notification::Read),
    "notifications.flushed" 1 NotificationsFlushed(notification::Flushed),
    "notifications.tested" 1 NotificationsTested(notification::Tested),
    "notification.sent" 1 NotificationSent(notification::Sent),
    "drive.file_added" 1 FileAdded(drive::FileAdded),
    "drive.file_changed" 1 FileChanged(drive::FileChanged),
    "drive.file_deleted" 1 FileDeleted(drive::FileDeleted),
    "drive.file_fetched" 1 FileFetched(drive::FileFetched),
    "drive.folder_added" 1 FolderAdded(drive::FolderAdded),
    "drive.folder_changed" 1 FolderChanged(drive::FolderChanged),
    "drive.folder_deleted" 1 FolderDeleted(drive::FolderDeleted),
    "favorite.added" 1 FavoriteAdded(favorite::Added),
    "favorite.removed" 1 FavoriteRemoved(favorite::Removed),
    "clip.created" 1 ClipCreated(clip::Created),
    "clip.changed" 1 ClipChanged(clip::Changed),
    "clip.deleted" 1 ClipDeleted(clip::Deleted),
    "clip.note_added" 1 ClipNoteAdded(clip::NoteAdded),
    "clip.note_removed" 1 ClipNoteRemoved(clip::NoteRemoved),
    "clip.favorited" 1 ClipFavorited(clip::Favorited),
    "clip.unfavorited" 1 ClipUnfavorited(clip::Unfavorited),
    "pin.added" 1 PinAdded(pin::Added),
    "pin.removed" 1 PinRemoved(pin::Removed),
    "registry.set" 1 RegistrySet(registry::Set),
    "registry.removed" 1 RegistryRemoved(registry::Removed),
    "draft.saved" 1 DraftSaved(draft::Saved),
    "draft.changed" 1 DraftChanged(draft::Changed),
    "draft.deleted" 1 DraftDeleted(draft::Deleted),
    "draft.taken" 1 DraftTaken(draft::Taken),
    "draft.posted" 1 DraftPosted(draft::Posted),
    "draft.failed" 1 DraftFailed(draft::NotPosted),
    "export.completed" 1 ExportCompleted(export::Completed),
    "achievement.earned" 1 AchievementEarned(achievement::Earned),
    "work.created" 1 WorkCreated(work::Created),
    "work.changed" 1 WorkChanged(work::Changed),
    "work.deleted" 1 WorkDeleted(work::Deleted),
    "work.liked" 1 WorkLiked(work::Liked),
    "work.unliked" 1 WorkUnliked(work::Unliked),
}
