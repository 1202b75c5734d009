//! The way to the server: one client and its replacements, writes and reads, and what may go wrong.
//!
//! The client leaves Nagle's algorithm on. A request of its own takes two packets, and the second waits
//! until the server's system has confirmed the first: some 40 ms on Linux, whatever the server does. So
//! appends go through one call that stays open, where each is a single packet. The call ends with its
//! first refusal; whoever was in it asks again with a request of its own, which also says why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::log::LogError;
use eventstore::{
    AppendToStreamOptions, BatchAppendClient, BatchAppendOptions, Client, ClientSettings, CurrentRevision,
    Error, EventData, ExpectedRevision, ReadStream, ReadStreamOptions, RecordedEvent, StreamPosition,
};
use tokio::time::{Instant, sleep, timeout};

use super::WRITE_TIMEOUT;

/// How long a read may stand still, connecting included.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long something is tried again; a last attempt may begin then.
const TRIED_AGAIN_FOR: Duration = Duration::from_secs(20);
/// The pause after the first failed attempt; doubled each time up to the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a new client waits before it connects, and between two looks for the leader.
const CONNECT_AFTER: Duration = Duration::from_millis(20);
/// Never written to.
const NOBODYS_STREAM: &str = "kiroku-nobody";

/// A link, and a new one when it has failed: the client doesn't always come back by itself.
pub(super) struct Server {
    settings: ClientSettings,
    link: Mutex<Link>,
}

/// A client, and the open call of its appends.
#[derive(Clone)]
pub(super) struct Link {
    generation: u64,
    pub client: Client,
    appending: Arc<tokio::sync::Mutex<Option<Arc<BatchAppendClient>>>>,
}

/// What became of a write.
pub(super) enum Put {
    /// The place of its last event, where the server tells it.
    Written(Option<u64>),
    /// The last revision that the stream has.
    WrongRevision(Option<u64>),
}

/// Why an attempt failed.
pub(super) enum Fault {
    Server(Error),
    NoAnswer,
    /// Another writer of the same command may be about to write.
    UnderWay,
    Log(LogError),
}

impl Server {
    pub fn new(url: &str) -> Result<Self, LogError> {
        let settings = settings(url).ok_or_else(|| {
            LogError::Unavailable("its address is not of the form esdb://host:port".to_owned())
        })?;
        // The client would panic.
        let (certificate, key) = settings.user_certificate().unzip();
        for file in [settings.tls_ca_file(), certificate, key].into_iter().flatten() {
            std::fs::File::open(file).map_err(|error| LogError::Unavailable(format!("{file}: {error}")))?;
        }
        let link = Link::new(0, &settings).map_err(|error| LogError::Unavailable(error.to_string()))?;
        Ok(Self { settings, link: Mutex::new(link) })
    }

    pub fn link(&self) -> Link {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a link that has failed, unless somebody else did.
    pub fn replace(&self, failed: &Link) {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if link.generation != failed.generation {
            return;
        }
        match Link::new(failed.generation + 1, &self.settings) {
            Ok(new) => *link = new,
            Err(error) => tracing::error!(%error, "no client of the log can be made"),
        }
        tokio::spawn(failed.clone().close());
    }

    /// Gets ready for another attempt; an error when there should be none.
    pub async fn recover(
        &self,
        fault: Fault,
        failed: &Link,
        patience: &mut Patience,
    ) -> Result<(), LogError> {
        if !fault.is_passing() || patience.is_over() {
            return Err(fault.into());
        }
        match &fault {
            Fault::Server(Error::NotLeaderException(_)) | Fault::UnderWay => {}
            _ => self.replace(failed),
        }
        tracing::warn!(error = %LogError::from(fault), "the log is tried again");
        patience.pause().await;
        Ok(())
    }
}

impl Link {
    fn new(generation: u64, settings: &ClientSettings) -> eventstore::Result<Self> {
        Ok(Self { generation, client: Client::new(settings.clone())?, appending: Arc::default() })
    }

