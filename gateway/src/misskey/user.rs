//! People: `users`, `users/show`, `users/relation`, `users/followers`, `users/following`,
//! `username/available`.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::policy::may_see_list;
use domain::user::FfVisibility;
use domain::{FollowId, follow::Notify, ids};
use projections::user::{Origin, SortKey, UserListFilter};
use projections::world::{RelationRow, UserRow, World};
use projections::{Wanted, achievement, follow, relation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Given, Id, Limit, Page, UserId, yes};
use crate::api::{Account, Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::user::{
    Eyes, MeDetailed, UserDetailed, UserDetailedNotMe, UserLite, me_detailed, user_detailed,
    user_detailed_not_me, user_lite,
};
use crate::json::{Look, Time};
use crate::ops::security;

/// The most people asked for by their ids at once.
const MAX_ASKED: usize = 1_000;
/// The longest name or host that is looked up, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The name of a local account.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Username(#[schemars(regex(pattern = r"^\w{1,20}$"))] pub String);

/// Whether an account could have this name.
#[derive(Deserialize, JsonSchema)]
pub struct UsernameAvailable {
    username: Username,
}

/// Whether an account could have the name.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Available {
    available: bool,
}

impl Endpoint for UsernameAvailable {
    const META: Meta = Meta::new("username/available");
    type Caller = Anyone;
    type Reply = Available;

    async fn handle(self, app: &App, _: Anyone) -> Result<Available, ApiError> {
        let free = app.commands.username_is_free(&self.username.0).await;
        Ok(Available { available: free.map_err(ApiError::internal)? })
    }
}

/// Show a person by id or by name, or several by their ids.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    user_id: Option<UserId>,
    user_ids: Option<Vec<UserId>>,
    username: Option<String>,
    /// None for people of this server.
    host: Option<String>,
    #[serde(default = "yes")]
    detailed: bool,
}

/// The person asked for, or the people.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Shown {
    One(Person),
    Many(Vec<Person>),
}

/// In detail, or not.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Person {
    Detailed(UserDetailed),
    Lite(Box<UserLite>),
}

const SHOW_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "4362f8dc-731f-4ad8-a694-be5a88922a24").status(404);
const USER_SUSPENDED: ErrorDef =
    ErrorDef::new("USER_SUSPENDED", "User is suspended.", "c1e1b0d6-2b7c-4c1d-9f1d-2d3d6e8d7e7f").status(403);
const FAILED_TO_RESOLVE: ErrorDef = ErrorDef::new(
    "FAILED_TO_RESOLVE_REMOTE_USER",
    "Failed to resolve remote user.",
    "ef7b9be4-9cba-4e6f-ab41-90ed171c7d3c",
)
.server();

impl Endpoint for Show {
    const META: Meta =
        Meta::new("users/show").errors(&[SHOW_NO_SUCH_USER, USER_SUSPENDED, FAILED_TO_RESOLVE]);
    type Caller = Anyone;
    type Reply = Shown;

    async fn handle(self, app: &App, me: Anyone) -> Result<Shown, ApiError> {
        if let Some(wanted) = self.user_ids.as_deref() {
            let wanted = distinct(wanted)?;
            let mut people = people(app, &me, &wanted, self.detailed).await?;
            people.retain(|person| may_be_shown(&me, person));
            return Ok(Shown::Many(people));
        }
        let id = self.one(app).await?;
        let person = if self.detailed {
            let (world, eyes) = load(app, &me, &[id], Wanted::in_detail([id])).await?;
            user_detailed(&Look::of(app), &world, id, &eyes).map(Person::Detailed)
        } else {
            people(app, &me, &[id], false).await?.pop()
        };
        let person = person.ok_or(SHOW_NO_SUCH_USER)?;
        if may_be_shown(&me, &person) { Ok(Shown::One(person)) } else { Err(USER_SUSPENDED.into()) }
    }
}

