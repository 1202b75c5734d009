//! Pauses between tries, and how they end early.

use std::time::Duration;

use tokio::sync::watch;

/// The first and the longest pause before a lost connection is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A pause that grows with each use.
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }

    /// Waits; true when it was asked to stop meanwhile.
    pub(crate) async fn pause(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = stopped(stop) => true,
            () = tokio::time::sleep(pause) => false,
        }
    }
}

/// Returns when it was asked to stop, or when there is nobody left to ask.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
