//! People, local and remote: accounts, profiles and what they prefer.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::decoration::Worn;
use crate::event::Payload;
use crate::ids::{FileId, UserId, WorkId};
use crate::log::StreamId;
use crate::remote::{ActorUri, Host};
use crate::{Event, Fold};

/// The longest local user name, in characters (Misskey's sign-up).
pub const MAX_USERNAME_CHARS: usize = 20;

/// The stream of one account.
pub fn stream(user: UserId) -> StreamId {
    StreamId::new("user", user)
}

/// The stream that reserves a name; the key is a keyed hash of the lower-case name (and host), so that
/// no name stands in clear in the log.
pub fn username_stream(keyed_hash: &str) -> StreamId {
    StreamId::new("username", keyed_hash)
}

/// `username.reserved`: the name belongs to this account, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsernameReserved {
    pub user: UserId,
}

/// `user.created`: an account exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub user: UserId,
    pub username: String,
    /// None for people of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<ActorUri>,
}

/// `user.abandoned`: the account was begun and never made, and somebody else takes what was meant for it;
/// it can't be made any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    pub user: UserId,
}

/// `user.erased`: the key of the person is destroyed, and with it all they ever said. It is nobody's data, so
/// that it can still be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    pub user: UserId,
}

/// `user.changed`: the profile or a preference; only what differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub user: UserId,
    pub changes: ProfileChanges,
}

/// `user.active`: the person used the server on this day (UTC); once a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    pub user: UserId,
    pub day: NaiveDate,
}

/// `user.signed_in`: with a password, not with a stored token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIn {
    pub user: UserId,
}

/// `user.app_authorized`: an app got an access token (the token itself is never in the log).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppAuthorized {
    pub user: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// `user.token_regenerated`: all earlier native tokens stopped working.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRegenerated {
    pub user: UserId,
}

/// `user.security_changed`: how the person gets in or is reached has changed; what it is now is never in the
/// log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityChanged {
    pub user: UserId,
    pub what: Security,
}

/// What has changed of how a person gets in or is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    Password,
    CodesOn,
    CodesOff,
    PasskeyAdded,
    PasskeyRenamed,
    PasskeyRemoved,
    PasswordLessOn,
    PasswordLessOff,
    Mail,
}

/// Neither is anybody's data: a name stays taken and a person stays erased when nothing else can be read.
impl Payload for UsernameReserved {
    fn subject(&self) -> Option<UserId> {
        None
    }
}

impl Payload for Erased {
    fn subject(&self) -> Option<UserId> {
        None
    }
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
of_the_user!(Created, Abandoned, Changed, Active, SignedIn, AppAuthorized, TokenRegenerated, SecurityChanged);

/// A line of the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub value: String,
}

/// A file of the person's that is shown beside their name or above their profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    pub file: FileId,
    /// Under which it is served.
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blurhash: Option<String>,
}

/// Who may see a list of followers or followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FfVisibility {
    #[default]
    Public,
    Followers,
    Private,
}

/// Reads a field that is there, so that null is a value of its own and not an absence.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

macro_rules! profile {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr;)*) => {
        /// What a person says of themselves and prefers; the names are those of Misskey's
        /// `MeDetailed` in snake case.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Profile {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for Profile {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// A change of a profile: only the fields that change.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct ProfileChanges {
            $(
                #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl ProfileChanges {
            pub fn is_empty(&self) -> bool {
                $(self.$field.is_none())&&*
            }

            /// Without what the profile already has.
            fn against(self, profile: &Profile) -> Self {
                Self { $($field: self.$field.filter(|new| *new != profile.$field),)* }
            }

            pub fn apply_to(&self, profile: &mut Profile) {
                $(if let Some(new) = &self.$field {
                    profile.$field = new.clone();
                })*
            }
        }
    };
}

