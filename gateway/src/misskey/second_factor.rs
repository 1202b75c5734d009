//! The second factor: `i/2fa/*`. One-time codes, backup codes and passkeys.

use std::io::Cursor;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use domain::user::Security;
use png::{BitDepth, ColorType, Encoder};
use qrcode::{Color, QrCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::form_urlencoded::byte_serialize;

use super::account::{CONFIRMATIONS, Code, authentication_failed, changed, code, incorrect_password};
use crate::access::{self, Unconfirmed};
use crate::api::param::Text;
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::ops::passkeys::{CHALLENGE_BYTES, Passkey, PasskeyError, Question};
use crate::ops::passwords::MAX_PASSWORD_BYTES;
use crate::ops::second_factor::{DIGITS, STEP_SECONDS};
use crate::webauthn::{ALGORITHMS, MAX_CREDENTIAL_ID_BYTES, Registration, Site};

/// The longest name of a passkey, in characters.
const MAX_NAME_CHARS: usize = 30;
/// The longest id of a passkey as text, in characters.
const MAX_ID_CHARS: usize = MAX_CREDENTIAL_ID_BYTES.div_ceil(3) * 4;
/// How long a browser asks its person, in milliseconds.
pub const ASK_FOR_MS: u32 = 60_000;
/// One square of the picture, and the white around it, which readers need.
const QR_SQUARE_PIXELS: usize = 4;
const QR_MARGIN_SQUARES: usize = 4;

/// Begin with one-time codes: a secret for the caller's app. It is in force when a code of it is shown.
#[derive(Deserialize, JsonSchema)]
pub struct Register {
    password: Text<0, MAX_PASSWORD_BYTES>,
    token: Option<Code>,
}

/// A secret for an app that makes one-time codes.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Proposed {
    /// A picture of the address.
    qr: String,
    url: String,
    secret: String,
    label: String,
    issuer: String,
}

const REGISTER: Unconfirmed = Unconfirmed {
    password: incorrect_password("78d6c839-20c9-4c66-b90a-fc0542168b48"),
    code: authentication_failed("e428f177-c6ae-4e91-9c7e-334b1836f9aa"),
};

impl Endpoint for Register {
    const META: Meta = Meta::new("i/2fa/register")
        .secure()
        .limit(CONFIRMATIONS.0, CONFIRMATIONS.1)
        .errors(&[REGISTER.password, REGISTER.code]);
    type Caller = SignedIn;
    type Reply = Proposed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Proposed, ApiError> {
        let shown = (self.password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/2fa/register", shown, REGISTER).await?;
        let secret = app.core.second_factors.propose(me.id()).await.map_err(ApiError::internal)?;
        let (label, issuer) = (me.account.username.clone(), host_with_port(app));
        let encoded: String = byte_serialize(issuer.as_bytes()).collect();
        let url = format!(
            "otpauth://totp/{encoded}:{label}?issuer={encoded}&secret={secret}&algorithm=SHA1&digits={DIGITS}\
             &period={STEP_SECONDS}"
        );
        let picture = qr(&url).map_err(ApiError::internal)?;
        let qr = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(picture));
        Ok(Proposed { qr, url, secret, label, issuer })
    }
}

/// The host of the server as people see it.
fn host_with_port(app: &App) -> String {
    let origin = &app.core.origin;
    origin.split_once("://").map_or(origin.as_str(), |(_, host)| host).to_owned()
}

/// A text as a picture that a phone can read.
fn qr(text: &str) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let code = QrCode::new(text)?;
    let squares = code.width() + 2 * QR_MARGIN_SQUARES;
    let width = squares * QR_SQUARE_PIXELS;
    let mut pixels = vec![u8::MAX; width * width];
    for (at, pixel) in pixels.iter_mut().enumerate() {
        let place = |pixel: usize| (pixel / QR_SQUARE_PIXELS).checked_sub(QR_MARGIN_SQUARES);
        let square = place(at % width).zip(place(at / width));
        let is_dark =
            square.is_some_and(|(x, y)| x < code.width() && y < code.width() && code[(x, y)] == Color::Dark);
        if is_dark {
            *pixel = 0;
        }
    }
    let mut png = Cursor::new(Vec::new());
    let width = u32::try_from(width)?;
    let mut encoder = Encoder::new(&mut png, width, width);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(png.into_inner())
}

