//! Roles: `roles/list`, `roles/show`, `roles/users`, `roles/notes`, and for those who run the server
//! `admin/roles/create`, `update`, `delete`, `list`, `show`, `assign`, `unassign`, `users`.

use std::collections::BTreeMap;

use chrono::DateTime;
use commands::Failed;
use domain::role::{
    CannotAssign, CannotDefine, CannotUnassign, Changes, Definition, MAX_PRIORITY, Target, Terms,
};
use domain::{RoleAssignmentId, ids};
use projections::note::{self, Filter, Timeline};
use projections::role::{self, AssignmentRow, RoleRow, Which};
use projections::world::{NoteRow, World};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::timeline::wanted_page;
use super::user::{load, many};
use crate::api::param::{Given, Id, Limit, Nullable, Page, UserId};
use crate::api::{Administrator, Anyone, ApiError, Endpoint, ErrorDef, Meta, Moderator, SignedIn};
use crate::app::App;
use crate::json::note::Note;
use crate::json::role::{Role, role as present};
use crate::json::user::{UserDetailed, user_detailed};
use crate::json::{Look, Time};

type RoleId = Id<ids::RoleId>;

/// How a role is asked for by its id alone.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct ById {
    role_id: RoleId,
}

/// How what a role has is asked for, page by page.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct PageOf {
    role_id: RoleId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// To whom a role is given.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum For {
    Manual,
    Conditional,
}

/// Make a role.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    name: String,
    description: String,
    color: Nullable<String>,
    icon_url: Nullable<String>,
    target: For,
    /// For whom a conditional role is.
    cond_formula: Map<String, Value>,
    is_public: bool,
    is_moderator: bool,
    is_administrator: bool,
    #[serde(default)]
    is_explorable: bool,
    as_badge: bool,
    #[serde(default)]
    badge_behavior: Option<String>,
    #[serde(default)]
    preserve_assignment_on_move_account: bool,
    can_edit_members_by_moderator: bool,
    display_order: i32,
    /// By their names: `{ useDefault, priority, value }`.
    policies: Map<String, Value>,
}

const TOO_LARGE: ErrorDef = ErrorDef::new(
    "TOO_LARGE",
    "A text, the condition or the policies are too large.",
    "4d0c1c3f-5f0a-4f43-9a5e-0d7a2b8f3c61",
);

impl Endpoint for Create {
    const META: Meta = Meta::new("admin/roles/create").kind("write:admin:roles").errors(&[TOO_LARGE]);
    type Caller = Administrator;
    type Reply = Role;

    async fn handle(self, app: &App, me: Administrator) -> Result<Role, ApiError> {
        let by = app.by(&me.0);
        let id = ids::RoleId(app.ids.at(by.now));
        let definition = Definition {
            name: self.name,
            description: self.description,
            color: self.color.0,
            icon_url: self.icon_url.0,
            target: self.target.into(),
            condition: Value::Object(self.cond_formula),
            is_public: self.is_public,
            is_moderator: self.is_moderator,
            is_administrator: self.is_administrator,
            is_explorable: self.is_explorable,
            as_badge: self.as_badge,
            badge_behavior: self.badge_behavior,
            preserve_assignment_on_move_account: self.preserve_assignment_on_move_account,
            can_edit_members_by_moderator: self.can_edit_members_by_moderator,
            display_order: self.display_order,
            policies: policies(self.policies),
        };
        let receipt = app.commands.create_role(by, id, definition).await;
        app.shown(receipt.map_err(|failed| told(failed, TOO_LARGE))?).await;
        let made = role::by_id(&app.pool, id, app.now()).await?;
        let (row, people) = made.ok_or_else(|| ApiError::internal(format!("the role {id} is not there")))?;
        Ok(present(&row, people))
    }
}

/// Why a role isn't defined, as it is told; each endpoint has its own way to say that there is no such role.
fn told(failed: Failed<CannotDefine>, no_such_role: ErrorDef) -> Failed<ErrorDef> {
    failed.map_refusal(|cannot| match cannot {
        CannotDefine::NoSuchRole => no_such_role,
        CannotDefine::TooLarge => TOO_LARGE,
    })
}

