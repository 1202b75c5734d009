//! The API over HTTP: bodies in, answers out, with the headers that clients know.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tracing::Instrument;

use super::admit::Core;
use super::error::{ApiError, INVALID_QUERY, UNKNOWN_ENDPOINT};
use super::form;
use super::registry::Entry;
use super::shape::{Shape, Type};
use crate::app::App;
use crate::misskey::registry;
use crate::platform::metrics::API_REQUESTS_TOTAL;

/// The largest body of a call, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most parameters in a query string.
pub const MAX_QUERY_PARAMS: usize = 100;
/// How long the OpenAPI document may be kept, in seconds.
const DOCUMENT_SECONDS: u32 = 600;
const PRIVATE: HeaderValue = HeaderValue::from_static("private, max-age=0, must-revalidate");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// All endpoints of the registry, what is served beside them, and the document that describes them.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/api/", any(call))
        .route("/api/{*path}", any(call))
        .route("/api.json", any(document))
        .merge(crate::misskey::routes())
}

/// A request with its parameters, not yet admitted.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    pub headers: HeaderMap,
    pub client: IpAddr,
    /// The body, or the query string of a GET.
    pub params: Value,
}

/// Who may read an answer in a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cors {
    /// Any site.
    Anyone,
    /// Only the server's own pages, with cookies: signing up and signing in.
    Own,
}

/// A request that no endpoint sees.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    #[error("Body is not valid JSON but content-type is set to 'application/json'")]
    Malformed,
    #[error("Body cannot be empty when content-type is set to 'application/json'")]
    Empty,
    #[error("Unsupported Media Type")]
    MediaType,
    #[error("Request body is too large")]
    TooLarge,
    #[error("too many parameters in the query, or such as can't be")]
    Query,
}

async fn call(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path().strip_prefix("/api/").unwrap_or_default();
    if request.method() == Method::OPTIONS {
        return preflight(&app.core, Cors::Anyone, request.headers());
    }
    let Some(entry) = registry().find(path) else { return unknown(&app.core, request).await };
    let span = tracing::info_span!("api", endpoint = entry.meta.path);
    let (response, code) = answer(&app, entry, request).instrument(span).await;
    metrics::counter!(
        API_REQUESTS_TOTAL,
        "endpoint" => entry.meta.path,
        "status" => response.status().as_str().to_owned(),
        "error_code" => code.unwrap_or_default(),
    )
    .increment(1);
    finish(&app.core, response, Cors::Anyone)
}

/// The answer, and the code of its error.
async fn answer(app: &App, entry: &Entry, request: Request) -> (Response, Option<&'static str>) {
    let is_get = request.method() == Method::GET;
    if is_get && !entry.meta.get {
        return (StatusCode::METHOD_NOT_ALLOWED.into_response(), None);
    }
    if entry.meta.multipart {
        return form::answer(app, entry, request).await;
    }
    let call = match read(&app.core, request).await {
        Ok(call) => call,
        Err(bad) => return (bad.into_response(), Some("BAD_REQUEST")),
    };
    match perform(app, entry, call).await {
        Ok((json, anonymous)) => {
            let mut response = reply(json);
            if is_get && anonymous && entry.meta.cache_seconds > 0 {
                response.headers_mut().insert(header::CACHE_CONTROL, public(entry.meta.cache_seconds));
            }
            (response, None)
        }
        Err(error) => {
            let code = error.def().code;
            (refusal(&error), Some(code))
        }
    }
}

/// Admits and runs a call; says whether it was anonymous.
pub(super) async fn perform(app: &App, entry: &Entry, call: Call) -> Result<(Vec<u8>, bool), ApiError> {
    let Call { method, headers, client, mut params } = call;
    let caller = app.core.authenticate(token(&headers, &params)?.as_deref()).await?;
    app.core.admit(&entry.meta, entry.credential, caller.as_ref(), client).await?;
    if params.is_null() {
        params = Value::Object(Map::new());
    }
    if method == Method::GET || entry.meta.multipart {
        cast(&entry.shape, &mut params)?;
    }
    let checked = entry.shape.check(&mut params);
    checked.map_err(|broken| ApiError::invalid_param(broken.param, broken.reason))?;
    let anonymous = caller.is_none();
    Ok((entry.run(app, caller, params).await?, anonymous))
}

/// Serves a POST that is no endpoint of the registry: it makes its own answer from the parameters.
pub async fn post_only(
    core: &Core,
    request: Request,
    cors: Cors,
    run: impl AsyncFnOnce(Call) -> Response,
) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight(core, cors, request.headers());
    }
    if request.method() != Method::POST {
        return unknown(core, request).await;
    }
    let response = match read(core, request).await {
        Ok(call) => run(call).await,
        Err(bad) => bad.into_response(),
    };
    finish(core, response, cors)
}

