//! One switch that everything long-lived watches: sockets, loops, listeners.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why the process is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// An operator asked (SIGTERM, SIGINT).
    Asked,
    /// Something the server can't live without is gone; the exit code says so.
    Failed,
}

/// Cheap to clone; every clone is the same switch. It goes one way, and the first reason stays.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Sender<Option<Stop>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Shutdown {
    pub fn begin(&self, stop: Stop) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(stop);
            first
        });
    }

    /// Why, once it has begun.
    pub fn begun(&self) -> Option<Stop> {
        *self.0.borrow()
    }

    /// Returns when it has begun; at once if it has already.
    pub async fn wait(&self) -> Stop {
        let mut changes = self.0.subscribe();
        match changes.wait_for(Option::is_some).await {
            Ok(stop) => stop.unwrap_or(Stop::Asked),
            // Can't happen while `self` holds the sender.
            Err(_) => Stop::Asked,
        }
    }

    /// Runs a task in the background, until it ends or this begins: then it is dropped where it waits.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = shutdown.wait() => (),
                () = task => (),
            }
        });
    }

    /// Begins on SIGTERM and SIGINT. Takes the signals over before it returns.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "stopping");
            shutdown.begin(Stop::Asked);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_it_and_the_first_reason_stays() {
        let shutdown = Shutdown::default();
        let waiting = tokio::spawn({
            let clone = shutdown.clone();
            async move { clone.wait().await }
        });
        assert_eq!(shutdown.begun(), None);
        shutdown.begin(Stop::Failed);
        shutdown.begin(Stop::Asked);
        assert_eq!(waiting.await.unwrap(), Stop::Failed);
        assert_eq!(shutdown.wait().await, Stop::Failed);
    }
}
