//! Words over NATS: one subject for all processes of one server.
//!
//! Other programs may be on the same NATS, so words carry a mark that only those with the server's keys can
//! make. Anybody could repeat an old word, which does no harm.
//!
//! The client reconnects by itself, for ever. Nothing is kept for those who are away: what is said then is
//! lost, and all hear that they may have missed something when the connection is there again.

use std::sync::Arc;
use std::time::Duration;

pub use async_nats::ConnectError as NatsError;
use async_nats::rustls::{self, ClientConfig, RootCertStore};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, Subscriber};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Line, MAX_TEXT_BYTES};
use crate::log::Keyring;

/// The pause between two messages: what is said in it goes into the next.
const BREATH: Duration = Duration::from_millis(1);
/// How long a message may take to be on its way.
const SENT_WITHIN: Duration = Duration::from_secs(5);
/// How long the first connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The first and the longest pause before NATS is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What marks of words belong to.
const MARK: &str = "bus word";

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
            })
            .tls_client_config(tls()?);
        let client = options.connect(url.split(',').map(str::trim).collect::<Vec<_>>()).await?;
        Ok(Self { client, back })
    }
}

/// Named, since there are two providers in the program: left to itself the client would panic.
fn tls() -> Result<ClientConfig, NatsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| NatsError::with_source(ConnectErrorKind::Tls, error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

pub(super) fn start(line: &Arc<Line>, nats: Nats, subject: String, keyring: Arc<Keyring>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(speak(Arc::clone(line), nats.client.clone(), subject.clone(), Arc::clone(&keyring)));
    tasks.spawn(listen(Arc::clone(line), nats, subject, keyring));
    tasks
}

async fn listen(line: Arc<Line>, mut nats: Nats, subject: String, marks: Arc<Keyring>) {
    loop {
        match nats.client.subscribe(subject.clone()).await {
            Ok(words) => {
                line.missed();
                hear(&line, words, &mut nats.back, &marks).await;
            }
            Err(error) => tracing::warn!(%error, "other processes can't be heard; trying again"),
        }
        sleep(LONGEST_PAUSE).await;
    }
}

/// Returns when the subscription has ended.
async fn hear(line: &Line, mut words: Subscriber, back: &mut watch::Receiver<u64>, marks: &Keyring) {
    loop {
        tokio::select! {
            word = words.next() => match word {
                Some(word) => match ours(&word.payload, marks) {
                    Some(text) => line.heard(text),
                    None => tracing::debug!(bytes = word.payload.len(), "words of somebody else"),
                },
                None => return,
            },
            Ok(()) = back.changed() => line.missed(),
        }
    }
}

/// The text of a message that carries its mark.
fn ours<'m>(message: &'m [u8], marks: &Keyring) -> Option<&'m str> {
    let (mark, text) = std::str::from_utf8(message).ok()?.split_once(' ')?;
    (text.len() <= MAX_TEXT_BYTES && mark == marks.hash(MARK, text)).then_some(text)
}

async fn speak(line: Arc<Line>, client: Client, subject: String, marks: Arc<Keyring>) {
    loop {
        for text in line.unsaid().await.texts(line.sender) {
            let marked = format!("{} {text}", marks.hash(MARK, &text));
            let sent = timeout(SENT_WITHIN, client.publish(subject.clone(), marked.into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::debug!("a word to other processes is lost");
            }
        }
        sleep(BREATH).await;
    }
}
