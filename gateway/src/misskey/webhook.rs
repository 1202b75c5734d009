//! `i/webhooks/*`.

use std::collections::BTreeMap;

use axum::http::HeaderValue;
use domain::ids;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::api::param::{AnyId, Id, Text};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::deliver::{HookMessage, send_hook};
use crate::json::user::user_lite;
use crate::json::{Look, Time};
use crate::ops::webhooks::{Definition, TooManyWebhooks, Webhook};

/// The longest name of a webhook, and address and secret, in characters.
const MAX_NAME_CHARS: usize = 100;
const MAX_URL_CHARS: usize = 1_024;
const MAX_SECRET_CHARS: usize = 1_024;
/// Tries at the same time; more are refused.
const TRIES_AT_ONCE: usize = 16;

/// Of what a webhook may be told.
const EVENTS: &[&str] = &["mention", "unfollow", "follow", "followed", "note", "reply", "renote", "reaction"];

static TRIES: Semaphore = Semaphore::const_new(TRIES_AT_ONCE);

/// Something of which a webhook may be told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("enum" = EVENTS))]
struct Happening(String);

/// A webhook.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserWebhook {
    id: Id<AnyId>,
    user_id: Id<ids::UserId>,
    name: String,
    on: Vec<String>,
    url: String,
    secret: String,
    active: bool,
    latest_sent_at: Option<Time>,
    /// A status of HTTP, or 1 when nothing was answered.
    latest_status: Option<i32>,
}

impl From<Webhook> for UserWebhook {
    fn from(hook: Webhook) -> Self {
        Self {
            id: Id(AnyId(hook.id)),
            user_id: Id(hook.user),
            name: hook.definition.name,
            on: hook.told_of,
            url: hook.definition.url,
            secret: hook.definition.secret,
            active: hook.active,
            latest_sent_at: hook.last_sent_at.map(Time),
            latest_status: hook.last_status,
        }
    }
}

/// Make a webhook.
#[derive(Deserialize, JsonSchema)]
pub struct Create {
    name: Text<1, MAX_NAME_CHARS>,
    url: Text<1, MAX_URL_CHARS>,
    #[serde(default = "no_secret")]
    secret: Text<0, MAX_SECRET_CHARS>,
    on: Vec<Happening>,
}

fn no_secret() -> Text<0, MAX_SECRET_CHARS> {
    Text(String::new())
}

const TOO_MANY_WEBHOOKS: ErrorDef = ErrorDef::new(
    "TOO_MANY_WEBHOOKS",
    "You cannot create webhook any more.",
    "87a9bb19-111e-4e37-81d3-a3e7426453b0",
);

impl Endpoint for Create {
    const META: Meta = Meta::new("i/webhooks/create").kind("write:account").errors(&[TOO_MANY_WEBHOOKS]);
    type Caller = SignedIn;
    type Reply = UserWebhook;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserWebhook, ApiError> {
        check_secret(&self.secret.0)?;
        let hook = Webhook {
            id: app.ids.at(app.now()),
            user: me.id(),
            definition: Definition { name: self.name.0, url: self.url.0, secret: self.secret.0 },
            told_of: names(self.on),
            active: true,
            last_sent_at: None,
            last_status: None,
        };
        let limit = i64::try_from(me.account.limit("webhookLimit")).unwrap_or(i64::MAX);
        app.core.webhooks.create(&hook, limit).await?;
        Ok(hook.into())
    }
}

/// List the webhooks of the caller.
#[derive(Deserialize, JsonSchema)]
pub struct List {}

impl Endpoint for List {
    const META: Meta = Meta::new("i/webhooks/list").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<UserWebhook>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<UserWebhook>, ApiError> {
        let hooks = app.core.webhooks.of(me.id()).await?;
        Ok(hooks.into_iter().map(UserWebhook::from).collect())
    }
}

/// Show a webhook of the caller.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    webhook_id: Id<AnyId>,
}

const SHOW_NO_SUCH_WEBHOOK: ErrorDef =
    ErrorDef::new("NO_SUCH_WEBHOOK", "No such webhook.", "50f614d9-3047-4f7e-90d8-ad6b2d5fb098");

impl Endpoint for Show {
    const META: Meta = Meta::new("i/webhooks/show").kind("read:account").errors(&[SHOW_NO_SUCH_WEBHOOK]);
    type Caller = SignedIn;
    type Reply = UserWebhook;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserWebhook, ApiError> {
        let hook = own(app, &me, self.webhook_id.0.0).await?;
        Ok(hook.ok_or(SHOW_NO_SUCH_WEBHOOK)?.into())
    }
}

/// Change a webhook; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    webhook_id: Id<AnyId>,
    name: Option<Text<1, MAX_NAME_CHARS>>,
    url: Option<Text<1, MAX_URL_CHARS>>,
    secret: Option<Text<0, MAX_SECRET_CHARS>>,
    on: Option<Vec<Happening>>,
    active: Option<bool>,
}

const UPDATE_NO_SUCH_WEBHOOK: ErrorDef =
    ErrorDef::new("NO_SUCH_WEBHOOK", "No such webhook.", "fb0fea69-da18-45b1-828d-bd4fd1612518");
const WEBHOOK_LIMIT_EXCEEDED: ErrorDef = ErrorDef::new(
    "WEBHOOK_LIMIT_EXCEEDED",
    "You cannot update the webhook because you have exceeded the limit of webhooks.",
    "a261cb2d-867d-47a8-a743-8bbd2c1438b1",
);

