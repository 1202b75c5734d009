//! Lists of people: `users/lists/*`. Their notes are among the [timelines](super::timeline).

use commands::Failed;
use domain::list::{
    CannotChange, CannotChangeMember, CannotCopy, CannotCreate, CannotFavorite, CannotPull, CannotPush,
    Limits, MAX_NAME_CHARS, NoSuchList, Over,
};
use domain::policy::Viewer;
use domain::{MembershipId, UserId as Person, ids};
use projections::Wanted;
use projections::list::{self, ListRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Given, Id, Limit, Page, Text, UserId};
use crate::api::{Account, Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::user::{UserLite, user_lite};
use crate::json::{Look, Time};

pub type ListId = Id<ids::ListId>;
type Name = Text<1, MAX_NAME_CHARS>;

/// A list of people.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserList {
    id: ListId,
    created_at: Time,
    name: String,
    user_ids: Vec<UserId>,
    is_public: bool,
}

impl From<ListRow> for UserList {
    fn from(row: ListRow) -> Self {
        Self {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            name: row.name,
            user_ids: row.members.into_iter().map(Id).collect(),
            is_public: row.is_public,
        }
    }
}

/// What the policies in force allow somebody.
pub fn limits(account: &Account) -> Limits {
    Limits { lists: account.limit("userListLimit"), members: account.limit("userEachUserListsLimit") }
}

/// Make a list.
#[derive(Deserialize, JsonSchema)]
pub struct Create {
    name: Name,
}

const CREATE_TOO_MANY: ErrorDef = ErrorDef::new(
    "TOO_MANY_USERLISTS",
    "You cannot create user list any more.",
    "0cf21a28-7715-4f39-a20d-777bfdb8d138",
);
const CREATE_OVER_MEMBERS: ErrorDef = ErrorDef::new(
    "LIST_USERS_LIMIT_EXCEEDED",
    "You cannot create a list because you have exceeded the limit of users in a list.",
    "af66c10d-b0e6-418c-a205-4dd46a482e30",
);

impl Endpoint for Create {
    const META: Meta = Meta::new("users/lists/create")
        .kind("write:account")
        .not_moved()
        .errors(&[CREATE_TOO_MANY, CREATE_OVER_MEMBERS]);
    type Caller = SignedIn;
    type Reply = UserList;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserList, ApiError> {
        let (by, limits) = (app.by(&me), limits(&me.account));
        let id = ids::ListId(app.ids.at(by.now));
        let made = app.commands.create_list(by, me.id(), id, self.name.0, limits).await;
        let receipt = made.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotCreate::TooMany | CannotCreate::Over(Over::Lists) => CREATE_TOO_MANY,
                CannotCreate::Over(Over::Members) => CREATE_OVER_MEMBERS,
            })
        })?;
        app.shown(receipt).await;
        shown(app, id).await
    }
}

/// Make a list with the people of a public one.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateFromPublic {
    name: Name,
    list_id: ListId,
}

const COPY_TOO_MANY: ErrorDef = ErrorDef::new(
    "TOO_MANY_USERLISTS",
    "You cannot create user list any more.",
    "e9c105b2-c595-47de-97fb-7f7c2c33e92f",
);
const COPY_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_LIST", "No such list.", "9292f798-6175-4f7d-93f4-b6742279667d");
const COPY_TOO_MANY_USERS: ErrorDef = ErrorDef::new(
    "TOO_MANY_USERS",
    "You can not push users any more.",
    "1845ea77-38d1-426e-8e4e-8b83b24f5bd7",
);
const COPY_OVER_MEMBERS: ErrorDef = ErrorDef::new(
    "LIST_USERS_LIMIT_EXCEEDED",
    "You cannot create a list because you have exceeded the limit of users in a list.",
    "3e205e58-0798-40f2-a589-a78a619ee3d4",
);

