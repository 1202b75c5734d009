//! What apps keep on the server for a person: `i/registry/…`. An app with a token of its own has its own domain.

use std::collections::BTreeMap;

use domain::ids::to_ulid;
use domain::registry::{CannotSet, Place};
use projections::registry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::param::Text;
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::Time;

/// A part of a scope.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Part(#[schemars(regex(pattern = r"^[a-zA-Z0-9_]+$"))] String);

/// A group of values.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(inline)]
struct Group {
    scope: Vec<Part>,
    /// Of an app; none for what belongs to no app.
    #[serde(default)]
    domain: Option<String>,
}

impl Group {
    /// An app only sees its own domain, whatever it says.
    fn domain(&self, me: &SignedIn) -> Option<String> {
        match &me.app {
            Some(app) => Some(to_ulid(app.id)),
            None => self.domain.clone().filter(|domain| !domain.is_empty()),
        }
    }

    fn scope(&self) -> Vec<String> {
        self.scope.iter().map(|part| part.0.clone()).collect()
    }

    fn place(&self, me: &SignedIn, key: &str) -> Place {
        Place { domain: self.domain(me), scope: self.scope(), key: key.to_owned() }
    }

    async fn values(&self, app: &App, me: &SignedIn) -> Result<Vec<(String, Value)>, ApiError> {
        let domain = self.domain(me);
        Ok(registry::of_scope(&app.pool, me.id(), domain.as_deref(), &self.scope()).await?)
    }

    async fn item(&self, app: &App, me: &SignedIn, key: &str) -> Result<Option<registry::Item>, ApiError> {
        Ok(registry::item(&app.pool, me.id(), &self.place(me, key)).await?)
    }
}

/// The value of a key.
#[derive(Deserialize, JsonSchema)]
pub struct Get {
    key: String,
    #[serde(flatten)]
    group: Group,
}

const NO_SUCH_KEY_TO_GET: ErrorDef =
    ErrorDef::new("NO_SUCH_KEY", "No such key.", "ac3ed68a-62f0-422b-a7bc-d5e09e8f6a6a");

impl Endpoint for Get {
    const META: Meta = Meta::new("i/registry/get").kind("read:account").errors(&[NO_SUCH_KEY_TO_GET]);
    type Caller = SignedIn;
    type Reply = Value;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Value, ApiError> {
        let item = self.group.item(app, &me, &self.key).await?.ok_or(NO_SUCH_KEY_TO_GET)?;
        Ok(item.value)
    }
}

/// The value of a key, and when it was set.
#[derive(Deserialize, JsonSchema)]
pub struct GetDetail {
    key: String,
    #[serde(flatten)]
    group: Group,
}

/// A value with the time when it was set.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Detail {
    updated_at: Time,
    value: Value,
}

const NO_SUCH_KEY_WITH_DETAIL: ErrorDef =
    ErrorDef::new("NO_SUCH_KEY", "No such key.", "97a1e8e7-c0f7-47d2-957a-92e61256e01a");

impl Endpoint for GetDetail {
    const META: Meta =
        Meta::new("i/registry/get-detail").kind("read:account").errors(&[NO_SUCH_KEY_WITH_DETAIL]);
    type Caller = SignedIn;
    type Reply = Detail;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Detail, ApiError> {
        let item = self.group.item(app, &me, &self.key).await?.ok_or(NO_SUCH_KEY_WITH_DETAIL)?;
        Ok(Detail { updated_at: Time(item.updated_at), value: item.value })
    }
}

/// All values of a scope by their keys.
#[derive(Deserialize, JsonSchema)]
pub struct GetAll {
    #[serde(flatten)]
    group: Group,
}

impl Endpoint for GetAll {
    const META: Meta = Meta::new("i/registry/get-all").kind("read:account");
    type Caller = SignedIn;
    type Reply = Map<String, Value>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Map<String, Value>, ApiError> {
        Ok(self.group.values(app, &me).await?.into_iter().collect())
    }
}

/// The keys of a scope.
#[derive(Deserialize, JsonSchema)]
pub struct Keys {
    #[serde(flatten)]
    group: Group,
}

impl Endpoint for Keys {
    const META: Meta = Meta::new("i/registry/keys").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<String>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<String>, ApiError> {
        Ok(self.group.values(app, &me).await?.into_iter().map(|(key, _)| key).collect())
    }
}

/// The keys of a scope, with what their values are.
#[derive(Deserialize, JsonSchema)]
pub struct KeysWithType {
    #[serde(flatten)]
    group: Group,
}

impl Endpoint for KeysWithType {
    const META: Meta = Meta::new("i/registry/keys-with-type").kind("read:account");
    type Caller = SignedIn;
    type Reply = BTreeMap<String, &'static str>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<BTreeMap<String, &'static str>, ApiError> {
        let values = self.group.values(app, &me).await?;
        Ok(values.into_iter().map(|(key, value)| (key, type_of(&value))).collect())
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The scopes in which something is kept, by domain.
#[derive(Deserialize, JsonSchema)]
pub struct ScopesWithDomain {}

/// The scopes of a domain.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Scopes {
    scopes: Vec<Vec<String>>,
    /// None for what belongs to no app.
    domain: Option<String>,
}

impl Endpoint for ScopesWithDomain {
    const META: Meta = Meta::new("i/registry/scopes-with-domain").secure();
    type Caller = SignedIn;
    type Reply = Vec<Scopes>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Scopes>, ApiError> {
        let domains = registry::scopes(&app.pool, me.id()).await?;
        Ok(domains.into_iter().map(|(domain, scopes)| Scopes { scopes, domain }).collect())
    }
}

/// Set the value of a key.
#[derive(Deserialize, JsonSchema)]
pub struct Set {
    key: Text<1, { usize::MAX }>,
    value: Value,
    #[serde(flatten)]
    group: Group,
}

impl Endpoint for Set {
    const META: Meta = Meta::new("i/registry/set").kind("write:account");
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let place = self.group.place(&me, &self.key.0);
        let others = registry::others(&app.pool, me.id(), &place).await?;
        let receipt = app.commands.set_registry(app.by(&me), me.id(), place, self.value, others).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotSet> for ApiError {
    fn from(refusal: CannotSet) -> Self {
        match refusal {
            CannotSet::PlaceTooLong => ApiError::invalid_param("#/properties/key/maxLength", "is too long"),
            CannotSet::ValueTooLarge => ApiError::invalid_param("#/properties/value", "is too large"),
            CannotSet::TooMany => ApiError::invalid_param("#/properties/key", "too many keys"),
        }
    }
}

/// Remove a key; there need be none.
#[derive(Deserialize, JsonSchema)]
pub struct Remove {
    key: String,
    #[serde(flatten)]
    group: Group,
}

impl Endpoint for Remove {
    const META: Meta = Meta::new("i/registry/remove").kind("write:account");
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let place = self.group.place(&me, &self.key);
        if registry::item(&app.pool, me.id(), &place).await?.is_none() {
            return Ok(());
        }
        let receipt = app.commands.remove_registry(app.by(&me), me.id(), place).await?;
        app.shown(receipt).await;
        Ok(())
    }
}
