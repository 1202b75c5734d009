//! One's own account and who gets into it: `i/change-password`, `i/signin-history`, `i/delete-account`.

use domain::user::Security;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::{self, Unconfirmed};
use crate::api::param::{AnyId, Id, Limit, Page, Text};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::erase::asked;
use crate::json::Time;
use crate::ops::passwords::MAX_PASSWORD_BYTES;

/// What tells whether a password is right needs a limit; Misskey has none.
pub const CONFIRMATIONS: (u32, u64) = (30, per::HOUR);

/// The longest code that is sent, in characters: a backup code.
const MAX_CODE_CHARS: usize = 64;

/// A one-time or backup code, for those who have a second factor.
pub type Code = Text<0, MAX_CODE_CHARS>;

/// The code that was sent, if any.
pub fn code(code: &Option<Code>) -> Option<&str> {
    code.as_ref().map(|code| code.0.as_str())
}

/// Notes that the caller gets in or is reached in another way, and waits until they are told.
pub async fn changed(app: &App, me: &SignedIn, what: Security) -> Result<(), ApiError> {
    let receipt = app.commands.security_changed(app.by(me), me.id(), what).await?;
    app.shown(receipt).await;
    Ok(())
}

/// Set another password. Browsers signed in on the server's own pages have to sign in again.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangePassword {
    current_password: Text<0, MAX_PASSWORD_BYTES>,
    new_password: Text<1, MAX_PASSWORD_BYTES>,
    token: Option<Code>,
}

const CHANGE: Unconfirmed = Unconfirmed {
    password: incorrect_password("f5bcd508-adcf-40b1-9031-2e944a5d8390"),
    code: authentication_failed("97fee157-34eb-4b0d-8fc3-375d0040f807"),
};

/// How an endpoint tells of a wrong password.
pub const fn incorrect_password(id: &'static str) -> ErrorDef {
    ErrorDef::new("INCORRECT_PASSWORD", "Incorrect password.", id)
}

/// How an endpoint tells of a wrong or missing code.
pub const fn authentication_failed(id: &'static str) -> ErrorDef {
    ErrorDef::new("AUTHENTICATION_FAILED", "Authentication failed.", id)
}

impl Endpoint for ChangePassword {
    const META: Meta = Meta::new("i/change-password")
        .secure()
        .limit(CONFIRMATIONS.0, CONFIRMATIONS.1)
        .errors(&[CHANGE.password, CHANGE.code]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let shown = (self.current_password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/change-password", shown, CHANGE).await?;
        app.core.passwords.set(me.id(), &self.new_password.0, app.now()).await?;
        app.core.browsers.close_all(me.id()).await?;
        changed(app, &me, Security::Password).await
    }
}

/// List who tried to sign in as the caller, and from where.
#[derive(Deserialize, JsonSchema)]
pub struct SignInHistory {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// An attempt to sign in.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Signin")]
pub struct SignIn {
    id: Id<AnyId>,
    created_at: Time,
    ip: String,
    headers: Value,
    success: bool,
}

impl Endpoint for SignInHistory {
    const META: Meta = Meta::new("i/signin-history").secure();
    type Caller = SignedIn;
    type Reply = Vec<SignIn>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<SignIn>, ApiError> {
        sign_ins(app, me.id(), &self.page.limited(self.limit)).await
    }
}

/// How somebody signed in, and who tried to as them.
pub async fn sign_ins(
    app: &App,
    user: domain::UserId,
    page: &projections::Page,
) -> Result<Vec<SignIn>, ApiError> {
    let rows = app.core.sign_ins.list(user, page).await?;
    let show = |row: crate::ops::sign_ins::SignIn| SignIn {
        id: Id(AnyId(row.id)),
        created_at: Time(domain::ids::time_of(row.id)),
        ip: row.ip,
        headers: row.headers,
        success: row.success,
    };
    Ok(rows.into_iter().map(show).collect())
}

/// Erase one's account for good: nothing that it wrote can be read any more, by anybody.
#[derive(Deserialize, JsonSchema)]
pub struct Delete {
    password: Text<0, MAX_PASSWORD_BYTES>,
    token: Option<Code>,
}

const DELETE: Unconfirmed = Unconfirmed {
    password: incorrect_password("44326b04-08ea-4525-b01c-98cc117bdd2a"),
    code: authentication_failed("ea791cff-63e7-4b2a-92fc-646ab641794e"),
};
const ROOT_STAYS: ErrorDef = ErrorDef::new(
    "CANNOT_DELETE_ROOT",
    "The first account of the server can't be deleted.",
    "0d3bfa5e-6f0c-4d4d-9d5a-6c5a1f6f3a0e",
);

impl Endpoint for Delete {
    const META: Meta = Meta::new("i/delete-account")
        .secure()
        .limit(CONFIRMATIONS.0, CONFIRMATIONS.1)
        .errors(&[DELETE.password, DELETE.code, ROOT_STAYS]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let shown = (self.password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/delete-account", shown, DELETE).await?;
        if me.account.is_root {
            return Err(ROOT_STAYS.into());
        }
        asked::ask(&app.eraser, me.id()).await?;
        let receipt = app.eraser.begin(me.id()).await.map_err(ApiError::internal)?;
        app.shown(receipt).await;
        Ok(())
    }
}