impl Endpoint for CreateFromPublic {
    const META: Meta = Meta::new("users/lists/create-from-public")
        .kind("write:account")
        .not_moved()
        .errors(&[COPY_TOO_MANY, COPY_NO_SUCH_LIST, COPY_TOO_MANY_USERS, COPY_OVER_MEMBERS]);
    type Caller = SignedIn;
    type Reply = UserList;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserList, ApiError> {
        let of = owner(app, self.list_id).await?.ok_or(COPY_NO_SUCH_LIST)?;
        let (by, limits) = (app.by(&me), limits(&me.account));
        let id = ids::ListId(app.ids.at(by.now));
        let (from, name) = ((of, self.list_id.0), self.name.0);
        let made = app.commands.copy_list(by, me.id(), from, id, name, limits).await;
        let receipt = made.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotCopy::NoSuchList => COPY_NO_SUCH_LIST,
                CannotCopy::TooMany | CannotCopy::Over(Over::Lists) => COPY_TOO_MANY,
                CannotCopy::TooManyMembers => COPY_TOO_MANY_USERS,
                CannotCopy::Over(Over::Members) => COPY_OVER_MEMBERS,
            })
        })?;
        app.shown(receipt).await;
        shown(app, id).await
    }
}

/// The caller's lists, or the public ones of somebody.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    user_id: Option<UserId>,
}

const LIST_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "a8af4a82-0980-4cc4-a6af-8b0ffd54465e");
const REMOTE_USER_NOT_ALLOWED: ErrorDef = ErrorDef::new(
    "REMOTE_USER_NOT_ALLOWED",
    "Not allowed to load the remote user's list",
    "53858f1b-3315-4a01-81b7-db9b48d4b79a",
);

impl Endpoint for List {
    const META: Meta = Meta::new("users/lists/list")
        .kind("read:account")
        .errors(&[LIST_NO_SUCH_USER, REMOTE_USER_NOT_ALLOWED]);
    type Caller = Anyone;
    type Reply = Vec<UserList>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<UserList>, ApiError> {
        let rows = match (self.user_id, me.id()) {
            (Some(user), _) => {
                let world = app.hydrate(Wanted::users([user.0]), None).await?;
                let row = world.user(user.0).ok_or(LIST_NO_SUCH_USER)?;
                if row.host.is_some() {
                    return Err(REMOTE_USER_NOT_ALLOWED.into());
                }
                list::of_owner(&app.pool, user.0, true).await?
            }
            (None, Some(me)) => list::of_owner(&app.pool, me, false).await?,
            (None, None) => {
                return Err(ApiError::invalid_param("#/required", "must have required property 'userId'"));
            }
        };
        Ok(rows.into_iter().map(UserList::from).collect())
    }
}

/// Show a list of the caller, or a public one.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    list_id: ListId,
    #[serde(default)]
    for_public: bool,
}

/// A list, and how it is liked where it is shown to the public.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct LikedList {
    #[serde(flatten)]
    list: UserList,
    #[serde(skip_serializing_if = "Option::is_none")]
    liked_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_liked: Option<bool>,
}

/// Of `users/lists/get-memberships`, too.
const SHOW_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_LIST", "No such list.", "7bc05c21-1d7a-41ae-88f1-66820f4dc686");

impl Endpoint for Show {
    const META: Meta = Meta::new("users/lists/show").kind("read:account").errors(&[SHOW_NO_SUCH_LIST]);
    type Caller = Anyone;
    type Reply = LikedList;

    async fn handle(self, app: &App, me: Anyone) -> Result<LikedList, ApiError> {
        let row = readable(app, me.id(), self.list_id, self.for_public).await?;
        let row = row.ok_or(SHOW_NO_SUCH_LIST)?;
        let (mut liked_count, mut is_liked) = (None, None);
        if self.for_public && row.is_public {
            let favorites = list::favorites(&app.pool, row.id, me.id()).await?;
            (liked_count, is_liked) = (Some(favorites.count), Some(favorites.by_viewer));
        }
        Ok(LikedList { list: row.into(), liked_count, is_liked })
    }
}

/// Change a list.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    list_id: ListId,
    #[serde(default)]
    name: Given<Name>,
    #[serde(default)]
    is_public: Given<bool>,
}

