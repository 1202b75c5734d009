//! `/livez`, `/readyz` and `/healthz`: what load balancers and containers ask. Details stay in the log.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sqlx::PgPool;

/// Events between the head of the log and the slowest projector. `None`: a projector has stopped, or
/// nobody can tell.
pub type Lag = Box<dyn Fn() -> Option<u64> + Send + Sync>;

pub struct Health {
    pub pool: PgPool,
    pub lag: Lag,
    /// Ready up to and including this lag.
    pub max_lag_events: u64,
}

/// `/livez`: the process answers. `/healthz`: and so does the database. `/readyz`: and the projectors
/// keep up. 200 or 503, never cached.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/livez", get(async || answer(Ok(()))))
        .route("/healthz", get(async |State(health): State<Arc<Health>>| answer(health.database().await)))
        .route("/readyz", get(async |State(health): State<Arc<Health>>| answer(health.ready().await)))
        .with_state(Arc::new(health))
}

/// How long the database may take to answer.
const DATABASE_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
enum Unwell {
    #[error("the database does not answer")]
    Database,
    #[error("a projector has stopped")]
    Stopped,
    #[error("the slowest projector is {0} events behind")]
    Behind(u64),
}

impl Health {
    async fn database(&self) -> Result<(), Unwell> {
        let asked = sqlx::query("select 1").execute(&self.pool);
        match tokio::time::timeout(DATABASE_DEADLINE, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unwell::Database),
        }
    }

    async fn ready(&self) -> Result<(), Unwell> {
        self.database().await?;
        match (self.lag)() {
            Some(lag) if lag <= self.max_lag_events => Ok(()),
            Some(lag) => Err(Unwell::Behind(lag)),
            None => Err(Unwell::Stopped),
        }
    }
}

fn answer(state: Result<(), Unwell>) -> Response {
    let (status, body) = match state {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(reason) => {
            tracing::warn!(%reason, "not well");
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n")
        }
    };
    (status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

    use super::*;

    fn health(pool: PgPool, lag: Option<u64>) -> Health {
        Health { pool, lag: Box::new(move || lag), max_lag_events: 10 }
    }

    fn nowhere() -> PgPool {
        let options = PgConnectOptions::new_without_pgpass().socket("/nonexistent");
        PgPoolOptions::new().acquire_timeout(Duration::from_millis(50)).connect_lazy_with(options)
    }

    #[sqlx::test(migrations = false)]
    async fn ready_up_to_the_bound_and_not_beyond(pool: PgPool) {
        for (lag, status) in [(Some(0), 200), (Some(10), 200), (Some(11), 503), (None, 503)] {
            let answered = answer(health(pool.clone(), lag).ready().await);
            assert_eq!(answered.status(), status, "{lag:?}");
            assert_eq!(answered.headers()["cache-control"], "no-store");
        }
    }

    #[tokio::test]
    async fn without_a_database_neither_healthy_nor_ready() {
        let health = health(nowhere(), Some(0));
        assert!(matches!(health.database().await, Err(Unwell::Database)));
        assert!(matches!(health.ready().await, Err(Unwell::Database)));
    }
}