    /// Writes to a stream that is at `expected`. Nothing is sent after `until`.
    pub async fn put(
        &self,
        stream: &str,
        expected: ExpectedRevision,
        events: Vec<EventData>,
        until: Instant,
    ) -> Result<Put, Fault> {
        if Instant::now() >= until {
            return Err(Fault::UnderWay);
        }
        let call = self.call().await;
        let is_again = call.is_some();
        if let Some(call) = call {
            let written = call.append_to_stream(stream, expected, events.clone());
            match timeout(WRITE_TIMEOUT, written).await {
                Ok(Ok(result)) => {
                    return Ok(Put::Written(result.current_position().map(|place| place.commit)));
                }
                Ok(Err(_)) => self.appending.lock().await.take_if(|open| Arc::ptr_eq(open, &call)),
                Err(_) => return Err(Fault::NoAnswer),
            };
        }
        if Instant::now() >= until {
            return Err(Fault::UnderWay);
        }
        let options = AppendToStreamOptions::default()
            .expected_revision(expected)
            .requires_leader(true)
            .deadline(WRITE_TIMEOUT);
        match self.client.append_to_stream(stream, &options, events).await {
            // What was there already may be told to be anywhere.
            Ok(result) => Ok(Put::Written((!is_again).then_some(result.position.commit))),
            Err(Error::WrongExpectedVersion { current: CurrentRevision::Current(revision), .. }) => {
                Ok(Put::WrongRevision(Some(revision)))
            }
            Err(Error::WrongExpectedVersion { .. }) => Ok(Put::WrongRevision(None)),
            Err(error) => Err(error.into()),
        }
    }

    /// The open call; none with a server that doesn't know such a thing, or can't be reached.
    async fn call(&self) -> Option<Arc<BatchAppendClient>> {
        let mut open = self.appending.lock().await;
        if open.is_none() {
            let options = BatchAppendOptions::default().requires_leader(true);
            *open = self.client.batch_append(&options).await.ok().map(Arc::new);
        }
        open.clone()
    }

    /// Ends the open call, and so the connection: there is no way to it but to be refused.
    async fn close(self) {
        if let Some(call) = self.appending.lock().await.take() {
            let refused = call.append_to_stream(NOBODYS_STREAM, ExpectedRevision::StreamExists, Vec::new());
            _ = timeout(WRITE_TIMEOUT, refused).await;
        }
    }

    /// The event at one place of a stream, when there is one.
    pub async fn one(&self, stream: &str, at: StreamPosition<u64>) -> Result<Option<RecordedEvent>, Fault> {
        let options = ReadStreamOptions::default().position(at).max_count(1).requires_leader(true);
        next(&mut opened(self.client.read_stream(stream, &options)).await?).await
    }
}

pub(super) async fn opened(
    read: impl Future<Output = eventstore::Result<ReadStream>>,
) -> Result<ReadStream, Fault> {
    Ok(timeout(READ_TIMEOUT, read).await.map_err(|_| Fault::NoAnswer)??)
}

/// The next event; a stream that isn't there has none.
pub(super) async fn next(events: &mut ReadStream) -> Result<Option<RecordedEvent>, Fault> {
    loop {
        match timeout(READ_TIMEOUT, events.next()).await.map_err(|_| Fault::NoAnswer)? {
            Ok(Some(read)) if read.event.is_none() => continue,
            Ok(read) => return Ok(read.and_then(|read| read.event)),
            Err(Error::ResourceNotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The settings in an address. The client waits for a while before it connects; not for as long as it
/// would by itself, unless the address says so.
fn settings(url: &str) -> Option<ClientSettings> {
    let given: ClientSettings = url.parse().ok()?;
    if url.to_ascii_lowercase().contains("discoveryinterval=") {
        return Some(given);
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}discoveryInterval={}", CONNECT_AFTER.as_millis()).parse().ok()
}

pub(super) struct Patience {
    began: Instant,
    pause: Duration,
}

impl Patience {
    pub fn new() -> Self {
        Self { began: Instant::now(), pause: FIRST_PAUSE }
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() >= TRIED_AGAIN_FOR
    }

    async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl Fault {
    fn is_passing(&self) -> bool {
        match self {
            Fault::NoAnswer | Fault::UnderWay => true,
            Fault::Log(_) => false,
            Fault::Server(error) => match error {
                Error::ServerError(_)
                | Error::NotLeaderException(_)
                | Error::ConnectionClosed
                | Error::GrpcConnectionError(_)
                | Error::DeadlineExceeded => true,
                // Cancelled, resource exhausted, aborted.
                Error::Grpc { code, .. } => matches!(i32::from(*code), 1 | 8 | 10),
                _ => false,
            },
        }
    }
}

impl From<Fault> for LogError {
    fn from(fault: Fault) -> Self {
        LogError::Unavailable(match fault {
            Fault::Log(error) => return error,
            Fault::Server(error) => error.to_string(),
            Fault::NoAnswer => "no answer in time".to_owned(),
            Fault::UnderWay => "the same command is under way elsewhere".to_owned(),
        })
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Server(error)
    }
}

impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        Fault::Log(error)
    }
}
