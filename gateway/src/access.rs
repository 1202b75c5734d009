//! Getting in: what the API and the server's own pages both do. Signing in with a password, making an
//! account, and granting an app its access.

use std::net::IpAddr;
use std::sync::Arc;

use commands::{AskedBy, Failed, NewAccount};
use domain::UserId;
use domain::user::{CannotSignUp, is_username};

use crate::api::rate::{Limit, TooOften};
use crate::api::{Account, ApiError, ErrorDef, SignedIn, per};
use crate::app::App;
use crate::ops::apps::AuthSession;
use crate::ops::sign_ins::Visit;
use crate::ops::tokens::NewGrant;

/// Sign-ins of one address, whether they succeed or not.
pub const SIGN_IN_LIMIT: Limit =
    Limit { key: Some("signin"), window: Some((10, per::HOUR)), interval: Some(per::SECOND) };

/// Accounts that one address makes for itself, or tries to. Misskey has no limit here; what costs a password's
/// hash and may be asked by anybody needs one.
pub const SIGN_UP_LIMIT: Limit =
    Limit { key: Some("signup"), window: Some((100, per::HOUR)), interval: None };

/// Why somebody isn't signed in.
#[derive(Debug)]
pub enum CannotSignIn {
    TooOften(TooOften),
    NoSuchUser,
    Suspended,
    WrongPassword,
    Failed(ApiError),
}

/// Why an account isn't made.
#[derive(Debug)]
pub enum CannotCreate {
    Refused(CannotSignUp),
    /// Empty or far too long.
    Password,
    Failed(ApiError),
}

/// The account that wants to be signed in, its password not yet checked. Counts the attempt.
pub async fn who(app: &App, client: IpAddr, username: &str) -> Result<Arc<Account>, CannotSignIn> {
    let core = &app.core;
    core.count_address(&SIGN_IN_LIMIT, "signin", client).await?.map_err(CannotSignIn::TooOften)?;
    if !is_username(username) {
        return Err(CannotSignIn::NoSuchUser);
    }
    let account = core.accounts.named(username).await?.filter(|account| !account.is_deleted);
    let account = account.ok_or(CannotSignIn::NoSuchUser)?;
    if account.is_suspended { Err(CannotSignIn::Suspended) } else { Ok(account) }
}

/// Checks the password of an account and notes the attempt.
pub async fn sign_in(
    app: &App,
    account: &Account,
    password: &str,
    visit: &Visit,
) -> Result<(), CannotSignIn> {
    let by = app.by_user(Some(account.id));
    let right = app.core.passwords.verify(Some(account.id), password, by.now).await;
    let right = right.map_err(ApiError::from)?;
    let noted = app.core.sign_ins.note(account.id, by.command.0, visit, right, by.now).await;
    noted.map_err(ApiError::from)?;
    if !right {
        return Err(CannotSignIn::WrongPassword);
    }
    let noted = app.commands.signed_in(by, account.id).await;
    app.shown(noted.map_err(ApiError::internal)?).await;
    Ok(())
}

/// Checks that it is really the person who asks for something that can't be undone or lets others in. The
/// endpoint says how it tells of a wrong password.
pub async fn confirm(app: &App, me: &SignedIn, password: &str, wrong: ErrorDef) -> Result<(), ApiError> {
    if app.core.passwords.verify(Some(me.id()), password, app.now()).await? {
        Ok(())
    } else {
        Err(wrong.into())
    }
}

/// Takes as long as [`sign_in`] with a wrong password: for names that nobody has.
pub async fn pretend(app: &App, password: &str) -> Result<(), ApiError> {
    app.core.passwords.verify(None, password, app.now()).await?;
    Ok(())
}

/// Makes a local account with its password.
pub async fn create_account(
    app: &App,
    asked_by: AskedBy,
    username: &str,
    password: &str,
) -> Result<UserId, CannotCreate> {
    if !is_username(username) {
        return Err(CannotCreate::Refused(CannotSignUp::InvalidUsername));
    }
    if password.is_empty() || password.len() > crate::ops::passwords::MAX_PASSWORD_BYTES {
        return Err(CannotCreate::Password);
    }
    let now = app.now();
    let user = UserId(app.ids.at(now));
    // The password first: an account that nobody can enter would keep its name for ever.
    app.core.passwords.set(user, password, now).await.map_err(ApiError::from)?;
    let new = NewAccount { user, username: username.to_owned(), asked_by };
    match app.commands.sign_up(app.by_user(Some(user)), new).await {
        Ok(receipt) => {
            app.shown(receipt).await;
            Ok(user)
        }
        Err(Failed::Refused(refusal)) => {
            app.core.passwords.remove(user).await.map_err(ApiError::from)?;
            Err(CannotCreate::Refused(refusal))
        }
        Err(failed) => Err(ApiError::internal(failed).into()),
    }
}

/// Grants an app what it asked for through MiAuth; returns its token.
pub async fn grant(app: &App, user: UserId, asked: &NewGrant) -> Result<String, ApiError> {
    let now = app.now();
    let token = app.core.tokens.grant(user, app.ids.at(now), asked, now).await?;
    note_grant(app, user, asked.name.clone()).await?;
    Ok(token)
}

/// Grants a registered app what it asked for in its session.
pub async fn accept(app: &App, user: UserId, session: &AuthSession) -> Result<(), ApiError> {
    let now = app.now();
    app.core.apps.accept(&app.core.tokens, session, user, app.ids.at(now), now).await?;
    note_grant(app, user, Some(session.app.name.clone())).await
}

async fn note_grant(app: &App, user: UserId, name: Option<String>) -> Result<(), ApiError> {
    let noted = app.commands.app_authorized(app.by_user(Some(user)), user, name).await;
    app.shown(noted.map_err(ApiError::internal)?).await;
    Ok(())
}

impl From<ApiError> for CannotSignIn {
    fn from(failed: ApiError) -> Self {
        CannotSignIn::Failed(failed)
    }
}

impl From<ApiError> for CannotCreate {
    fn from(failed: ApiError) -> Self {
        CannotCreate::Failed(failed)
    }
}
