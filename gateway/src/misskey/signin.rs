//! `signin-flow` and `signin-with-passkey`: signing in, step by step. Not among the listed endpoints: they are for
//! the server's own pages and speak an error language of their own.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};

use super::second_factor::question;
use crate::access::{self, CannotSignIn, Shown, Step};
use crate::api::error::RATE_LIMIT_EXCEEDED;
use crate::api::http::{Call, Cors, json_response, post_only, refusal};
use crate::api::rate::Limit;
use crate::api::{Account, ApiError, per};
use crate::app::App;
use crate::ops::passkeys::Question;
use crate::ops::secret;
use crate::ops::sign_ins::Visit;

const NO_SUCH_USER: &str = "6cc579cc-885d-43d8-95c2-b8c7fc963280";
const SUSPENDED: &str = "e03a5f46-d309-4865-9b69-56282d94e1eb";
const WRONG_PASSWORD: &str = "932c904e-9460-45b7-9ce6-7ed33be7eb2c";
const WRONG_PASSKEY: &str = "93b86c4b-72f9-40eb-9815-798928603d1e";
const NOT_ALONE: &str = "2d84773e-f7b7-4d0b-8f72-bb69b584c912";
const NO_CONTEXT: &str = "1658cc2e-4495-461f-aee4-d403cdf073c1";

/// Sign-ins of one address by a passkey alone; each takes two calls.
const PASSKEY_LIMIT: Limit =
    Limit { key: Some("signin-with-passkey"), window: Some((200, 30 * per::MINUTE)), interval: Some(250) };

pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/signin-flow", any(signin_flow))
        .route("/api/signin-with-passkey", any(signin_with_passkey))
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
    let core = &app.core;
    let Some(password) = password else {
        let needed = core.second_factors.of(account.id).await.map_err(ApiError::from)?;
        // The name that Misskey's pages know for "now the password, please", when nothing comes after it.
        let next = if needed.codes { "password" } else { "captcha" };
        return Ok(json_response(StatusCode::OK, &json!({ "finished": false, "next": next })));
    };
    let code = match &call.params["token"] {
        Value::Null => None,
        Value::String(code) => Some(code.as_str()),
        _ => return Ok(StatusCode::BAD_REQUEST.into_response()),
    };
    let passkey = Some(&call.params["credential"]).filter(|answer| answer.is_object());
    let visit = Visit::of(call.client, &call.headers);
    let body = match access::sign_in(app, &account, Shown { password, code, passkey }, &visit).await? {
        Step::In => finished(app, &account).await?,
        Step::Code => json!({ "finished": false, "next": "totp" }),
        Step::Passkey(challenge) => {
            let keys = core.passkeys.list(account.id).await.map_err(ApiError::from)?;
            let asked = question(core.passkeys.site(), &challenge, &keys);
            json!({ "finished": false, "next": "passkey", "authRequest": asked })
        }
    };
    Ok(json_response(StatusCode::OK, &body))
}

/// What somebody gets who is in.
async fn finished(app: &App, account: &Account) -> Result<Value, ApiError> {
    let token = app.core.tokens.native(account.id, app.now()).await?;
    Ok(json!({ "finished": true, "id": account.id.to_string(), "i": token }))
}

async fn signin_with_passkey(State(app): State<App>, request: Request) -> Response {
    post_only(&app.core, request, Cors::Own, async |call| {
        by_passkey(&app, &call).await.unwrap_or_else(|cannot| refuse(&app, cannot))
    })
    .await
}

async fn by_passkey(app: &App, call: &Call) -> Result<Response, CannotSignIn> {
    let core = &app.core;
    let counted = core.count_address(&PASSKEY_LIMIT, "signin-with-passkey", call.client).await?;
    counted.map_err(CannotSignIn::TooOften)?;
    let answer = &call.params["credential"];
    if !answer.is_object() {
        let context = secret::random_uuid().map_err(ApiError::internal)?;
        let asked = core.passkeys.ask(&Question::Anybody(context.clone()), app.now()).await;
        let challenge = asked.map_err(ApiError::internal)?;
        let option = question(core.passkeys.site(), &challenge, &[]);
        return Ok(json_response(StatusCode::OK, &json!({ "option": option, "context": context })));
    }
    let Some(context) = call.params["context"].as_str() else {
        return Ok(json_response(StatusCode::BAD_REQUEST, &json!({ "error": { "id": NO_CONTEXT } })));
    };
    let visit = Visit::of(call.client, &call.headers);
    let account = match access::sign_in_by_passkey(app, context, answer, &visit).await {
        Err(CannotSignIn::WrongPasskey) => Err(CannotSignIn::WrongPassword),
        outcome => outcome,
    }?;
    let body = json!({ "signinResponse": finished(app, &account).await? });
    Ok(json_response(StatusCode::OK, &body))
}

fn refuse(app: &App, cannot: CannotSignIn) -> Response {
    let id = match cannot {
        CannotSignIn::NoSuchUser => NO_SUCH_USER,
        CannotSignIn::Suspended => SUSPENDED,
        CannotSignIn::WrongPassword => WRONG_PASSWORD,
        CannotSignIn::WrongPasskey => WRONG_PASSKEY,
        CannotSignIn::NotAlone => NOT_ALONE,
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
