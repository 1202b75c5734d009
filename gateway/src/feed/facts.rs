//! What of an event is told outside: to everybody, or to an operator who asked for all.

use chrono::{DateTime, Utc};
use commands::Commands;
use domain::log::{LogError, Recorded};
use domain::note::Note;
use domain::policy::{Between, Facts, may_see};
use domain::user::{FfVisibility, ProfileChanges, User};
use domain::{Event, NoteId, UserId, note, user};
use serde_json::{Map, Value, json};

use crate::config::FeedScope;

/// What anybody may know of a profile; the names are those of [`domain::user::Profile`].
const PUBLIC_PROFILE: [&str; 9] =
    ["name", "description", "location", "birthday", "lang", "fields", "is_locked", "is_bot", "is_cat"];

/// What the feed tells of an event; nothing when it is nobody's business, or erased.
pub async fn told(
    commands: &Commands,
    recorded: &Recorded,
    scope: FeedScope,
    now: DateTime<Utc>,
) -> Result<Option<Value>, LogError> {
    let Some(event) = &recorded.event else { return Ok(None) };
    match scope {
        FeedScope::Public => public(commands, event, now).await,
        FeedScope::All => Ok(event.to_json().ok().and_then(|json| serde_json::from_slice(&json).ok())),
    }
}

/// Whose data an event is, unless that isn't told.
pub fn whose(recorded: &Recorded, scope: FeedScope) -> Option<UserId> {
    let is_secret = scope == FeedScope::Public && matches!(recorded.event, Some(Event::PollVoted(_)));
    recorded.subject.filter(|_| !is_secret)
}

