//! What moderators do about people: `admin/suspend-user`, `admin/unsuspend-user`, `admin/show-user`,
//! `admin/show-users`, `admin/update-user-note`, `admin/reset-password`, `admin/regenerate-user-token`; and what
//! they did, `admin/show-moderation-logs`. Also `admin/accounts/delete`, `admin/accounts/find-by-email`, and what the
//! database is made of: `admin/get-table-stats`, `admin/get-index-stats`.

use std::collections::BTreeMap;

use domain::moderation::CannotModerate;
use domain::{EventId, ids};
use projections::moderation::{self, LogFilter, LogRow, PeopleFilter};
use projections::user::SortKey;
use projections::world::World;
use projections::{Wanted, role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::account::{SignIn, sign_ins};
use super::user::{From as Origin, load};
use crate::api::param::{Id, Limit, Page, Text, UserId};
use crate::api::{Administrator, Anyone, ApiError, Endpoint, ErrorDef, Meta, Moderator};
use crate::app::App;
use crate::erase::asked;
use crate::json::role::{RoleLite, shown as shown_roles};
use crate::json::user::{UserDetailed, UserDetailedNotMe, user_detailed, user_detailed_not_me};
use crate::json::{Look, Time};
use crate::ops::secret::random_text;

/// Length of a password that a moderator has made for somebody, in characters.
const NEW_PASSWORD_CHARS: usize = 8;
/// The longest mail address that is looked up, in characters.
const MAX_ADDRESS_CHARS: usize = 254;
/// Attempts to sign in that are shown of a person.
const SIGN_INS_SHOWN: u16 = 100;
/// The longest word that is looked for in the log, in characters.
const MAX_SEARCH_CHARS: usize = 256;

/// How a person is asked for by their id alone.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ById {
    pub user_id: UserId,
}

/// The reference calls each of these a failure of its own.
const NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "user not found", "76ee6600-fed8-4c79-a097-11264614a8de");
const IS_MODERATOR: ErrorDef = ErrorDef::new(
    "CANNOT_SUSPEND_MODERATOR",
    "cannot suspend moderator account",
    "87d0734b-2a8b-4f9d-9512-6a2b5035bdd1",
);

impl From<CannotModerate> for ApiError {
    fn from(refusal: CannotModerate) -> Self {
        match refusal {
            CannotModerate::NoSuchUser => NO_SUCH_USER.into(),
            CannotModerate::Moderates => IS_MODERATOR.into(),
            CannotModerate::TooLong => ApiError::invalid_param("#/properties/text/maxLength", "is too long"),
        }
    }
}

/// Whether somebody moderates, who may be nobody.
async fn moderates(app: &App, user: ids::UserId) -> Result<bool, ApiError> {
    Ok(app.core.accounts.account(user).await?.is_some_and(|account| account.moderates()))
}

/// Suspend somebody: they can't come in, and nobody sees what they wrote.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Suspend(ById);