impl Endpoint for Update {
    const META: Meta = Meta::new("i/webhooks/update")
        .kind("write:account")
        .errors(&[UPDATE_NO_SUCH_WEBHOOK, WEBHOOK_LIMIT_EXCEEDED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let hooks = app.core.webhooks.of(me.id()).await?;
        let count = hooks.len();
        let hook = hooks.into_iter().find(|hook| hook.id == self.webhook_id.0.0);
        let mut hook = hook.ok_or(UPDATE_NO_SUCH_WEBHOOK)?;
        if count > me.account.limit("webhookLimit") {
            return Err(WEBHOOK_LIMIT_EXCEEDED.into());
        }
        let Definition { name, url, secret } = &mut hook.definition;
        *name = self.name.map_or_else(|| std::mem::take(name), |new| new.0);
        *url = self.url.map_or_else(|| std::mem::take(url), |new| new.0);
        *secret = self.secret.map_or_else(|| std::mem::take(secret), |new| new.0);
        check_secret(secret)?;
        hook.told_of = self.on.map_or(hook.told_of, names);
        hook.active = self.active.unwrap_or(hook.active);
        Ok(app.core.webhooks.update(&hook).await?)
    }
}

/// Delete a webhook. What it was still to be told it is not.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    webhook_id: Id<AnyId>,
}

const DELETE_NO_SUCH_WEBHOOK: ErrorDef =
    ErrorDef::new("NO_SUCH_WEBHOOK", "No such webhook.", "bae73e5a-5522-4965-ae19-3a8688e71d82");

impl Endpoint for Delete {
    const META: Meta = Meta::new("i/webhooks/delete").kind("write:account").errors(&[DELETE_NO_SUCH_WEBHOOK]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let deleted = app.core.webhooks.delete(me.id(), self.webhook_id.0.0).await?;
        if deleted { Ok(()) } else { Err(DELETE_NO_SUCH_WEBHOOK.into()) }
    }
}

/// Try a webhook with something made up, once, whether it is active and told of that or not.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Test {
    webhook_id: Id<AnyId>,
    #[serde(rename = "type")]
    what: Happening,
    #[serde(default, rename = "override")]
    instead: Instead,
}

/// What to try instead of what is kept.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
struct Instead {
    url: Option<Text<0, MAX_URL_CHARS>>,
    secret: Option<Text<0, MAX_SECRET_CHARS>>,
}

const TEST_NO_SUCH_WEBHOOK: ErrorDef =
    ErrorDef::new("NO_SUCH_WEBHOOK", "No such webhook.", "0c52149c-e913-18f8-5dc7-74870bfe0cf9");

impl Endpoint for Test {
    const META: Meta = Meta::new("i/webhooks/test")
        .kind("read:account")
        .secure()
        .limit(60, 15 * per::MINUTE)
        .errors(&[TEST_NO_SUCH_WEBHOOK]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let mut hook = own(app, &me, self.webhook_id.0.0).await?.ok_or(TEST_NO_SUCH_WEBHOOK)?;
        if let Some(url) = self.instead.url.filter(|url| !url.0.is_empty()) {
            hook.definition.url = url.0;
        }
        if let Some(secret) = self.instead.secret {
            check_secret(&secret.0)?;
            hook.definition.secret = secret.0;
        }
        let Ok(slot) = TRIES.try_acquire() else { return Ok(()) };
        let body = made_up(app, &me, &self.what.0).await?;
        let (app, event, now) = (app.clone(), app.ids.at(app.now()), app.now());
        tokio::spawn(async move {
            let message = HookMessage { event, at_ms: now.timestamp_millis(), what: &self.what.0, body };
            if let Err(cause) = send_hook(&app, &hook, &message).await {
                tracing::debug!(%cause, "a webhook is tried in vain");
            }
            drop(slot);
        });
        Ok(())
    }
}

impl From<TooManyWebhooks> for ApiError {
    fn from(TooManyWebhooks: TooManyWebhooks) -> Self {
        TOO_MANY_WEBHOOKS.into()
    }
}

async fn own(app: &App, me: &SignedIn, id: Uuid) -> Result<Option<Webhook>, ApiError> {
    let hook = app.core.webhooks.get(id).await?;
    Ok(hook.filter(|hook| hook.user == me.id()))
}

fn names(on: Vec<Happening>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(EVENTS.len());
    for Happening(name) in on {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// It is sent as a header.
fn check_secret(secret: &str) -> Result<(), ApiError> {
    match HeaderValue::from_bytes(secret.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(ApiError::invalid_param("#/properties/secret", "must be one line")),
    }
}

/// What would be told: the caller as the other person, and a note that is none.
async fn made_up(app: &App, me: &SignedIn, what: &str) -> Result<Value, ApiError> {
    let world = app.hydrate(projections::Wanted::users([me.id()]), Some(me.id())).await?;
    let look = Look::of(app);
    let user = world.user(me.id()).map(|row| user_lite(&look, row));
    let user = serde_json::to_value(user).map_err(ApiError::internal)?;
    let nothing: BTreeMap<String, i64> = BTreeMap::new();
    let note = json!({
        "id": Id(AnyId(app.ids.at(app.now()))), "createdAt": Time(app.now()), "userId": me.id(), "user": user,
        "text": "This is a test note.", "cw": null, "visibility": "public", "localOnly": true,
        "reactionAcceptance": null, "renoteCount": 0, "repliesCount": 0, "reactionCount": 0,
        "reactions": nothing, "reactionEmojis": nothing, "fileIds": [], "files": [], "replyId": null,
        "renoteId": null,
    });
    Ok(match what {
        "follow" | "followed" | "unfollow" => json!({ "user": user }),
        "reaction" => json!({ "note": note, "user": user, "reaction": "👍" }),
        _ => json!({ "note": note }),
    })
}
