//! `sw/*`: where browsers want to be told something while they are closed.

use domain::ids::UserId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Id, Text};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::ops::subscriptions::{self, Subscription};

/// The longest address of a subscription, and each of its keys, in characters.
const MAX_URL_CHARS: usize = 2_048;
const MAX_KEY_CHARS: usize = 256;

/// A subscription, as its person is shown it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    user_id: Id<UserId>,
    endpoint: String,
    send_read_message: bool,
}

impl From<Subscription> for Registration {
    fn from(row: Subscription) -> Self {
        Self { user_id: Id(row.user), endpoint: row.endpoint.url, send_read_message: row.send_read }
    }
}

/// Subscribe a browser.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    endpoint: Text<0, MAX_URL_CHARS>,
    auth: Text<0, MAX_KEY_CHARS>,
    publickey: Text<0, MAX_KEY_CHARS>,
    #[serde(default)]
    send_read_message: bool,
}

/// A subscription and how it came about.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// `subscribed` or `already-subscribed`.
    state: &'static str,
    /// By which push services know this server; null where nothing is pushed.
    key: Option<String>,
    #[serde(flatten)]
    registration: Registration,
}

impl Endpoint for Register {
    const META: Meta = Meta::new("sw/register").secure();
    type Caller = SignedIn;
    type Reply = Registered;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Registered, ApiError> {
        let settings = projections::instance::load(&app.pool).await?.settings;
        let key = settings.flag("enableServiceWorker").then(|| app.vapid.public.clone());
        let endpoint =
            subscriptions::Endpoint { url: self.endpoint.0, auth: self.auth.0, public_key: self.publickey.0 };
        let known = app.core.subscriptions.at(me.id(), &endpoint.url).await?;
        if let Some(known) = known.filter(|known| known.endpoint == endpoint) {
            return Ok(Registered { state: "already-subscribed", key, registration: known.into() });
        }
        let new = Subscription {
            id: app.ids.at(app.now()),
            user: me.id(),
            endpoint,
            send_read: self.send_read_message,
        };
        app.core.subscriptions.keep(&new).await?;
        Ok(Registered { state: "subscribed", key, registration: new.into() })
    }
}

/// Show the caller's subscription at an address.
#[derive(Deserialize, JsonSchema)]
pub struct Show {
    endpoint: Text<0, MAX_URL_CHARS>,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("sw/show-registration").secure();
    type Caller = SignedIn;
    type Reply = Option<Registration>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Option<Registration>, ApiError> {
        let known = app.core.subscriptions.at(me.id(), &self.endpoint.0).await?;
        Ok(known.map(Registration::from))
    }
}

/// Change what a subscription is told.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    endpoint: Text<0, MAX_URL_CHARS>,
    /// Whether it is also told that notifications have been read.
    send_read_message: Option<bool>,
}

// The id begins with a space, as Misskey's does.
const NO_SUCH_REGISTRATION: ErrorDef =
    ErrorDef::new("NO_SUCH_REGISTRATION", "No such registration.", " b09d8066-8064-5613-efb6-0e963b21d012");

impl Endpoint for Update {
    const META: Meta = Meta::new("sw/update-registration").secure().errors(&[NO_SUCH_REGISTRATION]);
    type Caller = SignedIn;
    type Reply = Registration;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Registration, ApiError> {
        let known = app.core.subscriptions.at(me.id(), &self.endpoint.0).await?;
        let mut known = known.ok_or(NO_SUCH_REGISTRATION)?;
        if let Some(send_read) = self.send_read_message {
            known.send_read = send_read;
            app.core.subscriptions.keep(&known).await?;
        }
        Ok(known.into())
    }
}

/// End the subscription at an address: the caller's, or without a caller everybody's.
#[derive(Deserialize, JsonSchema)]
pub struct Unregister {
    endpoint: Text<0, MAX_URL_CHARS>,
}

impl Endpoint for Unregister {
    const META: Meta = Meta::new("sw/unregister");
    type Caller = Anyone;
    type Reply = ();

    async fn handle(self, app: &App, me: Anyone) -> Result<(), ApiError> {
        Ok(app.core.subscriptions.forget(me.id(), &self.endpoint.0).await?)
    }
}