/// Only moderators are shown those who are suspended, beyond what stands beside a note.
fn may_be_shown(me: &Anyone, person: &Person) -> bool {
    let is_suspended = matches!(person, Person::Detailed(user) if user.is_suspended());
    !is_suspended || me.0.as_ref().is_some_and(|me| me.account.moderates())
}

impl Show {
    async fn one(&self, app: &App) -> Result<ids::UserId, ApiError> {
        if let Some(id) = self.user_id {
            return Ok(id.0);
        }
        let username = self.username.as_deref().ok_or_else(which)?;
        let host = self.host.as_deref().filter(|host| !is_own(app, host));
        match by_name(app, username, host).await? {
            Some(id) => Ok(id),
            // Other servers can't be asked yet.
            None if host.is_some() => Err(FAILED_TO_RESOLVE.into()),
            None => Err(SHOW_NO_SUCH_USER.into()),
        }
    }
}

/// The ids, when there are no more than may be asked for and none is there twice.
fn distinct(wanted: &[UserId]) -> Result<Vec<ids::UserId>, ApiError> {
    let mut seen = HashSet::new();
    let ids: Vec<ids::UserId> = wanted.iter().map(|id| id.0).filter(|id| seen.insert(*id)).collect();
    if ids.len() < wanted.len() {
        return Err(which());
    }
    bounded(ids)
}

fn bounded(ids: Vec<ids::UserId>) -> Result<Vec<ids::UserId>, ApiError> {
    if ids.len() <= MAX_ASKED {
        return Ok(ids);
    }
    Err(ApiError::invalid_param("#/maxItems", format!("must NOT have more than {MAX_ASKED} items")))
}

/// What is said when it isn't said who is meant.
fn which() -> ApiError {
    ApiError::invalid_param("#/allOf/0/anyOf/0/required", "must have required property 'userId'")
}

/// People as the caller sees them, in the order of their ids; unknown ones are left out.
pub async fn people(
    app: &App,
    me: &Anyone,
    ids: &[ids::UserId],
    detailed: bool,
) -> Result<Vec<Person>, ApiError> {
    if !detailed {
        let world = app.hydrate(Wanted::users(ids.to_vec()), me.id()).await?;
        let look = Look::of(app);
        let lite = |id: &ids::UserId| Some(Person::Lite(Box::new(user_lite(&look, world.user(*id)?))));
        return Ok(ids.iter().filter_map(lite).collect());
    }
    Ok(in_detail(app, me, ids).await?.into_iter().map(Person::Detailed).collect())
}

/// People in detail, as above.
pub async fn in_detail(app: &App, me: &Anyone, ids: &[ids::UserId]) -> Result<Vec<UserDetailed>, ApiError> {
    let (world, eyes) = load(app, me, ids, many(me, ids)).await?;
    let look = Look::of(app);
    Ok(ids.iter().filter_map(|id| user_detailed(&look, &world, *id, &eyes)).collect())
}

/// What is shown of several people: the notes that they pinned only to those who are signed in (recorded
/// behaviour).
pub fn many(me: &Anyone, ids: &[ids::UserId]) -> Wanted {
    Wanted { pins: me.id().is_some(), ..Wanted::in_detail(ids.to_vec()) }
}

/// Loads people to be shown in detail.
pub async fn load(
    app: &App,
    me: &Anyone,
    ids: &[ids::UserId],
    wanted: Wanted,
) -> Result<(World, Eyes), ApiError> {
    let world = app.hydrate(wanted, me.id()).await?;
    let eyes = match &me.0 {
        Some(me) => eyes(app, &me.account, me.app.is_none(), ids).await?,
        None => Eyes::default(),
    };
    Ok((world, eyes))
}

