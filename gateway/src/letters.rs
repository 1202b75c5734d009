//! Letters: what is written to people, and what they do with the codes in them. The API and the server's own
//! pages both lead here.

use chrono::Duration;
use commands::AskedBy;
use domain::UserId;
use domain::instance::Settings;
use domain::user::{CannotSignUp, Security, is_username};

use crate::access::{CannotCreate, make_account};
use crate::api::ApiError;
use crate::app::App;
use crate::names;
use crate::ops::mail::{Mail, Pending, TooMuchMail, is_address};
use crate::ops::passwords::MAX_PASSWORD_BYTES;
use crate::ops::secret;

/// How long a code that proves an address is good.
pub const VERIFY_WITHIN: Duration = Duration::hours(24);
/// How long a code that sets a new password is good.
pub const RESET_WITHIN: Duration = Duration::minutes(30);
/// Random bytes in a code.
const CODE_BYTES: usize = 16;

/// Why an address can't be somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    Format,
    /// The administrator takes none of that host.
    Banned,
    Used,
    /// Its host takes no mail, as far as one can find out.
    NoMail,
}

/// Whether an address can be somebody's.
pub async fn available(app: &App, address: &str) -> Result<Result<(), Unavailable>, ApiError> {
    if !is_address(address) {
        return Ok(Err(Unavailable::Format));
    }
    let settings = settings(app).await?;
    let host = address.rsplit_once('@').map_or("", |(_, host)| host).to_lowercase();
    let is_of = |banned: &str| {
        let banned = banned.to_lowercase();
        host == banned || host.strip_suffix(&banned).is_some_and(|rest| rest.ends_with('.'))
    };
    if settings.list("bannedEmailDomains").any(|banned| !banned.is_empty() && is_of(banned)) {
        return Ok(Err(Unavailable::Banned));
    }
    if app.core.post.holder(address).await?.is_some() {
        return Ok(Err(Unavailable::Used));
    }
    if !settings.flag("enableActiveEmailValidation") {
        return Ok(Ok(()));
    }
    let takes = names::takes_mail(app.names.as_ref(), &host).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "it can't be found out whether a host takes mail, so no address there is taken");
        false
    });
    Ok(if takes { Ok(()) } else { Err(Unavailable::NoMail) })
}

/// Sets where somebody is reached, and asks them there to prove it.
pub async fn move_to(app: &App, user: UserId, address: Option<&str>) -> Result<(), ApiError> {
    app.core.post.set_address(user, address).await?;
    let Some(address) = address else { return Ok(()) };
    let code = code()?;
    let lookup = app.core.post.lookup(address);
    let name = format!("verify {code}");
    app.core.challenges.ask(&name, Some(user), lookup.as_bytes(), VERIFY_WITHIN, app.now()).await?;
    let text = format!(
        "To confirm that this is your address, open:\n\n{}/verify-email/{code}\n\nIf you did not ask for this, \
         there is nothing to do.\n",
        app.core.origin
    );
    write_to(app, Some(user), address, "Please confirm your address", text).await
}

/// An address is proven by the code that was sent there; whose it is. None when the code is wrong or too old.
pub async fn verify(app: &App, code: &str) -> Result<Option<UserId>, ApiError> {
    let Some((Some(user), lookup)) = app.core.challenges.take(&format!("verify {code}"), app.now()).await?
    else {
        return Ok(None);
    };
    if !app.core.post.verify(user, &String::from_utf8_lossy(&lookup)).await? {
        return Ok(None);
    }
    let changed = app.commands.security_changed(app.by_user(Some(user)), user, Security::Mail).await;
    app.shown(changed.map_err(ApiError::internal)?).await;
    Ok(Some(user))
}

/// Sends a code to set a new password with, if this is the proven address of the account of that name. Whether
/// it is, nobody is told.
pub async fn request_reset(app: &App, username: &str, address: &str) -> Result<(), ApiError> {
    if !is_username(username) || !is_address(address) {
        return Ok(());
    }
    let holder = app.core.post.holder(address).await?;
    let account = app.core.accounts.named(username).await?;
    let Some(account) = account.filter(|account| holder == Some(account.id) && !account.is_deleted) else {
        return Ok(());
    };
    let code = code()?;
    app.core.challenges.ask(&format!("reset {code}"), Some(account.id), &[], RESET_WITHIN, app.now()).await?;
    let text = format!(
        "To set a new password for @{}, open within half an hour:\n\n{}/reset-password/{code}\n\nIf you did not \
         ask for this, there is nothing to do: your password stays.\n",
        account.username, app.core.origin
    );
    write_to(app, Some(account.id), address, "A new password", text).await
}

