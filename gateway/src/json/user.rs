//! People as clients see them.
//!
//! How much is shown depends on who looks: anybody sees the profile, somebody signed in sees what they are to
//! each other as well, the person and moderators see what is private, and only the person, by their own token,
//! sees how they are reached.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use domain::decoration::Worn;
use domain::ids;
use domain::instance::Policies;
use domain::policy::may_see_list;
use domain::role::effective;
use domain::user::FfVisibility;
use domain::{follow::Notify, user::Field};
use projections::achievement::AchievementRow;
use projections::announcement::AnnouncementRow;
use projections::world::{RelationRow, UserRow, World};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::announcement::{Announcement, announcement};
use super::drive::file_url;
use super::note::{Note, note};
use super::ready::{Ready, kept};
use super::role::{BadgeRole, RoleLite};
use super::work::{Page, page};
use super::{Look, Time, is_false};
use crate::api::param::{Id, NoteId, UserId};
use crate::ops::mail::Address;
use crate::ops::passkeys::Passkey;
use crate::ops::security::Security;
use crate::presence::OnlineStatus;

/// Always `null`: what it would name is not there yet.
type Null = ();
/// Always `[]`, for the same reason.
type Empty = [(); 0];

/// The one who looks, as far as it changes how people are shown.
#[derive(Debug, Clone, Default)]
pub struct Eyes {
    /// Whether they are a moderator.
    pub moderates: bool,
    /// Whether they call with their own token, and not through an app.
    pub own_token: bool,
    /// The policies in force for them, by their names in the API.
    pub policies: Arc<Map<String, Value>>,
    /// Those of everybody without a role; only moderators see what others may.
    pub usual: Arc<Policies>,
    /// Notifications that they haven't read.
    pub unread: i64,
    /// Announcements that they haven't read.
    pub announcements: Vec<AnnouncementRow>,
    /// Those of the people shown in private who have been asked to be followed and haven't answered.
    pub asked: HashSet<ids::UserId>,
    /// How those of the people shown in private get in.
    pub security: HashMap<ids::UserId, Security>,
    /// Where they are reached themselves.
    pub address: Option<Address>,
    /// Their own passkeys.
    pub passkeys: Vec<Passkey>,
    /// What those have reached who are shown in private.
    pub achievements: HashMap<ids::UserId, Vec<AchievementRow>>,
}

/// Something that a person has reached.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Achievement {
    pub name: String,
    /// Milliseconds since 1970.
    pub unlocked_at: i64,
}

/// How a person is sent in few words.
pub type UserLite = Ready<WholeUserLite>;

/// A person in few words, as beside each note.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "UserLite")]
pub struct WholeUserLite {
    #[serde(flatten)]
    pub face: Face,
    #[serde(flatten)]
    pub today: Today,
}

/// What stays as it is while the profile does.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Face {
    pub id: UserId,
    pub name: Option<String>,
    pub username: String,
    /// None for people of this server.
    pub host: Option<String>,
    pub avatar_url: String,
    pub avatar_blurhash: Option<String>,
    pub is_bot: bool,
    pub is_cat: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub require_signin_to_view_contents: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub make_notes_followers_only_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub make_notes_hidden_before: Option<i64>,
    /// Pictures of the custom emoji in the name, by name.
    pub emojis: BTreeMap<String, String>,
}

/// What may be otherwise at any time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Today {
    pub avatar_decorations: Vec<Decoration>,
    pub online_status: OnlineStatus,
    pub badge_roles: Vec<BadgeRole>,
}

/// What an avatar wears; what is as usual is left out.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Decoration {
    pub id: Id<ids::DecorationId>,
    #[serde(skip_serializing_if = "is_zero")]
    pub angle: f64,
    #[serde(skip_serializing_if = "is_false")]
    pub flip_h: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub offset_x: f64,
    #[serde(skip_serializing_if = "is_zero")]
    pub offset_y: f64,
    pub url: String,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn decoration((worn, url): &(Worn, String)) -> Decoration {
    let Worn { id, angle, flip_h, offset_x, offset_y } = worn.clone();
    Decoration { id: Id(id), angle, flip_h, offset_x, offset_y, url: url.clone() }
}

/// A person in detail.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum UserDetailed {
    NotMe(Box<UserDetailedNotMe>),
    Me(Box<MeDetailed>),
}

/// Somebody else in detail.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserDetailedNotMe {
    #[serde(flatten)]
    pub profile: Profile,
    /// For moderators.
    #[serde(flatten)]
    pub private: Option<Private>,
    /// For those who are signed in.
    #[serde(flatten)]
    pub relation: Option<Relation>,
    /// For those who follow them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub followed_message: Option<Option<String>>,
}

