//! A double of EventStoreDB, not the server: its Streams protocol over a real socket (HTTP/2, with TLS
//! or without), what it holds in memory. It follows the published rules of expected revisions, of idempotent
//! writes and of places in `$all`, writes events of its own in between as a server does, and makes
//! trouble when told to: it cuts connections, delays, and does everything twice.
//!
//! What passes here may still fail on a server. The suites that use it run on one as well, at
//! `KIROKU_TEST_EVENTSTORE_URL`.

#![allow(dead_code, reason = "each suite makes its own trouble")]

mod wire;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{self, ServerConfig};
use uuid::Uuid;

use wire::*;

/// As the server's default.
const MAX_APPEND_BYTES: usize = 1024 * 1024;
/// How many appends there are between two events of the server's own.
const APPENDS_BETWEEN_STATS: u64 = 3;
/// What is before the first event in a server's log.
const FIRST_PLACE: u64 = 250;
/// What an event takes beside its bytes.
const OVERHEAD: u64 = 90;

/// How many events a subscription is past before it is told so.
const EVENTS_BETWEEN_CHECKPOINTS: usize = 8;

// Codes of gRPC.
const INVALID: u16 = 3;
const ALREADY_EXISTS: i32 = 6;
const UNIMPLEMENTED: u16 = 12;
const UNAVAILABLE: u16 = 14;

pub struct Double {
    shared: Arc<Shared>,
    listening: AbortHandle,
    /// In PEM, when it speaks TLS.
    pub certificate: Option<String>,
}

struct Shared {
    address: SocketAddr,
    held: Mutex<Held>,
    /// How many events there are.
    written: watch::Sender<usize>,
    /// How often each stream was read.
    read: watch::Sender<HashMap<String, u32>>,
    connections: Mutex<JoinSet<()>>,
    trouble: watch::Sender<Trouble>,
}

#[derive(Default)]
struct Held {
    all: Vec<Arc<Event>>,
    streams: HashMap<String, Vec<Arc<Event>>>,
    appends: u64,
    single_appends: u64,
    end: u64,
}

struct Event {
    id: Uuid,
    stream: String,
    revision: u64,
    place: u64,
    metadata: HashMap<String, String>,
    custom_metadata: Vec<u8>,
    data: Vec<u8>,
}

#[derive(Default, Clone)]
pub struct Trouble {
    /// Of this many next appends, the last is written and never answered: every connection is cut.
    pub unanswered: Option<u32>,
    /// Appends to streams that begin so wait.
    pub delayed: Option<String>,
    /// Every append arrives twice, every event of a subscription is told twice.
    pub twice: bool,
    /// As a server before 21.10: every append needs a call of its own.
    pub is_old: bool,
    /// Answers to appends tell the place of the first event.
    pub misplaced: bool,
    /// As a follower: appends and reads are sent on to the leader at this port.
    pub leader: Option<u16>,
}