/// What clients say of policies; what isn't understood is left out.
fn policies(asked: Map<String, Value>) -> BTreeMap<String, domain::role::RolePolicy> {
    let policy = |(name, said): (String, Value)| {
        let priority = said.get("priority").and_then(Value::as_u64).unwrap_or(0);
        let policy = domain::role::RolePolicy {
            use_default: said.get("useDefault").and_then(Value::as_bool).unwrap_or(false),
            priority: u8::try_from(priority).map_or(MAX_PRIORITY, |priority| priority.min(MAX_PRIORITY)),
            value: said.get("value")?.clone(),
        };
        Some((name, policy))
    };
    asked.into_iter().filter_map(policy).collect()
}

impl From<For> for Target {
    fn from(asked: For) -> Self {
        match asked {
            For::Manual => Target::Manual,
            For::Conditional => Target::Conditional,
        }
    }
}

/// Change what a role is; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    role_id: RoleId,
    #[serde(default)]
    name: Given<String>,
    #[serde(default)]
    description: Given<String>,
    #[serde(default)]
    color: Given<Option<String>>,
    #[serde(default)]
    icon_url: Given<Option<String>>,
    #[serde(default)]
    target: Given<For>,
    #[serde(default)]
    cond_formula: Given<Map<String, Value>>,
    #[serde(default)]
    is_public: Given<bool>,
    #[serde(default)]
    is_moderator: Given<bool>,
    #[serde(default)]
    is_administrator: Given<bool>,
    #[serde(default)]
    is_explorable: Given<bool>,
    #[serde(default)]
    as_badge: Given<bool>,
    #[serde(default)]
    badge_behavior: Given<Option<String>>,
    #[serde(default)]
    preserve_assignment_on_move_account: Given<bool>,
    #[serde(default)]
    can_edit_members_by_moderator: Given<bool>,
    #[serde(default)]
    display_order: Given<i32>,
    #[serde(default)]
    policies: Given<Map<String, Value>>,
}

const NO_SUCH_ROLE_TO_UPDATE: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "cd23ef55-09ad-428a-ac61-95a45e124b32");

impl Endpoint for Update {
    const META: Meta = Meta::new("admin/roles/update")
        .kind("write:admin:roles")
        .errors(&[NO_SUCH_ROLE_TO_UPDATE, TOO_LARGE]);
    type Caller = Administrator;
    type Reply = ();

    async fn handle(self, app: &App, me: Administrator) -> Result<(), ApiError> {
        let changes = Changes {
            name: self.name.0,
            description: self.description.0,
            color: self.color.0,
            icon_url: self.icon_url.0,
            target: self.target.0.map(Target::from),
            condition: self.cond_formula.0.map(Value::Object),
            is_public: self.is_public.0,
            is_moderator: self.is_moderator.0,
            is_administrator: self.is_administrator.0,
            is_explorable: self.is_explorable.0,
            as_badge: self.as_badge.0,
            badge_behavior: self.badge_behavior.0,
            preserve_assignment_on_move_account: self.preserve_assignment_on_move_account.0,
            can_edit_members_by_moderator: self.can_edit_members_by_moderator.0,
            display_order: self.display_order.0,
            policies: self.policies.0.map(policies),
        };
        let receipt = app.commands.change_role(app.by(&me.0), self.role_id.0, changes).await;
        app.shown(receipt.map_err(|failed| told(failed, NO_SUCH_ROLE_TO_UPDATE))?).await;
        Ok(())
    }
}

/// Delete a role; nobody has it any more.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Delete(ById);

const NO_SUCH_ROLE_TO_DELETE: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "de0d6ecd-8e0a-4253-88ff-74bc89ae3d45");

impl Endpoint for Delete {
    const META: Meta =
        Meta::new("admin/roles/delete").kind("write:admin:roles").errors(&[NO_SUCH_ROLE_TO_DELETE]);
    type Caller = Administrator;
    type Reply = ();

