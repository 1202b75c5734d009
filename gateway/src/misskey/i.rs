//! Oneself: `i`, `i/update`, `i/regenerate-token`.

use std::collections::BTreeMap;

use commands::Failed;
use domain::decoration::Worn;
use domain::drive::NoPicture;
use domain::user::{FfVisibility, Field, Picture, ProfileChanges};
use domain::{FileId, ids};
use regex_syntax::ast::parse::Parser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::follow::accept_all;
use super::user::{account_name, myself};
use crate::api::param::{AnyId, Given, Id, Text, Unique};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::user::MeDetailed;
use crate::ops::passwords::MAX_PASSWORD_BYTES;

const MAX_NAME_CHARS: usize = 50;
const MAX_DESCRIPTION_CHARS: usize = 1_500;
const MAX_FOLLOWED_MESSAGE_CHARS: usize = 256;
const MAX_LOCATION_CHARS: usize = 50;
/// The most lines of a profile, and the longest text in one, in characters.
const MAX_FIELDS: usize = 16;
const MAX_FIELD_CHARS: usize = 2_048;
/// The most decorations of an avatar.
const MAX_DECORATIONS: usize = 16;
const MAX_ALIASES: usize = 10;
/// The most servers that one person mutes, and the longest name of one, in characters.
const MAX_MUTED_INSTANCES: usize = 1_000;
const MAX_HOST_CHARS: usize = 255;
/// The most kinds of notifications that something is said about.
const MAX_NOTIFICATION_KINDS: usize = 64;

/// The caller as they see themselves.
#[derive(Deserialize, JsonSchema)]
pub struct Show {}

impl Endpoint for Show {
    const META: Meta = Meta::new("i").kind("read:account");
    type Caller = SignedIn;
    type Reply = MeDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<MeDetailed, ApiError> {
        count_day(app, &me).await?;
        myself(app, &me.account, me.app.is_none()).await
    }
}

/// Notes, once a day, that the caller uses the server.
async fn count_day(app: &App, me: &SignedIn) -> Result<(), ApiError> {
    let day = app.now().date_naive();
    if !app.presence.is_counted(me.id(), day) {
        let receipt = app.commands.be_active(app.by(me), me.id()).await?;
        app.shown(receipt).await;
        app.presence.count(me.id(), day);
    }
    Ok(())
}

/// Change what one says of oneself and prefers; what isn't named stays.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Update {
    name: Given<Option<Text<1, MAX_NAME_CHARS>>>,
    description: Given<Option<Text<1, MAX_DESCRIPTION_CHARS>>>,
    /// Told to each new follower.
    followed_message: Given<Option<Text<1, MAX_FOLLOWED_MESSAGE_CHARS>>>,
    location: Given<Option<Text<1, MAX_LOCATION_CHARS>>>,
    birthday: Given<Option<Birthday>>,
    lang: Given<Option<Lang>>,
    /// A file of the caller's that is a picture.
    avatar_id: Given<Option<Id<FileId>>>,
    /// As above.
    banner_id: Given<Option<Id<FileId>>>,
    /// What isn't offered to the caller is passed over.
    #[schemars(length(max = MAX_DECORATIONS))]
    avatar_decorations: Given<Vec<Decoration>>,
    #[schemars(length(max = MAX_FIELDS))]
    fields: Given<Vec<Line>>,
    is_locked: Given<bool>,
    is_explorable: Given<bool>,
    hide_online_status: Given<bool>,
    public_reactions: Given<bool>,
    careful_bot: Given<bool>,
    auto_accept_followed: Given<bool>,
    no_crawle: Given<bool>,
    prevent_ai_learning: Given<bool>,
    require_signin_to_view_contents: Given<bool>,
    /// Seconds: absolute since 1970 when positive, before now when not.
    make_notes_followers_only_before: Given<Option<i64>>,
    /// As above.
    make_notes_hidden_before: Given<Option<i64>>,
    is_bot: Given<bool>,
    is_cat: Given<bool>,
    inject_featured_note: Given<bool>,
    receive_announcement_email: Given<bool>,
    always_mark_nsfw: Given<bool>,
    auto_sensitive: Given<bool>,
    #[schemars(with = "String", extend("enum" = ["public", "followers", "private"]))]
    following_visibility: Given<FfVisibility>,
    #[schemars(with = "String", extend("enum" = ["public", "followers", "private"]))]
    followers_visibility: Given<FfVisibility>,
    /// Kept for clients.
    #[schemars(with = "String", extend("enum" = ["everyone", "followers", "following", "mutual", "none"]))]
    chat_scope: Given<String>,
    /// There are no pages yet: only `null` names one.
    pinned_page_id: Given<Option<Id<AnyId>>>,
    muted_words: Given<Vec<Muted>>,
    hard_muted_words: Given<Vec<Muted>>,
    #[schemars(length(max = MAX_MUTED_INSTANCES))]
    muted_instances: Given<Vec<Text<0, MAX_HOST_CHARS>>>,
    notification_recieve_config: Given<BTreeMap<String, Receive>>,
    #[schemars(length(max = MAX_NOTIFICATION_KINDS))]
    email_notification_types: Given<Vec<Text<0, MAX_HOST_CHARS>>>,
    also_known_as: Given<Unique<Text<0, MAX_HOST_CHARS>, 0, MAX_ALIASES>>,
}

