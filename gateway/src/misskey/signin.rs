//! `signin-flow`: signing in with a password. Not one of the listed endpoints: it is for the server's own
//! pages and speaks an error language of its own.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};

use crate::access::{self, CannotSignIn};
use crate::api::ApiError;
use crate::api::error::RATE_LIMIT_EXCEEDED;
use crate::api::http::{Call, Cors, json_response, post_only, refusal};
use crate::app::App;
use crate::ops::sign_ins::Visit;

const NO_SUCH_USER: &str = "6cc579cc-885d-43d8-95c2-b8c7fc963280";
const SUSPENDED: &str = "e03a5f46-d309-4865-9b69-56282d94e1eb";
const WRONG_PASSWORD: &str = "932c904e-9460-45b7-9ce6-7ed33be7eb2c";

pub fn routes() -> Router<App> {
    Router::new().route("/api/signin-flow", any(signin_flow))
}

async fn signin_flow(State(app): State<App>, request: Request) -> Response {
    post_only(&app.core, request, Cors::Own, async |call| {
        let outcome = answer(&app, &call).await;
        outcome.unwrap_or_else(|cannot| refuse(&app, cannot))
    })
    .await
}

async fn answer(app: &App, call: &Call) -> Result<Response, CannotSignIn> {
    let Some(username) = call.params["username"].as_str() else {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    };
    let password = match &call.params["password"] {
        Value::Null => None,
        Value::String(password) => Some(password.as_str()),
        _ => return Ok(StatusCode::BAD_REQUEST.into_response()),
    };
    let account = match access::who(app, call.client, username).await {
        Err(CannotSignIn::NoSuchUser) => {
            access::pretend(app, password.unwrap_or_default()).await?;
            return Err(CannotSignIn::NoSuchUser);
        }
        found => found?,
    };
    let Some(password) = password else {
        // The name that Misskey's pages know for "now the password, please".
        return Ok(json_response(StatusCode::OK, &json!({ "finished": false, "next": "captcha" })));
    };
    let visit = Visit::of(call.client, &call.headers);
    access::sign_in(app, &account, password, &visit).await?;
    let token = app.core.tokens.native(account.id, app.now()).await.map_err(ApiError::from)?;
    let body = json!({ "finished": true, "id": account.id.to_string(), "i": token });
    Ok(json_response(StatusCode::OK, &body))
}

fn refuse(app: &App, cannot: CannotSignIn) -> Response {
    let id = match cannot {
        CannotSignIn::NoSuchUser => NO_SUCH_USER,
        CannotSignIn::Suspended => SUSPENDED,
        CannotSignIn::WrongPassword => WRONG_PASSWORD,
        CannotSignIn::TooOften(early) => {
            let seconds = early.retry_after(app.now());
            let body = json!({ "error": {
                "message": RATE_LIMIT_EXCEEDED.message,
                "code": RATE_LIMIT_EXCEEDED.code,
                "id": "22d05606-fbcf-421a-a2db-b32610dcfd1b",
                "info": {
                    "message": "Too many failed attempts to sign in.",
                    "code": "TOO_MANY_AUTHENTICATION_FAILURES",
                    "id": "6c181469-ecb9-42d2-82c9-60db5486a819",
                },
            }});
            let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, &body);
            response.headers_mut().insert("retry-after", seconds.into());
            return response;
        }
        CannotSignIn::Failed(failed) => return refusal(&failed),
    };
    json_response(StatusCode::FORBIDDEN, &json!({ "error": { "id": id } }))
}