profile! {
    name: Option<String> = None;
    description: Option<String> = None;
    location: Option<String> = None;
    /// `YYYY-MM-DD`.
    birthday: Option<String> = None;
    /// A language tag.
    lang: Option<String> = None;
    fields: Vec<Field> = Vec::new();
    /// What the avatar wears.
    avatar_decorations: Vec<Worn> = Vec::new();
    /// Told to each new follower.
    followed_message: Option<String> = None;
    avatar: Option<Picture> = None;
    banner: Option<Picture> = None;
    /// A page of theirs that is shown with them.
    pinned_page: Option<WorkId> = None;
    is_locked: bool = false;
    is_bot: bool = false;
    is_cat: bool = false;
    is_explorable: bool = true;
    /// Kept for clients; there is no list of a person's reactions.
    public_reactions: bool = true;
    followers_visibility: FfVisibility = FfVisibility::Public;
    following_visibility: FfVisibility = FfVisibility::Public;
    /// Kept for clients; there are no chats.
    chat_scope: String = "mutual".to_owned();
    hide_online_status: bool = false;
    careful_bot: bool = false;
    auto_accept_followed: bool = true;
    /// Kept for clients; there are no pages that a crawler could read.
    no_crawle: bool = false;
    /// Kept for clients.
    prevent_ai_learning: bool = true;
    require_signin_to_view_contents: bool = false;
    /// Seconds: absolute since 1970 when positive, before now when not.
    make_notes_followers_only_before: Option<i64> = None;
    /// As above.
    make_notes_hidden_before: Option<i64> = None;
    /// Kept for clients.
    inject_featured_note: bool = true;
    /// Kept for clients; there is no mail.
    receive_announcement_email: bool = true;
    /// New files are marked as sensitive.
    always_mark_nsfw: bool = false;
    /// Kept for clients: nothing looks into pictures.
    auto_sensitive: bool = false;
    /// Applied by clients.
    muted_words: Vec<Value> = Vec::new();
    /// Applied by clients.
    hard_muted_words: Vec<Value> = Vec::new();
    /// Servers whose people are muted, see [`crate::policy::wants`].
    muted_instances: Vec<String> = Vec::new();
    /// From whom the person wants to be told, see [`crate::notification::wish`].
    notification_recieve_config: BTreeMap<String, Value> = BTreeMap::new();
    /// Kept for clients; there is no mail.
    email_notification_types: Vec<String> = vec!["follow".to_owned(), "receiveFollowRequest".to_owned()];
}

/// One account, folded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct User {
    /// None before it is created, and when its data has been erased.
    pub created: Option<Created>,
    pub abandoned: bool,
    pub erased: bool,
    pub suspended: bool,
    pub profile: Profile,
    pub last_active: Option<NaiveDate>,
}

impl User {
    pub fn exists(&self) -> bool {
        self.created.is_some()
    }

    pub fn is_local(&self) -> bool {
        self.created.as_ref().is_some_and(|c| c.host.is_none())
    }
}

impl Fold for User {
    fn apply(&mut self, event: &Event) {
        match event {
            // Before and after it nothing counts, also what could still be read.
            Event::UserErased(_) => *self = Self { erased: true, ..Self::default() },
            _ if self.erased => (),
            Event::UserCreated(e) => self.created = Some(e.clone()),
            Event::UserAbandoned(_) => self.abandoned = true,
            Event::UserChanged(e) => e.changes.apply_to(&mut self.profile),
            Event::UserSuspended(_) => self.suspended = true,
            Event::UserUnsuspended(_) => self.suspended = false,
            Event::UserActive(e) => self.last_active = Some(e.day),
            _ => (),
        }
    }
}

/// Whose name it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservation {
    pub holder: Option<UserId>,
}

impl Fold for Reservation {
    fn apply(&mut self, event: &Event) {
        if let Event::UsernameReserved(e) = event {
            self.holder = Some(e.user);
        }
    }
}

/// Why an account is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSignUp {
    #[error("not a user name")]
    InvalidUsername,
    #[error("the name is kept back")]
    ReservedUsername,
    #[error("the name is taken")]
    Taken,
    #[error("the name was somebody's who has been erased")]
    UsedBefore,
    #[error("registration is closed")]
    Closed,
}

/// The account exists, and so it can't be abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the account exists")]
pub struct AlreadyMade;

/// There is nobody to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotErase {
    #[error("no such user")]
    NoSuchUser,
}