/// How a person looks at those who are shown in detail; themselves, perhaps.
pub async fn eyes(
    app: &App,
    account: &Account,
    own_token: bool,
    shown: &[ids::UserId],
) -> Result<Eyes, ApiError> {
    let moderates = account.moderates();
    let mut eyes = Eyes { moderates, own_token, policies: Arc::clone(&account.policies), ..Eyes::default() };
    let includes_me = shown.contains(&account.id);
    if includes_me {
        eyes.unread = projections::notification::unread_count(&app.pool, account.id).await?;
        eyes.announcements = projections::announcement::unread(&app.pool, account.id).await?;
    }
    if moderates {
        eyes.usual = app.core.accounts.usual_policies().await?;
        eyes.asked = follow::asked(&app.pool, shown).await?;
        eyes.security = security::load(&app.pool, shown).await?;
        eyes.achievements = achievement::of_people(&app.pool, shown).await?;
    } else if includes_me {
        eyes.security = security::load(&app.pool, &[account.id]).await?;
        eyes.asked = follow::asked(&app.pool, &[account.id]).await?;
        eyes.achievements = achievement::of_people(&app.pool, &[account.id]).await?;
    }
    if includes_me && own_token {
        eyes.address = app.core.post.addresses(&[account.id]).await?.remove(&account.id);
    }
    if includes_me && own_token && eyes.security.get(&account.id).is_some_and(|security| security.passkeys) {
        eyes.passkeys = app.core.passkeys.list(account.id).await?;
    }
    Ok(eyes)
}

/// A person in detail for a viewer, as an app sees them that has the viewer's token.
pub async fn packed(
    app: &App,
    id: ids::UserId,
    viewer: Option<ids::UserId>,
) -> Result<UserDetailed, ApiError> {
    let world = app.hydrate(Wanted::in_detail([id]), viewer).await?;
    let account = match viewer {
        Some(viewer) => app.core.accounts.account(viewer).await?,
        None => None,
    };
    let eyes = match account {
        Some(account) => eyes(app, &account, false, &[id]).await?,
        None => Eyes::default(),
    };
    user_detailed(&Look::of(app), &world, id, &eyes).ok_or_else(|| missing(id))
}

/// What the viewer has with people, each with its person; without those who are no more.
pub async fn with_people<R, T>(
    app: &App,
    viewer: ids::UserId,
    rows: Vec<R>,
    person: impl Fn(&R) -> ids::UserId,
    show: impl Fn(R, UserDetailedNotMe) -> T,
) -> Result<Vec<T>, ApiError> {
    let world = app.hydrate(Wanted::users(rows.iter().map(&person)), Some(viewer)).await?;
    let (look, eyes) = (Look::of(app), Eyes::default());
    let shown = |row| {
        let user = user_detailed_not_me(&look, &world, person(&row), &eyes)?;
        Some(show(row, user))
    };
    Ok(rows.into_iter().filter_map(shown).collect())
}

/// The caller as they see themselves.
pub async fn myself(app: &App, account: &Account, own_token: bool) -> Result<MeDetailed, ApiError> {
    let id = account.id;
    let world = app.hydrate(Wanted::in_detail([id]), Some(id)).await?;
    let eyes = eyes(app, account, own_token, &[id]).await?;
    me_detailed(&Look::of(app), &world, id, &eyes).ok_or_else(|| missing(id))
}

/// A person in few words.
pub async fn in_few_words(app: &App, id: ids::UserId) -> Result<UserLite, ApiError> {
    let world = app.hydrate(Wanted::users([id]), None).await?;
    world.user(id).map(|user| user_lite(&Look::of(app), user)).ok_or_else(|| missing(id))
}

/// A fresh account with its token.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct NewAccount {
    #[serde(flatten)]
    me: MeDetailed,
    token: String,
}

/// An account that has just been made, as its owner sees it.
pub async fn new_account(app: &App, id: ids::UserId) -> Result<NewAccount, ApiError> {
    let account = app.core.accounts.account(id).await?.ok_or_else(|| missing(id))?;
    let me = myself(app, &account, true).await?;
    Ok(NewAccount { me, token: app.core.tokens.native(id, app.now()).await? })
}