/// The address of the client of a request.
pub fn client_of(core: &Core, parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    core.proxies.client(peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), &parts.headers)
}

/// Reads what a request carries.
pub async fn read(core: &Core, request: Request) -> Result<Call, BadRequest> {
    let (parts, body) = request.into_parts();
    let client = client_of(core, &parts);
    let params = match parts.method {
        Method::GET => query(&parts.uri)?,
        Method::HEAD => Value::Null,
        _ => body_of(&parts.headers, body).await?,
    };
    Ok(Call { method: parts.method, headers: parts.headers, client, params })
}

/// The token of a call: from the header, else from the parameters.
pub(super) fn token(headers: &HeaderMap, params: &Value) -> Result<Option<String>, ApiError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) {
        return Ok(Some(token.to_owned()));
    }
    match params.get("i") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(token)) => Ok(Some(token.clone())),
        Some(_) => Err(ApiError::invalid_param("i", "must be string")),
    }
}

async fn body_of(headers: &HeaderMap, body: Body) -> Result<Value, BadRequest> {
    // Said to be too large: not waited for.
    if HttpBody::size_hint(&body).lower() > MAX_BODY_BYTES as u64 {
        return Err(BadRequest::TooLarge);
    }
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| BadRequest::TooLarge)?;
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let Some(content_type) = content_type else {
        return if bytes.is_empty() { Ok(Value::Null) } else { Err(BadRequest::MediaType) };
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" if bytes.is_empty() => Err(BadRequest::Empty),
        "application/json" => {
            let value: Value = serde_json::from_slice(&bytes).map_err(|_| BadRequest::Malformed)?;
            if is_poisoned(&value) { Err(BadRequest::Malformed) } else { Ok(value) }
        }
        // As on Misskey it reaches the endpoint, and no endpoint takes it.
        "text/plain" => Ok(Value::String(String::new())),
        _ => Err(BadRequest::MediaType),
    }
}

/// Keys by which a program in JavaScript could be led astray, refused as on Misskey; and the one character
/// that no table can hold.
fn is_poisoned(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(is_poisoned),
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let constructor = key == "constructor" && value.get("prototype").is_some();
            key == "__proto__" || constructor || key.contains('\0') || is_poisoned(value)
        }),
        _ => false,
    }
}