/// `YYYY-MM-DD`.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Birthday(#[schemars(regex(pattern = r"^([0-9]{4})-([0-9]{2})-([0-9]{2})$"))] String);

/// A language tag.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Lang(#[schemars(regex(pattern = r"^[a-z]{2,3}([-@][A-Za-z0-9]{2,8})?$"))] String);

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Decoration {
    id: Id<ids::DecorationId>,
    /// In turns.
    #[serde(default)]
    #[schemars(range(min = -0.5, max = 0.5))]
    angle: Option<f64>,
    #[serde(default)]
    flip_h: Option<bool>,
    /// In widths of the avatar.
    #[serde(default)]
    #[schemars(range(min = -0.25, max = 0.25))]
    offset_x: Option<f64>,
    #[serde(default)]
    #[schemars(range(min = -0.25, max = 0.25))]
    offset_y: Option<f64>,
}

impl Decoration {
    fn worn(&self) -> Worn {
        Worn {
            id: self.id.0,
            angle: self.angle.unwrap_or_default(),
            flip_h: self.flip_h.unwrap_or_default(),
            offset_x: self.offset_x.unwrap_or_default(),
            offset_y: self.offset_y.unwrap_or_default(),
        }
    }
}

/// A line of the profile.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
struct Line {
    name: Text<0, MAX_FIELD_CHARS>,
    value: Text<0, MAX_FIELD_CHARS>,
}

/// What a person doesn't want to read: words that are there together, or a regular expression like `/this/i`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Muted {
    Words(Vec<String>),
    Pattern(String),
}

/// From whom notifications of one kind are wanted.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Receive {
    #[serde(rename = "type")]
    from: Circle,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_list_id: Option<String>,
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum Circle {
    All,
    Following,
    Follower,
    MutualFollow,
    FollowingOrFollower,
    List,
    Never,
}

const NO_SUCH_AVATAR: ErrorDef =
    ErrorDef::new("NO_SUCH_AVATAR", "No such avatar file.", "539f3a45-f215-4f81-a9a8-31293640207f");
const NO_SUCH_BANNER: ErrorDef =
    ErrorDef::new("NO_SUCH_BANNER", "No such banner file.", "0d8f5629-f210-41c2-9433-735831a58595");
const AVATAR_NOT_AN_IMAGE: ErrorDef = ErrorDef::new(
    "AVATAR_NOT_AN_IMAGE",
    "The file specified as an avatar is not an image.",
    "f419f9f8-2f4d-46b1-9fb4-49d3a2fd7191",
);
const BANNER_NOT_AN_IMAGE: ErrorDef = ErrorDef::new(
    "BANNER_NOT_AN_IMAGE",
    "The file specified as a banner is not an image.",
    "75aedb19-2afd-4e6d-87fc-67941256fa60",
);
const NO_SUCH_PAGE: ErrorDef =
    ErrorDef::new("NO_SUCH_PAGE", "No such page.", "8e01b590-7eb9-431b-a239-860e086c408e");