/// Sets a new password by a code; false when the code is wrong or too old.
pub async fn reset(app: &App, code: &str, password: &str) -> Result<bool, ApiError> {
    // First, so that a password that can't be one doesn't cost the code.
    let hash = app.core.passwords.hash(password).await?;
    let now = app.now();
    let Some((Some(user), _)) = app.core.challenges.take(&format!("reset {code}"), now).await? else {
        return Ok(false);
    };
    app.core.passwords.set_hash(user, &hash, now).await?;
    app.core.browsers.close_all(user).await?;
    let changed = app.commands.security_changed(app.by_user(Some(user)), user, Security::Password).await;
    app.shown(changed.map_err(ApiError::internal)?).await;
    Ok(true)
}

/// Begins an account that is made when its address is proven.
pub async fn begin_sign_up(
    app: &App,
    username: &str,
    password: &str,
    address: &str,
) -> Result<(), CannotCreate> {
    if !is_username(username) {
        return Err(CannotCreate::Refused(CannotSignUp::InvalidUsername));
    }
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        return Err(CannotCreate::Password);
    }
    if !app.commands.username_is_free(username).await.map_err(ApiError::internal)? {
        return Err(CannotCreate::Refused(CannotSignUp::Taken));
    }
    let pending = Pending {
        username: username.to_owned(),
        address: address.to_owned(),
        password_hash: app.core.passwords.hash(password).await.map_err(ApiError::from)?,
    };
    let code = code()?;
    app.core.post.begin_sign_up(&code, &pending, app.now()).await.map_err(ApiError::from)?;
    let text = format!(
        "To finish making your account @{username}, open within a day:\n\n{}/signup-complete/{code}\n\nIf you \
         did not ask for this, there is nothing to do.\n",
        app.core.origin
    );
    Ok(write_to(app, None, address, "Please finish making your account", text).await?)
}

/// Makes the account that waits for this code; none when the code is wrong or too old.
pub async fn end_sign_up(app: &App, code: &str) -> Result<Option<UserId>, CannotCreate> {
    let pending = app.core.post.end_sign_up(code, app.now()).await.map_err(ApiError::from)?;
    let Some(pending) = pending else { return Ok(None) };
    let user = make_account(app, AskedBy::Proven, &pending.username, &pending.password_hash).await?;
    app.core.post.set_address(user, Some(&pending.address)).await.map_err(ApiError::from)?;
    let lookup = app.core.post.lookup(&pending.address);
    app.core.post.verify(user, &lookup).await.map_err(ApiError::from)?;
    Ok(Some(user))
}

/// Has a letter sent, if this server sends any.
pub async fn write_to(
    app: &App,
    user: Option<UserId>,
    address: &str,
    subject: &str,
    text: String,
) -> Result<(), ApiError> {
    let settings = settings(app).await?;
    if !settings.flag("enableEmail") {
        return Ok(());
    }
    let server = settings.text("name").unwrap_or(app.config.host());
    let mail = Mail {
        to: address.to_owned(),
        subject: format!("{server}: {subject}"),
        text: format!("{text}\n-- \n{server}\n{}\n", app.core.origin),
    };
    let now = app.now();
    Ok(app.core.post.send(app.ids.at(now), user, &mail, now).await?)
}

async fn settings(app: &App) -> Result<Settings, ApiError> {
    Ok(projections::instance::load(&app.pool).await?.settings)
}

fn code() -> Result<String, ApiError> {
    let bytes: [u8; CODE_BYTES] = secret::random().map_err(ApiError::internal)?;
    Ok(secret::hex(&bytes))
}

impl From<TooMuchMail> for ApiError {
    fn from(refusal: TooMuchMail) -> Self {
        ApiError::internal(refusal)
    }
}
