//! OAuth 2: the question to the person (`/oauth/authorize`, `/oauth/decision`) and the exchange of codes
//! (`/oauth/token`). Apps aren't registered; [`client`] finds out who asks.

mod client;

use axum::Form;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Query, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::MAX_FORM_BYTES;
use super::browser::Browser;
use super::callback::Callback;
use super::consent::{AnswerForm, Question, ask_about};
use super::layout::{NoPage, see_other};
use super::signin;
use crate::access;
use crate::api::http::{self, Cors, json_response, refusal};
use crate::api::rate::Limit;
use crate::api::{ApiError, ErrorDef, per, permission};
use crate::app::App;
use crate::ops::oauth::{CODE_LIFE, NoToken, Request};
use crate::ops::secret;

/// The longest state that is handed back, in bytes.
const MAX_STATE_BYTES: usize = 1_024;
/// SHA-256 in base64 for addresses.
const CHALLENGE_CHARS: usize = 43;
/// Pages of apps that are fetched for one address, and codes that it shows.
const FETCH_LIMIT: Limit = Limit { key: Some("oauth"), window: Some((300, per::HOUR)), interval: None };
const TOKEN_LIMIT: Limit = Limit { key: Some("oauth-token"), window: Some((300, per::HOUR)), interval: None };

const UNKNOWN_ENDPOINT: ErrorDef = ErrorDef::new(
    "UNKNOWN_OAUTH_ENDPOINT",
    "Unknown OAuth endpoint.",
    "aa49e620-26cb-4e28-aad6-8cbcb58db147",
)
.status(404);

/// What an app asks for, as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    response_type: Option<String>,
    client_id: Option<String>,
    redirect_uri: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Decision {
    transaction_id: String,
    #[serde(default)]
    form_token: String,
    #[serde(default)]
    decision: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Exchange {
    grant_type: Option<String>,
    code: Option<String>,
    client_id: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
}

/// How OAuth tells of a failure.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    about: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, error: &'static str, about: &'static str) -> Self {
        Self { status, error, about }
    }

    const fn invalid(about: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", about)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        told(self.status, &json!({ "error": self.error, "error_description": self.about }))
    }
}