/// The viewer in detail.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeDetailed {
    #[serde(flatten)]
    pub profile: Profile,
    #[serde(flatten)]
    pub private: Private,
    pub followed_message: Option<String>,
    pub has_unread_notification: bool,
    pub unread_notifications_count: i64,
    /// With the person's own token.
    #[serde(flatten)]
    pub secrets: Option<Secrets>,
}

/// What anybody may know of a person.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Profile {
    #[serde(flatten)]
    pub face: Face,
    #[serde(flatten)]
    pub today: Today,
    pub url: Option<String>,
    pub uri: Option<String>,
    pub moved_to: Null,
    pub also_known_as: Null,
    pub created_at: Time,
    pub updated_at: Option<Time>,
    pub last_fetched_at: Null,
    pub banner_url: Option<String>,
    pub banner_blurhash: Option<String>,
    pub is_locked: bool,
    pub is_silenced: bool,
    pub is_suspended: bool,
    pub description: Option<String>,
    pub location: Option<String>,
    pub birthday: Option<String>,
    pub lang: Option<String>,
    #[schemars(with = "Vec<BTreeMap<String, String>>")]
    pub fields: Vec<Field>,
    pub verified_links: Empty,
    /// 0 where the viewer may not see the list.
    pub followers_count: i64,
    /// As above.
    pub following_count: i64,
    pub notes_count: i64,
    pub pinned_note_ids: Vec<NoteId>,
    pub pinned_notes: Vec<Note>,
    pub pinned_page_id: Option<Id<ids::WorkId>>,
    pub pinned_page: Option<Box<Page>>,
    pub public_reactions: bool,
    #[schemars(with = "String")]
    pub followers_visibility: FfVisibility,
    #[schemars(with = "String")]
    pub following_visibility: FfVisibility,
    pub chat_scope: String,
    pub can_chat: bool,
    pub roles: Vec<RoleLite>,
    /// What the viewer noted down about them.
    pub memo: Option<String>,
    /// For moderators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation_note: Option<String>,
}

/// What the viewer and a person are to each other.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Relation {
    pub is_following: bool,
    pub is_followed: bool,
    pub has_pending_follow_request_from_you: bool,
    pub has_pending_follow_request_to_you: bool,
    pub is_blocking: bool,
    pub is_blocked: bool,
    pub is_muted: bool,
    pub is_renote_muted: bool,
    /// `none` or `normal`.
    pub notify: &'static str,
    pub with_replies: bool,
}

/// What a person and moderators may know.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Private {
    pub two_factor_enabled: bool,
    pub use_password_less_login: bool,
    pub security_keys: bool,
    pub avatar_id: Option<Id<ids::FileId>>,
    pub banner_id: Option<Id<ids::FileId>>,
    pub is_moderator: bool,
    pub is_admin: bool,
    pub inject_featured_note: bool,
    pub receive_announcement_email: bool,
    pub always_mark_nsfw: bool,
    pub auto_sensitive: bool,
    pub careful_bot: bool,
    pub auto_accept_followed: bool,
    pub no_crawle: bool,
    pub prevent_ai_learning: bool,
    pub is_explorable: bool,
    pub is_deleted: bool,
    /// `none`, `partial` or `full`.
    pub two_factor_backup_codes_stock: &'static str,
    pub hide_online_status: bool,
    pub has_unread_specified_notes: bool,
    pub has_unread_mentions: bool,
    pub has_unread_chat_messages: bool,
    pub has_unread_announcement: bool,
    /// None when it is not the person who looks.
    pub unread_announcements: Option<Vec<Announcement>>,
    pub has_unread_antenna: bool,
    pub has_unread_channel: bool,
    pub has_pending_received_follow_request: bool,
    /// For clients: each a regular expression, or a list of words that have to be there together.
    pub muted_words: Vec<Value>,
    /// As above; notes with them are not shown at all.
    pub hard_muted_words: Vec<Value>,
    pub muted_instances: Vec<String>,
    pub muting_notification_types: Empty,
    pub notification_recieve_config: BTreeMap<String, Value>,
    pub email_notification_types: Vec<String>,
    pub achievements: Vec<Achievement>,
    pub logged_in_days: i64,
    pub policies: Map<String, Value>,
}

/// How a person is reached and how they sign in.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Secrets {
    pub email: Option<String>,
    pub email_verified: bool,
    pub security_keys_list: Vec<PasskeyJson>,
}