const UPDATE_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_LIST", "No such list.", "796666fe-3dff-4d39-becb-8a5932c1d5b7");
const UPDATE_OVER_LISTS: ErrorDef = ErrorDef::new(
    "LIST_LIMIT_EXCEEDED",
    "You cannot update the list because you have exceeded the limit of lists.",
    "0a1fa63e-3e4c-4bc2-afd1-1ff853b4560e",
);
const UPDATE_OVER_MEMBERS: ErrorDef = ErrorDef::new(
    "LIST_USERS_LIMIT_EXCEEDED",
    "You cannot update the list because you have exceeded the limit of users in a list.",
    "831fd3b2-4ac8-421e-89db-bfd98944e529",
);

impl Endpoint for Update {
    const META: Meta = Meta::new("users/lists/update").kind("write:account").errors(&[
        UPDATE_NO_SUCH_LIST,
        UPDATE_OVER_LISTS,
        UPDATE_OVER_MEMBERS,
    ]);
    type Caller = SignedIn;
    type Reply = UserList;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserList, ApiError> {
        let (name, is_public) = (self.name.0.map(|name| name.0), self.is_public.0);
        let (list, limits) = (self.list_id.0, limits(&me.account));
        let changed = app.commands.change_list(app.by(&me), me.id(), list, name, is_public, limits).await;
        let receipt = changed.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotChange::NoSuchList => UPDATE_NO_SUCH_LIST,
                CannotChange::Over(Over::Lists) => UPDATE_OVER_LISTS,
                CannotChange::Over(Over::Members) => UPDATE_OVER_MEMBERS,
            })
        })?;
        app.shown(receipt).await;
        shown(app, list).await
    }
}

/// Delete a list.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    list_id: ListId,
}

const DELETE_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_LIST", "No such list.", "78436795-db79-42f5-b1e2-55ea2cf19166");

impl Endpoint for Delete {
    const META: Meta = Meta::new("users/lists/delete").kind("write:account").errors(&[DELETE_NO_SUCH_LIST]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let deleted = app.commands.delete_list(app.by(&me), me.id(), self.list_id.0).await;
        let receipt = deleted.map_err(|failed| failed.map_refusal(|NoSuchList| DELETE_NO_SUCH_LIST))?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Put somebody into a list.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Push {
    list_id: ListId,
    user_id: UserId,
}

const PUSH_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_LIST", "No such list.", "2214501d-ac96-4049-b717-91e42272a711");
const PUSH_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "a89abd3d-f0bc-4cce-beb1-2f446f4f1e6a");
const ALREADY_ADDED: ErrorDef = ErrorDef::new(
    "ALREADY_ADDED",
    "That user has already been added to that list.",
    "1de7c884-1595-49e9-857e-61f12f4d4fc5",
);
const PUSH_BLOCKED: ErrorDef = ErrorDef::new(
    "YOU_HAVE_BEEN_BLOCKED",
    "You cannot push this user because you have been blocked by this user.",
    "990232c5-3f9d-4d83-9f3f-ef27b6332a4b",
);
const TOO_MANY_USERS: ErrorDef = ErrorDef::new(
    "TOO_MANY_USERS",
    "You can not push users any more.",
    "2dd9752e-a338-413d-8eec-41814430989b",
);
const PUSH_OVER_LISTS: ErrorDef = ErrorDef::new(
    "LIST_LIMIT_EXCEEDED",
    "You cannot add a user to the list because you have exceeded the limit of lists.",
    "5906ab2d-c164-44bc-a60a-464beba52be9",
);
const PUSH_OVER_MEMBERS: ErrorDef = ErrorDef::new(
    "LIST_USERS_LIMIT_EXCEEDED",
    "You cannot add a user to the list because you have exceeded the limit of users in other list.",
    "d1054b77-908a-4f7d-a9cc-44d665267108",
);

impl Endpoint for Push {
    const META: Meta =
        Meta::new("users/lists/push").kind("write:account").limit(30, per::HOUR).not_moved().errors(&[
            PUSH_NO_SUCH_LIST,
            PUSH_NO_SUCH_USER,
            ALREADY_ADDED,
            PUSH_BLOCKED,
            TOO_MANY_USERS,
            PUSH_OVER_LISTS,
            PUSH_OVER_MEMBERS,
        ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (list, user, limits) = (self.list_id.0, self.user_id.0, limits(&me.account));
        let pushed = app.commands.push_to_list(app.by(&me), me.id(), list, user, limits).await;
        let receipt = pushed.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotPush::NoSuchList => PUSH_NO_SUCH_LIST,
                CannotPush::NoSuchUser => PUSH_NO_SUCH_USER,
                CannotPush::AlreadyAdded => ALREADY_ADDED,
                CannotPush::Blocked => PUSH_BLOCKED,
                CannotPush::TooMany => TOO_MANY_USERS,
                CannotPush::Over(Over::Lists) => PUSH_OVER_LISTS,
                CannotPush::Over(Over::Members) => PUSH_OVER_MEMBERS,
            })
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Take somebody out of a list.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pull {
    list_id: ListId,
    user_id: UserId,
}

/// Of `users/lists/update-membership`, too, as is the next.
const PULL_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_LIST", "No such list.", "7f44670e-ab16-43b8-b4c1-ccd2ee89cc02");
const PULL_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "588e7f72-c744-4a61-b180-d354e912bda2");

impl Endpoint for Pull {
    const META: Meta =
        Meta::new("users/lists/pull").kind("write:account").errors(&[PULL_NO_SUCH_LIST, PULL_NO_SUCH_USER]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (list, user) = (self.list_id.0, self.user_id.0);
        let pulled = app.commands.pull_from_list(app.by(&me), me.id(), list, user).await;
        let receipt = pulled.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotPull::NoSuchList => PULL_NO_SUCH_LIST,
                CannotPull::NoSuchUser => PULL_NO_SUCH_USER,
            })
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Who is in a list, and what is wanted of them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memberships {
    list_id: ListId,
    #[serde(default)]
    for_public: bool,
    #[serde(default)]
    limit: Limit<100, 30>,
    #[serde(flatten)]
    page: Page,
}

/// One person's place in a list.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Membership {
    id: Id<MembershipId>,
    created_at: Time,
    user_id: UserId,
    user: UserLite,
    with_replies: bool,
}