/// A code of gRPC and a reason.
#[derive(Clone, Copy)]
struct Refused(u16, &'static str);

const NOT_LEADER: Refused = Refused(5, "not the leader");

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Messages = BoxStream<'static, Vec<u8>>;

impl Double {
    pub async fn start() -> Self {
        Self::listening(None, None).await
    }

    /// With TLS, and a certificate of its own making.
    pub async fn secured() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::listening(Some(TlsAcceptor::from(Arc::new(config))), Some(made.cert.pem())).await
    }

    async fn listening(tls: Option<TlsAcceptor>, certificate: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            held: Mutex::new(Held { end: FIRST_PLACE, ..Held::default() }),
            written: watch::Sender::new(0),
            read: watch::Sender::default(),
            connections: Mutex::default(),
            trouble: watch::Sender::default(),
        });
        let listening = tokio::spawn(listen(listener, tls, shared.clone())).abort_handle();
        Self { shared, listening, certificate }
    }

    pub fn url(&self) -> String {
        format!("esdb://{}?tls={}", self.shared.address, self.certificate.is_some())
    }

    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    pub fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        self.shared.trouble.send_modify(change);
    }

    pub fn has_trouble(&self, is_made: impl FnOnce(&Trouble) -> bool) -> bool {
        is_made(&self.shared.trouble.borrow())
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Takes the first events of a stream away, as an operator may with `$maxCount`.
    pub fn cut_off(&self, stream: &str, before: u64) {
        let mut held = self.shared.held();
        held.all.retain(|event| event.stream != stream || event.revision >= before);
        held.streams.get_mut(stream).unwrap().retain(|event| event.revision >= before);
    }

    /// Others write as well.
    pub fn others_write(&self, events: usize) {
        let mut held = self.shared.held();
        for _ in 0..events {
            held.add("somebody-else.s", &Proposed { data: b"{}".to_vec(), ..Proposed::default() });
        }
        self.shared.written.send_replace(held.all.len());
    }

    /// As if a stream had never been.
    pub fn forget(&self, stream: &str) {
        self.cut_off(stream, u64::MAX);
        self.shared.held().streams.remove(stream);
    }

    /// Writes one event to a stream that isn't there.
    pub fn begin(&self, stream: &str, data: &[u8]) {
        let event = Proposed { data: data.to_vec(), ..Proposed::default() };
        let written = self.shared.write(stream, &Expected::NoStream(Empty {}), &[event]);
        assert!(matches!(written, Ok(Appended::Success(_))), "{stream} was there");
    }

    /// How many events there are in streams that begin so.
    pub fn count(&self, prefix: &str) -> usize {
        self.shared.held().all.iter().filter(|event| event.stream.starts_with(prefix)).count()
    }

    /// How many events there are; changes are told.
    pub fn written(&self) -> watch::Receiver<usize> {
        self.shared.written.subscribe()
    }

    /// How often each stream was read; changes are told.
    pub fn read(&self) -> watch::Receiver<HashMap<String, u32>> {
        self.shared.read.subscribe()
    }

    /// How many appends came each in a call of its own.
    pub fn single_appends(&self) -> u64 {
        self.shared.held().single_appends
    }

    /// The names of all streams, and all data and metadata.
    pub fn everything(&self) -> Vec<Vec<u8>> {
        let held = self.shared.held();
        let parts =
            |e: &Arc<Event>| [e.stream.clone().into_bytes(), e.data.clone(), e.custom_metadata.clone()];
        held.all.iter().flat_map(parts).collect()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.listening.abort();
        self.shared.cut();
    }
}