/// A passkey.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PasskeyJson {
    pub id: String,
    pub name: String,
    pub last_used: Time,
}

fn passkey(passkey: &Passkey) -> PasskeyJson {
    PasskeyJson {
        id: BASE64_URL_SAFE_NO_PAD.encode(&passkey.id),
        name: passkey.name.clone(),
        last_used: Time(passkey.last_used_at),
    }
}

impl UserDetailed {
    pub fn id(&self) -> ids::UserId {
        self.profile().face.id.0
    }

    pub fn is_suspended(&self) -> bool {
        self.profile().is_suspended
    }

    fn profile(&self) -> &Profile {
        match self {
            UserDetailed::NotMe(user) => &user.profile,
            UserDetailed::Me(user) => &user.profile,
        }
    }
}

/// What a person has reached.
pub fn achievements(rows: &[AchievementRow]) -> Vec<Achievement> {
    let shown = |row: &AchievementRow| Achievement {
        name: row.name.clone(),
        unlocked_at: row.earned_at.timestamp_millis(),
    };
    rows.iter().map(shown).collect()
}

/// A person in few words.
pub fn user_lite(look: &Look<'_>, user: &UserRow) -> UserLite {
    UserLite::lay(user.profile.text(|_| kept(&face(look, user))), &today(look, user))
}

fn face(look: &Look<'_>, user: &UserRow) -> Face {
    let profile = &user.profile;
    Face {
        id: Id(user.id),
        name: profile.name.clone(),
        username: user.username.clone(),
        host: user.host.clone(),
        avatar_url: avatar_url(look, user),
        avatar_blurhash: profile.avatar.as_ref().and_then(|picture| picture.blurhash.clone()),
        is_bot: profile.is_bot,
        is_cat: profile.is_cat,
        require_signin_to_view_contents: profile.require_signin_to_view_contents,
        make_notes_followers_only_before: profile.make_notes_followers_only_before,
        make_notes_hidden_before: profile.make_notes_hidden_before,
        emojis: BTreeMap::new(),
    }
}

fn today(look: &Look<'_>, user: &UserRow) -> Today {
    Today {
        avatar_decorations: user.decorations.iter().map(decoration).collect(),
        online_status: match user.profile.hide_online_status {
            true => OnlineStatus::Unknown,
            false => look.presence.status(user.id, look.now),
        },
        badge_roles: super::role::badges(user),
    }
}

/// A person in detail: as the viewer sees themselves, or somebody else. None when there is no such person.
pub fn user_detailed(look: &Look<'_>, world: &World, id: ids::UserId, eyes: &Eyes) -> Option<UserDetailed> {
    if world.viewer == Some(id) {
        Some(UserDetailed::Me(Box::new(me_detailed(look, world, id, eyes)?)))
    } else {
        Some(UserDetailed::NotMe(Box::new(user_detailed_not_me(look, world, id, eyes)?)))
    }
}

/// Somebody else in detail.
pub fn user_detailed_not_me(
    look: &Look<'_>,
    world: &World,
    id: ids::UserId,
    eyes: &Eyes,
) -> Option<UserDetailedNotMe> {
    let user = world.user(id)?;
    let between = world.viewer.map(|_| world.relation(id));
    let follows = between.as_ref().is_some_and(|between| between.following.is_some());
    Some(UserDetailedNotMe {
        profile: Profile {
            memo: between.as_ref().and_then(|between| between.memo.clone()),
            ..profile(look, world, user, eyes, Standing { is_me: false, follows })
        },
        private: eyes.moderates.then(|| private(user, eyes, None)),
        relation: between.as_ref().map(|between| relation(between, world.now)),
        followed_message: follows.then(|| user.profile.followed_message.clone()),
    })
}

/// The viewer in detail.
pub fn me_detailed(look: &Look<'_>, world: &World, id: ids::UserId, eyes: &Eyes) -> Option<MeDetailed> {
    let user = world.user(id)?;
    let unread = eyes.announcements.iter().map(|row| announcement(row, Some(id))).collect();
    Some(MeDetailed {
        profile: Profile {
            memo: world.relation(id).memo,
            ..profile(look, world, user, eyes, Standing { is_me: true, follows: false })
        },
        private: private(user, eyes, Some(unread)),
        followed_message: user.profile.followed_message.clone(),
        has_unread_notification: eyes.unread > 0,
        unread_notifications_count: eyes.unread,
        secrets: eyes.own_token.then_some(Secrets {
            email: eyes.address.as_ref().map(|address| address.address.clone()),
            email_verified: eyes.address.as_ref().is_some_and(|address| address.verified),
            security_keys_list: eyes.passkeys.iter().map(passkey).collect(),
        }),
    })
}

