//! Running the server: `admin/accounts/create`, `admin/meta`, `admin/update-meta`,
//! `admin/roles/update-default-policies`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use commands::AskedBy;
use domain::instance::{CannotSet, Kind, SETTINGS};
use domain::user::CannotSignUp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::VERSION;
use super::meta::fields;
use super::user::{NewAccount, Username, new_account};
use crate::access::{CannotCreate, create_account};
use crate::api::param::Text;
use crate::api::{Administrator, Anyone, ApiError, Endpoint, ErrorDef, Meta};
use crate::app::App;
use crate::mail;
use crate::ops::passwords::MAX_PASSWORD_BYTES;

/// What an administrator could have set to connect the server with others; this server keeps none of these.
const SECRETS: &[&str] = &[
    "hcaptchaSecretKey",
    "mcaptchaSecretKey",
    "recaptchaSecretKey",
    "turnstileSecretKey",
    "swPrivateKey",
    "objectStorageAccessKey",
    "objectStorageSecretKey",
    "deeplAuthKey",
    "verifymailAuthKey",
    "truemailAuthKey",
];

/// Make an account: the first one for anybody, further ones for the first.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateAccount {
    username: Username,
    password: Text<1, MAX_PASSWORD_BYTES>,
    /// This server has none.
    setup_password: Option<String>,
}

const ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "1fb7cb09-d46a-4fff-b8df-057708cce513");
const INCORRECT_INITIAL_PASSWORD: ErrorDef = ErrorDef::new(
    "INCORRECT_INITIAL_PASSWORD",
    "Initial password is incorrect.",
    "97147c55-1ae1-4f6f-91d6-e1c3e0e76d62",
);
const DUPLICATED_USERNAME: ErrorDef =
    ErrorDef::new("DUPLICATED_USERNAME", "The name is taken.", "8c9f4d0a-3c53-4f6e-a6c5-2f5e4f9a7d31");

impl Endpoint for CreateAccount {
    const META: Meta = Meta::new("admin/accounts/create").errors(&[
        ACCESS_DENIED,
        INCORRECT_INITIAL_PASSWORD,
        DUPLICATED_USERNAME,
    ]);
    type Caller = Anyone;
    type Reply = NewAccount;

    async fn handle(self, app: &App, me: Anyone) -> Result<NewAccount, ApiError> {
        let is_root = me.0.is_some_and(|me| me.account.is_root && me.app.is_none());
        if !is_root && app.commands.has_root().await.map_err(ApiError::internal)? {
            return Err(ACCESS_DENIED.into());
        }
        if self.setup_password.is_some_and(|given| !given.trim().is_empty()) {
            return Err(INCORRECT_INITIAL_PASSWORD.into());
        }
        let asked_by = if is_root { AskedBy::Administrator } else { AskedBy::Founder };
        let made = create_account(app, asked_by, &self.username.0, &self.password.0).await;
        new_account(app, made.map_err(told)?).await
    }
}

fn told(cannot: CannotCreate) -> ApiError {
    match cannot {
        CannotCreate::Refused(
            CannotSignUp::Taken | CannotSignUp::ReservedUsername | CannotSignUp::UsedBefore,
        ) => DUPLICATED_USERNAME.into(),
        CannotCreate::Refused(CannotSignUp::InvalidUsername) => {
            ApiError::invalid_param("#/properties/username/pattern", "not a user name")
        }
        CannotCreate::Refused(CannotSignUp::Closed) => ACCESS_DENIED.into(),
        CannotCreate::Password => ApiError::invalid_param("#/properties/password/maxLength", "too long"),
        CannotCreate::Failed(failed) => failed,
    }
}

/// All settings of the server.
#[derive(Deserialize, JsonSchema)]
pub struct ShowMeta {}

impl Endpoint for ShowMeta {
    const META: Meta = Meta::new("admin/meta").kind("read:admin:meta");
    type Caller = Administrator;
    type Reply = Map<String, Value>;

