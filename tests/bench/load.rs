//! Requests on connections of their own: as fast as they are answered, or at a rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::NoteId;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::meter::{Meter, Usage};
use crate::seed::WORDS;

/// Somebody who asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Person {
    pub id: String,
    pub token: String,
}

/// What requests are made of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Facts {
    pub people: Vec<Person>,
    /// Notes that everybody may see.
    notes: Vec<String>,
    pub written: usize,
    /// When the last note was written, in milliseconds since 1970.
    latest: i64,
    /// Lists and antennas, with whose they are.
    pub lists: Vec<(Person, String)>,
    pub antennas: Vec<(Person, String)>,
    /// Channels, with those who made them.
    pub channels: Vec<(Person, String)>,
}

/// Every so many-th note is remembered.
const REMEMBERED: usize = 20;
/// People who are busy.
const BUSY: usize = 50;
/// Of 100 pages, so many begin further down.
const DEEP: u32 = 30;

impl Facts {
    pub fn written(&mut self, note: NoteId, public: bool) {
        self.written += 1;
        self.latest = note.time().timestamp_millis();
        if public && (self.notes.is_empty() || self.written.is_multiple_of(REMEMBERED)) {
            self.notes.push(note.to_string());
        }
    }

    fn person(&self, rng: &mut StdRng) -> &Person {
        &self.people[rng.random_range(0..self.people.len())]
    }

    /// One of those who do the most and are named the most, so that what is theirs fills a page in a small world too.
    fn busy(&self, rng: &mut StdRng) -> &Person {
        &self.people[rng.random_range(0..self.people.len().min(BUSY))]
    }

    fn note(&self, rng: &mut StdRng) -> &str {
        &self.notes[rng.random_range(0..self.notes.len())]
    }

    /// A page that somebody asks for, the newest or one further down.
    fn page(&self, rng: &mut StdRng, params: Value) -> Value {
        self.page_for(self.person(rng), rng, params)
    }

    /// A page of something that is somebody's own, named by this parameter.
    fn page_of(&self, own: &[(Person, String)], name: &str, rng: &mut StdRng) -> Value {
        let (person, id) = &own[rng.random_range(0..own.len())];
        self.page_for(person, rng, json!({ name: id }))
    }

    fn page_for(&self, person: &Person, rng: &mut StdRng, mut params: Value) -> Value {
        params["i"] = json!(person.token);
        params["limit"] = json!(PAGE);
        if rng.random_range(0..100) < DEEP {
            params["untilId"] = json!(self.note(rng));
        }
        params
    }
}

/// Notes on a page.
const PAGE: u32 = 20;

/// A kind of request.
pub struct Probe {
    /// The endpoint, and what is special about the requests.
    pub name: &'static str,
    pub endpoint: &'static str,
    /// Whether it gives a page, so that it must not cost more where there is more.
    pub pages: bool,
    /// Whether there is more afterwards than before.
    pub writes: bool,
    ask: fn(&Facts, &mut StdRng) -> Value,
    /// An error that some of the requests may get, such as those that ask for the same again.
    refusal: Option<&'static str>,
}

impl Probe {
    const fn page(endpoint: &'static str, ask: fn(&Facts, &mut StdRng) -> Value) -> Self {
        Self { name: endpoint, endpoint, pages: true, writes: false, ask, refusal: None }
    }

    const fn one(endpoint: &'static str, ask: fn(&Facts, &mut StdRng) -> Value) -> Self {
        Self { pages: false, ..Self::page(endpoint, ask) }
    }

