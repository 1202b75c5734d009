//! Apps: registering them (`app/create`, `my/apps`), their sessions (`auth/session/*`, `auth/accept`), and what
//! a person has granted them (`i/apps`, `i/authorized-apps`, `i/revoke-token`).

use std::borrow::Cow;

use domain::ids::time_of;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::api::error::ErrorDef;
use crate::api::param::{AnyId, Given, ID_FORMAT, Id, Limit, Text, Unique};
use crate::api::{Anyone, ApiError, Endpoint, Meta, SignedIn, per, permission};
use crate::app::App;
use crate::json::Time;
use crate::json::user::UserDetailed;
use crate::ops::apps::{CannotFetch, ClientApp};
use crate::ops::tokens::{GrantOrder, Which};

/// The longest name, description or address of an app, in characters.
pub const MAX_TEXT_CHARS: usize = 512;
/// The most kinds of permission an app may ask for; there are fewer.
pub const MAX_PERMISSIONS: usize = 200;
/// The longest name of a permission, in characters.
pub const MAX_PERMISSION_CHARS: usize = 100;

/// Kinds of permission as they are asked for; unknown ones are dropped.
pub type Permissions = Unique<Text<0, MAX_PERMISSION_CHARS>, 0, MAX_PERMISSIONS>;

/// The known kinds among those asked for.
pub fn known(asked: Permissions) -> Vec<String> {
    let asked: Vec<String> = asked.0.into_iter().map(|kind| kind.0).collect();
    permission::known(&asked)
}

/// A registered app.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "App")]
pub struct AppJson {
    id: Id<AnyId>,
    name: String,
    callback_url: Option<String>,
    permission: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_authorized: Option<bool>,
}

/// Registers an app.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    name: Text<0, MAX_TEXT_CHARS>,
    description: Text<0, MAX_TEXT_CHARS>,
    permission: Permissions,
    callback_url: Option<Text<0, MAX_TEXT_CHARS>>,
}

impl Endpoint for Create {
    // Misskey has no limit here; what anybody may store needs one.
    const META: Meta = Meta::new("app/create").limit(300, per::HOUR);
    type Caller = Anyone;
    type Reply = AppJson;

    async fn handle(self, app: &App, me: Anyone) -> Result<AppJson, ApiError> {
        let now = app.now();
        let client = ClientApp {
            id: app.ids.at(now),
            name: self.name.0,
            description: self.description.0,
            callback_url: self.callback_url.map(|url| url.0),
            permission: known(self.permission),
        };
        let secret = app.core.apps.register(me.id(), &client, now).await?;
        Ok(AppJson { secret: Some(secret), ..describe(app, client, &me).await? })
    }
}

/// Opens a session in which an app asks a person.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generate {
    app_secret: String,
}

/// A session's token, and where to send the person.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Generated {
    token: String,
    url: String,
}

impl Endpoint for Generate {
    const META: Meta = Meta::new("auth/session/generate").errors(&[GENERATE_NO_SUCH_APP]);
    type Caller = Anyone;
    type Reply = Generated;

    async fn handle(self, app: &App, _: Anyone) -> Result<Generated, ApiError> {
        let client = app.core.apps.by_secret(&self.app_secret).await?.ok_or(GENERATE_NO_SUCH_APP)?;
        let now = app.now();
        let token = app.core.apps.open_session(client.id, app.ids.at(now), now).await?;
        let url = format!("{}/auth/{token}", app.core.origin);
        Ok(Generated { token, url })
    }
}

/// Shows who asks in a session.
#[derive(Deserialize, JsonSchema)]
pub struct Show {
    token: String,
}

/// A session and its app.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Session {
    id: Id<AnyId>,
    app: AppJson,
    token: String,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("auth/session/show").errors(&[SHOW_NO_SUCH_SESSION]);
    type Caller = Anyone;
    type Reply = Session;

    async fn handle(self, app: &App, me: Anyone) -> Result<Session, ApiError> {
        let session = app.core.apps.session(&self.token, app.now()).await?;
        let session = session.ok_or(SHOW_NO_SUCH_SESSION)?;
        let client = describe(app, session.app, &me).await?;
        Ok(Session { id: Id(AnyId(session.id)), app: client, token: self.token })
    }
}

