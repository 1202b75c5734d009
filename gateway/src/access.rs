//! Getting in: what the API and the server's own pages both do. Signing in with a password, making an
//! account, and granting an app its access.

use std::net::IpAddr;
use std::sync::Arc;

use commands::{AskedBy, Failed, NewAccount};
use domain::UserId;
use domain::user::{CannotSignUp, is_username};
use serde_json::Value;

use crate::api::rate::{Limit, TooOften};
use crate::api::{Account, ApiError, ErrorDef, SignedIn, per};
use crate::app::App;
use crate::ops::apps::AuthSession;
use crate::ops::passkeys::{PasskeyError, Question};
use crate::ops::second_factor::InForce;
use crate::ops::sign_ins::Visit;
use crate::ops::tokens::NewGrant;
use crate::webauthn::{Assertion, Checked};

/// Sign-ins of one address, whether they succeed or not.
pub const SIGN_IN_LIMIT: Limit =
    Limit { key: Some("signin"), window: Some((10, per::HOUR)), interval: Some(per::SECOND) };

/// Accounts that one address makes for itself, or tries to. Misskey has no limit here; what costs a password's
/// hash and may be asked by anybody needs one.
pub const SIGN_UP_LIMIT: Limit =
    Limit { key: Some("signup"), window: Some((100, per::HOUR)), interval: None };

/// Codes tried for one account, wherever from: there are only a million.
pub const CODE_LIMIT: Limit = Limit { key: Some("codes"), window: Some((30, per::HOUR)), interval: None };

/// Why somebody isn't signed in.
#[derive(Debug)]
pub enum CannotSignIn {
    TooOften(TooOften),
    NoSuchUser,
    Suspended,
    /// Or a wrong code: which of the two is not told.
    WrongPassword,
    WrongPasskey,
    /// A passkey alone doesn't let them in.
    NotAlone,
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

/// What somebody shows to get in, besides a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    pub password: &'a str,
    /// A one-time or backup code.
    pub code: Option<&'a str>,
    /// What a passkey answers.
    pub passkey: Option<&'a Value>,
}

/// How far somebody has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    In,
    /// A one-time code is missing.
    Code,
    /// The answer of a passkey to this question is missing, or a one-time code.
    Passkey(Vec<u8>),
}

/// Checks what somebody shows who wants to be signed in as this account, and notes the attempt. Who needs a
/// second factor and shows only a right password is told what is missing.
pub async fn sign_in(
    app: &App,
    account: &Account,
    shown: Shown<'_>,
    visit: &Visit,
) -> Result<Step, CannotSignIn> {
    let (core, now) = (&app.core, app.now());
    let right = core.passwords.verify(Some(account.id), shown.password, now).await.map_err(ApiError::from)?;
    let needed = core.second_factors.of(account.id).await.map_err(ApiError::from)?;
    let outcome = match (right, needed) {
        (true, InForce { codes: false, .. }) => Ok(Step::In),
        (false, InForce { password_less: false, .. }) => Err(CannotSignIn::WrongPassword),
        _ => second(app, account, right, needed, shown).await,
    };
    match outcome {
        Ok(Step::In) => enter(app, account, visit).await.map(|()| Step::In),
        Ok(missing) => Ok(missing),
        Err(cannot) => {
            if matches!(cannot, CannotSignIn::WrongPassword | CannotSignIn::WrongPasskey) {
                let id = app.ids.at(now);
                core.sign_ins.note(account.id, id, visit, false, now).await.map_err(ApiError::from)?;
            }
            Err(cannot)
        }
    }
}

/// The second factor of somebody whose password is right, or who has a passkey that is enough.
async fn second(
    app: &App,
    account: &Account,
    right: bool,
    needed: InForce,
    shown: Shown<'_>,
) -> Result<Step, CannotSignIn> {
    let now = app.now();
    match shown {
        Shown { code: Some(code), .. } if right => {
            if take_code(app, account.id, "sign in", code).await?? {
                Ok(Step::In)
            } else {
                Err(CannotSignIn::WrongPassword)
            }
        }
        Shown { passkey: Some(answer), .. } => {
            let question = Question::SignIn(account.id);
            let (_, checked) = check_passkey(app, &question, answer).await?;
            // A passkey that is enough must have made sure who it is.
            if right || checked.user_verified { Ok(Step::In) } else { Err(CannotSignIn::WrongPasskey) }
        }
        Shown { code: None, .. } if needed.passkeys => {
            let asked = app.core.passkeys.ask(&Question::SignIn(account.id), now).await;
            Ok(Step::Passkey(asked.map_err(ApiError::internal)?.to_vec()))
        }
        Shown { code: None, .. } if right => Ok(Step::Code),
        _ => Err(CannotSignIn::WrongPassword),
    }
}

/// Signs in by a one-time code after the password was right on an earlier page.
pub async fn sign_in_by_code(
    app: &App,
    account: &Account,
    code: &str,
    visit: &Visit,
) -> Result<(), CannotSignIn> {
    if take_code(app, account.id, "sign in", code).await?? {
        return enter(app, account, visit).await;
    }
    let now = app.now();
    app.core.sign_ins.note(account.id, app.ids.at(now), visit, false, now).await.map_err(ApiError::from)?;
    Err(CannotSignIn::WrongPassword)
}

