//! Invitations: `invite/create`, `invite/delete`, `invite/list`, `invite/limit`, and for moderators
//! `admin/invite/create`, `admin/invite/list`.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ids;
use domain::invitation::CannotDeleteInvitation;
use domain::log::By;
use projections::invitation::{self, InvitationRow};
use projections::{Wanted, World};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Id, Limit, Page};
use crate::api::{Account, ApiError, Endpoint, ErrorDef, Meta, Moderator, SignedIn};
use crate::app::App;
use crate::json::user::{UserLite, user_lite};
use crate::json::{Look, Time};
use crate::ops::secret::random_text;

/// Length of a code, in characters: about 77 bits, so that none is guessed.
const CODE_CHARS: usize = 13;
/// The most codes that are made at once.
const MAX_AT_ONCE: u16 = 100;

type InvitationId = Id<ids::InvitationId>;

/// An invitation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InviteCode {
    id: InvitationId,
    code: String,
    expires_at: Option<Time>,
    created_at: Time,
    created_by: Option<UserLite>,
    used_by: Option<UserLite>,
    used_at: Option<Time>,
    used: bool,
}

fn present(look: &Look<'_>, world: &World, row: InvitationRow) -> InviteCode {
    let person = |id| world.user(id).map(|user| user_lite(look, user));
    InviteCode {
        id: Id(row.id),
        code: row.code,
        expires_at: row.expires_at.map(Time),
        created_at: Time(row.id.time()),
        created_by: person(row.created_by),
        used_by: row.used_by.and_then(person),
        used_at: row.used_at.map(Time),
        used: row.used_at.is_some(),
    }
}

async fn present_all(
    app: &App,
    viewer: ids::UserId,
    rows: Vec<InvitationRow>,
) -> Result<Vec<InviteCode>, ApiError> {
    let people: Vec<ids::UserId> =
        rows.iter().flat_map(|row| [Some(row.created_by), row.used_by]).flatten().collect();
    let world = app.hydrate(Wanted::users(people), Some(viewer)).await?;
    let look = Look::of(app);
    Ok(rows.into_iter().map(|row| present(&look, &world, row)).collect())
}

/// Makes a code. Who made it isn't told to whoever does.
async fn invite(
    app: &App,
    me: &SignedIn,
    by: By,
    expires_at: Option<DateTime<Utc>>,
    as_moderator: bool,
) -> Result<InviteCode, ApiError> {
    let code = random_text(CODE_CHARS).map_err(ApiError::internal)?;
    let (id, receipt) = app.commands.invite(by, me.id(), &code, expires_at, as_moderator).await?;
    app.shown(receipt).await;
    Ok(InviteCode {
        id: Id(id),
        code,
        expires_at: expires_at.map(Time),
        created_at: Time(id.time()),
        created_by: None,
        used_by: None,
        used_at: None,
        used: false,
    })
}

/// Make a code with which somebody can make an account.
#[derive(Deserialize, JsonSchema)]
pub struct Create {}

const EXCEEDED_LIMIT: ErrorDef = ErrorDef::new(
    "EXCEEDED_LIMIT_OF_CREATE_INVITE_CODE",
    "You have exceeded the limit for creating an invitation code.",
    "8b165dd3-6f37-4557-8db1-73175d63c641",
);

impl Endpoint for Create {
    const META: Meta =
        Meta::new("invite/create").kind("write:invite-codes").role("canInvite").errors(&[EXCEEDED_LIMIT]);
    type Caller = SignedIn;
    type Reply = InviteCode;

    async fn handle(self, app: &App, me: SignedIn) -> Result<InviteCode, ApiError> {
        if remaining(app, &me.account).await? == Some(0) {
            return Err(EXCEEDED_LIMIT.into());
        }
        let lasts = minutes(&me.account, "inviteExpirationTime");
        let by = app.by(&me);
        invite(app, &me, by, lasts.and_then(|lasts| by.now.checked_add_signed(lasts)), false).await
    }
}

/// How many codes somebody may still make; none when there is no limit.
async fn remaining(app: &App, account: &Account) -> Result<Option<i64>, ApiError> {
    let limit = i64::try_from(account.limit("inviteLimit")).unwrap_or(i64::MAX);
    if limit == 0 {
        return Ok(None);
    }
    let cycle = minutes(account, "inviteLimitCycle").unwrap_or_default();
    let since = app.now().checked_sub_signed(cycle).unwrap_or(DateTime::UNIX_EPOCH);
    let made = invitation::count_since(&app.pool, account.id, since).await?;
    Ok(Some((limit - made).max(0)))
}

/// A policy that is a time, in minutes; none when it is 0.
fn minutes(account: &Account, policy: &str) -> Option<TimeDelta> {
    let minutes = i64::try_from(account.limit(policy)).ok().filter(|minutes| *minutes > 0)?;
    TimeDelta::try_minutes(minutes)
}

/// Take a code back that nobody has used.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    invite_id: InvitationId,
}

const NO_SUCH_INVITE_CODE: ErrorDef =
    ErrorDef::new("NO_SUCH_INVITE_CODE", "No such invite code.", "cd4f9ae4-7854-4e3e-8df9-c296f051e634");
const CAN_NOT_DELETE: ErrorDef = ErrorDef::new(
    "CAN_NOT_DELETE_INVITE_CODE",
    "You can't delete this invite code.",
    "ff17af39-000c-4d4e-abdf-848fa30fc1ce",
);
const ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "5eb8d909-2540-4970-90b8-dd6f86088121");