const INVALID_REGEXP: ErrorDef =
    ErrorDef::new("INVALID_REGEXP", "Invalid Regular Expression.", "0d786918-10df-41cd-8f33-8dec7d9a89a5");
const TOO_MANY_MUTED_WORDS: ErrorDef =
    ErrorDef::new("TOO_MANY_MUTED_WORDS", "Too many muted words.", "010665b1-a211-42d2-bc64-8f6609d79785");
const NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "fcd2eef9-a9b2-4c4f-8624-038099e90aa5");
const URI_NULL: ErrorDef =
    ErrorDef::new("URI_NULL", "User ActivityPup URI is null.", "bf326f31-d430-4f97-9933-5d61e4d48a23");
const RESTRICTED_BY_ROLE: ErrorDef = ErrorDef::new(
    "RESTRICTED_BY_ROLE",
    "This feature is restricted by your role.",
    "8feff0ba-5ab5-585b-31f4-4df816663fad",
);
const YOUR_NAME_CONTAINS_PROHIBITED_WORDS: ErrorDef = ErrorDef::new(
    "YOUR_NAME_CONTAINS_PROHIBITED_WORDS",
    "Your new name contains prohibited words.",
    "0b3f9f6a-2f4d-4b1f-9fb4-49d3a2fd7191",
)
.status(422);
const FORBIDDEN_TO_SET_YOURSELF: ErrorDef = ErrorDef::new(
    "FORBIDDEN_TO_SET_YOURSELF",
    "You can't set yourself as your own alias.",
    "25c90186-4ab0-49c8-9bba-a1fa6c202ba4",
);

impl Endpoint for Update {
    const META: Meta = Meta::new("i/update").kind("write:account").limit(20, per::HOUR).errors(&[
        NO_SUCH_AVATAR,
        NO_SUCH_BANNER,
        AVATAR_NOT_AN_IMAGE,
        BANNER_NOT_AN_IMAGE,
        NO_SUCH_PAGE,
        INVALID_REGEXP,
        TOO_MANY_MUTED_WORDS,
        NO_SUCH_USER,
        URI_NULL,
        FORBIDDEN_TO_SET_YOURSELF,
        RESTRICTED_BY_ROLE,
        YOUR_NAME_CONTAINS_PROHIBITED_WORDS,
    ]);
    type Caller = SignedIn;
    type Reply = MeDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<MeDetailed, ApiError> {
        let pinned_page = self.pinned_page(app, &me).await?;
        let avatar = picture(app, &me, &self.avatar_id, NO_SUCH_AVATAR, AVATAR_NOT_AN_IMAGE).await?;
        let banner = picture(app, &me, &self.banner_id, NO_SUCH_BANNER, BANNER_NOT_AN_IMAGE).await?;
        self.check_aliases(app, &me).await?;
        let unlocks = self.is_locked.0 == Some(false) && is_locked(app, &me).await?;
        let worn = self.decorations(app, &me).await?;
        let changes =
            ProfileChanges { avatar, banner, pinned_page, avatar_decorations: worn, ..self.changes(&me)? };
        // Who moderates is trusted with their name.
        let name = changes.name.as_ref();
        if !me.account.is_moderator
            && !app.commands.may_be_called(me.id(), name).await.map_err(ApiError::internal)?
        {
            return Err(YOUR_NAME_CONTAINS_PROHIBITED_WORDS.into());
        }
        let receipt = app.commands.change_profile(app.by(&me), me.id(), changes).await?;
        app.shown(receipt).await;
        if unlocks {
            accept_all(app, &me).await?;
        }
        myself(app, &me.account, me.app.is_none()).await
    }
}

/// The picture that is asked for, if anything is said of it.
async fn picture(
    app: &App,
    me: &SignedIn,
    asked: &Given<Option<Id<FileId>>>,
    missing: ErrorDef,
    other: ErrorDef,
) -> Result<Option<Option<Picture>>, ApiError> {
    let id = match asked.0 {
        Some(Some(id)) => id.0,
        Some(None) => return Ok(Some(None)),
        None => return Ok(None),
    };
    match app.commands.picture(me.id(), id).await {
        Ok(picture) => Ok(Some(Some(picture))),
        Err(Failed::Refused(NoPicture::NoSuchFile)) => Err(missing.into()),
        Err(Failed::Refused(NoPicture::NotAnImage)) => Err(other.into()),
        Err(failed) => Err(ApiError::internal(failed)),
    }
}

