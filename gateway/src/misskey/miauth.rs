//! MiAuth: `miauth/gen-token`, which the consent page of Misskey's own client calls, and
//! `miauth/{session}/check`, by which an app fetches its token, once.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::any;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::app::{MAX_TEXT_CHARS, Permissions, known};
use crate::access;
use crate::api::http::{Cors, json_response, post_only, refusal};
use crate::api::param::{Nullable, Text};
use crate::api::{ApiError, Endpoint, Meta, SignedIn};
use crate::app::App;
use crate::ops::tokens::{MAX_SESSION_BYTES, NewGrant};

/// As many characters of a session as surely fit.
const MAX_SESSION_CHARS: usize = MAX_SESSION_BYTES / 4;

pub fn routes() -> Router<App> {
    Router::new().route("/api/miauth/{session}/check", any(check))
}

/// Grants an app access to one's account.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenToken {
    /// By which the app fetches the token; null when it is handed over in another way.
    session: Nullable<Text<0, MAX_SESSION_CHARS>>,
    name: Option<Text<0, MAX_TEXT_CHARS>>,
    description: Option<Text<0, MAX_TEXT_CHARS>>,
    icon_url: Option<Text<0, MAX_TEXT_CHARS>>,
    permission: Permissions,
}

/// The token of an app.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Generated {
    token: String,
}

impl Endpoint for GenToken {
    const META: Meta = Meta::new("miauth/gen-token").secure();
    type Caller = SignedIn;
    type Reply = Generated;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Generated, ApiError> {
        let text = |text: Option<Text<0, MAX_TEXT_CHARS>>| text.map(|text| text.0);
        let asked = NewGrant {
            session: self.session.0.map(|session| session.0),
            name: text(self.name),
            description: text(self.description),
            icon_url: text(self.icon_url),
            permission: known(self.permission),
        };
        Ok(Generated { token: access::grant(app, me.id(), &asked).await? })
    }
}

async fn check(State(app): State<App>, Path(session): Path<String>, request: Request) -> Response {
    post_only(&app.core, request, Cors::Anyone, async |_| {
        fetch(&app, &session).await.unwrap_or_else(|failed| refusal(&failed))
    })
    .await
}

async fn fetch(app: &App, session: &str) -> Result<Response, ApiError> {
    let Some((user, token)) = app.core.tokens.fetch_session(session, app.now()).await? else {
        return Ok(json_response(StatusCode::OK, &json!({ "ok": false })));
    };
    let user = super::user::packed(app, user, Some(user)).await?;
    Ok(json_response(StatusCode::OK, &json!({ "ok": true, "token": token, "user": user })))
}