async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        socket.set_nodelay(true).unwrap();
        let service = {
            let shared = shared.clone();
            hyper::service::service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            })
        };
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let tls = tls.clone();
        let mut connections = shared.connections.lock().unwrap();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            match tls {
                None => _ = connection.serve_connection(TokioIo::new(socket), service).await,
                Some(tls) => {
                    let Ok(socket) = tls.accept(socket).await else { return };
                    _ = connection.serve_connection(TokioIo::new(socket), service).await;
                }
            }
        });
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    fn cut(&self) {
        self.connections.lock().unwrap().abort_all();
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let leader = self.trouble.borrow().leader;
        if leader.is_some() && path.starts_with("/event_store.client.streams.Streams/") {
            return respond(Err(NOT_LEADER), leader);
        }
        if path == "/event_store.client.streams.Streams/BatchAppend" {
            return respond(Ok(self.append_many(request.into_body())), None);
        }
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let answer = match path.as_str() {
            "/event_store.client.server_features.ServerFeatures/GetSupportedMethods" => {
                Ok(only(&self.methods()))
            }
            "/event_store.client.gossip.Gossip/Read" => Ok(only(&self.members())),
            "/event_store.client.streams.Streams/Append" => {
                self.append(&body).await.map(|answer| only(&answer))
            }
            "/event_store.client.streams.Streams/Read" => self.read(&body),
            _ => Err(Refused(UNIMPLEMENTED, "the double doesn't do that")),
        };
        respond(answer, None)
    }

    fn methods(&self) -> SupportedMethods {
        let method = |name: &str| SupportedMethod {
            name: name.to_owned(),
            service: "event_store.client.streams.streams".to_owned(),
        };
        let mut methods = vec![method("append"), method("read")];
        if !self.trouble.borrow().is_old {
            methods.push(method("batchappend"));
        }
        SupportedMethods { methods, version: "24.10.0".to_owned() }
    }

    fn members(&self) -> ClusterInfo {
        let at = Endpoint { address: self.address.ip().to_string(), port: self.address.port().into() };
        ClusterInfo {
            members: vec![Member { id: Some(id(Uuid::nil())), state: 8, alive: true, at: Some(at) }],
        }
    }

    async fn append(&self, body: &[u8]) -> Result<AppendResp, Refused> {
        let mut messages =
            unframed(body).into_iter().map(|message| AppendReq::decode(message).unwrap().content);
        let Some(Some(AppendContent::Options(options))) = messages.next() else {
            return Err(Refused(INVALID, "options come first"));
        };
        let events: Vec<Proposed> = messages
            .map(|content| match content {
                Some(AppendContent::Proposed(event)) => event,
                _ => panic!("not an event"),
            })
            .collect();
        self.held().single_appends += 1;
        let result = self.arrived(&named(options.stream), &options.expected.unwrap(), &events).await?;
        Ok(AppendResp { result: Some(result) })
    }

    /// The open call: its appends are done in order, unless one is delayed, and answered as they are done.
    fn append_many(self: Arc<Self>, body: Incoming) -> Messages {
        let (answers, answered) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut frames = BodyStream::new(body);
            let mut bytes = Vec::new();
            while let Some(Ok(frame)) = frames.next().await {
                bytes.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
                let messages = unframed(&bytes);
                let used: usize = messages.iter().map(|message| message.len() + FRAME_HEAD).sum();
                for message in messages {
                    let request = BatchAppendReq::decode(message).unwrap();
                    let (shared, answers) = (self.clone(), answers.clone());
                    let done = async move { _ = answers.send(shared.batched(request).await.encode_to_vec()) };
                    if self.trouble.borrow().delayed.is_some() {
                        tokio::spawn(done);
                    } else {
                        done.await;
                    }
                }
                bytes.drain(..used);
            }
        });
        stream::unfold(answered, async |mut answered| Some((answered.recv().await?, answered))).boxed()
    }

    async fn batched(&self, request: BatchAppendReq) -> BatchAppendResp {
        let options = request.options.unwrap();
        let name = named(options.stream.clone());
        let failed = |code, message: &str| BatchAppended::Error(Status { code, message: message.to_owned() });
        let result = match self.arrived(&name, &options.expected.unwrap(), &request.events).await {
            Ok(Appended::Success(success)) => BatchAppended::Success(success),
            Ok(Appended::Wrong(_)) => failed(ALREADY_EXISTS, "WrongExpectedVersion"),
            Err(Refused(code, reason)) => failed(code.into(), reason),
        };
        BatchAppendResp { correlation: request.correlation, stream: options.stream, result: Some(result) }
    }

    /// Writes what has arrived, with all the trouble that is made.
    async fn arrived(
        &self,
        stream: &str,
        expected: &Expected,
        events: &[Proposed],
    ) -> Result<Appended, Refused> {
        let mut trouble = self.trouble.subscribe();
        let is_let = |trouble: &Trouble| !trouble.delayed.as_ref().is_some_and(|s| stream.starts_with(s));
        _ = trouble.wait_for(is_let).await;

        let answer = self.write(stream, expected, events)?;
        let again = self.trouble.borrow().twice;
        let answer = if again { self.write(stream, expected, events)? } else { answer };
        let mut lost = false;
        self.trouble.send_if_modified(|trouble| {
            trouble.unanswered = trouble.unanswered.map(|n| n - 1);
            lost = trouble.unanswered.take_if(|n| *n == 0).is_some();
            false
        });
        if lost {
            self.cut();
            return Err(Refused(UNAVAILABLE, "cut"));
        }
        Ok(answer)
    }

    fn write(&self, stream: &str, expected: &Expected, events: &[Proposed]) -> Result<Appended, Refused> {
        if events.iter().map(|e| e.data.len() + e.custom_metadata.len()).sum::<usize>() > MAX_APPEND_BYTES {
            return Err(Refused(INVALID, "maximum append size exceeded"));
        }
        let mut held = self.held();
        let there = held.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        let current = there.len() as i64 - 1;
        let wanted = match expected {
            Expected::Revision(revision) => {
                i64::try_from(*revision).map_err(|_| Refused(INVALID, "a revision is positive"))?
            }
            Expected::NoStream(_) => -1,
            Expected::Any(_) | Expected::Exists(_) => current,
        };
        if wanted < current {
            let earlier = &there[(wanted + 1) as usize..];
            let again = earlier.len() >= events.len()
                && earlier.iter().zip(events).all(|(there, event)| there.id == given(event.id.as_ref()));
            return Ok(match earlier.get(events.len().wrapping_sub(1)) {
                Some(last) if again => success(last),
                _ => wrong(current, expected),
            });
        }
        if wanted > current {
            return Ok(wrong(current, expected));
        }
        held.appends += 1;
        if held.appends.is_multiple_of(APPENDS_BETWEEN_STATS) {
            held.add("$stats-127.0.0.1:2113", &Proposed { data: b"{}".to_vec(), ..Proposed::default() });
            held.add("somebody-else.s", &Proposed { data: b"{}".to_vec(), ..Proposed::default() });
        }
        if matches!(expected, Expected::Exists(_)) && current < 0 {
            return Ok(wrong(current, expected));
        }
        let misplaced = self.trouble.borrow().misplaced;
        let mut answer = wrong(current, expected);
        for (n, event) in events.iter().enumerate() {
            let added = held.add(stream, event);
            if n == 0 || !misplaced {
                answer = success(&added);
            }
        }
        self.written.send_replace(held.all.len());
        Ok(answer)
    }

    fn read(self: Arc<Self>, body: &[u8]) -> Result<Messages, Refused> {
        let Some(options) = unframed(body).first().and_then(|m| ReadReq::decode(*m).unwrap().options) else {
            return Err(Refused(INVALID, "no options"));
        };
        let prefix = match options.filter {
            Some(Filtered::By(filter)) => filter.stream.and_then(|by| by.prefix.into_iter().next()),
            _ => None,
        };
        let count = match options.extent {
            Some(Extent::Count(count)) => count,
            _ => return Ok(self.subscribe(options.source.unwrap(), prefix.unwrap_or_default())),
        };
        let held = self.held();
        let forwards = options.direction == 0;
        let mut events: Vec<Arc<Event>> = match options.source.unwrap() {
            Source::Stream(of) => {
                let name = named(of.stream);
                self.read.send_modify(|read| *read.entry(name.clone()).or_default() += 1);
                let Some(there) = held.streams.get(&name) else {
                    let stream = Some(StreamName { name: name.into_bytes() });
                    return Ok(only(&ReadResp { content: Some(ReadContent::NotFound(NotFound { stream })) }));
                };
                let from = match of.from.unwrap() {
                    FromRevision::Revision(revision) => revision,
                    FromRevision::Start(_) => 0,
                    FromRevision::End(_) => u64::MAX,
                };
                let is_in = |e: &&Arc<Event>| if forwards { e.revision >= from } else { e.revision <= from };
                there.iter().filter(is_in).cloned().collect()
            }
            Source::All(of) => {
                let from = match of.from.unwrap() {
                    FromPlace::At(place) => place.commit,
                    FromPlace::Start(_) => 0,
                    FromPlace::End(_) => u64::MAX,
                };
                // Forwards with the event at the place, backwards without it.
                let is_in = |e: &&Arc<Event>| if forwards { e.place >= from } else { e.place < from };
                held.all.iter().filter(is_in).cloned().collect()
            }
        };
        if !forwards {
            events.reverse();
        }
        events.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(stream::iter(events).map(|event| told(&event)).boxed())
    }

    fn subscribe(self: Arc<Self>, source: Source, prefix: String) -> Messages {
        let Source::All(AllOptions { from: Some(from) }) = source else { panic!("not of $all") };
        let after = match from {
            FromPlace::At(place) => place.commit,
            FromPlace::Start(_) => 0,
            FromPlace::End(_) => u64::MAX,
        };
        let confirmation = Confirmation { id: Uuid::nil().to_string() };
        let confirmed = ReadResp { content: Some(ReadContent::Confirmation(confirmation)) }.encode_to_vec();
        let events = stream::unfold((self.written.subscribe(), 0), move |(mut written, next)| {
            let (shared, prefix) = (self.clone(), prefix.clone());
            async move {
                written.wait_for(|written| *written > next).await.ok()?;
                let event = shared.held().all[next].clone();
                let is_told = event.place > after && event.stream.starts_with(&prefix);
                let times = if shared.trouble.borrow().twice { 2 } else { 1 };
                let mut messages = vec![told(&event); if is_told { times } else { 0 }];
                if event.place > after && next.is_multiple_of(EVENTS_BETWEEN_CHECKPOINTS) {
                    let at = Place { commit: event.place, prepare: event.place };
                    messages.push(ReadResp { content: Some(ReadContent::Checkpoint(at)) }.encode_to_vec());
                }
                Some((stream::iter(messages), (written, next + 1)))
            }
        });
        stream::once(async { confirmed }).chain(events.flatten()).boxed()
    }
}