async fn is_locked(app: &App, me: &SignedIn) -> Result<bool, ApiError> {
    let rows = projections::user::by_ids(&app.pool, &[me.id()]).await?;
    Ok(rows.get(&me.id()).is_some_and(|row| row.profile.is_locked))
}

impl Update {
    /// The page that is to be pinned, if anything is said of one.
    async fn pinned_page(&self, app: &App, me: &SignedIn) -> Result<Option<Option<ids::WorkId>>, ApiError> {
        let Some(Some(asked)) = self.pinned_page_id.0 else {
            return Ok(self.pinned_page_id.0.map(|_| None));
        };
        let page = ids::WorkId(asked.0.0);
        match app.commands.has_page(me.id(), page).await.map_err(ApiError::internal)? {
            true => Ok(Some(Some(page))),
            false => Err(NO_SUCH_PAGE.into()),
        }
    }

    /// What the avatar is to wear: of what is named, that which is offered to the caller.
    async fn decorations(&self, app: &App, me: &SignedIn) -> Result<Option<Vec<Worn>>, ApiError> {
        let Some(asked) = &self.avatar_decorations.0 else { return Ok(None) };
        if asked.len() > me.account.limit("avatarDecorationLimit") {
            return Err(RESTRICTED_BY_ROLE.into());
        }
        let named: Vec<ids::DecorationId> = asked.iter().map(|decoration| decoration.id.0).collect();
        let offered = projections::decoration::by_ids(&app.pool, &named).await?;
        let worn = asked.iter().filter(|asked| {
            offered.get(&asked.id.0).is_some_and(|row| row.definition.is_for(&me.account.roles))
        });
        Ok(Some(worn.map(Decoration::worn).collect()))
    }

    /// Accounts can't move yet, and so nobody has an alias; what is wrong with one is told.
    async fn check_aliases(&self, app: &App, me: &SignedIn) -> Result<(), ApiError> {
        let Some(alias) = self.also_known_as.0.as_ref().and_then(|aliases| aliases.0.first()) else {
            return Ok(());
        };
        let (username, host) = account_name(&alias.0);
        let host = host.filter(|host| !host.eq_ignore_ascii_case(app.config.host()));
        match projections::user::by_username(&app.pool, username, host).await? {
            None => Err(NO_SUCH_USER.into()),
            Some(id) if id == me.id() => Err(FORBIDDEN_TO_SET_YOURSELF.into()),
            Some(_) => Err(URI_NULL.into()),
        }
    }

    fn changes(self, me: &SignedIn) -> Result<ProfileChanges, ApiError> {
        let limit = me.account.policies.get("wordMuteLimit").and_then(Value::as_u64).unwrap_or(0);
        Ok(ProfileChanges {
            name: self.name.0.map(|name| name.and_then(|name| unless_blank(&name.0))),
            description: self.description.0.map(text),
            location: self.location.0.map(text),
            birthday: self.birthday.0.map(|birthday| birthday.map(|birthday| birthday.0)),
            lang: self.lang.0.map(|lang| lang.map(|lang| lang.0)),
            fields: self.fields.0.map(lines),
            avatar_decorations: None,
            followed_message: self.followed_message.0.map(text),
            avatar: None,
            banner: None,
            pinned_page: None,
            is_locked: self.is_locked.0,
            is_bot: self.is_bot.0,
            is_cat: self.is_cat.0,
            is_explorable: self.is_explorable.0,
            public_reactions: self.public_reactions.0,
            followers_visibility: self.followers_visibility.0,
            following_visibility: self.following_visibility.0,
            chat_scope: self.chat_scope.0,
            hide_online_status: self.hide_online_status.0,
            careful_bot: self.careful_bot.0,
            auto_accept_followed: self.auto_accept_followed.0,
            no_crawle: self.no_crawle.0,
            prevent_ai_learning: self.prevent_ai_learning.0,
            require_signin_to_view_contents: self.require_signin_to_view_contents.0,
            make_notes_followers_only_before: self.make_notes_followers_only_before.0,
            make_notes_hidden_before: self.make_notes_hidden_before.0,
            inject_featured_note: self.inject_featured_note.0,
            receive_announcement_email: self.receive_announcement_email.0,
            always_mark_nsfw: self.always_mark_nsfw.0,
            auto_sensitive: self.auto_sensitive.0,
            muted_words: self.muted_words.0.map(|words| muted(words, limit)).transpose()?,
            hard_muted_words: self.hard_muted_words.0.map(|words| muted(words, limit)).transpose()?,
            muted_instances: self.muted_instances.0.map(texts),
            notification_recieve_config: self.notification_recieve_config.0.map(receive).transpose()?,
            email_notification_types: self.email_notification_types.0.map(texts),
        })
    }
}