    async fn handle(self, app: &App, me: Administrator) -> Result<(), ApiError> {
        let receipt = app.commands.delete_role(app.by(&me.0), self.0.role_id.0).await;
        app.shown(receipt.map_err(|failed| told(failed, NO_SUCH_ROLE_TO_DELETE))?).await;
        Ok(())
    }
}

/// List all roles, those first to which somebody was assigned last.
#[derive(Deserialize, JsonSchema)]
pub struct ListAll {}

impl Endpoint for ListAll {
    const META: Meta = Meta::new("admin/roles/list").kind("read:admin:roles");
    type Caller = Moderator;
    type Reply = Vec<Role>;

    async fn handle(self, app: &App, _: Moderator) -> Result<Vec<Role>, ApiError> {
        let roles = role::list(&app.pool, Which::All, app.now()).await?;
        Ok(roles.iter().map(|(row, people)| present(row, *people)).collect())
    }
}

/// Show any role.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ShowAny(ById);

const NO_SUCH_ROLE_TO_SHOW: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "07dc7d34-c0d8-49b7-96c6-db3ce64ee0b3");

impl Endpoint for ShowAny {
    const META: Meta = Meta::new("admin/roles/show").kind("read:admin:roles").errors(&[NO_SUCH_ROLE_TO_SHOW]);
    type Caller = Moderator;
    type Reply = Role;

    async fn handle(self, app: &App, _: Moderator) -> Result<Role, ApiError> {
        let found = role::by_id(&app.pool, self.0.role_id.0, app.now()).await?;
        let (row, people) = found.ok_or(NO_SUCH_ROLE_TO_SHOW)?;
        Ok(present(&row, people))
    }
}

/// Assign somebody to a role.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Assign {
    role_id: RoleId,
    user_id: UserId,
    /// For moderators.
    #[serde(default)]
    memo: Given<String>,
    /// Until when, in milliseconds since 1970; for good without it.
    expires_at: Option<i64>,
}

const NO_SUCH_ROLE_TO_ASSIGN: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "6503c040-6af4-4ed9-bf07-f2dd16678eab");
const NO_SUCH_USER_TO_ASSIGN: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "558ea170-f653-4700-94d0-5a818371d0df");
const MAY_NOT_ASSIGN: ErrorDef = ErrorDef::new(
    "ACCESS_DENIED",
    "Only administrators can edit members of the role.",
    "25b5bc31-dc79-4ebd-9bd2-c84978fd052c",
);
const ALREADY_ASSIGNED: ErrorDef = ErrorDef::new(
    "INTERNAL_ERROR",
    "User is already assigned to this role.",
    "67d8689c-25c6-435f-8ced-631e4b81fce1",
);

impl Endpoint for Assign {
    const META: Meta = Meta::new("admin/roles/assign").kind("write:admin:roles").errors(&[
        NO_SUCH_ROLE_TO_ASSIGN,
        NO_SUCH_USER_TO_ASSIGN,
        MAY_NOT_ASSIGN,
        ALREADY_ASSIGNED,
    ]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let expires_at = match self.expires_at {
            Some(millis) => Some(DateTime::from_timestamp_millis(millis).ok_or_else(|| {
                ApiError::invalid_param("#/properties/expiresAt/maximum", "is no time that can be")
            })?),
            None => None,
        };
        let terms = Terms { expires_at, memo: self.memo.0 };
        let (by, administers) = (app.by(&me.0), me.0.account.administers());
        let assigned =
            app.commands.assign_role(by, self.role_id.0, self.user_id.0, terms, administers).await?;
        app.shown(assigned).await;
        Ok(())
    }
}

impl From<CannotAssign> for ApiError {
    fn from(refusal: CannotAssign) -> Self {
        match refusal {
            CannotAssign::NoSuchRole => NO_SUCH_ROLE_TO_ASSIGN.into(),
            CannotAssign::NoSuchUser => NO_SUCH_USER_TO_ASSIGN.into(),
            CannotAssign::NotAllowed => MAY_NOT_ASSIGN.into(),
            CannotAssign::AlreadyAssigned => ApiError::from_within(ALREADY_ASSIGNED),
            CannotAssign::TooLong => ApiError::invalid_param("#/properties/memo/maxLength", "is too long"),
        }
    }
}