/// Put the one-time codes in force by showing one. The backup codes are told once.
#[derive(Deserialize, JsonSchema)]
pub struct Done {
    token: Code,
}

/// Codes that let in once each.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct BackupCodes {
    backup_codes: Vec<String>,
}

const NOT_VERIFIED: ErrorDef =
    ErrorDef::new("NOT_VERIFIED", "The code is wrong.", "7d6c3bd1-20ac-4f7d-b3b6-5c2d6f9f7a11");

impl Endpoint for Done {
    const META: Meta =
        Meta::new("i/2fa/done").secure().limit(CONFIRMATIONS.0, CONFIRMATIONS.1).errors(&[NOT_VERIFIED]);
    type Caller = SignedIn;
    type Reply = BackupCodes;

    async fn handle(self, app: &App, me: SignedIn) -> Result<BackupCodes, ApiError> {
        let enabled = app.core.second_factors.enable(me.id(), &self.token.0, app.now()).await;
        let backup_codes = enabled.map_err(ApiError::internal)?.ok_or(NOT_VERIFIED)?;
        changed(app, &me, Security::CodesOn).await?;
        Ok(BackupCodes { backup_codes })
    }
}

/// Give up the second factor: the codes, the backup codes and the passkeys.
#[derive(Deserialize, JsonSchema)]
pub struct Unregister {
    password: Text<0, MAX_PASSWORD_BYTES>,
    token: Option<Code>,
}

const UNREGISTER: Unconfirmed = Unconfirmed {
    password: incorrect_password("7add0395-9901-4098-82f9-4f67af65f775"),
    code: authentication_failed("1b99d9c1-629c-41f9-9315-b27ee876f498"),
};