/// What the viewer is to the person shown.
#[derive(Clone, Copy)]
struct Standing {
    is_me: bool,
    follows: bool,
}

fn profile(look: &Look<'_>, world: &World, user: &UserRow, eyes: &Eyes, standing: Standing) -> Profile {
    let profile = &user.profile;
    let pinned = world.pins(user.id).iter().filter_map(|id| Some((*id, note(look, world, *id)?)));
    let pinned: Vec<(ids::NoteId, Note)> = pinned.collect();
    let pinned_page = world.pinned_page(user).and_then(|row| page(look, world, row));
    let count = |visibility, count| match may_see_list(
        visibility,
        standing.is_me,
        eyes.moderates,
        standing.follows,
    ) {
        true => count,
        false => 0,
    };
    Profile {
        face: face(look, user),
        today: today(look, user),
        url: user.uri.clone(),
        uri: user.uri.clone(),
        moved_to: (),
        also_known_as: (),
        created_at: Time(user.id.time()),
        updated_at: user.updated_at.map(Time),
        last_fetched_at: (),
        banner_url: profile.banner.as_ref().map(|picture| file_url(look, &picture.key)),
        banner_blurhash: profile.banner.as_ref().and_then(|picture| picture.blurhash.clone()),
        is_locked: profile.is_locked,
        is_silenced: user.is_silenced,
        is_suspended: user.is_suspended,
        description: profile.description.clone(),
        location: profile.location.clone(),
        birthday: profile.birthday.clone(),
        lang: profile.lang.clone(),
        fields: profile.fields.clone(),
        verified_links: [],
        followers_count: count(profile.followers_visibility, user.followers),
        following_count: count(profile.following_visibility, user.following),
        notes_count: user.notes,
        pinned_note_ids: pinned.iter().map(|(id, _)| Id(*id)).collect(),
        pinned_notes: pinned.into_iter().map(|(_, note)| note).collect(),
        pinned_page_id: pinned_page.as_ref().map(Page::id),
        pinned_page: pinned_page.map(Box::new),
        public_reactions: profile.public_reactions,
        followers_visibility: profile.followers_visibility,
        following_visibility: profile.following_visibility,
        chat_scope: profile.chat_scope.clone(),
        can_chat: false,
        roles: super::role::shown(user, eyes.moderates),
        memo: None,
        moderation_note: eyes.moderates.then(|| user.moderation_note.clone()),
    }
}

fn relation(between: &RelationRow, now: DateTime<Utc>) -> Relation {
    let following = between.following;
    Relation {
        is_following: following.is_some(),
        is_followed: between.followed,
        has_pending_follow_request_from_you: between.request_from_me,
        has_pending_follow_request_to_you: between.request_to_me,
        is_blocking: between.blocks,
        is_blocked: between.is_blocked,
        is_muted: between.mutes(now),
        is_renote_muted: between.mutes_renotes,
        notify: match following.map(|following| following.notify) {
            Some(Notify::Normal) => "normal",
            Some(Notify::None) | None => "none",
        },
        with_replies: following.is_some_and(|following| following.with_replies),
    }
}

fn private(user: &UserRow, eyes: &Eyes, unread_announcements: Option<Vec<Announcement>>) -> Private {
    let is_me = unread_announcements.is_some();
    let profile = &user.profile;
    let security = eyes.security.get(&user.id).cloned().unwrap_or_default();
    Private {
        two_factor_enabled: security.two_factor,
        use_password_less_login: security.password_less,
        security_keys: security.passkeys,
        avatar_id: profile.avatar.as_ref().map(|picture| Id(picture.file)),
        banner_id: profile.banner.as_ref().map(|picture| Id(picture.file)),
        is_moderator: user.moderates(),
        is_admin: user.administers(),
        inject_featured_note: profile.inject_featured_note,
        receive_announcement_email: profile.receive_announcement_email,
        always_mark_nsfw: profile.always_mark_nsfw,
        auto_sensitive: profile.auto_sensitive,
        careful_bot: profile.careful_bot,
        auto_accept_followed: profile.auto_accept_followed,
        no_crawle: profile.no_crawle,
        prevent_ai_learning: profile.prevent_ai_learning,
        is_explorable: profile.is_explorable,
        is_deleted: false,
        two_factor_backup_codes_stock: security.backup_stock(),
        hide_online_status: profile.hide_online_status,
        has_unread_specified_notes: false,
        has_unread_mentions: false,
        has_unread_chat_messages: false,
        has_unread_announcement: unread_announcements.as_ref().is_some_and(|unread| !unread.is_empty()),
        unread_announcements,
        has_unread_antenna: false,
        has_unread_channel: false,
        has_pending_received_follow_request: eyes.asked.contains(&user.id),
        muted_words: profile.muted_words.clone(),
        hard_muted_words: profile.hard_muted_words.clone(),
        muted_instances: profile.muted_instances.clone(),
        muting_notification_types: [],
        notification_recieve_config: profile.notification_recieve_config.clone(),
        email_notification_types: profile.email_notification_types.clone(),
        achievements: eyes.achievements.get(&user.id).map_or_else(Vec::new, |rows| achievements(rows)),
        logged_in_days: user.active_days,
        policies: match is_me {
            true => (*eyes.policies).clone(),
            false => effective(&eyes.usual, user.roles.iter().map(|role| &role.definition)),
        },
    }
}