fn query(uri: &Uri) -> Result<Value, BadRequest> {
    let mut params = Map::new();
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    for (count, (name, value)) in pairs.enumerate() {
        if count >= MAX_QUERY_PARAMS {
            return Err(BadRequest::Query);
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(BadRequest::Query);
        }
        let value = Value::String(value.into_owned());
        match params.get_mut(name.as_ref()) {
            None => {
                params.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(Value::Object(params))
}

/// Turns the text of a query into booleans and numbers where the endpoint wants them.
fn cast(shape: &Shape, params: &mut Value) -> Result<(), ApiError> {
    for (name, types) in shape.properties() {
        let Some(Value::String(text)) = params.get(name) else { continue };
        let Some(wanted) = types.iter().find(|t| **t != Type::Null) else { continue };
        if !matches!(wanted, Type::Boolean | Type::Integer | Type::Number) {
            continue;
        }
        match serde_json::from_str::<Value>(text) {
            Ok(value) => params[name] = value,
            Err(_) => {
                let info = json!({ "param": name, "reason": format!("cannot cast to {}", wanted.name()) });
                return Err(ApiError::from(INVALID_QUERY).info(info));
            }
        }
    }
    Ok(())
}

/// 200 with the JSON, or 204 when it is `null`.
pub fn reply(json: Vec<u8>) -> Response {
    if json == b"null" {
        return StatusCode::NO_CONTENT.into_response();
    }
    ([(header::CONTENT_TYPE, JSON)], json).into_response()
}

/// The answer of a failed call. The cause of an internal failure is logged here and nowhere else.
pub fn refusal(error: &ApiError) -> Response {
    log_internal(error);
    let mut response = json_response(error.def().http_status(), &error.to_json());
    response.headers_mut().extend(error.headers());
    response
}

/// Logs the cause of an internal failure: once, where the answer is made.
pub fn log_internal(error: &ApiError) {
    if let ApiError::Internal(cause) = error {
        tracing::error!(cause = %chain(cause.as_ref()), "internal error");
    }
}

/// A status with a JSON body.
pub fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

/// Adds the headers that all answers of the API have.
pub fn finish(core: &Core, mut response: Response, cors: Cors) -> Response {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(PRIVATE);
    headers.entry(header::VARY).or_insert(HeaderValue::from_static("Origin"));
    let origin = match cors {
        Cors::Anyone => HeaderValue::from_static("*"),
        Cors::Own => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            match HeaderValue::from_str(&core.origin) {
                Ok(origin) => origin,
                Err(_) => return response,
            }
        }
    };
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response
}

/// The answer to a browser that asks whether it may call.
pub fn preflight(core: &Core, cors: Cors, asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,POST"));
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    finish(core, response, cors)
}

/// The answer where there is no endpoint.
pub async fn unknown(core: &Core, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    discard(body).await;
    let (method, uri) = (parts.method, parts.uri);
    let response = if method == Method::GET {
        refusal(&UNKNOWN_ENDPOINT.into())
    } else {
        let body = json!({
            "message": format!("Route {method}:{uri} not found"),
            "error": "Not Found",
            "statusCode": 404,
        });
        json_response(StatusCode::NOT_FOUND, &body)
    };
    finish(core, response, Cors::Anyone)
}

/// Reads what nobody wants, as far as a call may be long: a connection whose request wasn't read to its end
/// can't be used again, and the client would be cut off in its next call.
pub async fn discard(body: Body) {
    let mut left = MAX_BODY_BYTES;
    let mut pieces = body.into_data_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        match left.checked_sub(piece.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            BadRequest::Malformed => (StatusCode::BAD_REQUEST, "FST_ERR_CTP_INVALID_JSON_BODY"),
            BadRequest::Empty => (StatusCode::BAD_REQUEST, "FST_ERR_CTP_EMPTY_JSON_BODY"),
            BadRequest::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "FST_ERR_CTP_INVALID_MEDIA_TYPE"),
            BadRequest::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "FST_ERR_CTP_BODY_TOO_LARGE"),
            BadRequest::Query => (StatusCode::BAD_REQUEST, "FST_ERR_BAD_URL"),
        };
        let body = json!({
            "statusCode": status.as_u16(),
            "code": code,
            "error": status.canonical_reason(),
            "message": self.to_string(),
        });
        json_response(status, &body)
    }
}

async fn document(State(app): State<App>, request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight(&app.core, Cors::Anyone, request.headers());
    }
    let body = super::openapi::document(registry(), &app.core.origin);
    let mut response = json_response(StatusCode::OK, &body);
    response.headers_mut().insert(header::CACHE_CONTROL, public(DOCUMENT_SECONDS));
    finish(&app.core, response, Cors::Anyone)
}

fn public(seconds: u32) -> HeaderValue {
    HeaderValue::from_str(&format!("public, max-age={seconds}")).unwrap_or(PRIVATE)
}