impl Endpoint for Memberships {
    const META: Meta =
        Meta::new("users/lists/get-memberships").kind("read:account").errors(&[SHOW_NO_SUCH_LIST]);
    type Caller = Anyone;
    type Reply = Vec<Membership>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Membership>, ApiError> {
        let row = readable(app, me.id(), self.list_id, self.for_public).await?;
        let row = row.ok_or(SHOW_NO_SUCH_LIST)?;
        let members = list::members(&app.pool, row.id, &self.page.limited(self.limit)).await?;
        let world = app.hydrate(Wanted::users(members.iter().map(|member| member.user)), me.id()).await?;
        let look = Look::of(app);
        let membership = |member: &list::MemberRow| {
            Some(Membership {
                id: Id(member.id),
                created_at: Time(member.id.time()),
                user_id: Id(member.user),
                user: user_lite(&look, world.user(member.user)?),
                with_replies: member.with_replies,
            })
        };
        Ok(members.iter().filter_map(membership).collect())
    }
}

/// Change what is wanted of somebody in a list.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateMembership {
    list_id: ListId,
    user_id: UserId,
    /// Whether their replies to others are wanted.
    #[serde(default)]
    with_replies: Given<bool>,
}

const MEMBER_OVER_LISTS: ErrorDef = ErrorDef::new(
    "LIST_LIMIT_EXCEEDED",
    "You cannot update the user because you have exceeded the limit of lists.",
    "d4005118-e773-4132-bafb-10ba22c78da3",
);
const MEMBER_OVER_MEMBERS: ErrorDef = ErrorDef::new(
    "LIST_USERS_LIMIT_EXCEEDED",
    "You cannot update the user because you have exceeded the limit of users in a list.",
    "db7fe164-73d0-4788-8ed1-b6a19e95990d",
);

