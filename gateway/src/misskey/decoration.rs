//! Decorations of avatars: `get-avatar-decorations`, `admin/avatar-decorations/create`, `update`, `delete`,
//! `list`. They are worn by `i/update`.

use commands::Failed;
use domain::decoration::{
    CannotDecorate, Changes, Definition, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_ROLES, MAX_URL_CHARS,
};
use domain::ids;
use projections::decoration::{self, DecorationRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Given, Id, Text};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::Time;

type DecorationId = Id<ids::DecorationId>;
type RoleIds = Vec<Id<ids::RoleId>>;

/// List the decorations that avatars can wear.
#[derive(Deserialize, JsonSchema)]
pub struct List {}

/// A decoration of avatars.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Offered {
    id: DecorationId,
    name: String,
    description: String,
    url: String,
    role_ids_that_can_be_used_this_decoration: RoleIds,
}

impl Endpoint for List {
    const META: Meta = Meta::new("get-avatar-decorations");
    type Caller = Anyone;
    type Reply = Vec<Offered>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Vec<Offered>, ApiError> {
        let offered = |row: DecorationRow| Offered {
            id: Id(row.id),
            name: row.definition.name,
            description: row.definition.description,
            url: row.definition.url,
            role_ids_that_can_be_used_this_decoration: row.definition.roles.into_iter().map(Id).collect(),
        };
        Ok(decoration::list(&app.pool).await?.into_iter().map(offered).collect())
    }
}

/// A decoration of avatars, as those who offer it see it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvatarDecoration {
    id: DecorationId,
    created_at: Time,
    updated_at: Option<Time>,
    name: String,
    description: String,
    url: String,
    role_ids_that_can_be_used_this_decoration: RoleIds,
}

fn present(row: DecorationRow) -> AvatarDecoration {
    AvatarDecoration {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        updated_at: row.updated_at.map(Time),
        name: row.definition.name,
        description: row.definition.description,
        url: row.definition.url,
        role_ids_that_can_be_used_this_decoration: row.definition.roles.into_iter().map(Id).collect(),
    }
}

/// List the decorations with all that is known of them.
#[derive(Deserialize, JsonSchema)]
pub struct ListAll {}

impl Endpoint for ListAll {
    const META: Meta = Meta::new("admin/avatar-decorations/list")
        .kind("read:admin:avatar-decorations")
        .role("canManageAvatarDecorations");
    type Caller = SignedIn;
    type Reply = Vec<AvatarDecoration>;

    async fn handle(self, app: &App, _: SignedIn) -> Result<Vec<AvatarDecoration>, ApiError> {
        Ok(decoration::list(&app.pool).await?.into_iter().map(present).collect())
    }
}

/// Offer a decoration.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    name: Text<1, MAX_NAME_CHARS>,
    description: Text<0, MAX_DESCRIPTION_CHARS>,
    url: Text<1, MAX_URL_CHARS>,
    #[serde(default)]
    #[schemars(length(max = MAX_ROLES))]
    role_ids_that_can_be_used_this_decoration: RoleIds,
}

const TOO_LARGE: ErrorDef =
    ErrorDef::new("TOO_LARGE", "Too many roles.", "5f0a5b6a-4d21-4f0e-9a68-2f3c1c0f7b9d");
const NO_SUCH_DECORATION: ErrorDef =
    ErrorDef::new("NO_SUCH_DECORATION", "No such decoration.", "6b6a1c0e-7d0f-4d5a-8f4a-5f1b9f5e2c3d");

/// Why a decoration isn't as asked, as it is told.
fn told(failed: Failed<CannotDecorate>) -> Failed<ErrorDef> {
    failed.map_refusal(|cannot| match cannot {
        CannotDecorate::NoSuchDecoration => NO_SUCH_DECORATION,
        CannotDecorate::TooLarge => TOO_LARGE,
    })
}

impl Endpoint for Create {
    const META: Meta = Meta::new("admin/avatar-decorations/create")
        .kind("write:admin:avatar-decorations")
        .role("canManageAvatarDecorations")
        .errors(&[TOO_LARGE]);
    type Caller = SignedIn;
    type Reply = AvatarDecoration;

    async fn handle(self, app: &App, me: SignedIn) -> Result<AvatarDecoration, ApiError> {
        let by = app.by(&me);
        let id = ids::DecorationId(app.ids.at(by.now));
        let definition = Definition {
            name: self.name.0,
            description: self.description.0,
            url: self.url.0,
            roles: self.role_ids_that_can_be_used_this_decoration.into_iter().map(|id| id.0).collect(),
        };
        let made = app.commands.create_decoration(by, id, definition.clone()).await.map_err(told)?;
        app.shown(made).await;
        Ok(present(DecorationRow { id, definition, updated_at: None }))
    }
}

/// Change a decoration for all who wear it; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    id: DecorationId,
    #[serde(default)]
    name: Given<Text<1, MAX_NAME_CHARS>>,
    #[serde(default)]
    description: Given<Text<0, MAX_DESCRIPTION_CHARS>>,
    #[serde(default)]
    url: Given<Text<1, MAX_URL_CHARS>>,
    #[serde(default)]
    #[schemars(length(max = MAX_ROLES))]
    role_ids_that_can_be_used_this_decoration: Given<RoleIds>,
}

impl Endpoint for Update {
    const META: Meta = Meta::new("admin/avatar-decorations/update")
        .kind("write:admin:avatar-decorations")
        .role("canManageAvatarDecorations")
        .errors(&[NO_SUCH_DECORATION, TOO_LARGE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let roles = self.role_ids_that_can_be_used_this_decoration.0;
        let changes = Changes {
            name: self.name.0.map(|name| name.0),
            description: self.description.0.map(|description| description.0),
            url: self.url.0.map(|url| url.0),
            roles: roles.map(|roles| roles.into_iter().map(|id| id.0).collect()),
        };
        let changed = app.commands.change_decoration(app.by(&me), self.id.0, changes).await.map_err(told)?;
        app.shown(changed).await;
        Ok(())
    }
}

/// Offer a decoration no more.
#[derive(Deserialize, JsonSchema)]
pub struct Delete {
    id: DecorationId,
}

impl Endpoint for Delete {
    const META: Meta = Meta::new("admin/avatar-decorations/delete")
        .kind("write:admin:avatar-decorations")
        .role("canManageAvatarDecorations")
        .errors(&[NO_SUCH_DECORATION]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let deleted = app.commands.delete_decoration(app.by(&me), self.id.0).await.map_err(told)?;
        app.shown(deleted).await;
        Ok(())
    }
}