/// Signs in whoever has this passkey, if they let a passkey alone do it.
pub async fn sign_in_by_passkey(
    app: &App,
    context: &str,
    answer: &Value,
    visit: &Visit,
) -> Result<Arc<Account>, CannotSignIn> {
    let (user, checked) = check_passkey(app, &Question::Anybody(context.to_owned()), answer).await?;
    let account = app.core.accounts.account(user).await?.filter(|account| !account.is_deleted);
    let account = account.ok_or(CannotSignIn::NoSuchUser)?;
    if account.is_suspended {
        return Err(CannotSignIn::Suspended);
    }
    let needed = app.core.second_factors.of(user).await.map_err(ApiError::from)?;
    if !needed.password_less || !checked.user_verified {
        return Err(CannotSignIn::NotAlone);
    }
    enter(app, &account, visit).await?;
    Ok(account)
}

async fn check_passkey(
    app: &App,
    question: &Question,
    answer: &Value,
) -> Result<(UserId, Checked), CannotSignIn> {
    let answer: Assertion = serde_json::from_value(answer.clone()).map_err(|_| CannotSignIn::WrongPasskey)?;
    match app.core.passkeys.check(question, &answer, app.now()).await {
        Ok(checked) => Ok(checked),
        Err(PasskeyError::Storage(cause)) => Err(CannotSignIn::Failed(cause.into())),
        Err(why) => {
            tracing::debug!(%why, "a passkey is not taken");
            Err(CannotSignIn::WrongPasskey)
        }
    }
}

/// Takes a one-time or backup code, unless there were too many guesses.
async fn take_code(
    app: &App,
    user: UserId,
    purpose: &str,
    code: &str,
) -> Result<Result<bool, CannotSignIn>, ApiError> {
    let (core, now) = (&app.core, app.now());
    if let Err(early) = core.limiter.admit(&CODE_LIMIT, "codes", &user.to_string(), 1.0, now).await? {
        return Ok(Err(CannotSignIn::TooOften(early)));
    }
    let taken = core.second_factors.take(user, purpose, code, now).await;
    Ok(Ok(taken.map_err(ApiError::internal)?))
}

/// Notes that somebody has got in.
async fn enter(app: &App, account: &Account, visit: &Visit) -> Result<(), CannotSignIn> {
    let by = app.by_user(Some(account.id));
    let noted = app.core.sign_ins.note(account.id, by.command.0, visit, true, by.now).await;
    noted.map_err(ApiError::from)?;
    let noted = app.commands.signed_in(by, account.id).await;
    app.shown(noted.map_err(ApiError::internal)?).await;
    Ok(())
}

/// How an endpoint tells that it was not really the person who asked.
#[derive(Debug, Clone, Copy)]
pub struct Unconfirmed {
    pub password: ErrorDef,
    pub code: ErrorDef,
}

/// Checks that it is really the person who asks for something that can't be undone or lets others in: by their
/// password, and by a code when they have a second factor. `purpose` is the endpoint's.
pub async fn confirm(
    app: &App,
    me: &SignedIn,
    purpose: &str,
    (password, code): (&str, Option<&str>),
    unconfirmed: Unconfirmed,
) -> Result<(), ApiError> {
    let core = &app.core;
    if !core.passwords.verify(Some(me.id()), password, app.now()).await? {
        return Err(unconfirmed.password.into());
    }
    if !core.second_factors.of(me.id()).await?.codes {
        return Ok(());
    }
    let Some(code) = code else { return Err(unconfirmed.code.into()) };
    match take_code(app, me.id(), purpose, code).await? {
        Ok(true) => Ok(()),
        Err(CannotSignIn::TooOften(early)) => Err(core.too_often(early)),
        _ => Err(unconfirmed.code.into()),
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
    let hash = new_password(app, username, password).await?;
    make_account(app, asked_by, username, &hash).await
}

/// The same with the code of an invitation.
pub async fn create_invited_account(
    app: &App,
    code: &str,
    username: &str,
    password: &str,
) -> Result<UserId, CannotCreate> {
    let hash = new_password(app, username, password).await?;
    make_account_with(app, AskedBy::Invited, Some(code), username, &hash).await
}

/// The hash of the password with which an account is to be made.
async fn new_password(app: &App, username: &str, password: &str) -> Result<String, CannotCreate> {
    if !is_username(username) {
        return Err(CannotCreate::Refused(CannotSignUp::InvalidUsername));
    }
    if password.is_empty() || password.len() > crate::ops::passwords::MAX_PASSWORD_BYTES {
        return Err(CannotCreate::Password);
    }
    Ok(app.core.passwords.hash(password).await.map_err(ApiError::from)?)
}

/// Makes a local account with the password of which this is the hash.
pub async fn make_account(
    app: &App,
    asked_by: AskedBy,
    username: &str,
    password_hash: &str,
) -> Result<UserId, CannotCreate> {
    make_account_with(app, asked_by, None, username, password_hash).await
}

async fn make_account_with(
    app: &App,
    asked_by: AskedBy,
    code: Option<&str>,
    username: &str,
    password_hash: &str,
) -> Result<UserId, CannotCreate> {
    let now = app.now();
    let user = UserId(app.ids.at(now));
    // The password first: an account that nobody can enter would keep its name for ever.
    app.core.passwords.set_hash(user, password_hash, now).await.map_err(ApiError::from)?;
    let new = NewAccount { user, username: username.to_owned(), asked_by };
    let by = app.by_user(Some(user));
    let made = match code {
        Some(code) => app.commands.sign_up_invited(by, new, code).await,
        None => app.commands.sign_up(by, new).await,
    };
    match made {
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

/// Notes that an app got its access.
pub async fn note_grant(app: &App, user: UserId, name: Option<String>) -> Result<(), ApiError> {
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
