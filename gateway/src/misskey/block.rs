//! Blocking: `blocking/create`, `blocking/delete`, `blocking/list`.

use domain::BlockId;
use domain::block::{CannotBlock, NotBlocking};
use projections::block;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::user::{packed, with_people};
use crate::api::param::{Id, Limit, Page, UserId};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::Time;
use crate::json::user::{UserDetailed, UserDetailedNotMe};

/// Whom it is about.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Whom {
    user_id: UserId,
}

/// Block somebody.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Create(Whom);

const CREATE_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "7cc4f851-e2f1-4621-9633-ec9e1d00c01e");
const CREATE_YOURSELF: ErrorDef =
    ErrorDef::new("BLOCKEE_IS_YOURSELF", "Blockee is yourself.", "88b19138-f28d-42c0-8499-6a31bbd0fdc6");
const ALREADY_BLOCKING: ErrorDef = ErrorDef::new(
    "ALREADY_BLOCKING",
    "You are already blocking that user.",
    "787fed64-acb9-464a-82eb-afbd745b9614",
);

impl Endpoint for Create {
    const META: Meta = Meta::new("blocking/create").kind("write:blocks").limit(20, per::HOUR).errors(&[
        CREATE_NO_SUCH_USER,
        CREATE_YOURSELF,
        ALREADY_BLOCKING,
    ]);
    type Caller = SignedIn;
    type Reply = UserDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserDetailed, ApiError> {
        let blockee = self.0.user_id.0;
        let receipt = app.commands.block(app.by(&me), me.id(), blockee).await?;
        app.shown(receipt).await;
        packed(app, blockee, Some(me.id())).await
    }
}

impl From<CannotBlock> for ApiError {
    fn from(refusal: CannotBlock) -> Self {
        match refusal {
            CannotBlock::Yourself => CREATE_YOURSELF.into(),
            CannotBlock::NoSuchUser => CREATE_NO_SUCH_USER.into(),
            CannotBlock::AlreadyBlocking => ALREADY_BLOCKING.into(),
        }
    }
}

/// Block somebody no more.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Delete(Whom);

const DELETE_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "8621d8bf-c358-4303-a066-5ea78610eb3f");
const DELETE_YOURSELF: ErrorDef =
    ErrorDef::new("BLOCKEE_IS_YOURSELF", "Blockee is yourself.", "06f6fac6-524b-473c-a354-e97a40ae6eac");
const NOT_BLOCKING: ErrorDef =
    ErrorDef::new("NOT_BLOCKING", "You are not blocking that user.", "291b2efa-60c6-45c0-9f6a-045c8f9b02cd");

impl Endpoint for Delete {
    const META: Meta = Meta::new("blocking/delete").kind("write:blocks").limit(100, per::HOUR).errors(&[
        DELETE_NO_SUCH_USER,
        DELETE_YOURSELF,
        NOT_BLOCKING,
    ]);
    type Caller = SignedIn;
    type Reply = UserDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserDetailed, ApiError> {
        let blockee = self.0.user_id.0;
        let receipt = app.commands.unblock(app.by(&me), me.id(), blockee).await?;
        app.shown(receipt).await;
        packed(app, blockee, Some(me.id())).await
    }
}

impl From<NotBlocking> for ApiError {
    fn from(refusal: NotBlocking) -> Self {
        match refusal {
            NotBlocking::Yourself => DELETE_YOURSELF.into(),
            NotBlocking::NoSuchUser => DELETE_NO_SUCH_USER.into(),
            NotBlocking::NotBlocking => NOT_BLOCKING.into(),
        }
    }
}

/// List whom the caller blocks.
#[derive(Deserialize, JsonSchema)]
pub struct List {
    #[serde(default)]
    limit: Limit<100, 30>,
    #[serde(flatten)]
    page: Page,
}

/// A block; pages go by its id.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocking {
    id: Id<BlockId>,
    created_at: Time,
    blockee_id: UserId,
    blockee: UserDetailedNotMe,
}

impl Endpoint for List {
    const META: Meta = Meta::new("blocking/list").kind("read:blocks");
    type Caller = SignedIn;
    type Reply = Vec<Blocking>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Blocking>, ApiError> {
        let rows = block::of(&app.pool, me.id(), &self.page.limited(self.limit)).await?;
        let show = |row: block::BlockRow, blockee| Blocking {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            blockee_id: Id(row.blockee),
            blockee,
        };
        with_people(app, me.id(), rows, |row| row.blockee, show).await
    }
}