/// Their picture, or the one that this server draws for whoever has none.
pub fn avatar_url(look: &Look<'_>, user: &UserRow) -> String {
    if let Some(picture) = &user.profile.avatar {
        let url = file_url(look, &picture.key);
        let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
        return format!("{}/proxy/avatar/{url}?avatar=1", look.origin);
    }
    let host = user.host.as_deref().unwrap_or(look.host());
    format!("{}/identicon/{}@{host}", look.origin, user.username)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::note::tests::now;
    use crate::presence::Presence;
    use projections::world::FollowingRow;
    use serde_json::{json, to_value};
    use uuid::Uuid;

    fn id(n: u128) -> ids::UserId {
        ids::UserId(Uuid::from_u128(n))
    }

    fn alice() -> UserRow {
        let profile = domain::user::Profile {
            followers_visibility: FfVisibility::Private,
            following_visibility: FfVisibility::Followers,
            ..Default::default()
        };
        UserRow {
            id: id(1),
            username: "alice".to_owned(),
            host: None,
            uri: None,
            profile: profile.into(),
            is_root: false,
            followers: 3,
            following: 4,
            notes: 5,
            updated_at: None,
            counted_to: domain::log::Position::START,
            active_days: 1,
            roles: Vec::new(),
            is_silenced: false,
            is_suspended: false,
            decorations: Vec::new(),
            moderation_note: String::new(),
        }
    }

    fn counts(eyes: &Eyes, standing: Standing) -> (i64, i64) {
        let presence = Presence::default();
        let look = Look { origin: "https://a.example:3", presence: &presence, now: DateTime::UNIX_EPOCH };
        let world = World::of(None, look.now, [], []);
        let profile = profile(&look, &world, &alice(), eyes, standing);
        (profile.followers_count, profile.following_count)
    }

    #[test]
    fn counts_are_hidden_with_their_lists() {
        let anybody = Eyes::default();
        let moderator = Eyes { moderates: true, ..Eyes::default() };
        let stranger = Standing { is_me: false, follows: false };
        assert_eq!(counts(&anybody, stranger), (0, 0));
        assert_eq!(counts(&anybody, Standing { follows: true, ..stranger }), (0, 4));
        assert_eq!(counts(&anybody, Standing { is_me: true, ..stranger }), (3, 4));
        assert_eq!(counts(&moderator, stranger), (3, 4));
    }

    #[test]
    fn who_hides_it_is_not_seen_to_be_here() {
        let (presence, now) = (Presence::default(), DateTime::UNIX_EPOCH);
        presence.seen(id(1), now);
        let look = Look { origin: "https://a.example:3", presence: &presence, now };
        let shown = |user: &UserRow| to_value(user_lite(&look, user)).unwrap();
        let mut user = alice();
        assert_eq!(shown(&user)["onlineStatus"], "online");
        assert_eq!(shown(&user)["avatarUrl"], "https://a.example:3/identicon/alice@a.example:3");
        user.profile.hide_online_status = true;
        assert_eq!(shown(&user)["onlineStatus"], "unknown");
    }

    #[test]
    fn a_relation_tells_how_the_viewer_follows() {
        let following = FollowingRow {
            id: ids::FollowId(Uuid::from_u128(9)),
            notify: Notify::Normal,
            with_replies: true,
        };
        let row = RelationRow { following: Some(following), ..RelationRow::default() };
        let shown = to_value(relation(&row, now())).unwrap();
        assert_eq!(shown["isFollowing"], json!(true));
        assert_eq!((&shown["notify"], &shown["withReplies"]), (&json!("normal"), &json!(true)));
        assert_eq!(to_value(relation(&RelationRow::default(), now())).unwrap()["notify"], json!("none"));
    }
}