impl Endpoint for UpdateMembership {
    const META: Meta = Meta::new("users/lists/update-membership").kind("write:account").errors(&[
        PULL_NO_SUCH_LIST,
        PULL_NO_SUCH_USER,
        MEMBER_OVER_LISTS,
        MEMBER_OVER_MEMBERS,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (list, user, limits) = (self.list_id.0, self.user_id.0, limits(&me.account));
        let (by, wish) = (app.by(&me), self.with_replies.0);
        let changed = app.commands.change_list_member(by, me.id(), list, user, wish, limits).await;
        let receipt = changed.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotChangeMember::NoSuchList => PULL_NO_SUCH_LIST,
                CannotChangeMember::NotAMember => PULL_NO_SUCH_USER,
                CannotChangeMember::Over(Over::Lists) => MEMBER_OVER_LISTS,
                CannotChangeMember::Over(Over::Members) => MEMBER_OVER_MEMBERS,
            })
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Like a public list.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Favorite {
    list_id: ListId,
}

const FAVORITE_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_USER_LIST", "No such user list.", "7dbaf3cf-7b42-4b8f-b431-b3919e580dbe");
const ALREADY_FAVORITED: ErrorDef = ErrorDef::new(
    "ALREADY_FAVORITED",
    "The list has already been favorited.",
    "6425bba0-985b-461e-af1b-518070e72081",
);

impl Endpoint for Favorite {
    const META: Meta = Meta::new("users/lists/favorite")
        .kind("write:account")
        .errors(&[FAVORITE_NO_SUCH_LIST, ALREADY_FAVORITED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let of = owner(app, self.list_id).await?.ok_or(FAVORITE_NO_SUCH_LIST)?;
        let done = app.commands.favorite_list(app.by(&me), me.id(), (of, self.list_id.0)).await;
        app.shown(liked(done, FAVORITE_NO_SUCH_LIST, ALREADY_FAVORITED)?).await;
        Ok(())
    }
}

/// Like a list no more.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unfavorite {
    list_id: ListId,
}

const UNFAVORITE_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_USER_LIST", "No such user list.", "baedb33e-76b8-4b0c-86a8-9375c0a7b94b");
const NOT_FAVORITED: ErrorDef = ErrorDef::new(
    "ALREADY_FAVORITED",
    "You have not favorited the list.",
    "835c4b27-463d-4cfa-969b-a9058678d465",
);

impl Endpoint for Unfavorite {
    const META: Meta = Meta::new("users/lists/unfavorite")
        .kind("write:account")
        .errors(&[UNFAVORITE_NO_SUCH_LIST, NOT_FAVORITED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let of = owner(app, self.list_id).await?.ok_or(UNFAVORITE_NO_SUCH_LIST)?;
        let done = app.commands.unfavorite_list(app.by(&me), me.id(), (of, self.list_id.0)).await;
        app.shown(liked(done, UNFAVORITE_NO_SUCH_LIST, NOT_FAVORITED)?).await;
        Ok(())
    }
}

fn liked<T>(
    done: Result<T, Failed<CannotFavorite>>,
    no_such_list: ErrorDef,
    already: ErrorDef,
) -> Result<T, ApiError> {
    let done = done.map_err(|failed| {
        failed.map_refusal(|refusal| match refusal {
            CannotFavorite::NoSuchList => no_such_list,
            CannotFavorite::Already => already,
        })
    })?;
    Ok(done)
}

/// Whose a list is.
async fn owner(app: &App, list: ListId) -> Result<Option<Person>, ApiError> {
    Ok(list::by_id(&app.pool, list.0).await?.map(|row| row.owner))
}

/// A list that the viewer may look at: their own, or a public one where that is asked, or nobody asks.
async fn readable(
    app: &App,
    viewer: Viewer,
    list: ListId,
    for_public: bool,
) -> Result<Option<ListRow>, ApiError> {
    let row = list::by_id(&app.pool, list.0).await?;
    Ok(row.filter(|row| match viewer.filter(|_| !for_public) {
        Some(viewer) => row.owner == viewer,
        None => row.is_public,
    }))
}

/// A list that has just been written.
async fn shown(app: &App, list: ids::ListId) -> Result<UserList, ApiError> {
    let row = list::by_id(&app.pool, list).await?;
    row.map(UserList::from).ok_or_else(|| ApiError::internal("a list is not there that was written"))
}