fn told(status: StatusCode, body: &Value) -> Response {
    let mut response = json_response(status, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Asks the person.
pub async fn authorize(
    State(app): State<App>,
    browser: Browser,
    Query(asked): Query<Asked>,
) -> Result<Response, NoPage> {
    let Some(response_type) = asked.response_type.as_deref() else {
        return Ok(Refusal::invalid("Missing required parameter: response_type").into_response());
    };
    let id = asked.client_id.as_deref().and_then(|id| client::id(&app.fetcher, id));
    let Some(id) = id else {
        return Ok(Refusal::invalid("client_id must be a valid HTTPS URL").into_response());
    };
    let counted = app.core.count_address(&FETCH_LIMIT, "oauth/authorize", browser.visit.ip).await?;
    counted.map_err(|early| app.core.too_often(early))?;
    let client = match client::discover(&app.fetcher, &id).await {
        Ok(client) => client,
        Err(why) => {
            tracing::debug!(%why, "the page of an app can't be read");
            return Ok(Refusal::invalid("Failed to fetch client information").into_response());
        }
    };
    if asked.state.as_ref().is_some_and(|state| state.len() > MAX_STATE_BYTES) {
        return Ok(Refusal::invalid("The state is too long").into_response());
    }
    let wanted = asked.redirect_uri.as_deref().and_then(|uri| Url::parse(uri).ok());
    let callback = wanted.filter(|uri| client.redirects.contains(uri));
    let Some(callback) = callback.and_then(|uri| Callback::parse(uri.as_str())) else {
        return Ok(Refusal::invalid("Invalid redirect_uri").into_response());
    };
    // From here on the app itself is told.
    let state = asked.state.clone();
    let back = |error: &str, about: &str| {
        let mut told = vec![("error", error), ("error_description", about)];
        told.extend(state.as_deref().map(|state| ("state", state)));
        Ok(see_other(&answer(&app, &callback, &told)))
    };
    if response_type != "code" {
        return back("unsupported_response_type", "Only the response type `code` is known");
    }
    let is_challenge = |text: &&str| {
        text.len() == CHALLENGE_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let Some(challenge) = asked.code_challenge.as_deref().filter(is_challenge) else {
        return back("invalid_request", "`code_challenge` is required");
    };
    if asked.code_challenge_method.as_deref() != Some("S256") {
        return back("invalid_request", "`code_challenge_method` must be `S256`");
    }
    let scope = asked.scope.as_deref().unwrap_or_default();
    let kinds: Vec<String> = scope.split_whitespace().map(str::to_owned).collect();
    let permission = permission::known(&kinds);
    if permission.is_empty() {
        return back("invalid_scope", "`scope` has no known scope");
    }
    let name = client.name.unwrap_or_else(|| id.to_string());
    let Some(account) = browser.account() else {
        let page = signin::form(&format!("Sign in for {name}"), "", &browser.place, None);
        return Ok(page.into_response());
    };
    let request = Request {
        client_id: id.to_string(),
        redirect_uri: callback.as_str().to_owned(),
        name,
        icon_url: client.logo,
        permission,
        challenge: challenge.to_owned(),
        state,
    };
    let transaction = secret::random_uuid().map_err(ApiError::internal)?;
    let kept = serde_json::to_vec(&request).map_err(ApiError::internal)?;
    let asked_as = transaction_name(&transaction);
    app.core.challenges.ask(&asked_as, Some(account.id), &kept, CODE_LIFE, app.now()).await?;
    let about = format!("Its page is {}.", id.host_str().unwrap_or_default());
    let question =
        Question { name: Some(&request.name), about: Some(&about), permission: &request.permission };
    let form = AnswerForm { action: "/oauth/decision", hidden: &[("transaction_id", &transaction)] };
    Ok(ask_about(&app.core, &browser, &question, Some(&callback), &form).into_response())
}

/// Hears what the person says, and sends them back to the app.
pub async fn decide(
    State(app): State<App>,
    browser: Browser,
    Form(decision): Form<Decision>,
) -> Result<Response, NoPage> {
    let name = transaction_name(&decision.transaction_id);
    if app.core.challenges.of(&name, app.now()).await?.is_none() {
        let refusal =
            Refusal::new(StatusCode::FORBIDDEN, "access_denied", "Invalid or expired transaction ID");
        return Ok(refusal.into_response());
    }
    let account = browser.check_form(&app.core, &decision.form_token)?;
    let taken = app.core.challenges.take(&name, app.now()).await?;
    let Some((_, kept)) = taken.filter(|(user, _)| *user == Some(account.id)) else {
        return Err(NoPage::Foreign);
    };
    let request: Request = serde_json::from_slice(&kept).map_err(ApiError::internal)?;
    let callback = Callback::parse(&request.redirect_uri).ok_or(NoPage::Foreign)?;
    let state = request.state.as_deref().map(|state| ("state", state));
    if decision.decision != "allow" {
        let mut told = vec![("error", "access_denied")];
        told.extend(state);
        return Ok(see_other(&answer(&app, &callback, &told)));
    }
    let code = app.core.oauth.allow(account.id, &request, app.now()).await?.map_err(ApiError::internal)?;
    let mut told = vec![("code", code.as_str())];
    told.extend(state);
    Ok(see_other(&answer(&app, &callback, &told)))
}

/// Exchanges a code for a token. For any site: the code and the verifier say who asks.
pub async fn token(State(app): State<App>, browser: Browser, request: HttpRequest) -> Response {
    let mut response = match exchange(&app, &browser, request).await {
        Ok(response) => response,
        Err(failed) => refusal(&failed),
    };
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

async fn exchange(app: &App, browser: &Browser, request: HttpRequest) -> Result<Response, ApiError> {
    let counted = app.core.count_address(&TOKEN_LIMIT, "oauth/token", browser.visit.ip).await?;
    counted.map_err(|early| app.core.too_often(early))?;
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("application/json")));
    let body: Bytes = to_bytes(request.into_body(), MAX_FORM_BYTES).await.unwrap_or_default();
    let asked: Exchange =
        if is_json { serde_json::from_slice(&body).unwrap_or_default() } else { form(&body) };
    match asked.grant_type.as_deref() {
        Some("authorization_code") => (),
        other => {
            let about = format!("Unsupported grant type: {}", other.unwrap_or("undefined"));
            let body = json!({ "error": "unsupported_grant_type", "error_description": about });
            return Ok(told(StatusCode::NOT_IMPLEMENTED, &body));
        }
    }
    let now = app.now();
    let shown =
        (asked.code.as_deref().unwrap_or_default(), asked.code_verifier.as_deref().unwrap_or_default());
    // As it was written down when it was asked for.
    let client = asked.client_id.as_deref().and_then(|id| Url::parse(id).ok());
    let client = client.as_ref().map_or("", Url::as_str);
    let redirect = asked.redirect_uri.as_deref().and_then(|uri| Url::parse(uri).ok());
    let redirect = redirect.as_ref().map(Url::as_str);
    let given =
        app.core.oauth.exchange(&app.core.tokens, shown, (client, redirect), app.ids.at(now), now).await;
    let given = match given {
        Ok(given) => given,
        Err(NoToken::Storage(cause)) => return Err(cause.into()),
        Err(why) => {
            tracing::debug!(%why, "a code is not taken");
            let refusal = Refusal::new(StatusCode::FORBIDDEN, "invalid_grant", "Invalid authorization code");
            return Ok(refusal.into_response());
        }
    };
    access::note_grant(app, given.user, Some(given.name)).await?;
    let scope = given.permission.join(" ");
    let body = json!({ "access_token": given.token, "token_type": "Bearer", "scope": scope });
    Ok(told(StatusCode::OK, &body))
}

/// Apps in browsers exchange codes, too.
pub async fn preflight(State(app): State<App>, headers: HeaderMap) -> Response {
    http::preflight(&app.core, Cors::Anyone, &headers)
}

/// Where there is nothing of OAuth.
pub async fn unknown() -> Response {
    refusal(&UNKNOWN_ENDPOINT.into())
}

fn form(body: &[u8]) -> Exchange {
    let mut asked = Exchange::default();
    for (name, value) in url::form_urlencoded::parse(body) {
        let value: Option<String> = Some(value.into_owned());
        match name.as_ref() {
            "grant_type" => asked.grant_type = value,
            "code" => asked.code = value,
            "client_id" => asked.client_id = value,
            "redirect_uri" => asked.redirect_uri = value,
            "code_verifier" => asked.code_verifier = value,
            _ => (),
        }
    }
    asked
}

fn transaction_name(transaction: &str) -> String {
    format!("oauth {transaction}")
}

/// The address to go back to, with what is told, and by whom (RFC 9207).
fn answer(app: &App, callback: &Callback, told: &[(&str, &str)]) -> String {
    let all = told.iter().copied().chain([("iss", app.core.origin.as_str())]);
    callback.with(all)
}