fn text<const MIN: usize, const MAX: usize>(text: Option<Text<MIN, MAX>>) -> Option<String> {
    text.map(|text| text.0)
}

fn texts<const MIN: usize, const MAX: usize>(texts: Vec<Text<MIN, MAX>>) -> Vec<String> {
    texts.into_iter().map(|text| text.0).collect()
}

fn unless_blank(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The lines that say something.
fn lines(lines: Vec<Line>) -> Vec<Field> {
    let line =
        |line: Line| Some(Field { name: unless_blank(&line.name.0)?, value: unless_blank(&line.value.0)? });
    lines.into_iter().filter_map(line).collect()
}

/// Muted words as they are kept. Their limit counts the characters of their JSON, as on Misskey; what is
/// beyond it is not read as a pattern.
fn muted(words: Vec<Muted>, limit: u64) -> Result<Vec<Value>, ApiError> {
    let kept = words.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>();
    let kept = kept.map_err(ApiError::internal)?;
    let chars = serde_json::to_string(&kept).map_err(ApiError::internal)?.chars().count();
    if chars as u64 > limit {
        return Err(TOO_MANY_MUTED_WORDS.into());
    }
    let is_right = |muted: &Muted| match muted {
        Muted::Pattern(pattern) => is_pattern(pattern),
        Muted::Words(_) => true,
    };
    if words.iter().all(is_right) { Ok(kept) } else { Err(INVALID_REGEXP.into()) }
}

/// Whether this is a regular expression between slashes, with letters for its options behind them. Only its
/// form is looked at: made ready for use, a short one can take much memory.
fn is_pattern(text: &str) -> bool {
    let inside = text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
    inside.is_some_and(|(pattern, options)| {
        !pattern.is_empty()
            && options.chars().all(|option| option.is_ascii_lowercase())
            && Parser::new().parse(pattern).is_ok()
    })
}

fn receive(wanted: BTreeMap<String, Receive>) -> Result<BTreeMap<String, Value>, ApiError> {
    const PARAM: &str = "#/properties/notificationRecieveConfig";
    if wanted.len() > MAX_NOTIFICATION_KINDS {
        return Err(ApiError::invalid_param(format!("{PARAM}/maxProperties"), "too many kinds"));
    }
    let texts = wanted.iter().flat_map(|(kind, receive)| [Some(kind), receive.user_list_id.as_ref()]);
    if texts.flatten().any(|text| text.chars().count() > MAX_HOST_CHARS) {
        return Err(ApiError::invalid_param(PARAM, "is too long"));
    }
    let kept = wanted.into_iter().map(|(kind, receive)| {
        if matches!(receive.from, Circle::List) && receive.user_list_id.is_none() {
            let param = format!("{PARAM}/properties/{kind}/required");
            return Err(ApiError::invalid_param(param, "must have required property 'userListId'"));
        }
        Ok((kind, serde_json::to_value(receive).map_err(ApiError::internal)?))
    });
    kept.collect()
}

/// End all native tokens of the caller; the next sign-in gives a new one.
#[derive(Deserialize, JsonSchema)]
pub struct RegenerateToken {
    password: Text<0, MAX_PASSWORD_BYTES>,
}

const INCORRECT_PASSWORD: ErrorDef =
    ErrorDef::new("INCORRECT_PASSWORD", "Incorrect password.", "c1f0b6b5-36a4-4a5f-9f0c-6e0d3d7c0b52");

impl Endpoint for RegenerateToken {
    // Misskey has no limit here; what tells whether a password is right needs one.
    const META: Meta =
        Meta::new("i/regenerate-token").secure().limit(10, per::HOUR).errors(&[INCORRECT_PASSWORD]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (id, now) = (me.id(), app.now());
        if !app.core.passwords.verify(Some(id), &self.password.0, now).await? {
            return Err(INCORRECT_PASSWORD.into());
        }
        app.core.tokens.regenerate(id, now).await?;
        let receipt = app.commands.token_regenerated(app.by(&me), id).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::misskey::registry;
    use serde_json::json;

    fn complaint(mut params: Value) -> Option<String> {
        let shape = &registry().find("i/update").unwrap().shape;
        shape.check(&mut params).err().map(|broken| broken.param)
    }

    #[test]
    fn a_regular_expression_stands_between_slashes() {
        for right in ["/reg(ex)?/i", "/a\\/b/", "/日本|[a-z]+/gu"] {
            assert!(is_pattern(right), "{right}");
        }
        for wrong in ["/[/", "plain", "//", "/a/I!", "/(/", ""] {
            assert!(!is_pattern(wrong), "{wrong}");
        }
    }

    #[test]
    fn muted_words_are_kept_as_they_came_within_their_limit() {
        let words = || vec![Muted::Words(vec!["a".to_owned()]), Muted::Pattern("/b/".to_owned())];
        assert_eq!(muted(words(), 100).unwrap(), [json!(["a"]), json!("/b/")]);
        assert_eq!(muted(words(), 12).unwrap_err().def(), TOO_MANY_MUTED_WORDS);
        let wrong = || vec![Muted::Pattern(format!("/{}/", "(".repeat(100)))];
        assert_eq!(muted(wrong(), 1_000).unwrap_err().def(), INVALID_REGEXP);
        assert_eq!(
            muted(wrong(), 50).unwrap_err().def(),
            TOO_MANY_MUTED_WORDS,
            "its length is looked at first"
        );
    }

    #[test]
    fn what_is_kept_of_notifications_is_bounded() {
        let kept = |kind: &str, list: &str| {
            let wanted = json!({ kind: { "type": "list", "userListId": list } });
            receive(serde_json::from_value(wanted).unwrap()).is_ok()
        };
        let long = "x".repeat(MAX_HOST_CHARS + 1);
        assert!(kept("note", "1") && !kept(&long, "1") && !kept("note", &long));
    }

    #[test]
    fn lines_that_say_nothing_are_dropped() {
        let line =
            |name: &str, value: &str| Line { name: Text(name.to_owned()), value: Text(value.to_owned()) };
        let kept = lines(vec![line(" site ", "x"), line("", "y"), line("z", "  ")]);
        assert_eq!(kept, [Field { name: "site".to_owned(), value: "x".to_owned() }]);
    }

    #[test]
    fn null_clears_what_may_be_missing_and_nothing_else() {
        let update: Update = serde_json::from_value(json!({ "name": null, "isCat": true })).unwrap();
        assert!(matches!(update.name.0, Some(None)) && update.description.0.is_none());
        assert_eq!(complaint(json!({ "name": null, "birthday": "1999-12-31", "lang": "en-US" })), None);
        for (params, rule) in [
            (json!({ "name": "" }), "#/properties/name/minLength"),
            (json!({ "birthday": "yesterday" }), "#/properties/birthday/pattern"),
            (json!({ "isLocked": null }), "#/properties/isLocked/type"),
            (json!({ "followersVisibility": "nobody" }), "#/properties/followersVisibility/enum"),
            (json!({ "fields": [{ "name": "x" }] }), "#/properties/fields/items/required"),
            (json!({ "alsoKnownAs": ["@a", "@a"] }), "#/properties/alsoKnownAs/uniqueItems"),
        ] {
            assert_eq!(complaint(params), Some(rule.to_owned()));
        }
    }

    #[test]
    fn an_account_is_named_with_or_without_its_host() {
        assert_eq!(account_name("@a@b.example"), ("a", Some("b.example")));
        assert_eq!(account_name("a"), ("a", None));
    }
}