impl Endpoint for Unregister {
    const META: Meta = Meta::new("i/2fa/unregister")
        .secure()
        .limit(CONFIRMATIONS.0, CONFIRMATIONS.1)
        .errors(&[UNREGISTER.password, UNREGISTER.code]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let shown = (self.password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/2fa/unregister", shown, UNREGISTER).await?;
        app.core.second_factors.disable(me.id()).await?;
        changed(app, &me, Security::CodesOff).await
    }
}

/// Begin with a passkey: the question for the caller's authenticator.
#[derive(Deserialize, JsonSchema)]
pub struct RegisterKey {
    password: Text<0, MAX_PASSWORD_BYTES>,
    token: Option<Code>,
}

const REGISTER_KEY: Unconfirmed = Unconfirmed {
    password: incorrect_password("38769596-efe2-4faf-9bec-abbb3f2cd9ba"),
    code: authentication_failed("a7628591-668b-47b2-919f-d986b22af06a"),
};
const NO_CODES_YET: ErrorDef =
    ErrorDef::new("TWO_FACTOR_NOT_ENABLED", "2fa not enabled.", "bf32b864-449b-47b8-974e-f9a5468546f1");

impl Endpoint for RegisterKey {
    const META: Meta = Meta::new("i/2fa/register-key")
        .secure()
        .limit(CONFIRMATIONS.0, CONFIRMATIONS.1)
        .errors(&[REGISTER_KEY.password, REGISTER_KEY.code, NO_CODES_YET]);
    type Caller = SignedIn;
    type Reply = Map<String, Value>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Map<String, Value>, ApiError> {
        let shown = (self.password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/2fa/register-key", shown, REGISTER_KEY).await?;
        if !app.core.second_factors.of(me.id()).await?.codes {
            return Err(NO_CODES_YET.into());
        }
        let keys = app.core.passkeys.list(me.id()).await?;
        let asked = app.core.passkeys.ask(&Question::Register(me.id()), app.now()).await;
        let challenge = asked.map_err(ApiError::internal)?;
        let people = projections::user::by_ids(&app.pool, &[me.id()]).await?;
        let name = people.get(&me.id()).and_then(|row| row.profile.name.clone());
        let settings = projections::instance::load(&app.pool).await?.settings;
        let server = settings.text("name").map(str::to_owned).unwrap_or_else(|| host_with_port(app));
        let options = json!({
            "challenge": BASE64_URL_SAFE_NO_PAD.encode(challenge),
            "rp": { "name": server, "id": app.core.passkeys.site().id },
            "user": {
                "id": BASE64_URL_SAFE_NO_PAD.encode(me.id().to_string()),
                "name": me.account.username,
                "displayName": name.unwrap_or_default(),
            },
            "pubKeyCredParams":
                ALGORITHMS.map(|algorithm| json!({ "alg": algorithm, "type": "public-key" })),
            "timeout": ASK_FOR_MS,
            "attestation": "none",
            "excludeCredentials": keys.iter().map(descriptor).collect::<Vec<_>>(),
            "authenticatorSelection": {
                "residentKey": "required",
                "userVerification": "preferred",
                "requireResidentKey": true,
            },
            "extensions": { "credProps": true },
            "hints": [],
        });
        match options {
            Value::Object(options) => Ok(options),
            _ => Ok(Map::new()),
        }
    }
}

/// A passkey as a browser looks for it.
fn descriptor(passkey: &Passkey) -> Value {
    json!({
        "id": BASE64_URL_SAFE_NO_PAD.encode(&passkey.id),
        "type": "public-key",
        "transports": passkey.transports,
    })
}

/// The question for an authenticator of somebody who signs in; of anybody without keys.
pub fn question(site: &Site, challenge: &[u8], keys: &[Passkey]) -> Value {
    let mut question = json!({
        "rpId": site.id,
        "challenge": BASE64_URL_SAFE_NO_PAD.encode(challenge),
        "timeout": ASK_FOR_MS,
        "userVerification": "preferred",
    });
    if !keys.is_empty() {
        question["allowCredentials"] = keys.iter().map(descriptor).collect();
    }
    debug_assert_eq!(challenge.len(), CHALLENGE_BYTES);
    question
}

/// Keep a passkey: what the caller's authenticator answers.
#[derive(Deserialize, JsonSchema)]
pub struct KeyDone {
    password: Text<0, MAX_PASSWORD_BYTES>,
    token: Option<Code>,
    name: Text<1, MAX_NAME_CHARS>,
    /// As browsers write a `PublicKeyCredential` as JSON.
    credential: Map<String, Value>,
}

/// A passkey with its name.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Kept {
    id: String,
    name: String,
}

const KEY_DONE: Unconfirmed = Unconfirmed {
    password: incorrect_password("0d7ec6d2-e652-443e-a7bf-9ee9a0cd77b0"),
    code: authentication_failed("7b7b1e88-c569-4873-9676-25c5717ace4e"),
};
const NO_CODES: ErrorDef =
    ErrorDef::new("TWO_FACTOR_NOT_ENABLED", "2fa not enabled.", "798d6847-b1ed-4f9c-b1f9-163c42655995");
const KEY_NOT_TAKEN: ErrorDef = ErrorDef::new(
    "INVALID_CREDENTIAL",
    "The passkey can't be kept. Please begin again.",
    "5c1446f8-8ca7-4d31-9f39-656afe9c5d87",
);

impl Endpoint for KeyDone {
    const META: Meta = Meta::new("i/2fa/key-done")
        .secure()
        .limit(CONFIRMATIONS.0, CONFIRMATIONS.1)
        .errors(&[KEY_DONE.password, KEY_DONE.code, NO_CODES, KEY_NOT_TAKEN]);
    type Caller = SignedIn;
    type Reply = Kept;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Kept, ApiError> {
        let shown = (self.password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/2fa/key-done", shown, KEY_DONE).await?;
        if !app.core.second_factors.of(me.id()).await?.codes {
            return Err(NO_CODES.into());
        }
        let answer: Registration = serde_json::from_value(Value::Object(self.credential))
            .map_err(|_| ApiError::from(KEY_NOT_TAKEN))?;
        let made = app.core.passkeys.register(me.id(), &self.name.0, &answer, app.now()).await;
        let made = made.map_err(|why| match why {
            PasskeyError::Storage(cause) => cause.into(),
            why => {
                tracing::debug!(%why, "a new passkey is not taken");
                ApiError::from(KEY_NOT_TAKEN)
            }
        })?;
        changed(app, &me, Security::PasskeyAdded).await?;
        Ok(Kept { id: BASE64_URL_SAFE_NO_PAD.encode(made.id), name: self.name.0 })
    }
}

/// Forget a passkey.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoveKey {
    password: Text<0, MAX_PASSWORD_BYTES>,
    token: Option<Code>,
    credential_id: Text<0, MAX_ID_CHARS>,
}

const REMOVE_KEY: Unconfirmed = Unconfirmed {
    password: incorrect_password("141c598d-a825-44c8-9173-cfb9d92be493"),
    code: authentication_failed("724bcf94-1f52-4c57-ad40-4f7fbbf6ce87"),
};

impl Endpoint for RemoveKey {
    const META: Meta = Meta::new("i/2fa/remove-key")
        .secure()
        .limit(CONFIRMATIONS.0, CONFIRMATIONS.1)
        .errors(&[REMOVE_KEY.password, REMOVE_KEY.code]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let shown = (self.password.0.as_str(), code(&self.token));
        access::confirm(app, &me, "i/2fa/remove-key", shown, REMOVE_KEY).await?;
        // What is no id names none.
        if let Some(id) = key_id(&self.credential_id.0) {
            app.core.passkeys.remove(me.id(), &id).await?;
        }
        changed(app, &me, Security::PasskeyRemoved).await
    }
}

/// Give a passkey another name.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateKey {
    name: Text<1, MAX_NAME_CHARS>,
    credential_id: Text<0, MAX_ID_CHARS>,
}