impl Endpoint for Suspend {
    const META: Meta = Meta::new("admin/suspend-user")
        .kind("write:admin:suspend-user")
        .errors(&[NO_SUCH_USER, IS_MODERATOR]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let user = self.0.user_id.0;
        let moderates = moderates(app, user).await?;
        let receipt = app.commands.suspend(app.by(&me.0), user, moderates).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// End somebody's suspension.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Unsuspend(ById);

impl Endpoint for Unsuspend {
    const META: Meta =
        Meta::new("admin/unsuspend-user").kind("write:admin:unsuspend-user").errors(&[NO_SUCH_USER]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let receipt = app.commands.unsuspend(app.by(&me.0), self.0.user_id.0).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Note what moderators should know about somebody.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateNote {
    user_id: UserId,
    text: String,
}

impl Endpoint for UpdateNote {
    const META: Meta =
        Meta::new("admin/update-user-note").kind("write:admin:user-note").errors(&[NO_SUCH_USER]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let receipt = app.commands.note_about(app.by(&me.0), self.user_id.0, &self.text).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Give somebody another password, which is told once.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ResetPassword(ById);

/// The new password.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct NewPassword {
    password: String,
}

const NO_SUCH_USER_TO_RESET: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "user not found", "6c45276a-525e-46b0-892f-17a50bc258bf");
const IS_ROOT: ErrorDef = ErrorDef::new(
    "CANNOT_RESET_PASSWORD_OF_ROOT",
    "cannot reset password of root",
    "0c5ba277-40cb-4d7c-978c-9424a7969a9a",
);

impl Endpoint for ResetPassword {
    const META: Meta = Meta::new("admin/reset-password")
        .kind("write:admin:reset-password")
        .errors(&[NO_SUCH_USER_TO_RESET, IS_ROOT]);
    type Caller = Moderator;
    type Reply = NewPassword;

    async fn handle(self, app: &App, me: Moderator) -> Result<NewPassword, ApiError> {
        let user = self.0.user_id.0;
        let account = app.core.accounts.account(user).await?.ok_or(NO_SUCH_USER_TO_RESET)?;
        // Whoever moderates could else come in as one who administers.
        if account.is_root || (account.administers() && !me.0.account.administers()) {
            return Err(IS_ROOT.into());
        }
        let password = random_text(NEW_PASSWORD_CHARS).map_err(ApiError::internal)?;
        app.core.passwords.set(user, &password, app.now()).await?;
        let receipt = app.commands.password_was_reset(app.by(&me.0), user).await?;
        app.shown(receipt).await;
        Ok(NewPassword { password })
    }
}

/// End somebody's own tokens, so that they have to sign in again everywhere.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RegenerateToken(ById);

impl Endpoint for RegenerateToken {
    const META: Meta = Meta::new("admin/regenerate-user-token")
        .kind("write:admin:regenerate-user-token")
        .errors(&[NO_SUCH_USER_TO_RESET]);
    type Caller = Administrator;
    type Reply = ();

    async fn handle(self, app: &App, me: Administrator) -> Result<(), ApiError> {
        let user = self.0.user_id.0;
        app.core.accounts.account(user).await?.ok_or(NO_SUCH_USER_TO_RESET)?;
        app.core.tokens.regenerate(user, app.now()).await?;
        let receipt = app.commands.token_regenerated(app.by(&me.0), user).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Show a person with all that moderators may know.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Show(ById);

const NO_SUCH_USER_TO_SHOW: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "user not found", "ab0f6043-d6f1-4153-a257-1e3d1424f6eb");

/// A person as moderators see them.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Shown {
    email: Option<String>,
    email_verified: bool,
    followed_message: Option<String>,
    auto_accept_followed: bool,
    no_crawle: bool,
    prevent_ai_learning: bool,
    always_mark_nsfw: bool,
    auto_sensitive: bool,
    careful_bot: bool,
    inject_featured_note: bool,
    receive_announcement_email: bool,
    muted_words: Vec<Value>,
    muted_instances: Vec<String>,
    notification_recieve_config: BTreeMap<String, Value>,
    is_moderator: bool,
    is_silenced: bool,
    is_deleted: bool,
    is_suspended: bool,
    is_hibernated: bool,
    /// When a stream of theirs was open last, as far as is remembered.
    last_active_date: Option<Time>,
    moderation_note: String,
    /// The last ones.
    signins: Vec<SignIn>,
    policies: Map<String, Value>,
    roles: Vec<RoleLite>,
    role_assigns: Vec<RoleAssign>,
}

/// A role that somebody is assigned to.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct RoleAssign {
    created_at: Time,
    expires_at: Option<Time>,
    role_id: Id<ids::RoleId>,
}

impl Endpoint for Show {
    const META: Meta =
        Meta::new("admin/show-user").kind("read:admin:show-user").errors(&[NO_SUCH_USER_TO_SHOW]);
    type Caller = Moderator;
    type Reply = Shown;

    async fn handle(self, app: &App, me: Moderator) -> Result<Shown, ApiError> {
        let id = self.0.user_id.0;
        let world = app.hydrate(Wanted::users([id]), Some(me.0.id())).await?;
        let user = world.user(id).ok_or(NO_SUCH_USER_TO_SHOW)?;
        let usual = app.core.accounts.usual_policies().await?;
        let assigned = role::assignments_of(&app.pool, id, app.now()).await?;
        let address = app.core.post.addresses(&[id]).await?.remove(&id);
        let profile = domain::user::Profile::clone(&user.profile);
        Ok(Shown {
            email: address.as_ref().map(|address| address.address.clone()),
            email_verified: address.is_some_and(|address| address.verified),
            followed_message: profile.followed_message,
            auto_accept_followed: profile.auto_accept_followed,
            no_crawle: profile.no_crawle,
            prevent_ai_learning: profile.prevent_ai_learning,
            always_mark_nsfw: profile.always_mark_nsfw,
            auto_sensitive: profile.auto_sensitive,
            careful_bot: profile.careful_bot,
            inject_featured_note: profile.inject_featured_note,
            receive_announcement_email: profile.receive_announcement_email,
            muted_words: profile.muted_words,
            muted_instances: profile.muted_instances,
            notification_recieve_config: profile.notification_recieve_config,
            is_moderator: user.moderates(),
            is_silenced: user.is_silenced,
            is_deleted: false,
            is_suspended: user.is_suspended,
            is_hibernated: false,
            last_active_date: app.presence.last_seen(id).map(Time),
            moderation_note: user.moderation_note.clone(),
            signins: sign_ins(app, id, &projections::Page::newest(SIGN_INS_SHOWN)).await?,
            policies: domain::role::effective(&usual, user.roles.iter().map(|role| &role.definition)),
            roles: shown_roles(user, true),
            role_assigns: assigned
                .into_iter()
                .map(|row| RoleAssign {
                    created_at: Time(row.id.time()),
                    expires_at: row.expires_at.map(Time),
                    role_id: Id(row.role),
                })
                .collect(),
        })
    }
}

/// List people, also those who don't let themselves be found.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    offset: u32,
    sort: Option<Sort>,
    #[serde(default)]
    state: State,
    #[serde(default = "everywhere")]
    origin: Origin,
    /// How their names begin.
    username: Option<String>,
    hostname: Option<String>,
}

fn everywhere() -> Origin {
    Origin::Combined
}

/// `+`: the greatest or newest first.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
enum Sort {
    #[serde(rename = "+follower")]
    MostFollowers,
    #[serde(rename = "-follower")]
    FewestFollowers,
    #[serde(rename = "+createdAt")]
    Newest,
    #[serde(rename = "-createdAt")]
    Oldest,
    #[serde(rename = "+updatedAt")]
    LatestUpdate,
    #[serde(rename = "-updatedAt")]
    EarliestUpdate,
    /// Of the days on which they were here only the number is known.
    #[serde(rename = "+lastActiveDate")]
    LatestActive,
    #[serde(rename = "-lastActiveDate")]
    EarliestActive,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum State {
    #[default]
    All,
    Alive,
    Available,
    Admin,
    Moderator,
    AdminOrModerator,
    Suspended,
}

impl Endpoint for List {
    const META: Meta = Meta::new("admin/show-users").kind("read:admin:show-user");
    type Caller = Moderator;
    type Reply = Vec<UserDetailed>;

    async fn handle(self, app: &App, me: Moderator) -> Result<Vec<UserDetailed>, ApiError> {
        let filter = PeopleFilter {
            sort: self.sort.map(|sort| match sort {
                Sort::MostFollowers => (SortKey::Followers, true),
                Sort::FewestFollowers => (SortKey::Followers, false),
                Sort::Newest => (SortKey::CreatedAt, true),
                Sort::Oldest => (SortKey::CreatedAt, false),
                Sort::LatestUpdate | Sort::LatestActive => (SortKey::UpdatedAt, true),
                Sort::EarliestUpdate | Sort::EarliestActive => (SortKey::UpdatedAt, false),
            }),
            state: match self.state {
                State::All => moderation::State::All,
                State::Alive => moderation::State::Alive,
                State::Available => moderation::State::Available,
                State::Admin => moderation::State::Admin,
                State::Moderator => moderation::State::Moderator,
                State::AdminOrModerator => moderation::State::AdminOrModerator,
                State::Suspended => moderation::State::Suspended,
            },
            origin: self.origin.into(),
            username: self.username.filter(|name| !name.is_empty()),
            hostname: self.hostname.filter(|host| !host.is_empty()),
        };
        let limit = Page::default().limited(self.limit).limit;
        let ids = moderation::people(&app.pool, &filter, app.now(), limit, self.offset).await?;
        let (world, eyes) = load(app, &Anyone(Some(me.0)), &ids, Wanted::in_detail(ids.clone())).await?;
        let look = Look::of(app);
        Ok(ids.into_iter().filter_map(|id| user_detailed(&look, &world, id, &eyes)).collect())
    }
}

/// List what moderators have done.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Who did it.
    user_id: Option<UserId>,
    /// What is in what is told of it.
    search: Option<Text<0, MAX_SEARCH_CHARS>>,
}

/// What a moderator did.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Logged {
    id: Id<EventId>,
    created_at: Time,
    #[serde(rename = "type")]
    kind: String,
    info: Map<String, Value>,
    user_id: UserId,
    user: UserDetailed,
}

impl Endpoint for Logs {
    const META: Meta = Meta::new("admin/show-moderation-logs").kind("read:admin:show-moderation-log");
    type Caller = Moderator;
    type Reply = Vec<Logged>;

