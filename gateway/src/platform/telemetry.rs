//! Logs, and the request id that ties a reply to its log lines.

use std::io::IsTerminal;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use tracing_subscriber::EnvFilter;

use super::metrics::HTTP_REQUEST_DURATION_SECONDS;
use crate::config::{Config, LogFormat};

/// Log lines go to standard error. Does nothing when logging is set up already.
pub fn init(config: &Config) {
    let filter = EnvFilter::new(&config.log_filter);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match config.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// Middleware: puts the id of a request into its log lines and the reply's `X-Request-Id`, and measures the
/// request. Paths are logged as their route, since some carry a session's secret.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = method_label(&request);

    let span = tracing::info_span!("request", request_id = %id, method, route);
    let mut response = next.run(request).instrument(span.clone()).await;

    let status = response.status();
    let took = started.elapsed();
    tracing::debug!(parent: &span, status = status.as_u16(), duration_ms = took.as_secs_f64() * 1e3, "answered");
    metrics::histogram!(
        HTTP_REQUEST_DURATION_SECONDS,
        "http_route" => route,
        "http_request_method" => method,
        "http_response_status_code" => status.as_u16().to_string(),
    )
    .record(took.as_secs_f64());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID.clone(), id);
    }
    response
}

/// The client's `X-Request-Id` or `X-Client-Transaction-Id` when it is fit to be logged, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|id| is_fit(id));
    match given(&REQUEST_ID).or_else(|| given(&CLIENT_TRANSACTION_ID)) {
        Some(id) => id.to_owned(),
        None => format!("{:032x}", rand::random::<u128>()),
    }
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The official web client's name for the same.
static CLIENT_TRANSACTION_ID: HeaderName = HeaderName::from_static("x-client-transaction-id");
const MAX_REQUEST_ID_BYTES: usize = 64;

fn is_fit(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.chars().all(allowed)
}

/// A client can invent methods; a metric must not grow with them.
fn method_label(request: &Request) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(given: &[(&HeaderName, &str)]) -> String {
        let headers =
            given.iter().map(|(name, value)| ((*name).clone(), HeaderValue::from_str(value).unwrap()));
        request_id(&headers.collect())
    }

    #[test]
    fn a_fit_id_is_kept() {
        assert_eq!(id_of(&[(&REQUEST_ID, "a-B_c.1")]), "a-B_c.1");
        assert_eq!(id_of(&[(&CLIENT_TRANSACTION_ID, "t1")]), "t1");
        assert_eq!(id_of(&[(&REQUEST_ID, "r1"), (&CLIENT_TRANSACTION_ID, "t1")]), "r1");
    }

    #[test]
    fn an_unfit_id_is_replaced() {
        let long = "a".repeat(MAX_REQUEST_ID_BYTES + 1);
        for unfit in ["", "a b", "a\"b", "é", &long] {
            let made = id_of(&[(&REQUEST_ID, unfit)]);
            assert!(made != unfit && is_fit(&made) && made.len() == 32, "{unfit:?} became {made:?}");
        }
        assert_ne!(id_of(&[]), id_of(&[]));
    }
}
