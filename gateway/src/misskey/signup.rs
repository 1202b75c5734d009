//! `signup` and `signup-pending`: making an account for oneself. Not among the listed endpoints: they are for the
//! server's own pages and speak an error language of their own.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use commands::AskedBy;
use domain::user::CannotSignUp;
use serde_json::json;

use super::user::new_account;
use crate::access::{CannotCreate, SIGN_UP_LIMIT, create_account, create_invited_account};
use crate::api::ApiError;
use crate::api::http::{Call, Cors, json_response, post_only, refusal, reply};
use crate::app::App;
use crate::letters;

pub fn routes() -> Router<App> {
    Router::new().route("/api/signup", any(signup)).route("/api/signup-pending", any(signup_pending))
}

async fn signup(State(app): State<App>, request: Request) -> Response {
    post_only(&app.core, request, Cors::Own, async |call| answer(&app, &call).await.unwrap_or_else(refuse))
        .await
}

async fn answer(app: &App, call: &Call) -> Result<Response, CannotCreate> {
    let settings = projections::instance::load(&app.pool).await.map_err(ApiError::from)?.settings;
    let code = call.params["invitationCode"].as_str().filter(|_| settings.registration_is_closed());
    if code.is_none() && settings.registration_is_closed() {
        return Err(CannotCreate::Refused(CannotSignUp::Closed));
    }
    let counted = app.core.count_address(&SIGN_UP_LIMIT, "signup", call.client).await?;
    counted.map_err(|early| app.core.too_often(early))?;
    let username = call.params["username"].as_str().unwrap_or_default();
    let password = call.params["password"].as_str().unwrap_or_default();
    if code.is_none() && settings.flag("emailRequiredForSignup") {
        let address = call.params["emailAddress"].as_str().unwrap_or_default();
        if letters::available(app, address).await?.is_err() {
            return Ok(StatusCode::BAD_REQUEST.into_response());
        }
        letters::begin_sign_up(app, username, password, address).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let user = match code {
        Some(code) => create_invited_account(app, code, username, password).await?,
        None => create_account(app, AskedBy::Visitor, username, password).await?,
    };
    let account = new_account(app, user).await?;
    Ok(reply(serde_json::to_vec(&account).map_err(ApiError::internal)?))
}

async fn signup_pending(State(app): State<App>, request: Request) -> Response {
    post_only(&app.core, request, Cors::Own, async |call| finish(&app, &call).await.unwrap_or_else(refuse))
        .await
}

/// Makes the account whose code came back by mail, and lets its person in.
async fn finish(app: &App, call: &Call) -> Result<Response, CannotCreate> {
    let counted = app.core.count_address(&SIGN_UP_LIMIT, "signup", call.client).await?;
    counted.map_err(|early| app.core.too_often(early))?;
    let code = call.params["code"].as_str().unwrap_or_default();
    let Some(user) = letters::end_sign_up(app, code).await? else {
        return Ok(told("The code is wrong, was used before, or is too old."));
    };
    let token = app.core.tokens.native(user, app.now()).await.map_err(ApiError::from)?;
    let body = json!({ "finished": true, "id": user.to_string(), "i": token });
    Ok(json_response(StatusCode::OK, &body))
}

fn told(message: &str) -> Response {
    let body = json!({ "statusCode": 400, "error": "Bad Request", "message": message });
    json_response(StatusCode::BAD_REQUEST, &body)
}

fn refuse(cannot: CannotCreate) -> Response {
    let code = match cannot {
        CannotCreate::Refused(CannotSignUp::Closed) => return StatusCode::BAD_REQUEST.into_response(),
        CannotCreate::Refused(CannotSignUp::InvalidUsername) => "INVALID_USERNAME",
        CannotCreate::Refused(CannotSignUp::ReservedUsername | CannotSignUp::UsedBefore) => "USED_USERNAME",
        CannotCreate::Refused(CannotSignUp::Taken) => "DUPLICATED_USERNAME",
        CannotCreate::Password => "INVALID_PASSWORD",
        CannotCreate::Failed(failed) => return refusal(&failed),
    };
    told(&format!("Error: {code}"))
}
