//! Prometheus metrics: their names, and the listener of their own. Without a listener nothing is kept.
//!
//! To add one: a constant, a line in [`describe`], and `metrics::counter!(NAME, …)` where it happens.
//! Names carry the unit, counters end in `_total`, and no label takes its value from a client.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use super::shutdown::Shutdown;

/// Labels: `http_route`, `http_request_method`, `http_response_status_code`.
pub const HTTP_REQUEST_DURATION_SECONDS: &str = "http_server_request_duration_seconds";
/// Labels: `endpoint`, `status`, `error_code`.
pub const API_REQUESTS_TOTAL: &str = "kiroku_api_requests_total";
/// Labels: `type`.
pub const EVENTS_APPENDED_TOTAL: &str = "kiroku_events_appended_total";
pub const APPEND_DURATION_SECONDS: &str = "kiroku_append_duration_seconds";
/// Labels: `projector`.
pub const PROJECTION_POSITION: &str = "kiroku_projection_position";
/// Labels: `projector`.
pub const PROJECTION_LAG_EVENTS: &str = "kiroku_projection_lag_events";
/// 1 when a projector stands still because of an event it can't apply. Labels: `projector`.
pub const PROJECTION_STOPPED: &str = "kiroku_projection_stopped";
pub const STREAMING_CONNECTIONS: &str = "kiroku_streaming_connections";
/// Labels: `channel`.
pub const STREAMING_SENT_TOTAL: &str = "kiroku_streaming_sent_total";
/// Labels: `version`.
pub const BUILD_INFO: &str = "kiroku_build_info";

#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("metrics can't be served on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("metrics can't be kept: {0}")]
    Build(#[from] metrics_exporter_prometheus::BuildError),
    #[error("metrics are kept by somebody else already")]
    Installed,
}

/// Keeps metrics from now on and serves them at `/metrics` until the shutdown.
pub async fn serve(address: SocketAddr, shutdown: &Shutdown) -> Result<(), MetricsError> {
    let listener =
        TcpListener::bind(address).await.map_err(|source| MetricsError::Listen { address, source })?;
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_SECONDS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
    describe();
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);

    let stop = shutdown.clone();
    let app = routes(handle.clone());
    tokio::spawn(async move {
        let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
            stop.wait().await;
        });
        if let Err(error) = serving.await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    let stop = shutdown.clone();
    tokio::spawn(async move {
        while tokio::time::timeout(UPKEEP_EVERY, stop.wait()).await.is_err() {
            handle.run_upkeep();
        }
    });
    tracing::info!(%address, "serving metrics");
    Ok(())
}

const BUCKETS_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Histograms grow between two upkeeps.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

fn routes(handle: PrometheusHandle) -> Router {
    let page =
        async move || ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render());
    Router::new().route("/metrics", get(page))
}

fn describe() {
    describe_histogram!(HTTP_REQUEST_DURATION_SECONDS, Unit::Seconds, "Time to answer an HTTP request");
    describe_counter!(API_REQUESTS_TOTAL, "API requests by endpoint, status and error code");
    describe_counter!(EVENTS_APPENDED_TOTAL, "Events appended to the log, by kind");
    describe_histogram!(
        APPEND_DURATION_SECONDS,
        Unit::Seconds,
        "Time from asking for an append to its commit"
    );
    describe_gauge!(PROJECTION_POSITION, "Position in the log that a projector has applied");
    describe_gauge!(PROJECTION_LAG_EVENTS, "Events in the log that a projector has not applied yet");
    describe_gauge!(
        PROJECTION_STOPPED,
        "Whether a projector stands still because of an event it can't apply"
    );
    describe_gauge!(STREAMING_CONNECTIONS, "Open streaming sockets");
    describe_counter!(STREAMING_SENT_TOTAL, "Messages sent on streaming sockets, by channel");
    describe_gauge!(BUILD_INFO, "Always 1; the labels say what runs");
}