impl Held {
    fn add(&mut self, stream: &str, event: &Proposed) -> Arc<Event> {
        let there = self.streams.entry(stream.to_owned()).or_default();
        let added = Arc::new(Event {
            id: given(event.id.as_ref()),
            stream: stream.to_owned(),
            revision: there.len() as u64,
            place: self.end,
            metadata: event.metadata.clone(),
            custom_metadata: event.custom_metadata.clone(),
            data: event.data.clone(),
        });
        self.end += OVERHEAD + (stream.len() + event.data.len() + event.custom_metadata.len()) as u64;
        there.push(added.clone());
        self.all.push(added.clone());
        added
    }
}

fn success(last: &Event) -> Appended {
    let at = Place { commit: last.place, prepare: last.place };
    Appended::Success(Success {
        current: Some(Current::Revision(last.revision)),
        position: Some(Written::At(at)),
    })
}

fn wrong(current: i64, expected: &Expected) -> Appended {
    let current = match u64::try_from(current) {
        Ok(revision) => WrongCurrent::Revision(revision),
        Err(_) => WrongCurrent::NoStream(Empty {}),
    };
    let expected = match expected {
        Expected::Revision(revision) => WrongExpected::Revision(*revision),
        Expected::NoStream(_) => WrongExpected::NoStream(Empty {}),
        Expected::Any(_) => WrongExpected::Any(Empty {}),
        Expected::Exists(_) => WrongExpected::Exists(Empty {}),
    };
    Appended::Wrong(Wrong { current: Some(current), expected: Some(expected) })
}