/// Not a UUID, but what clients know.
const NO_SUCH_KEY: ErrorDef =
    ErrorDef::new("NO_SUCH_KEY", "No such key.", "f9c5467f-d492-4d3c-9a8g-a70dacc86512");
const NOT_THEIRS: ErrorDef = ErrorDef::new(
    "ACCESS_DENIED",
    "You do not have edit privilege of this key.",
    "1fb7cb09-d46a-4fff-b8df-057708cce513",
);

impl Endpoint for UpdateKey {
    const META: Meta = Meta::new("i/2fa/update-key").secure().errors(&[NO_SUCH_KEY, NOT_THEIRS]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let id = key_id(&self.credential_id.0).ok_or(NO_SUCH_KEY)?;
        match app.core.passkeys.rename(me.id(), &id, &self.name.0).await? {
            Ok(()) => changed(app, &me, Security::PasskeyRenamed).await,
            Err(Some(_)) => Err(NOT_THEIRS.into()),
            Err(None) => Err(NO_SUCH_KEY.into()),
        }
    }
}

/// Say whether a passkey alone lets in.
#[derive(Deserialize, JsonSchema)]
pub struct PasswordLess {
    value: bool,
}

/// Not a UUID, but what clients know.
const NO_SECURITY_KEY: ErrorDef =
    ErrorDef::new("NO_SECURITY_KEY", "No security key.", "f9c54d7f-d4c2-4d3c-9a8g-a70daac86512");

impl Endpoint for PasswordLess {
    const META: Meta = Meta::new("i/2fa/password-less").secure().errors(&[NO_SECURITY_KEY]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let has_key = app.core.second_factors.of(me.id()).await?.passkeys;
        if self.value && !has_key {
            return Err(NO_SECURITY_KEY.into());
        }
        if !app.core.second_factors.set_password_less(me.id(), self.value).await? {
            return Ok(());
        }
        let what = if self.value { Security::PasswordLessOn } else { Security::PasswordLessOff };
        changed(app, &me, what).await
    }
}

fn key_id(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_square_and_has_white_around_it() {
        let picture = qr("otpauth://totp/x:y?secret=ABC").unwrap();
        let mut reader = png::Decoder::new(Cursor::new(picture)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.width, info.height);
        let margin = QR_MARGIN_SQUARES * QR_SQUARE_PIXELS;
        let at = |x: usize, y: usize| pixels[y * info.width as usize + x];
        assert_eq!((at(margin - 1, margin), at(margin, margin)), (u8::MAX, 0), "the corner is dark");
    }
}