    async fn handle(self, app: &App, me: Moderator) -> Result<Vec<Logged>, ApiError> {
        let filter = LogFilter {
            kind: self.kind,
            moderator: self.user_id.map(|id| id.0),
            search: self.search.map(|search| search.0).filter(|search| !search.is_empty()),
        };
        let rows = moderation::log(&app.pool, &filter, &self.page.limited(self.limit)).await?;
        let people: Vec<ids::UserId> =
            rows.iter().flat_map(|row| [Some(row.moderator), row.about]).flatten().collect();
        let (world, eyes) =
            load(app, &Anyone(Some(me.0)), &people, Wanted::in_detail(people.clone())).await?;
        let look = Look::of(app);
        let shown = |row: LogRow| {
            let user = user_detailed(&look, &world, row.moderator, &eyes)?;
            Some(Logged {
                id: Id(row.id),
                created_at: Time(row.id.time()),
                info: info(&world, row.about, row.info),
                kind: row.kind,
                user_id: Id(row.moderator),
                user,
            })
        };
        Ok(rows.into_iter().filter_map(shown).collect())
    }
}

/// What is told of it, with the name of the person whom it concerned.
fn info(world: &World, about: Option<ids::UserId>, mut info: Map<String, Value>) -> Map<String, Value> {
    if let Some(id) = about {
        let user = world.user(id);
        info.insert("userId".to_owned(), json!(id));
        info.insert("userUsername".to_owned(), json!(user.map(|user| &user.username)));
        info.insert("userHost".to_owned(), json!(user.and_then(|user| user.host.as_ref())));
    }
    info
}

/// Erase somebody's account for good.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAccount {
    user_id: UserId,
    /// An account is erased here, whatever this says.
    #[expect(dead_code, reason = "there is one way to delete an account")]
    #[serde(default = "crate::api::param::yes")]
    soft: bool,
}