    async fn handle(self, app: &App, _: Administrator) -> Result<Self::Reply, ApiError> {
        let instance = projections::instance::load(&app.pool).await?;
        let (settings, origin) = (&instance.settings, app.config.url.as_str());
        let mut meta: Map<String, Value> =
            SETTINGS.iter().map(|(name, ..)| ((*name).to_owned(), settings.get(name).clone())).collect();
        meta.extend(SECRETS.iter().map(|name| ((*name).to_owned(), Value::Null)));
        // Forms of clients send back what they were given.
        let password = app.core.server_secrets.get(mail::PASSWORD).await?;
        meta.insert(mail::PASSWORD.to_owned(), password.into());
        meta.extend(fields(json!({
            "version": VERSION,
            "uri": origin,
            "repositoryUrl": settings.text("repositoryUrl").unwrap_or(origin),
            "feedbackUrl": settings.text("feedbackUrl").unwrap_or(origin),
            "inquiryUrl": null,
            // The server has a key of its own, and shows nobody what is secret of it.
            "swPublickey": settings.flag("enableServiceWorker").then_some(&app.vapid.public),
            "translatorAvailable": false,
            // The account by which the server itself acts isn't one that could be shown.
            "proxyAccountId": null,
            "policies": instance.policies.all(),
        })));
        Ok(meta)
    }
}

/// Change settings of the server; what isn't named stays.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct UpdateMeta(BTreeMap<String, Value>);

impl JsonSchema for UpdateMeta {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UpdateMeta".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let properties: Map<String, Value> =
            SETTINGS.iter().map(|(name, kind, _)| ((*name).to_owned(), schema_of(*kind))).collect();
        json_schema!({
            "type": "object",
            "description": "Change settings of the server; what isn't named stays.",
            "properties": properties,
        })
    }
}

fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Whole => json!({ "type": "integer" }),
        Kind::OptionalWhole => json!({ "type": ["integer", "null"] }),
        Kind::Text => json!({ "type": "string" }),
        Kind::OptionalText => json!({ "type": ["string", "null"] }),
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
        Kind::List => json!({ "type": ["array", "null"], "items": { "type": ["string", "object"] } }),
        Kind::Table => json!({ "type": "object" }),
    }
}

impl Endpoint for UpdateMeta {
    const META: Meta = Meta::new("admin/update-meta").kind("write:admin:meta");
    type Caller = Administrator;
    type Reply = ();

    async fn handle(self, app: &App, me: Administrator) -> Result<(), ApiError> {
        let mut asked = self.0;
        if let Some(password) = asked.remove(mail::PASSWORD) {
            if password.as_str().is_some_and(|password| password.len() > MAX_PASSWORD_BYTES) {
                return Err(ApiError::invalid_param("#/properties/smtpPass", "is too large"));
            }
            let set = app.core.server_secrets.set(mail::PASSWORD, password.as_str()).await;
            set.map_err(ApiError::internal)?;
        }
        let receipt = app.commands.change_settings(app.by(&me.0), asked).await?;
        app.shown(receipt).await;
        // What waits may go now.
        app.core.post.news.notify_one();
        Ok(())
    }
}

impl From<CannotSet> for ApiError {
    fn from(cannot: CannotSet) -> Self {
        match cannot {
            CannotSet::Wrong { name, must_be } => {
                ApiError::invalid_param(format!("#/properties/{name}"), format!("must be {must_be}"))
            }
            CannotSet::TooLarge { name } => {
                ApiError::invalid_param(format!("#/properties/{name}"), "is too large")
            }
        }
    }
}

/// Change the policies of everybody without a role; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
pub struct UpdateDefaultPolicies {
    policies: BTreeMap<String, Value>,
}

impl Endpoint for UpdateDefaultPolicies {
    const META: Meta = Meta::new("admin/roles/update-default-policies").kind("write:admin:roles");
    type Caller = Administrator;
    type Reply = ();

    async fn handle(self, app: &App, me: Administrator) -> Result<(), ApiError> {
        let receipt = app.commands.change_policies(app.by(&me.0), self.policies).await?;
        app.shown(receipt).await;
        Ok(())
    }
}
