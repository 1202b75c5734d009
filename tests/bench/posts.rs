//! Posts through the API, each with its number in its text, so that it can be looked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::load::{Person, Push, Sender, ask, connect};

/// Stands in the text of each before its number.
pub const MARK: &str = "kiroku-bench-";
/// Of a number.
pub const DIGITS: usize = 8;
/// The most posts of one run; then it ends.
const MAX_POSTS: u64 = 1 << 20;
/// Posts that may be on their way to their receivers, where there are any who must keep up: fewer than the frames
/// that a server lets wait for a socket.
const AHEAD: u64 = 64;
/// How often it is looked whether receivers have caught up, and how long that may take.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);

/// One that was answered.
pub struct Post {
    pub number: u64,
    /// The place among the authors.
    pub author: usize,
    pub id: String,
    /// Until it was answered.
    pub micros: u64,
}

/// When each was sent, or was due where there is a rate: since when, and after how many microseconds; 0 for one
/// that wasn't.
pub struct Sent {
    since: Instant,
    at: Vec<AtomicU64>,
}

impl Sent {
    pub fn new(since: Instant) -> Arc<Self> {
        Arc::new(Self { since, at: (0..MAX_POSTS).map(|_| AtomicU64::new(0)).collect() })
    }

    pub fn at(&self, number: u64) -> Option<u64> {
        let at = self.at.get(usize::try_from(number).ok()?)?.load(Ordering::Relaxed);
        Some(at).filter(|at| *at > 0)
    }

    fn note(&self, number: u64, when: Instant) {
        if let Some(at) = usize::try_from(number).ok().and_then(|number| self.at.get(number)) {
            at.store(micros(when.duration_since(self.since)).max(1), Ordering::Relaxed);
        }
    }
}

/// Those who must keep up: how many there are for each post, and how much all of them have heard.
#[derive(Clone)]
pub struct Receivers {
    pub of_each: u64,
    pub heard: Arc<AtomicU64>,
}

struct Job {
    authors: Vec<Person>,
    push: Push,
    sent: Arc<Sent>,
    receivers: Option<Receivers>,
    start: Instant,
    next: AtomicU64,
}

/// Posts in turn by these authors.
pub async fn write(
    address: SocketAddr,
    authors: Vec<Person>,
    push: Push,
    sent: Arc<Sent>,
    receivers: Option<Receivers>,
) -> Result<Vec<Post>, String> {
    let mut senders = Vec::with_capacity(push.connections);
    for _ in 0..push.connections {
        senders.push(connect(address).await?);
    }
    let (start, next) = (Instant::now(), AtomicU64::new(0));
    let job = Arc::new(Job { authors, push, sent, receivers, start, next });
    let workers = senders.into_iter().map(|sender| tokio::spawn(work(sender, job.clone())));
    let posts = try_join_all(workers.collect::<Vec<_>>()).await.map_err(|error| error.to_string())?;
    Ok(posts.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

async fn work(mut sender: Sender, job: Arc<Job>) -> Result<Vec<Post>, String> {
    let mut posts = Vec::new();
    loop {
        let number = job.next.fetch_add(1, Ordering::Relaxed);
        let due = match job.push.rate {
            None => Instant::now(),
            Some(rate) => job.start + Duration::from_secs_f64(number as f64 / rate),
        };
        if due >= job.start + job.push.lasts || number >= MAX_POSTS {
            return Ok(posts);
        }
        sleep_until(due).await;
        job.wait_for_receivers(number).await?;
        let author = usize::try_from(number).unwrap_or_default() % job.authors.len();
        let text = format!("{MARK}{number:0DIGITS$}, a cup of tea in the rain");
        let params = json!({ "i": job.authors[author].token, "text": text });
        let asked = Instant::now();
        job.sent.note(number, if job.push.rate.is_some() { due } else { asked });
        let (status, body) = ask(&mut sender, "notes/create", &params).await?;
        let micros = micros(asked.elapsed());
        if !status.is_success() {
            return Err(format!("notes/create: {status}: {}", String::from_utf8_lossy(&body)));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        posts.push(Post { number, author, id: answer.note.id, micros });
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "createdNote")]
    note: Made,
}

#[derive(Deserialize)]
struct Made {
    id: String,
}

impl Job {
    async fn wait_for_receivers(&self, number: u64) -> Result<(), String> {
        let Some(Receivers { of_each, heard }) = &self.receivers else { return Ok(()) };
        let until = Instant::now() + CAUGHT_UP_WITHIN;
        while number.saturating_sub(AHEAD) * of_each > heard.load(Ordering::Relaxed) {
            if Instant::now() > until {
                return Err("the receivers don't catch up".to_owned());
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
