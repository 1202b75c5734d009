//! `signup`: making an account for oneself. Not one of the listed endpoints: it is for the server's own pages
//! and speaks an error language of its own.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use commands::AskedBy;
use domain::user::CannotSignUp;
use serde_json::json;

use super::user::new_account;
use crate::access::{CannotCreate, SIGN_UP_LIMIT, create_account};
use crate::api::ApiError;
use crate::api::http::{Call, Cors, json_response, post_only, refusal, reply};
use crate::app::App;

pub fn routes() -> Router<App> {
    Router::new().route("/api/signup", any(signup))
}

async fn signup(State(app): State<App>, request: Request) -> Response {
    post_only(&app.core, request, Cors::Own, async |call| answer(&app, &call).await.unwrap_or_else(refuse))
        .await
}

async fn answer(app: &App, call: &Call) -> Result<Response, CannotCreate> {
    let settings = projections::instance::load(&app.pool).await.map_err(ApiError::from)?.settings;
    if !settings.takes_visitors() {
        return Err(CannotCreate::Refused(CannotSignUp::Closed));
    }
    let counted = app.core.count_address(&SIGN_UP_LIMIT, "signup", call.client).await?;
    counted.map_err(|early| app.core.too_often(early))?;
    let username = call.params["username"].as_str().unwrap_or_default();
    let password = call.params["password"].as_str().unwrap_or_default();
    let user = create_account(app, AskedBy::Visitor, username, password).await?;
    let account = new_account(app, user).await?;
    Ok(reply(serde_json::to_vec(&account).map_err(ApiError::internal)?))
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
    let body = json!({ "statusCode": 400, "error": "Bad Request", "message": format!("Error: {code}") });
    json_response(StatusCode::BAD_REQUEST, &body)
}
