//! What the log and the projectors do, as metrics (names in [`crate::platform::metrics`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::Event;
use domain::log::{AppendError, By, EventLog, LogError, Position, Recorded, StreamId, Version};
use projections::Projections;

use crate::platform::metrics::{
    APPEND_DURATION_SECONDS, EVENTS_APPENDED_TOTAL, PROJECTION_LAG_EVENTS, PROJECTION_POSITION,
    PROJECTION_STOPPED,
};

/// How often the projectors are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A log that counts and times what is appended.
pub struct MeteredLog(pub Arc<dyn EventLog>);

#[async_trait]
impl EventLog for MeteredLog {
    async fn append(
        &self,
        stream: &StreamId,
        expected: Version,
        by: &By,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        let kinds: Vec<&'static str> = events.iter().map(|event| event.kind().0).collect();
        let asked = Instant::now();
        let outcome = self.0.append(stream, expected, by, events).await;
        metrics::histogram!(APPEND_DURATION_SECONDS).record(asked.elapsed().as_secs_f64());
        if outcome.is_ok() {
            for kind in kinds {
                metrics::counter!(EVENTS_APPENDED_TOTAL, "type" => kind).increment(1);
            }
        }
        outcome
    }

    async fn stream(&self, stream: &StreamId) -> Result<(Vec<Recorded>, Version), LogError> {
        self.0.stream(stream).await
    }

    async fn after(&self, position: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
        self.0.after(position, limit).await
    }

    async fn head(&self) -> Result<Position, LogError> {
        self.0.head().await
    }

    async fn wait(&self, position: Position) {
        self.0.wait(position).await;
    }
}

/// Shows where the projectors are, for ever.
pub async fn watch(projections: Projections) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for status in projections.status() {
            let name = status.name;
            metrics::gauge!(PROJECTION_POSITION, "projector" => name).set(status.position.0 as f64);
            metrics::gauge!(PROJECTION_LAG_EVENTS, "projector" => name).set(status.lag_events as f64);
            let stopped = if status.stopped.is_some() { 1.0 } else { 0.0 };
            metrics::gauge!(PROJECTION_STOPPED, "projector" => name).set(stopped);
        }
    }
}