/// The read tables don't have somebody who must be there.
fn missing(id: ids::UserId) -> ApiError {
    ApiError::internal(format!("the account {id} is not in the read tables"))
}

/// The people of names like `@name` or `@name@host`; unknown ones are left out.
pub async fn named(app: &App, names: &[&str]) -> Result<Vec<ids::UserId>, ApiError> {
    let name = |name: &&str| {
        let (username, host) = account_name(name.trim());
        let host = host.filter(|host| !is_own(app, host)).unwrap_or_default();
        (username.to_owned(), host.to_owned())
    };
    let names: Vec<(String, String)> = names.iter().map(name).collect();
    let mut seen = HashSet::new();
    let mut found = projections::user::by_usernames(&app.pool, &names).await?;
    found.retain(|id| seen.insert(*id));
    Ok(found)
}

/// Name and host of `@name@host`.
pub fn account_name(text: &str) -> (&str, Option<&str>) {
    let text = text.strip_prefix('@').unwrap_or(text);
    match text.split_once('@') {
        Some((username, host)) => (username, Some(host)),
        None => (text, None),
    }
}

/// Whether this is the name of this server.
pub fn is_own(app: &App, host: &str) -> bool {
    host.is_empty() || host.eq_ignore_ascii_case(app.config.host())
}

async fn by_name(app: &App, username: &str, host: Option<&str>) -> Result<Option<ids::UserId>, ApiError> {
    let longest = username.len().max(host.map_or(0, str::len));
    if longest > MAX_NAME_BYTES {
        return Ok(None);
    }
    Ok(projections::user::by_username(&app.pool, username, host).await?)
}

/// People who let themselves be found.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    sort: Given<Sort>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    origin: From,
    #[serde(default)]
    hostname: Option<String>,
}

/// `+`: the greatest or newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
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
    /// Views of profiles, which aren't counted here.
    #[serde(rename = "+pv")]
    MostViews,
    #[serde(rename = "-pv")]
    FewestViews,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum State {
    #[default]
    All,
    Alive,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum From {
    Combined,
    #[default]
    Local,
    Remote,
}

impl std::convert::From<From> for Origin {
    fn from(from: From) -> Self {
        match from {
            From::Combined => Origin::Combined,
            From::Local => Origin::Local,
            From::Remote => Origin::Remote,
        }
    }
}

impl Endpoint for List {
    const META: Meta = Meta::new("users");
    type Caller = Anyone;
    type Reply = Vec<Person>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Person>, ApiError> {
        let filter = UserListFilter {
            sort: self.sort.0.and_then(order),
            alive: self.state == State::Alive,
            origin: self.origin.into(),
            hostname: self.hostname.filter(|host| !host.is_empty()),
        };
        let limit = Page::default().limited(self.limit).limit;
        let ids = projections::user::list(&app.pool, &filter, app.now(), limit, self.offset).await?;
        people(app, &me, &ids, true).await
    }
}

/// The key, and whether the greatest comes first.
fn order(sort: Sort) -> Option<(SortKey, bool)> {
    match sort {
        Sort::MostFollowers => Some((SortKey::Followers, true)),
        Sort::FewestFollowers => Some((SortKey::Followers, false)),
        Sort::Newest => Some((SortKey::CreatedAt, true)),
        Sort::Oldest => Some((SortKey::CreatedAt, false)),
        Sort::LatestUpdate => Some((SortKey::UpdatedAt, true)),
        Sort::EarliestUpdate => Some((SortKey::UpdatedAt, false)),
        Sort::MostViews | Sort::FewestViews => None,
    }
}

/// What the caller and one person or several are to each other.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Relation {
    user_id: OneOrMany,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum OneOrMany {
    One(UserId),
    Many(Vec<UserId>),
}

/// What the caller and a person are to each other.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "UserRelation")]
pub struct Between {
    id: UserId,
    following: Option<FollowingJson>,
    is_following: bool,
    is_followed: bool,
    has_pending_follow_request_from_you: bool,
    has_pending_follow_request_to_you: bool,
    is_blocking: bool,
    is_blocked: bool,
    is_muted: bool,
    is_renote_muted: bool,
}

/// The caller's following of somebody.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct FollowingJson {
    id: Id<FollowId>,
    created_at: Time,
    followee_id: UserId,
    follower_id: UserId,
    with_replies: bool,
    /// `normal`, or none.
    notify: Option<&'static str>,
    follower_host: Option<String>,
    followee_host: Option<String>,
}