/// Accepts what an app asks for in its session.
#[derive(Deserialize, JsonSchema)]
pub struct Accept {
    token: String,
}

impl Endpoint for Accept {
    const META: Meta = Meta::new("auth/accept").secure().errors(&[ACCEPT_NO_SUCH_SESSION]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let session = app.core.apps.session(&self.token, app.now()).await?;
        let session = session.filter(|session| session.user.is_none()).ok_or(ACCEPT_NO_SUCH_SESSION)?;
        access::accept(app, me.id(), &session).await
    }
}

/// Fetches the token of an accepted session, once.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Userkey {
    app_secret: String,
    token: String,
}

/// An app's token, and whose it is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Fetched {
    access_token: String,
    user: UserDetailed,
}

impl Endpoint for Userkey {
    const META: Meta = Meta::new("auth/session/userkey").errors(&[
        USERKEY_NO_SUCH_APP,
        USERKEY_NO_SUCH_SESSION,
        PENDING_SESSION,
    ]);
    type Caller = Anyone;
    type Reply = Fetched;

    async fn handle(self, app: &App, _: Anyone) -> Result<Fetched, ApiError> {
        let apps = &app.core.apps;
        let fetched = apps.fetch(&app.core.tokens, &self.app_secret, &self.token, app.now()).await;
        let (user, access_token) = fetched.map_err(|cannot| match cannot {
            CannotFetch::NoSuchApp => USERKEY_NO_SUCH_APP.into(),
            CannotFetch::NoSuchSession => USERKEY_NO_SUCH_SESSION.into(),
            CannotFetch::Pending => PENDING_SESSION.into(),
            CannotFetch::Storage(cause) => ApiError::from(cause),
        })?;
        Ok(Fetched { access_token, user: super::user::packed(app, user, None).await? })
    }
}

/// List the apps that the caller has registered.
#[derive(Deserialize, JsonSchema)]
pub struct Registered {
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    offset: u32,
}

impl Endpoint for Registered {
    const META: Meta = Meta::new("my/apps").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<AppJson>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<AppJson>, ApiError> {
        let apps = app.core.apps.registered_by(me.id(), self.limit.get(), self.offset).await?;
        Ok(apps.into_iter().map(|(client, authorized)| listed(client, authorized)).collect())
    }
}

/// List the registered apps that may use the caller's account.
#[derive(Deserialize, JsonSchema)]
pub struct Authorized {
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    sort: Direction,
}

/// By when access was granted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Direction {
    #[default]
    Desc,
    Asc,
}

impl Endpoint for Authorized {
    const META: Meta = Meta::new("i/authorized-apps").secure();
    type Caller = SignedIn;
    type Reply = Vec<AppJson>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<AppJson>, ApiError> {
        let newest_first = self.sort == Direction::Desc;
        let apps = app.core.apps.authorized_by(me.id(), newest_first, self.limit.get(), self.offset).await?;
        Ok(apps.into_iter().map(|(client, authorized)| listed(client, authorized)).collect())
    }
}

/// List everything that may use the caller's account.
#[derive(Deserialize, JsonSchema)]
pub struct Granted {
    #[serde(default)]
    sort: Given<GrantSort>,
}

/// `+`: the latest first.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
enum GrantSort {
    #[serde(rename = "+createdAt")]
    Newest,
    #[serde(rename = "-createdAt")]
    Oldest,
    #[serde(rename = "+lastUsedAt")]
    UsedLast,
    #[serde(rename = "-lastUsedAt")]
    UsedFirst,
}

/// What may use a person's account.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct GrantJson {
    id: Id<AnyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    created_at: Time,
    last_used_at: Time,
    permission: Vec<String>,
    icon_url: Option<String>,
    description: Option<String>,
}