    const fn write(endpoint: &'static str, ask: fn(&Facts, &mut StdRng) -> Value) -> Self {
        Self { writes: true, ..Self::one(endpoint, ask) }
    }

    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

/// What a bare handler is compared with.
pub const NEWEST: &str = "notes/timeline newest";

/// A request that says nothing, for a server that answers the same to everything.
pub const BARE: &Probe = &Probe::one("bare", newest);

fn newest(facts: &Facts, rng: &mut StdRng) -> Value {
    json!({ "i": facts.person(rng).token, "limit": PAGE })
}

/// Those that only read, then those that write. Of the pages, some begin further down, unless it says the newest.
pub const PROBES: &[Probe] = &[
    Probe::page("notes/timeline", newest).named(NEWEST),
    Probe::page("notes/timeline", |facts, rng| facts.page(rng, json!({}))),
    Probe::page("notes/local-timeline", newest).named("notes/local-timeline newest"),
    Probe::page("notes/local-timeline", |facts, rng| facts.page(rng, json!({}))),
    Probe::page("notes/hybrid-timeline", |facts, rng| facts.page(rng, json!({}))),
    Probe::page("notes/global-timeline", |facts, rng| facts.page(rng, json!({}))),
    Probe::page("users/notes", |facts, rng| {
        let of = json!({ "userId": facts.person(rng).id });
        facts.page(rng, of)
    }),
    Probe::page("notes/user-list-timeline", |facts, rng| facts.page_of(&facts.lists, "listId", rng)),
    Probe::page("antennas/notes", |facts, rng| facts.page_of(&facts.antennas, "antennaId", rng)),
    Probe::page("channels/timeline", |facts, rng| facts.page_of(&facts.channels, "channelId", rng)),
    Probe::page("notes/search", |facts, rng| {
        let query = json!({ "query": WORDS[rng.random_range(0..WORDS.len())] });
        facts.page(rng, query)
    }),
    Probe::page("notes/mentions", |facts, rng| facts.page_for(facts.busy(rng), rng, json!({}))),
    Probe::page(
        "i/notifications",
        |facts, rng| json!({ "i": facts.person(rng).token, "limit": PAGE, "markAsRead": false }),
    ),
    Probe::one("notes/show", |facts, rng| json!({ "i": facts.person(rng).token, "noteId": facts.note(rng) })),
    Probe::page(
        "notes/replies",
        |facts, rng| json!({ "i": facts.person(rng).token, "noteId": facts.note(rng), "limit": PAGE }),
    ),
    Probe::page(
        "notes/reactions",
        |facts, rng| json!({ "i": facts.person(rng).token, "noteId": facts.note(rng), "limit": PAGE }),
    ),
    Probe::one(
        "users/show",
        |facts, rng| json!({ "i": facts.person(rng).token, "userId": facts.person(rng).id }),
    ),
    Probe::page(
        "users/followers",
        |facts, rng| json!({ "i": facts.person(rng).token, "userId": facts.person(rng).id, "limit": PAGE }),
    ),
    Probe::page("drive/files", |facts, rng| json!({ "i": facts.busy(rng).token, "limit": PAGE })),
    // As of the last note: the days behind it are as full however many notes there are.
    Probe::page("charts/notes", |facts, _| json!({ "span": "day", "limit": 30, "offset": facts.latest })),
    Probe::write(
        "notes/create",
        |facts, rng| json!({ "i": facts.person(rng).token, "text": "a cup of tea in the rain" }),
    ),
    Probe {
        refusal: Some("ALREADY_REACTED"),
        ..Probe::write("notes/reactions/create", |facts, rng| {
            let (person, note) = (facts.person(rng), facts.note(rng));
            json!({ "i": person.token, "noteId": note, "reaction": "🎉" })
        })
    },
];

/// The one of this name.
pub fn probe(name: &str) -> Result<&'static Probe, String> {
    PROBES.iter().find(|probe| probe.name == name).ok_or_else(|| format!("there is no probe {name}"))
}

/// How it went.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub requests: u64,
    pub failed: u64,
    /// What was answered to the first that failed.
    pub failure: Option<String>,
    pub seconds: f64,
    /// From the moment at which the request was due.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub mean_body_bytes: u64,
    pub usage: Usage,
}

impl Run {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    pub fn per_cpu_second(&self) -> f64 {
        self.requests as f64 / self.usage.cpu().as_secs_f64().max(0.001)
    }