fn told(event: &Event) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut metadata = event.metadata.clone();
    metadata.insert("created".to_owned(), (now.as_nanos() / 100).to_string());
    let recorded = RecordedEvent {
        id: Some(id(event.id)),
        stream: Some(StreamName { name: event.stream.clone().into_bytes() }),
        revision: event.revision,
        prepare: event.place,
        commit: event.place,
        metadata,
        custom_metadata: event.custom_metadata.clone(),
        data: event.data.clone(),
    };
    let read = ReadEvent { event: Some(recorded), commit: event.place };
    ReadResp { content: Some(ReadContent::Event(read)) }.encode_to_vec()
}

fn named(stream: Option<StreamName>) -> String {
    String::from_utf8(stream.unwrap().name).unwrap()
}

fn id(id: Uuid) -> wire::Uuid {
    wire::Uuid { value: Some(UuidValue::Text(id.to_string())) }
}

fn given(id: Option<&wire::Uuid>) -> Uuid {
    match id.and_then(|id| id.value.as_ref()) {
        Some(UuidValue::Text(text)) => text.parse().unwrap(),
        Some(UuidValue::Structured(Structured { high, low })) => {
            Uuid::from_u64_pair(*high as u64, *low as u64)
        }
        None => Uuid::nil(),
    }
}

// gRPC: a byte for compression and four of length before each message, the outcome in the trailers.

const FRAME_HEAD: usize = 5;

fn only(message: &impl Message) -> Messages {
    let message = message.encode_to_vec();
    stream::once(async { message }).boxed()
}

fn unframed(mut body: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<FRAME_HEAD>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        messages.push(message);
        body = rest;
    }
    messages
}

fn respond(answer: Result<Messages, Refused>, leader: Option<u16>) -> Response<Body> {
    let (messages, Refused(code, reason)) = match answer {
        Ok(messages) => (messages, Refused(0, "")),
        Err(refused) => (stream::empty().boxed(), refused),
    };
    let mut trailers = HeaderMap::from_iter([
        ("grpc-status".parse().unwrap(), HeaderValue::from(code)),
        ("grpc-message".parse().unwrap(), HeaderValue::from_static(reason)),
    ]);
    if let Some(port) = leader {
        trailers.insert("exception", HeaderValue::from_static("not-leader"));
        trailers.insert("leader-endpoint-host", HeaderValue::from_static("127.0.0.1"));
        trailers.insert("leader-endpoint-port", HeaderValue::from(port));
    }
    let frames = messages.map(|message| {
        let mut frame = vec![0];
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(&message);
        Frame::data(Bytes::from(frame))
    });
    let body = StreamBody::new(frames.chain(stream::once(async { Frame::trailers(trailers) })).map(Ok));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