const USER_NOT_FOUND: ErrorDef =
    ErrorDef::new("USER_NOT_FOUND", "User not found.", "6c45276a-525e-46b0-892f-17a5036258bf");
const CANNOT_DELETE_MODERATOR: ErrorDef = ErrorDef::new(
    "CANNOT_DELETE_MODERATOR",
    "Cannot delete a moderator.",
    "d195c621-f21a-4c2f-a634-484c2a616311",
);

impl Endpoint for DeleteAccount {
    const META: Meta = Meta::new("admin/accounts/delete")
        .kind("write:admin:account")
        .errors(&[USER_NOT_FOUND, CANNOT_DELETE_MODERATOR]);
    type Caller = Administrator;
    type Reply = ();

    async fn handle(self, app: &App, _: Administrator) -> Result<(), ApiError> {
        let user = self.user_id.0;
        let account = app.core.accounts.account(user).await?.ok_or(USER_NOT_FOUND)?;
        if account.moderates() {
            return Err(CANNOT_DELETE_MODERATOR.into());
        }
        asked::ask(&app.eraser, user).await?;
        let receipt = app.eraser.begin(user).await.map_err(ApiError::internal)?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Tell how large the tables of the database are.
#[derive(Deserialize, JsonSchema)]
pub struct TableStats {}

/// How large a table is.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct TableSize {
    /// Rows, as the database guesses; -1 when it has never looked.
    count: i64,
    /// With its indexes, in bytes.
    size: i64,
}

impl Endpoint for TableStats {
    const META: Meta = Meta::new("admin/get-table-stats").kind("read:admin:table-stats");
    type Caller = Administrator;
    type Reply = BTreeMap<String, TableSize>;