    pub fn cpu_ms(&self) -> f64 {
        self.usage.cpu().as_secs_f64() * 1_000.0 / self.requests.max(1) as f64
    }
}

/// How hard a server is pushed.
#[derive(Debug, Clone, Copy)]
pub struct Push {
    pub connections: usize,
    pub lasts: Duration,
    /// Requests a second; as fast as they are answered where there is none.
    pub rate: Option<f64>,
}

/// What one connection saw.
#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    bytes: u64,
    failed: u64,
    failure: Option<String>,
}

/// Asks the same on all connections.
pub async fn run(
    address: SocketAddr,
    meter: &Meter,
    facts: &Arc<Facts>,
    probe: &'static Probe,
    push: Push,
    seed: u64,
) -> Result<Run, String> {
    let mut senders = Vec::with_capacity(push.connections);
    for _ in 0..push.connections {
        senders.push(connect(address).await?);
    }
    let (before, start) = (meter.usage(), Instant::now());
    let next = Arc::new(AtomicU64::new(0));
    let workers = senders.into_iter().enumerate().map(|(n, sender)| {
        let (facts, next) = (facts.clone(), next.clone());
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(n as u64));
        tokio::spawn(work(sender, facts, probe, push, (start, next), rng))
    });
    let seen = try_join_all(workers.collect::<Vec<_>>()).await.map_err(|error| error.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let usage = meter.usage() - before;
    let seen: Vec<Seen> = seen.into_iter().collect::<Result<_, _>>()?;
    let mut micros: Vec<u64> = seen.iter().flat_map(|seen| seen.micros.iter().copied()).collect();
    micros.sort_unstable();
    let requests = micros.len() as u64;
    Ok(Run {
        requests,
        failed: seen.iter().map(|seen| seen.failed).sum(),
        failure: seen.iter().find_map(|seen| seen.failure.clone()),
        seconds,
        p50_ms: percentile_ms(&micros, 0.50),
        p99_ms: percentile_ms(&micros, 0.99),
        mean_body_bytes: seen.iter().map(|seen| seen.bytes).sum::<u64>() / requests.max(1),
        usage,
    })
}

/// Of sorted times, the one that such a part is not above.
pub fn percentile_ms(sorted_micros: &[u64], part: f64) -> f64 {
    let index = ((sorted_micros.len() as f64 * part) as usize).min(sorted_micros.len().saturating_sub(1));
    sorted_micros.get(index).map_or(0.0, |micros| *micros as f64 / 1_000.0)
}

pub type Sender = SendRequest<Full<Bytes>>;

pub async fn connect(address: SocketAddr) -> Result<Sender, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

pub async fn ask(sender: &mut Sender, endpoint: &str, params: &Value) -> Result<(StatusCode, Bytes), String> {
    let request = Request::post(format!("/api/{endpoint}"))
        .header("host", "bench.example")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(params.to_string())))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, body))
}

async fn work(
    mut sender: Sender,
    facts: Arc<Facts>,
    probe: &'static Probe,
    push: Push,
    (start, next): (Instant, Arc<AtomicU64>),
    mut rng: StdRng,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    loop {
        let due = match push.rate {
            None => Instant::now(),
            Some(rate) => start + Duration::from_secs_f64(next.fetch_add(1, Ordering::Relaxed) as f64 / rate),
        };
        if due >= start + push.lasts {
            return Ok(seen);
        }
        sleep_until(due).await;
        let (status, body) = ask(&mut sender, probe.endpoint, &(probe.ask)(&facts, &mut rng)).await?;
        seen.micros.push(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
        seen.bytes += body.len() as u64;
        let may_be_refused = probe.refusal.is_some_and(|code| String::from_utf8_lossy(&body).contains(code));
        if !status.is_success() && !may_be_refused {
            seen.failed += 1;
            seen.failure.get_or_insert_with(|| format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
    }
}
