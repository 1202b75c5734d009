//! Mail: one's own address (`i/update-email`, `verify-email`, `email-address/available`), a forgotten password
//! (`request-reset-password`, `reset-password`), and what administrators write (`admin/send-email`).

use domain::user::Security;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::{Code, authentication_failed, changed, code, incorrect_password};
use super::user::myself;
use crate::access::{self, Unconfirmed};
use crate::api::param::Text;
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, Moderator, SignedIn, per};
use crate::app::App;
use crate::json::user::MeDetailed;
use crate::letters::{self, Unavailable};
use crate::ops::mail::{MAX_ADDRESS_BYTES, Mail, is_address};
use crate::ops::passwords::MAX_PASSWORD_BYTES;
use crate::ops::security;

/// The longest code that is sent back, in characters.
const MAX_CODE_CHARS: usize = 64;
/// The longest subject and text of a mail that is written here, in characters.
const MAX_SUBJECT_CHARS: usize = 256;
const MAX_TEXT_CHARS: usize = 64 * 1_024;

/// Say where the caller is reached; `null` for nowhere.
#[derive(Deserialize, JsonSchema)]
pub struct UpdateEmail {
    password: Text<0, MAX_PASSWORD_BYTES>,
    email: Option<Text<0, MAX_ADDRESS_BYTES>>,
    token: Option<Code>,
}

const UPDATE: Unconfirmed = Unconfirmed {
    password: incorrect_password("e54c1d7e-e7d6-4103-86b6-0a95069b4ad3"),
    code: authentication_failed("ef9323ea-8451-4f7a-8f35-4b1ee014d9b7"),
};
const UNAVAILABLE: ErrorDef =
    ErrorDef::new("UNAVAILABLE", "Unavailable email address.", "a2defefb-f220-8849-0af6-17f816099323");
const EMAIL_REQUIRED: ErrorDef =
    ErrorDef::new("EMAIL_REQUIRED", "Email address is required.", "324c7a88-59f2-492f-903f-89134f93e47e");

impl Endpoint for UpdateEmail {
    const META: Meta = Meta::new("i/update-email").secure().limit(3, per::HOUR).errors(&[
        UPDATE.password,
        UPDATE.code,
        UNAVAILABLE,
        EMAIL_REQUIRED,
    ]);
    type Caller = SignedIn;
    type Reply = MeDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<MeDetailed, ApiError> {
        let shown = (self.password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/update-email", shown, UPDATE).await?;
        let address = self.email.as_ref().map(|address| address.0.as_str());
        match address {
            Some(address) => letters::available(app, address).await?.map_err(|_| UNAVAILABLE)?,
            None => {
                let settings = projections::instance::load(&app.pool).await?.settings;
                if settings.flag("emailRequiredForSignup") {
                    return Err(EMAIL_REQUIRED.into());
                }
            }
        }
        letters::move_to(app, me.id(), address).await?;
        changed(app, &me, Security::Mail).await?;
        myself(app, &me.account, me.app.is_none()).await
    }
}

/// Prove an address with the code that was sent there.
#[derive(Deserialize, JsonSchema)]
pub struct Verify {
    code: Text<0, MAX_CODE_CHARS>,
}

const NO_SUCH_CODE: ErrorDef =
    ErrorDef::new("NO_SUCH_CODE", "No such code.", "97c1f576-e4b8-4b8a-a6dc-9cb65e7f6f85");

impl Endpoint for Verify {
    const META: Meta = Meta::new("verify-email").limit(60, per::HOUR).errors(&[NO_SUCH_CODE]);
    type Caller = Anyone;
    type Reply = ();

    async fn handle(self, app: &App, _: Anyone) -> Result<(), ApiError> {
        letters::verify(app, &self.code.0).await?.ok_or(NO_SUCH_CODE)?;
        Ok(())
    }
}

/// Ask whether an address can be somebody's.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Available {
    email_address: Text<0, MAX_ADDRESS_BYTES>,
}

/// Whether an address can be somebody's, and why not: `format`, `banned`, `used`, or `mx` where its host takes no mail.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Availability {
    available: bool,
    reason: Option<&'static str>,
}

impl Endpoint for Available {
    // Misskey has no limit here; what tells who is here needs one.
    const META: Meta = Meta::new("email-address/available").limit(60, per::HOUR);
    type Caller = Anyone;
    type Reply = Availability;