    async fn handle(self, app: &App, _: Administrator) -> Result<Self::Reply, ApiError> {
        let rows = projections::moderation::tables(&app.pool).await?;
        Ok(rows.into_iter().map(|(name, count, size)| (name, TableSize { count, size })).collect())
    }
}

/// List the indexes of the database.
#[derive(Deserialize, JsonSchema)]
pub struct IndexStats {}

/// An index.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Index {
    schemaname: String,
    tablename: String,
    indexname: String,
    tablespace: Option<String>,
    indexdef: String,
}

impl Endpoint for IndexStats {
    const META: Meta = Meta::new("admin/get-index-stats").kind("read:admin:index-stats");
    type Caller = Administrator;
    type Reply = Vec<Index>;

    async fn handle(self, app: &App, _: Administrator) -> Result<Self::Reply, ApiError> {
        let rows = projections::moderation::indexes(&app.pool).await?;
        let shown = |(schemaname, tablename, indexname, tablespace, indexdef)| Index {
            schemaname,
            tablename,
            indexname,
            tablespace,
            indexdef,
        };
        Ok(rows.into_iter().map(shown).collect())
    }
}

/// Find the account of a mail address.
#[derive(Deserialize, JsonSchema)]
pub struct FindByEmail {
    email: Text<0, MAX_ADDRESS_CHARS>,
}

const NOBODY_HAS_THE_ADDRESS: ErrorDef = ErrorDef::new(
    "USER_NOT_FOUND",
    "No such user who has the email address.",
    "cb865949-8af5-4062-a88c-ef55e8786d1d",
);

impl Endpoint for FindByEmail {
    const META: Meta = Meta::new("admin/accounts/find-by-email")
        .kind("read:admin:account")
        .errors(&[NOBODY_HAS_THE_ADDRESS]);
    type Caller = Administrator;
    type Reply = UserDetailedNotMe;

    async fn handle(self, app: &App, me: Administrator) -> Result<UserDetailedNotMe, ApiError> {
        let id = app.core.post.holder(&self.email.0).await?.ok_or(NOBODY_HAS_THE_ADDRESS)?;
        let (world, eyes) = load(app, &Anyone(Some(me.0)), &[id], Wanted::in_detail([id])).await?;
        user_detailed_not_me(&Look::of(app), &world, id, &eyes).ok_or_else(|| NOBODY_HAS_THE_ADDRESS.into())
    }
}