impl Endpoint for Relation {
    const META: Meta = Meta::new("users/relation").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<Between>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Between>, ApiError> {
        let ids = match self.user_id {
            OneOrMany::One(id) => vec![id.0],
            OneOrMany::Many(ids) => bounded(ids.into_iter().map(|id| id.0).collect())?,
        };
        let world = app.hydrate(Wanted::users(ids.clone()), Some(me.id())).await?;
        let show = |id: ids::UserId| between(me.id(), id, world.relation(id), world.user(id), world.now);
        Ok(ids.into_iter().map(show).collect())
    }
}

fn between(
    me: ids::UserId,
    id: ids::UserId,
    relation: RelationRow,
    user: Option<&UserRow>,
    now: DateTime<Utc>,
) -> Between {
    let is_muted = relation.mutes(now);
    let following = relation.following.map(|following| FollowingJson {
        id: Id(following.id),
        created_at: Time(following.id.time()),
        followee_id: Id(id),
        follower_id: Id(me),
        with_replies: following.with_replies,
        notify: match following.notify {
            Notify::Normal => Some("normal"),
            Notify::None => None,
        },
        follower_host: None,
        followee_host: user.and_then(|user| user.host.clone()),
    });
    Between {
        id: Id(id),
        is_following: following.is_some(),
        following,
        is_followed: relation.followed,
        has_pending_follow_request_from_you: relation.request_from_me,
        has_pending_follow_request_to_you: relation.request_to_me,
        is_blocking: relation.blocks,
        is_blocked: relation.is_blocked,
        is_muted,
        is_renote_muted: relation.mutes_renotes,
    }
}

/// Whose list is asked for: by id, or by name and host.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Whose {
    user_id: Option<UserId>,
    username: Option<String>,
    /// `null` for people of this server.
    #[serde(default)]
    host: Given<Option<String>>,
}

/// Those who follow a person.
#[derive(Deserialize, JsonSchema)]
pub struct Followers {
    #[serde(flatten)]
    whose: Whose,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// Those whom a person follows.
#[derive(Deserialize, JsonSchema)]
pub struct Following {
    #[serde(flatten)]
    whose: Whose,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// One following; pages go by its id.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Following")]
pub struct Follow {
    id: Id<FollowId>,
    created_at: Time,
    followee_id: UserId,
    follower_id: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    follower: Option<UserDetailed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    followee: Option<UserDetailed>,
}

const FOLLOWERS_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "27fa5435-88ab-43de-9360-387de88727cd");
const FOLLOWERS_FORBIDDEN: ErrorDef =
    ErrorDef::new("FORBIDDEN", "Forbidden.", "3c6a84db-d619-26af-ca14-06232a21df8a");
const FOLLOWING_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "63e4aba4-4156-4e53-be25-c9559e42d71b");
const FOLLOWING_FORBIDDEN: ErrorDef =
    ErrorDef::new("FORBIDDEN", "Forbidden.", "f6cdb0df-c19f-ec5c-7dbb-0ba84a1f92ba");