/// End somebody's assignment to a role.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unassign {
    role_id: RoleId,
    user_id: UserId,
}

const NO_SUCH_ROLE_TO_UNASSIGN: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "6e519036-a70d-4c76-b679-bc8fb18194e2");
const NO_SUCH_USER_TO_UNASSIGN: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "2b730f78-1179-461b-88ad-d24c9af1a5ce");
const MAY_NOT_UNASSIGN: ErrorDef = ErrorDef::new(
    "ACCESS_DENIED",
    "Only administrators can edit members of the role.",
    "24636eee-e8c1-493e-94b2-e16ad401e262",
);
const NOT_ASSIGNED: ErrorDef = ErrorDef::new(
    "INTERNAL_ERROR",
    "User was not assigned to this role.",
    "b9060ac7-5c94-4da4-9f55-2047c953df44",
);

impl Endpoint for Unassign {
    const META: Meta = Meta::new("admin/roles/unassign").kind("write:admin:roles").errors(&[
        NO_SUCH_ROLE_TO_UNASSIGN,
        NO_SUCH_USER_TO_UNASSIGN,
        MAY_NOT_UNASSIGN,
        NOT_ASSIGNED,
    ]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let (by, administers) = (app.by(&me.0), me.0.account.administers());
        let ended = app.commands.unassign_role(by, self.role_id.0, self.user_id.0, administers).await?;
        app.shown(ended).await;
        Ok(())
    }
}

impl From<CannotUnassign> for ApiError {
    fn from(refusal: CannotUnassign) -> Self {
        match refusal {
            CannotUnassign::NoSuchRole => NO_SUCH_ROLE_TO_UNASSIGN.into(),
            CannotUnassign::NoSuchUser => NO_SUCH_USER_TO_UNASSIGN.into(),
            CannotUnassign::NotAllowed => MAY_NOT_UNASSIGN.into(),
            CannotUnassign::NotAssigned => ApiError::from_within(NOT_ASSIGNED),
        }
    }
}

/// List who is assigned to a role.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AssignedUsers(PageOf);

/// Somebody's assignment to a role.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Assignment {
    id: Id<RoleAssignmentId>,
    created_at: Time,
    user: UserDetailed,
    memo: Option<String>,
    expires_at: Option<Time>,
}

const NO_SUCH_ROLE_OF_USERS: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "224eff5e-2488-4b18-b3e7-f50d94421648");

impl Endpoint for AssignedUsers {
    const META: Meta =
        Meta::new("admin/roles/users").kind("read:admin:roles").errors(&[NO_SUCH_ROLE_OF_USERS]);
    type Caller = Administrator;
    type Reply = Vec<Assignment>;

    async fn handle(self, app: &App, me: Administrator) -> Result<Vec<Assignment>, ApiError> {
        let PageOf { role_id: Id(role), limit, page } = self.0;
        role::by_id(&app.pool, role, app.now()).await?.ok_or(NO_SUCH_ROLE_OF_USERS)?;
        let people = people(app, &Anyone(Some(me.0)), role, page.limited(limit)).await?;
        let shown = |(row, user): (AssignmentRow, UserDetailed)| Assignment {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            user,
            memo: row.memo,
            expires_at: row.expires_at.map(Time),
        };
        Ok(people.into_iter().map(shown).collect())
    }
}

/// Those who are assigned to a role, as the caller sees them.
async fn people(
    app: &App,
    me: &Anyone,
    role: ids::RoleId,
    page: projections::Page,
) -> Result<Vec<(AssignmentRow, UserDetailed)>, ApiError> {
    let rows = role::assigned(&app.pool, role, app.now(), &page).await?;
    let people: Vec<ids::UserId> = rows.iter().map(|row| row.user).collect();
    let (world, eyes) = load(app, me, &people, many(me, &people)).await?;
    let look = Look::of(app);
    let shown = rows.into_iter().filter_map(|row| {
        let user = user_detailed(&look, &world, row.user, &eyes)?;
        Some((row, user))
    });
    Ok(shown.collect())
}