    async fn handle(self, app: &App, _: Anyone) -> Result<Availability, ApiError> {
        let reason = letters::available(app, &self.email_address.0).await?.err().map(|why| match why {
            Unavailable::Format => "format",
            Unavailable::Banned => "banned",
            Unavailable::Used => "used",
            Unavailable::NoMail => "mx",
        });
        Ok(Availability { available: reason.is_none(), reason })
    }
}

/// Ask for a mail by which a new password is set. Whether there is such an account, nobody is told.
#[derive(Deserialize, JsonSchema)]
pub struct RequestReset {
    username: String,
    email: Text<0, MAX_ADDRESS_BYTES>,
}

impl Endpoint for RequestReset {
    const META: Meta = Meta::new("request-reset-password").limit(3, per::HOUR);
    type Caller = Anyone;
    type Reply = ();

    async fn handle(self, app: &App, _: Anyone) -> Result<(), ApiError> {
        letters::request_reset(app, &self.username, &self.email.0).await
    }
}

/// Set a new password with the code of a mail.
#[derive(Deserialize, JsonSchema)]
pub struct Reset {
    token: Text<0, MAX_CODE_CHARS>,
    password: Text<1, MAX_PASSWORD_BYTES>,
}

const NO_SUCH_TOKEN: ErrorDef = ErrorDef::new(
    "NO_SUCH_TOKEN",
    "The code is wrong, was used before, or is too old.",
    "2a0f6f0c-6d4b-49d3-9a51-3d3f5d1f7c5e",
);

impl Endpoint for Reset {
    // Misskey has no limit here; what costs a password's hash and may be asked by anybody needs one.
    const META: Meta = Meta::new("reset-password").limit(30, per::HOUR).errors(&[NO_SUCH_TOKEN]);
    type Caller = Anyone;
    type Reply = ();

    async fn handle(self, app: &App, _: Anyone) -> Result<(), ApiError> {
        let done = letters::reset(app, &self.token.0, &self.password.0).await?;
        if done { Ok(()) } else { Err(NO_SUCH_TOKEN.into()) }
    }
}

/// Write a mail to somebody, here or elsewhere.
#[derive(Deserialize, JsonSchema)]
pub struct Send {
    to: Text<1, MAX_ADDRESS_BYTES>,
    subject: Text<0, MAX_SUBJECT_CHARS>,
    text: Text<0, MAX_TEXT_CHARS>,
}

const NOT_AN_ADDRESS: ErrorDef =
    ErrorDef::new("INVALID_ADDRESS", "This can't be an address.", "d9bb6b5c-0b73-4ff3-8ba9-7f7d5d9ab0c4");

impl Endpoint for Send {
    const META: Meta = Meta::new("admin/send-email").kind("write:admin:send-email").errors(&[NOT_AN_ADDRESS]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, _: Moderator) -> Result<(), ApiError> {
        if !is_address(&self.to.0) {
            return Err(NOT_AN_ADDRESS.into());
        }
        let settings = projections::instance::load(&app.pool).await?.settings;
        if !settings.flag("enableEmail") {
            return Ok(());
        }
        let mail = Mail { to: self.to.0, subject: self.subject.0, text: self.text.0 };
        let now = app.now();
        let user = app.core.post.holder(&mail.to).await?;
        Ok(app.core.post.send(app.ids.at(now), user, &mail, now).await?)
    }
}

/// Ask how the account with this address and password gets in.
#[derive(Deserialize, JsonSchema)]
pub struct SecurityInfo {
    email: Text<0, MAX_ADDRESS_BYTES>,
    password: Text<0, MAX_PASSWORD_BYTES>,
}

/// How an account gets in; all false when the address or the password is wrong.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SecurityFacts {
    two_factor_enabled: bool,
    use_password_less_login: bool,
    security_keys: bool,
}

impl Endpoint for SecurityInfo {
    const META: Meta = Meta::new("users/get-security-info").limit(30, per::HOUR);
    type Caller = Anyone;
    type Reply = SecurityFacts;

    async fn handle(self, app: &App, _: Anyone) -> Result<SecurityFacts, ApiError> {
        let holder = app.core.post.holder(&self.email.0).await?;
        let right = app.core.passwords.verify(holder, &self.password.0, app.now()).await?;
        let Some(user) = holder.filter(|_| right) else { return Ok(SecurityFacts::default()) };
        let security = security::load(&app.pool, &[user]).await?.remove(&user).unwrap_or_default();
        Ok(SecurityFacts {
            two_factor_enabled: security.two_factor,
            use_password_less_login: security.password_less,
            security_keys: security.passkeys,
        })
    }
}