/// A failure with all that led to it, for the log.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told += &format!(": {cause}");
        source = cause.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::admit::tests::core;

    async fn params(
        method: Method,
        uri: &str,
        content_type: Option<&str>,
        body: &str,
    ) -> Result<Value, BadRequest> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        read(&core(), request).await.map(|call| call.params)
    }

    async fn posted(content_type: Option<&str>, body: &str) -> Result<Value, BadRequest> {
        params(Method::POST, "/api/meta", content_type, body).await
    }

    #[tokio::test]
    async fn bodies_are_read_as_on_misskey() {
        const TYPE: Option<&str> = Some("application/json");
        assert_eq!(posted(TYPE, r#"{"a":1}"#).await.unwrap(), json!({ "a": 1 }));
        assert_eq!(posted(Some("application/json; charset=utf-8"), "[1]").await.unwrap(), json!([1]));
        assert_eq!(posted(None, "").await.unwrap(), Value::Null);
        assert_eq!(posted(TYPE, "null").await.unwrap(), Value::Null);
        assert_eq!(posted(Some("text/plain"), "{}").await.unwrap(), json!(""));
        assert!(matches!(posted(TYPE, r#"{"a":"#).await, Err(BadRequest::Malformed)));
        assert!(matches!(posted(TYPE, "").await, Err(BadRequest::Empty)));
        assert!(matches!(posted(None, "{}").await, Err(BadRequest::MediaType)));
        assert!(matches!(posted(Some("application/xml"), "{}").await, Err(BadRequest::MediaType)));
        let form = Some("application/x-www-form-urlencoded");
        assert!(matches!(posted(form, "detail=true").await, Err(BadRequest::MediaType)));
        for poisoned in [
            r#"{"__proto__":{}}"#,
            r#"{"a":["b\u0000"]}"#,
            r#"[{"a":{"__proto__":1}}]"#,
            r#"{"constructor":{"prototype":1}}"#,
        ] {
            assert!(matches!(posted(TYPE, poisoned).await, Err(BadRequest::Malformed)), "{poisoned}");
        }
        let large = format!("\"{}\"", "x".repeat(MAX_BODY_BYTES));
        assert!(matches!(posted(TYPE, &large).await, Err(BadRequest::TooLarge)));
        assert_eq!(params(Method::HEAD, "/api/meta", TYPE, "{}").await.unwrap(), Value::Null);
    }

    #[tokio::test]
    async fn a_query_becomes_parameters() {
        let shape = Shape::new(&json!({ "type": "object", "properties": {
            "detail": { "type": "boolean" },
            "limit": { "type": ["integer", "null"] },
            "name": { "type": "string" },
        }}))
        .unwrap();
        let uri = "/api/meta?detail=false&limit=5&name=5&tag=a&tag=b";
        let mut read = params(Method::GET, uri, None, "").await.unwrap();
        cast(&shape, &mut read).unwrap();
        assert_eq!(read, json!({ "detail": false, "limit": 5, "name": "5", "tag": ["a", "b"] }));

        let error = cast(&shape, &mut json!({ "detail": "maybe" })).unwrap_err();
        assert_eq!(error.def(), INVALID_QUERY);
        let info = json!({ "param": "detail", "reason": "cannot cast to boolean" });
        assert_eq!(error.to_json()["error"]["info"], info);

        let many: Vec<String> = (0..=MAX_QUERY_PARAMS).map(|n| format!("p{n}=1")).collect();
        let refused = params(Method::GET, &format!("/api/meta?{}", many.join("&")), None, "").await;
        assert!(matches!(refused, Err(BadRequest::Query)));
    }

    #[test]
    fn the_header_wins_when_it_is_a_bearer() {
        let from = |authorization: Option<&str>, params: Value| {
            let mut headers = HeaderMap::new();
            if let Some(value) = authorization {
                headers.insert("authorization", value.parse().unwrap());
            }
            token(&headers, &params).map_err(|error| error.to_json()["error"]["info"]["param"].clone())
        };
        assert_eq!(from(Some("Bearer a"), json!({ "i": "b" })), Ok(Some("a".to_owned())));
        assert_eq!(from(Some("anonymous"), json!({ "i": "b" })), Ok(Some("b".to_owned())));
        assert_eq!(from(Some("bearer a"), json!({})), Ok(None));
        assert_eq!(from(None, json!({ "i": null })), Ok(None));
        assert_eq!(from(None, json!([1])), Ok(None));
        assert_eq!(from(None, json!({ "i": 5 })), Err(json!("i")));
    }

    #[tokio::test]
    async fn headers_of_all_answers() {
        let core = core();
        let answer = finish(&core, reply(b"null".to_vec()), Cors::Anyone);
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.headers()["cache-control"], "private, max-age=0, must-revalidate");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert_eq!(answer.headers()["vary"], "Origin");
        let own = finish(&core, reply(b"1".to_vec()), Cors::Own);
        assert_eq!(own.headers()["content-type"], "application/json; charset=utf-8");
        assert_eq!(own.headers()["access-control-allow-origin"], "http://local");
        assert_eq!(own.headers()["access-control-allow-credentials"], "true");

        let mut asked = HeaderMap::new();
        asked.insert("access-control-request-headers", "content-type,authorization".parse().unwrap());
        let allowed = preflight(&core, Cors::Anyone, &asked);
        assert_eq!(allowed.headers()["access-control-allow-headers"], "content-type,authorization");
        assert_eq!(allowed.headers()["access-control-allow-methods"], "GET,HEAD,POST");
        assert_eq!(allowed.headers()["vary"], "Origin, Access-Control-Request-Headers");
    }

    #[tokio::test]
    async fn where_there_is_nothing() {
        let uri = "/api/no/such?x=1";
        let body = |response: Response| async {
            let bytes = to_bytes(response.into_body(), MAX_BODY_BYTES).await.unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let posted = unknown(&core(), Request::post(uri).body(Body::empty()).unwrap()).await;
        assert_eq!(posted.status(), StatusCode::NOT_FOUND);
        assert_eq!(body(posted).await["message"], "Route POST:/api/no/such?x=1 not found");
        let got = unknown(&core(), Request::get(uri).body(Body::empty()).unwrap()).await;
        assert_eq!(got.status(), StatusCode::NOT_FOUND);
        assert_eq!(body(got).await["error"]["code"], "UNKNOWN_API_ENDPOINT");
    }
}