/// Whether this can be the name of a local account: ASCII letters, digits and underscores.
pub fn is_username(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_USERNAME_CHARS
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Decides who gets a name. A name stays reserved for ever; one that was reserved for an account
/// that never came to be (`holder_exists` is false) is free again.
pub fn reserve(current: &Reservation, user: UserId, holder_exists: bool) -> Result<Vec<Event>, CannotSignUp> {
    match current.holder {
        Some(holder) if holder == user => Ok(Vec::new()),
        Some(_) if holder_exists => Err(CannotSignUp::Taken),
        _ => Ok(vec![UsernameReserved { user }.into()]),
    }
}

/// Decides the making of an account whose name is reserved, unless it has been abandoned meanwhile.
pub fn create(current: &User, new: &Created) -> Result<Vec<Event>, CannotSignUp> {
    match current {
        User { abandoned: true, .. } | User { erased: true, .. } => Err(CannotSignUp::Taken),
        User { created: Some(_), .. } => Ok(Vec::new()),
        _ => Ok(vec![new.clone().into()]),
    }
}

/// Decides that an account which was begun is never made.
pub fn abandon(current: &User, user: UserId) -> Result<Vec<Event>, AlreadyMade> {
    match current {
        User { created: Some(_), .. } | User { erased: true, .. } => Err(AlreadyMade),
        User { abandoned: true, .. } => Ok(Vec::new()),
        _ => Ok(vec![Abandoned { user }.into()]),
    }
}

/// Decides the erasure of an account that was made; its creation may be unreadable by now.
pub fn erase(current: &User, user: UserId) -> Vec<Event> {
    if current.erased { Vec::new() } else { vec![Erased { user }.into()] }
}

/// Decides a change: what is already so is left out, and what is then empty is no event.
pub fn change(current: &User, user: UserId, changes: ProfileChanges) -> Vec<Event> {
    if current.erased {
        return Vec::new();
    }
    let changes = changes.against(&current.profile);
    if changes.is_empty() { Vec::new() } else { vec![Changed { user, changes }.into()] }
}

/// Notes that the person is here today; at most one event a day.
pub fn be_active(current: &User, user: UserId, day: NaiveDate) -> Vec<Event> {
    let known = !current.exists() || current.last_active.is_some_and(|last| last >= day);
    if known { Vec::new() } else { vec![Active { user, day }.into()] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{person, user};

    #[test]
    fn user_names_are_short_ascii_words() {
        assert!(is_username("alice_2"));
        for bad in ["", "no spaces", "日本", "a-b", "abcdefghijklmnopqrstu"] {
            assert!(!is_username(bad), "{bad}");
        }
    }

    #[test]
    fn a_name_is_given_once_unless_its_account_never_came_to_be() {
        let free = Reservation::default();
        let events = reserve(&free, user(1), false).unwrap();
        let taken = Reservation::of(&events);
        assert_eq!(reserve(&taken, user(1), true), Ok(Vec::new()));
        assert_eq!(reserve(&taken, user(2), true), Err(CannotSignUp::Taken));
        assert_eq!(Reservation::of(&reserve(&taken, user(2), false).unwrap()).holder, Some(user(2)));
    }

    #[test]
    fn an_account_is_made_or_abandoned_and_never_both() {
        let new = Created { user: user(1), username: "alice".to_owned(), host: None, uri: None };
        let mut made = User::default();
        made.apply(&create(&made, &new).unwrap()[0]);
        assert_eq!(create(&made, &new), Ok(Vec::new()));
        assert_eq!(abandon(&made, user(1)), Err(AlreadyMade));
        let mut abandoned = User::default();
        abandoned.apply(&abandon(&abandoned, user(1)).unwrap()[0]);
        assert_eq!(abandon(&abandoned, user(1)), Ok(Vec::new()));
        assert_eq!(create(&abandoned, &new), Err(CannotSignUp::Taken));
        assert!(!abandoned.exists());
    }

    #[test]
    fn who_is_erased_is_nobody_and_stays_so() {
        let mut gone = person(1, |p| p.name = Some("Alice".to_owned()));
        let erased = erase(&gone, user(1));
        assert_eq!(erased[0].subject(), None, "it must be readable without the key");
        gone.apply(&erased[0]);
        let new = Created { user: user(1), username: "alice".to_owned(), host: None, uri: None };
        gone.apply(&new.clone().into());
        assert_eq!(gone, User { erased: true, ..User::default() });
        assert_eq!(erase(&gone, user(1)), Vec::new());
        assert_eq!(create(&gone, &new), Err(CannotSignUp::Taken));
        assert_eq!(abandon(&gone, user(1)), Err(AlreadyMade));
        let changes = ProfileChanges { is_cat: Some(true), ..Default::default() };
        assert_eq!(change(&gone, user(1), changes), Vec::new());
        assert_eq!(be_active(&gone, user(1), NaiveDate::from_ymd_opt(2026, 1, 2).unwrap()), Vec::new());
        let kept = Reservation::of(&reserve(&Reservation::default(), user(1), false).unwrap());
        assert_eq!(kept.holder, Some(user(1)));
        assert_eq!(Event::from(UsernameReserved { user: user(1) }).subject(), None);
    }

    #[test]
    fn a_change_keeps_only_what_differs_and_null_is_a_value() {
        let named = person(1, |p| p.name = Some("Alice".to_owned()));
        let same = ProfileChanges { name: Some(Some("Alice".to_owned())), ..Default::default() };
        assert_eq!(change(&named, user(1), same), Vec::new());
        let cleared = ProfileChanges { name: Some(None), is_cat: Some(true), ..Default::default() };
        let events = change(&named, user(1), cleared);
        let json = events[0].to_json().unwrap();
        assert!(String::from_utf8_lossy(&json).contains(r#""changes":{"name":null,"is_cat":true}"#));
        let (kind, schema) = events[0].kind();
        let mut after = named;
        after.apply(&Event::from_json(kind, schema, &json).unwrap());
        assert_eq!((after.profile.name, after.profile.is_cat), (None, true));
    }

    #[test]
    fn a_day_counts_once() {
        let day = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();
        let mut alice = person(1, |_| ());
        let events = be_active(&alice, user(1), day);
        assert_eq!(events.len(), 1);
        alice.apply(&events[0]);
        assert_eq!(be_active(&alice, user(1), day), Vec::new());
        assert_eq!(be_active(&User::default(), user(1), day), Vec::new());
    }
}