/// What anybody may know, who has no account and follows nobody.
async fn public(commands: &Commands, event: &Event, now: DateTime<Utc>) -> Result<Option<Value>, LogError> {
    let told = match event {
        Event::UserCreated(e) => Some(json!({ "user": e.user, "username": e.username, "host": e.host })),
        Event::UserChanged(e) => profile(e.user, &e.changes),
        Event::UserErased(e) => Some(json!({ "user": e.user })),
        Event::NoteCreated(e) => {
            // What is deleted can't be seen any more.
            let is_there = commands.load::<Note>(&note::stream(e.id)).await?.existing().is_some();
            let is_public = is_there && may_anybody_see(commands, e.id, now).await?;
            is_public.then(|| serde_json::to_value(e).ok()).flatten()
        }
        Event::NoteDeleted(e) => {
            let is_public = may_anybody_see(commands, e.id, now).await?;
            is_public.then(|| json!({ "id": e.id, "author": e.author }))
        }
        Event::ReactionAdded(e) => {
            let is_public = may_anybody_see(commands, e.note, now).await?;
            is_public.then(|| json!({ "note": e.note, "reactor": e.reactor, "reaction": e.reaction }))
        }
        Event::ReactionRemoved(e) => {
            let is_public = may_anybody_see(commands, e.note, now).await?;
            is_public.then(|| json!({ "note": e.note, "reactor": e.reactor, "reaction": e.reaction }))
        }
        // What was chosen is told, and not by whom.
        Event::PollVoted(e) => {
            let is_public = may_anybody_see(commands, e.note, now).await?;
            is_public.then(|| json!({ "note": e.note, "choice": e.choice }))
        }
        Event::FollowStarted(e) => {
            let is_public = is_open_following(commands, e.follower, e.followee).await?;
            is_public.then(|| json!({ "follower": e.follower, "followee": e.followee }))
        }
        Event::FollowEnded(e) => {
            let is_public = is_open_following(commands, e.follower, e.followee).await?;
            is_public.then(|| json!({ "follower": e.follower, "followee": e.followee }))
        }
        Event::InstanceClaimed(_)
        | Event::InstanceRooted(_)
        | Event::SettingsChanged(_)
        | Event::PoliciesChanged(_)
        | Event::UsernameReserved(_)
        | Event::UserAbandoned(_)
        | Event::UserActive(_)
        | Event::UserSignedIn(_)
        | Event::UserAppAuthorized(_)
        | Event::UserTokenRegenerated(_)
        | Event::UserSecurityChanged(_)
        | Event::FollowRequested(_)
        | Event::FollowRequestEnded(_)
        | Event::FollowChanged(_)
        | Event::FollowGreeted(_)
        | Event::ListCreated(_)
        | Event::ListChanged(_)
        | Event::ListDeleted(_)
        | Event::ListMemberAdded(_)
        | Event::ListMemberChanged(_)
        | Event::ListMemberRemoved(_)
        | Event::ListFavorited(_)
        | Event::ListUnfavorited(_)
        | Event::UserSuspended(_)
        | Event::UserUnsuspended(_)
        | Event::UserNoted(_)
        | Event::UserPasswordReset(_)
        | Event::ReportFiled(_)
        | Event::ReportResolved(_)
        | Event::ReportAnnotated(_)
        | Event::AnnouncementCreated(_)
        | Event::AnnouncementChanged(_)
        | Event::AnnouncementDeleted(_)
        | Event::AnnouncementRead(_)
        | Event::InvitationCreated(_)
        | Event::InvitationDeleted(_)
        | Event::InvitationUsed(_)
        | Event::DecorationCreated(_)
        | Event::DecorationChanged(_)
        | Event::DecorationDeleted(_)
        | Event::EmojiClaimed(_)
        | Event::EmojiUnclaimed(_)
        | Event::EmojiAdded(_)
        | Event::EmojiChanged(_)
        | Event::EmojiDeleted(_)
        | Event::AdCreated(_)
        | Event::AdChanged(_)
        | Event::AdDeleted(_)
        | Event::ChannelCreated(_)
        | Event::ChannelChanged(_)
        | Event::ChannelFollowed(_)
        | Event::ChannelUnfollowed(_)
        | Event::ChannelFavorited(_)
        | Event::ChannelUnfavorited(_)
        | Event::ChannelMuted(_)
        | Event::ChannelUnmuted(_)
        | Event::AntennaCreated(_)
        | Event::AntennaChanged(_)
        | Event::AntennaDeleted(_)
        | Event::AntennaUsed(_)
        | Event::RoleCreated(_)
        | Event::RoleChanged(_)
        | Event::RoleDeleted(_)
        | Event::RoleAssigned(_)
        | Event::RoleUnassigned(_)
        | Event::FileAdded(_)
        | Event::FileChanged(_)
        | Event::FileDeleted(_)
        | Event::FileFetched(_)
        | Event::FolderAdded(_)
        | Event::FolderChanged(_)
        | Event::FolderDeleted(_)
        | Event::BlockStarted(_)
        | Event::BlockEnded(_)
        | Event::MuteStarted(_)
        | Event::MuteEnded(_)
        | Event::RenoteMuteStarted(_)
        | Event::RenoteMuteEnded(_)
        | Event::ThreadMuteStarted(_)
        | Event::ThreadMuteEnded(_)
        | Event::WorkCreated(_)
        | Event::WorkChanged(_)
        | Event::WorkDeleted(_)
        | Event::WorkLiked(_)
        | Event::WorkUnliked(_)
        | Event::MemoChanged(_)
        | Event::PollEnded(_)
        | Event::NotificationsRead(_)
        | Event::NotificationsFlushed(_)
        | Event::NotificationsTested(_)
        | Event::NotificationSent(_)
        | Event::FavoriteAdded(_)
        | Event::FavoriteRemoved(_)
        | Event::ClipCreated(_)
        | Event::ClipChanged(_)
        | Event::ClipDeleted(_)
        | Event::ClipNoteAdded(_)
        | Event::ClipNoteRemoved(_)
        | Event::ClipFavorited(_)
        | Event::ClipUnfavorited(_)
        | Event::PinAdded(_)
        | Event::PinRemoved(_)
        | Event::RegistrySet(_)
        | Event::RegistryRemoved(_)
        | Event::DraftSaved(_)
        | Event::DraftChanged(_)
        | Event::DraftDeleted(_)
        | Event::DraftTaken(_)
        | Event::DraftPosted(_)
        | Event::DraftFailed(_)
        | Event::ExportCompleted(_)
        | Event::AchievementEarned(_) => None,
    };
    Ok(told)
}

fn profile(user: UserId, changes: &ProfileChanges) -> Option<Value> {
    let Ok(Value::Object(all)) = serde_json::to_value(changes) else { return None };
    let public: Map<String, Value> =
        all.into_iter().filter(|(name, _)| PUBLIC_PROFILE.contains(&name.as_str())).collect();
    (!public.is_empty()).then(|| json!({ "user": user, "changes": public }))
}

/// Whether the note, which may be deleted by now, can be seen, or could be, without an account.
async fn may_anybody_see(commands: &Commands, note: NoteId, now: DateTime<Utc>) -> Result<bool, LogError> {
    let note = commands.load::<Note>(&note::stream(note)).await?;
    let Some(created) = &note.created else { return Ok(false) };
    let author = commands.load::<User>(&user::stream(created.author)).await?;
    Ok(may_see(None, &Facts::of(created, &*author), Between::default(), now))
}

async fn is_open_following(
    commands: &Commands,
    follower: UserId,
    followee: UserId,
) -> Result<bool, LogError> {
    let follower = commands.load::<User>(&user::stream(follower)).await?;
    let followee = commands.load::<User>(&user::stream(followee)).await?;
    Ok(follower.profile.following_visibility == FfVisibility::Public
        && followee.profile.followers_visibility == FfVisibility::Public)
}