impl Endpoint for Followers {
    const META: Meta = Meta::new("users/followers").errors(&[FOLLOWERS_NO_SUCH_USER, FOLLOWERS_FORBIDDEN]);
    type Caller = Anyone;
    type Reply = Vec<Follow>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Follow>, ApiError> {
        let user = self.whose.find(app).await?.ok_or(FOLLOWERS_NO_SUCH_USER)?;
        if !may_see(app, &me, &user, user.profile.followers_visibility).await? {
            return Err(FOLLOWERS_FORBIDDEN.into());
        }
        let rows = follow::followers(&app.pool, user.id, &self.page.limited(self.limit)).await?;
        let ids: Vec<ids::UserId> = rows.iter().map(|row| row.follower).collect();
        let (world, eyes) = load(app, &me, &ids, many(&me, &ids)).await?;
        let look = Look::of(app);
        let show = |row: follow::FollowRow| {
            let follower = user_detailed(&look, &world, row.follower, &eyes)?;
            Some(Follow { follower: Some(follower), ..Follow::of(row) })
        };
        Ok(rows.into_iter().filter_map(show).collect())
    }
}

impl Endpoint for Following {
    const META: Meta = Meta::new("users/following").errors(&[FOLLOWING_NO_SUCH_USER, FOLLOWING_FORBIDDEN]);
    type Caller = Anyone;
    type Reply = Vec<Follow>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Follow>, ApiError> {
        let user = self.whose.find(app).await?.ok_or(FOLLOWING_NO_SUCH_USER)?;
        if !may_see(app, &me, &user, user.profile.following_visibility).await? {
            return Err(FOLLOWING_FORBIDDEN.into());
        }
        let rows = follow::following(&app.pool, user.id, &self.page.limited(self.limit)).await?;
        let ids: Vec<ids::UserId> = rows.iter().map(|row| row.followee).collect();
        let (world, eyes) = load(app, &me, &ids, many(&me, &ids)).await?;
        let look = Look::of(app);
        let show = |row: follow::FollowRow| {
            let followee = user_detailed(&look, &world, row.followee, &eyes)?;
            Some(Follow { followee: Some(followee), ..Follow::of(row) })
        };
        Ok(rows.into_iter().filter_map(show).collect())
    }
}

impl Whose {
    async fn find(&self, app: &App) -> Result<Option<UserRow>, ApiError> {
        let id = match (self.user_id, self.username.as_deref(), &self.host.0) {
            (Some(id), ..) => Some(id.0),
            (None, Some(username), Some(host)) => {
                let host = host.as_deref().filter(|host| !is_own(app, host));
                by_name(app, username, host).await?
            }
            (None, ..) => return Err(which()),
        };
        let Some(id) = id else { return Ok(None) };
        Ok(projections::user::by_ids(&app.pool, &[id]).await?.remove(&id))
    }
}

async fn may_see(app: &App, me: &Anyone, user: &UserRow, visibility: FfVisibility) -> Result<bool, ApiError> {
    let Some(me) = &me.0 else { return Ok(may_see_list(visibility, false, false, false)) };
    let follows = match visibility {
        FfVisibility::Followers => {
            let pair = (me.id(), user.id);
            let relations = relation::relations(&app.pool, &[pair]).await?;
            relations.get(&pair).is_some_and(|relation| relation.following.is_some())
        }
        FfVisibility::Public | FfVisibility::Private => false,
    };
    Ok(may_see_list(visibility, me.id() == user.id, me.account.moderates(), follows))
}

impl Follow {
    fn of(row: follow::FollowRow) -> Self {
        Self {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            followee_id: Id(row.followee),
            follower_id: Id(row.follower),
            follower: None,
            followee: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_twice_or_in_crowds() {
        let id = |n: u128| Id(ids::UserId(uuid::Uuid::from_u128(n)));
        assert_eq!(distinct(&[id(2), id(1)]).unwrap(), [id(2).0, id(1).0]);
        assert!(distinct(&[id(1), id(1)]).is_err());
        let crowd: Vec<UserId> = (0..=MAX_ASKED as u128).map(id).collect();
        assert!(distinct(&crowd).is_err());
    }
}