/// List the roles that let themselves be explored.
#[derive(Deserialize, JsonSchema)]
pub struct List {}

impl Endpoint for List {
    const META: Meta = Meta::new("roles/list").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<Role>;

    async fn handle(self, app: &App, _: SignedIn) -> Result<Vec<Role>, ApiError> {
        let roles = role::list(&app.pool, Which::Explorable, app.now()).await?;
        Ok(roles.iter().map(|(row, people)| present(row, *people)).collect())
    }
}

/// Show a public role.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Show(ById);

const NO_SUCH_PUBLIC_ROLE: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "de5502bf-009a-4639-86c1-fec349e46dcb");

impl Endpoint for Show {
    const META: Meta = Meta::new("roles/show").errors(&[NO_SUCH_PUBLIC_ROLE]);
    type Caller = Anyone;
    type Reply = Role;

    async fn handle(self, app: &App, _: Anyone) -> Result<Role, ApiError> {
        let (row, people) = public(app, self.0.role_id.0).await?.ok_or(NO_SUCH_PUBLIC_ROLE)?;
        Ok(present(&row, people))
    }
}

async fn public(app: &App, role: ids::RoleId) -> Result<Option<(RoleRow, i64)>, ApiError> {
    let found = role::by_id(&app.pool, role, app.now()).await?;
    Ok(found.filter(|(row, _)| row.definition.is_public))
}

/// List who is assigned to a role that lets itself be explored.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Users(PageOf);

/// Somebody who is assigned to a role.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Member {
    id: Id<RoleAssignmentId>,
    user: UserDetailed,
}

const NO_SUCH_ROLE_OF_MEMBERS: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "30aaaee3-4792-48dc-ab0d-cf501a575ac5");

impl Endpoint for Users {
    const META: Meta = Meta::new("roles/users").errors(&[NO_SUCH_ROLE_OF_MEMBERS]);
    type Caller = Anyone;
    type Reply = Vec<Member>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Member>, ApiError> {
        let PageOf { role_id: Id(role), limit, page } = self.0;
        let found = public(app, role).await?;
        let explorable = found.filter(|(row, _)| row.definition.is_explorable);
        explorable.ok_or(NO_SUCH_ROLE_OF_MEMBERS)?;
        let people = people(app, &me, role, page.limited(limit)).await?;
        Ok(people.into_iter().map(|(row, user)| Member { id: Id(row.id), user }).collect())
    }
}

/// Public notes that those who have a role wrote since they were assigned. Those of a conditional role are
/// looked for among the newest public notes.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Notes(PageOf);

const NO_SUCH_ROLE_OF_NOTES: ErrorDef =
    ErrorDef::new("NO_SUCH_ROLE", "No such role.", "eb70323a-df61-4dd4-ad90-89c83c7cf26e");

impl Endpoint for Notes {
    const META: Meta = Meta::new("roles/notes").kind("read:account").errors(&[NO_SUCH_ROLE_OF_NOTES]);
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        let PageOf { role_id: Id(role), limit, page } = self.0;
        let (row, _) = public(app, role).await?.ok_or(NO_SUCH_ROLE_OF_NOTES)?;
        if !row.definition.is_explorable {
            return Ok(Vec::new());
        }
        let has_it = |world: &World, note: &NoteRow| {
            world.user(note.author).is_some_and(|author| author.roles.iter().any(|role| role.id == row.id))
        };
        let by_condition = row.condition.is_some();
        let viewer = Some(me.id());
        wanted_page(app, viewer, page, limit, has_it, |page| async move {
            if by_condition {
                let all = Filter { with_replies: true, with_renotes: true, with_files: false };
                note::timeline(&app.pool, Timeline::Global, viewer, all, &page).await
            } else {
                role::notes(&app.pool, row.id, app.now(), &page).await
            }
        })
        .await
    }
}