impl Endpoint for Delete {
    const META: Meta = Meta::new("invite/delete").kind("write:invite-codes").role("canInvite").errors(&[
        NO_SUCH_INVITE_CODE,
        CAN_NOT_DELETE,
        ACCESS_DENIED,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let row = invitation::by_id(&app.pool, self.invite_id.0).await?.ok_or(NO_SUCH_INVITE_CODE)?;
        let (by, moderates) = (app.by(&me), me.account.moderates());
        let deleted = app.commands.delete_invitation(by, me.id(), &row.code, moderates).await?;
        app.shown(deleted).await;
        Ok(())
    }
}

impl From<CannotDeleteInvitation> for ApiError {
    fn from(refusal: CannotDeleteInvitation) -> Self {
        match refusal {
            CannotDeleteInvitation::NoSuchCode => NO_SUCH_INVITE_CODE.into(),
            CannotDeleteInvitation::NotTheirs => ACCESS_DENIED.into(),
            CannotDeleteInvitation::Used => CAN_NOT_DELETE.into(),
        }
    }
}

/// List the codes that the caller made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit<100, 30>,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for List {
    const META: Meta = Meta::new("invite/list").kind("read:invite-codes").role("canInvite");
    type Caller = SignedIn;
    type Reply = Vec<InviteCode>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<InviteCode>, ApiError> {
        let rows = invitation::of_user(&app.pool, me.id(), &self.page.limited(self.limit)).await?;
        present_all(app, me.id(), rows).await
    }
}

/// Tell how many codes the caller may still make.
#[derive(Deserialize, JsonSchema)]
pub struct Remaining {}

/// How many codes the caller may still make.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct RemainingReply {
    /// None when there is no limit.
    remaining: Option<i64>,
}

impl Endpoint for Remaining {
    const META: Meta = Meta::new("invite/limit").kind("read:invite-codes").role("canInvite");
    type Caller = SignedIn;
    type Reply = RemainingReply;

    async fn handle(self, app: &App, me: SignedIn) -> Result<RemainingReply, ApiError> {
        Ok(RemainingReply { remaining: remaining(app, &me.account).await? })
    }
}

/// Make several codes.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateMany {
    #[serde(default)]
    count: Limit<MAX_AT_ONCE, 1>,
    /// Until when they can be used, in ISO 8601; for good without it.
    expires_at: Option<String>,
}

const INVALID_DATE_TIME: ErrorDef =
    ErrorDef::new("INVALID_DATE_TIME", "Invalid date-time format", "f1380b15-3760-4c6c-a1db-5c3aaf1cbd49");

impl Endpoint for CreateMany {
    const META: Meta =
        Meta::new("admin/invite/create").kind("write:admin:invite-codes").errors(&[INVALID_DATE_TIME]);
    type Caller = Moderator;
    type Reply = Vec<InviteCode>;

    async fn handle(self, app: &App, me: Moderator) -> Result<Vec<InviteCode>, ApiError> {
        let expires_at = match self.expires_at {
            Some(text) => Some(DateTime::parse_from_rfc3339(&text).map_err(|_| INVALID_DATE_TIME)?.to_utc()),
            None => None,
        };
        let mut made = Vec::with_capacity(self.count.get());
        // One act, so that its moment is one: it is one line for moderators.
        let by = app.by(&me.0);
        for n in (0..).take(self.count.get()) {
            made.push(invite(app, &me.0, by.step(n), expires_at, true).await?);
        }
        Ok(made)
    }
}

/// List all codes.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListAll {
    #[serde(default)]
    limit: Limit<100, 30>,
    #[serde(default)]
    offset: u32,
    #[serde(default, rename = "type")]
    state: State,
    sort: Option<Sort>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum State {
    #[default]
    All,
    Unused,
    Used,
    Expired,
}

/// `+`: the newest first.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
enum Sort {
    #[serde(rename = "+createdAt")]
    Newest,
    #[serde(rename = "-createdAt")]
    Oldest,
    #[serde(rename = "+usedAt")]
    LastUsed,
    #[serde(rename = "-usedAt")]
    FirstUsed,
}

impl Endpoint for ListAll {
    const META: Meta = Meta::new("admin/invite/list").kind("read:admin:invite-codes");
    type Caller = Moderator;
    type Reply = Vec<InviteCode>;

    async fn handle(self, app: &App, me: Moderator) -> Result<Vec<InviteCode>, ApiError> {
        let state = match self.state {
            State::All => invitation::State::All,
            State::Unused => invitation::State::Unused,
            State::Used => invitation::State::Used,
            State::Expired => invitation::State::Expired,
        };
        let sort = match self.sort {
            None | Some(Sort::Newest) => invitation::Sort::CreatedAt { descending: true },
            Some(Sort::Oldest) => invitation::Sort::CreatedAt { descending: false },
            Some(Sort::LastUsed) => invitation::Sort::UsedAt { descending: true },
            Some(Sort::FirstUsed) => invitation::Sort::UsedAt { descending: false },
        };
        let limit = Page::default().limited(self.limit).limit;
        let rows = invitation::list(&app.pool, state, sort, app.now(), limit, self.offset).await?;
        present_all(app, me.0.id(), rows).await
    }
}
