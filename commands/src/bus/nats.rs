//! Words over NATS: one subject for all processes of one server.
//!
//! The client reconnects by itself, for ever. Nothing is kept for those who are away: what is said then is
//! lost, and all hear that they may have missed something when the connection is there again.

use std::sync::Arc;
use std::time::Duration;

pub use async_nats::ConnectError as NatsError;
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Line, closed};

/// The pause between two messages: what is said in it goes into the next.
const BREATH: Duration = Duration::from_millis(1);
/// How long a message may take to be on its way.
const SENT_WITHIN: Duration = Duration::from_secs(5);
/// How long the first connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The first and the longest pause before NATS is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection to NATS that lasts as long as the process, whether NATS is there or not.
#[derive(Clone)]
pub struct Nats {
    pub client: Client,
    /// Changes whenever the connection is there again.
    back: watch::Receiver<u64>,
}

impl Nats {
    /// Connects to a server, or to a cluster given by comma. Only an address that can't be right is an
    /// error; a server that isn't there is tried again.
    pub async fn connect(url: &str) -> Result<Self, NatsError> {
        let (telling, back) = watch::channel(0);
        let options = ConnectOptions::new()
            .name("kiroku")
            .no_echo()
            .connection_timeout(CONNECT_WITHIN)
            .retry_on_initial_connect()
            .reconnect_delay_callback(|attempts| {
                let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.min(10));
                doubled.min(LONGEST_PAUSE)
            })
            .event_callback(move |event| {
                match &event {
                    Event::Connected => telling.send_modify(|times| *times += 1),
                    other => tracing::warn!(event = %other, "NATS"),
                }
                std::future::ready(())
            });
        let client = options.connect(url.split(',').map(str::trim).collect::<Vec<_>>()).await?;
        Ok(Self { client, back })
    }
}

pub(super) fn start(line: &Arc<Line>, closing: watch::Receiver<()>, nats: Nats, subject: String) {
    let (hearing, ears, of, mut until) = (Arc::clone(line), nats.clone(), subject.clone(), closing.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = closed(&mut until) => (),
            () = listen(&hearing, ears, of) => (),
        }
    });
    let (saying, mut until) = (Arc::clone(line), closing);
    tokio::spawn(async move {
        tokio::select! {
            () = closed(&mut until) => (),
            () = speak(&saying, nats.client, subject) => (),
        }
    });
}

async fn listen(line: &Line, mut nats: Nats, subject: String) {
    loop {
        match nats.client.subscribe(subject.clone()).await {
            Ok(words) => {
                line.missed();
                hear(line, words, &mut nats.back).await;
            }
            Err(error) => tracing::warn!(%error, "other processes can't be heard; trying again"),
        }
        sleep(LONGEST_PAUSE).await;
    }
}

/// Returns when the subscription has ended.
async fn hear(line: &Line, mut words: Subscriber, back: &mut watch::Receiver<u64>) {
    loop {
        tokio::select! {
            word = words.next() => match word {
                Some(word) => line.heard(&String::from_utf8_lossy(&word.payload)),
                None => return,
            },
            Ok(()) = back.changed() => line.missed(),
        }
    }
}

async fn speak(line: &Line, client: Client, subject: String) {
    loop {
        for text in line.unsaid().await.texts(line.sender) {
            let sent = timeout(SENT_WITHIN, client.publish(subject.clone(), text.into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::debug!("a word to other processes is lost");
            }
        }
        sleep(BREATH).await;
    }
}
