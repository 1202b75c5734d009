//! Registered apps: `app/create`, `auth/session/*` and `auth/accept`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access;
use crate::api::error::ErrorDef;
use crate::api::param::{AnyId, Id, Text, Unique};
use crate::api::{Anyone, ApiError, Endpoint, Meta, SignedIn, per, permission};
use crate::app::App;
use crate::json::user::UserDetailed;
use crate::ops::apps::{CannotFetch, ClientApp};

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
pub struct Granted {
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
    type Reply = Granted;

    async fn handle(self, app: &App, _: Anyone) -> Result<Granted, ApiError> {
        let apps = &app.core.apps;
        let fetched = apps.fetch(&app.core.tokens, &self.app_secret, &self.token, app.now()).await;
        let (user, access_token) = fetched.map_err(|cannot| match cannot {
            CannotFetch::NoSuchApp => USERKEY_NO_SUCH_APP.into(),
            CannotFetch::NoSuchSession => USERKEY_NO_SUCH_SESSION.into(),
            CannotFetch::Pending => PENDING_SESSION.into(),
            CannotFetch::Storage(cause) => ApiError::from(cause),
        })?;
        Ok(Granted { access_token, user: super::user::packed(app, user, None).await? })
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