impl Endpoint for Granted {
    const META: Meta = Meta::new("i/apps").secure();
    type Caller = SignedIn;
    type Reply = Vec<GrantJson>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<GrantJson>, ApiError> {
        let order = match self.sort.0 {
            Some(GrantSort::Newest) => GrantOrder::Newest,
            Some(GrantSort::Oldest) | None => GrantOrder::Oldest,
            Some(GrantSort::UsedLast) => GrantOrder::UsedLast,
            Some(GrantSort::UsedFirst) => GrantOrder::UsedFirst,
        };
        let grants = app.core.tokens.granted(me.id(), order).await?;
        let show = |grant: crate::ops::tokens::Granted| GrantJson {
            id: Id(AnyId(grant.id)),
            name: grant.name,
            created_at: Time(time_of(grant.id)),
            last_used_at: Time(grant.last_used_at),
            permission: grant.permission,
            icon_url: grant.icon_url,
            description: grant.description,
        };
        Ok(grants.into_iter().map(show).collect())
    }
}

/// Take an app's access back, named by its id or its token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoke {
    token_id: Option<Id<AnyId>>,
    token: Option<String>,
}

impl JsonSchema for Revoke {
    fn schema_name() -> Cow<'static, str> {
        "Revoke".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Take an app's access back, named by its id or its token.",
            "type": "object",
            "properties": {
                "tokenId": { "type": "string", "format": ID_FORMAT },
                "token": { "type": ["string", "null"] },
            },
            "anyOf": [{ "required": ["tokenId"] }, { "required": ["token"] }],
        })
    }
}

impl Endpoint for Revoke {
    const META: Meta = Meta::new("i/revoke-token").secure();
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let which = match (self.token_id, self.token) {
            (Some(id), _) => Which::Id(id.0.0),
            (None, Some(token)) => Which::Token(token),
            (None, None) => return Ok(()),
        };
        app.core.tokens.revoke(me.id(), &which).await?;
        Ok(())
    }
}

fn listed(client: ClientApp, authorized: bool) -> AppJson {
    AppJson {
        id: Id(AnyId(client.id)),
        name: client.name,
        callback_url: client.callback_url,
        permission: client.permission,
        secret: None,
        is_authorized: Some(authorized),
    }
}

async fn describe(app: &App, client: ClientApp, me: &Anyone) -> Result<AppJson, ApiError> {
    let is_authorized = match me.id() {
        Some(user) => Some(app.core.apps.is_authorized(client.id, user).await?),
        None => None,
    };
    Ok(AppJson {
        id: Id(AnyId(client.id)),
        name: client.name,
        callback_url: client.callback_url,
        permission: client.permission,
        secret: None,
        is_authorized,
    })
}

const GENERATE_NO_SUCH_APP: ErrorDef =
    ErrorDef::new("NO_SUCH_APP", "No such app.", "92f93e63-428e-4f2f-a5a4-39e1407fe998");
const SHOW_NO_SUCH_SESSION: ErrorDef =
    ErrorDef::new("NO_SUCH_SESSION", "No such session.", "bd72c97d-eba7-4adb-a467-f171b8847250");
const ACCEPT_NO_SUCH_SESSION: ErrorDef =
    ErrorDef::new("NO_SUCH_SESSION", "No such session.", "9c72d8de-391a-43c1-9d06-08d29efde8df");
const USERKEY_NO_SUCH_APP: ErrorDef =
    ErrorDef::new("NO_SUCH_APP", "No such app.", "fcab192a-2c5a-43b7-8ad8-9b7054d8d40d");
const USERKEY_NO_SUCH_SESSION: ErrorDef =
    ErrorDef::new("NO_SUCH_SESSION", "No such session.", "5b5a1503-8bc8-4bd0-8054-dc189e8cdcb3");
const PENDING_SESSION: ErrorDef = ErrorDef::new(
    "PENDING_SESSION",
    "This session is not completed yet.",
    "8c8a4145-02cc-4cca-8e66-29ba60445a8e",
);
