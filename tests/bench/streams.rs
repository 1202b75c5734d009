//! Sockets on home timelines: what they take of the memory, whether every post comes to everybody who is to have
//! it, how soon, and what a message costs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{Instant, sleep};

use crate::Plan;
use crate::figure::Figure;
use crate::load::{Person, Push, percentile_ms};
use crate::meter::Usage;
use crate::posts::{self, Post, Receivers, Sent};
use crate::seed::Seed;
use crate::server::Server;
use crate::sockets::{self, Ear, Sockets};

const PART: &str = "streams";
/// Who receives a post, and how many each receiver follows.
const RECEIVERS: usize = 100;
const FOLLOWED: usize = 10;
/// Posts a second, unless told otherwise.
const RATE: f64 = 200.0;
/// Connections that post.
const POSTING: usize = 64;
/// Receivers of each post where as many are sent as possible.
const CROWD: usize = 1_000;
/// After what was done before, and for messages that are still on their way.
const QUIET: Duration = Duration::from_secs(3);
const ARRIVED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ALLOWED_MEMORY_MB: f64 = 400.0;
const ALLOWED_P99_MS: f64 = 200.0;
const ASKED_PER_CPU_SECOND: f64 = 60_000.0;
const MEGABYTE: f64 = 1_000_000.0;

/// Root posts for the crowd; after root come the authors, then those who listen.
struct World {
    people: Vec<Person>,
    authors: usize,
    /// How many authors each listener follows.
    followed: usize,
}

impl World {
    fn authors(&self) -> &[Person] {
        &self.people[1..=self.authors]
    }

    fn listeners(&self) -> &[Person] {
        &self.people[self.authors + 1..]
    }

    fn follows(&self, listener: usize, author: usize) -> bool {
        let first = listener * self.followed % self.authors;
        (author + self.authors - first) % self.authors < self.followed
    }
}

pub async fn run(plan: &Plan, directory: &Path) -> Result<Vec<Figure>, String> {
    sockets::allow(plan.sockets)?;
    let server = Server::start(plan, directory).await?;
    let world = people(plan, &server).await?;
    sleep(QUIET).await;
    let memory = || server.meter.memory().server_bytes as f64 / MEGABYTE;
    let before = memory();
    let since = Instant::now();
    let open = Sockets::open(server.address, world.listeners(), since).await?;
    eprintln!("{} sockets are open after {:.1} s", plan.sockets, since.elapsed().as_secs_f64());
    sleep(QUIET).await;
    let with = memory();

    let rate = plan.rate.unwrap_or(RATE);
    let push = Push { connections: POSTING, lasts: plan.seconds, rate: Some(rate) };
    let sent = Sent::new(since);
    let (usage, start) = (server.meter.usage(), Instant::now());
    let posts = posts::write(server.address, world.authors().to_vec(), push, sent.clone(), None).await?;
    let is_due = |listener: usize, author: usize| world.follows(listener, author);
    let due = due(&posts, plan.sockets, is_due);
    arrived(&open, due).await;
    let (usage, took, after) = (server.meter.usage() - usage, start.elapsed(), memory());
    let steady = Told::of(&posts, open.close().await?, &sent, is_due, usage);

    let crowd = CROWD.min(plan.sockets);
    let open = Sockets::open(server.address, &world.listeners()[..crowd], since).await?;
    sleep(QUIET).await;
    let push = Push { connections: POSTING, lasts: plan.seconds, rate: None };
    let sent = Sent::new(since);
    let receivers = Receivers { of_each: crowd as u64, heard: open.heard() };
    let (usage, start) = (server.meter.usage(), Instant::now());
    let loud = vec![world.people[0].clone()];
    let posts = posts::write(server.address, loud, push, sent.clone(), Some(receivers)).await?;
    arrived(&open, posts.len() * crowd).await;
    let (usage, crowd_took) = (server.meter.usage() - usage, start.elapsed());
    let crowded = Told::of(&posts, open.close().await?, &sent, |_, _| true, usage);
    server.stop().await?;

    let figure = |what: String, value: f64, unit: &'static str| Figure::new(PART, what, value, unit);
    let mut figures = vec![
        figure("memory of the server before".to_owned(), before, "MB"),
        figure(format!("with {} sockets", plan.sockets), with, "MB").at_most(ALLOWED_MEMORY_MB),
        figure("of each socket".to_owned(), (with - before) * 1_000.0 / plan.sockets as f64, "kB"),
        figure("after the posts".to_owned(), after, "MB"),
    ];
    figures
        .extend(steady.figures(&format!("{rate} posts/s"), steady.micros.len() as f64 / took.as_secs_f64()));
    figures.push(figure("due to received, p50".to_owned(), percentile_ms(&steady.micros, 0.50), "ms"));
    let p99 = percentile_ms(&steady.micros, 0.99);
    figures.push(figure("due to received, p99".to_owned(), p99, "ms").at_most(ALLOWED_P99_MS));
    figures.push(figure("messages per CPU second".to_owned(), steady.per_cpu_second(), "/CPU s"));
    let name = format!("{crowd} receivers of each post");
    figures.extend(crowded.figures(&name, crowded.micros.len() as f64 / crowd_took.as_secs_f64()));
    figures.push(
        figure(format!("messages per CPU second, {name}"), crowded.per_cpu_second(), "/CPU s")
            .at_least(ASKED_PER_CPU_SECOND),
    );
    let of_database = crowded.usage.database_cpu.as_secs_f64() / crowded.usage.cpu().as_secs_f64().max(0.01);
    figures.push(figure("the part of the database in that".to_owned(), of_database * 100.0, "%"));
    Ok(figures)
}

async fn people(plan: &Plan, server: &Server) -> Result<World, String> {
    let authors = (plan.sockets * FOLLOWED / RECEIVERS).max(1);
    let followed = FOLLOWED.min(authors);
    let began = Instant::now();
    let mut seed = Seed::open(&server.data_dir, TimeDelta::zero(), plan.seed).await?;
    seed.sign_up(1 + authors + plan.sockets).await?;
    let mut pairs = Vec::new();
    for listener in 0..plan.sockets {
        let place = 1 + authors + listener;
        let first = listener * followed;
        pairs.extend((first..first + followed).map(|n| (place, 1 + n % authors)));
        if listener < CROWD {
            pairs.push((place, 0));
        }
    }
    seed.follow(pairs).await?;
    seed.settle().await?;
    eprintln!("{} people after {:.0} s", 1 + authors + plan.sockets, began.elapsed().as_secs_f64());
    Ok(World { people: seed.close().await.people, authors, followed })
}

/// How many messages are to come of these posts.
fn due(posts: &[Post], listeners: usize, is_due: impl Fn(usize, usize) -> bool) -> usize {
    posts.iter().map(|post| (0..listeners).filter(|listener| is_due(*listener, post.author)).count()).sum()
}

async fn arrived(open: &Sockets, due: usize) {
    let until = Instant::now() + ARRIVED_WITHIN;
    while open.heard().load(Ordering::Relaxed) < due as u64 && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
}

/// How the messages of some posts came.
struct Told {
    posts: usize,
    lost: usize,
    /// Twice, or to somebody who doesn't follow.
    stray: usize,
    broken: usize,
    /// From when a post was sent, sorted.
    micros: Vec<u64>,
    usage: Usage,
}

impl Told {
    fn of(
        posts: &[Post],
        ears: Vec<Ear>,
        sent: &Sent,
        is_due: impl Fn(usize, usize) -> bool,
        usage: Usage,
    ) -> Self {
        let due = due(posts, ears.len(), &is_due);
        let authors: std::collections::HashMap<u64, usize> =
            posts.iter().map(|post| (post.number, post.author)).collect();
        let (mut micros, mut stray, mut broken) = (Vec::new(), 0, 0);
        for (listener, ear) in ears.into_iter().enumerate() {
            if let Some(why) = ear.broken {
                if broken == 0 {
                    eprintln!("a socket ended: {why}");
                }
                broken += 1;
            }
            let mut known = HashSet::new();
            for heard in ear.heard {
                let is_theirs = authors.get(&heard.number).is_some_and(|author| is_due(listener, *author));
                match sent.at(heard.number).filter(|_| is_theirs && known.insert(heard.number)) {
                    Some(at) => micros.push(heard.at.saturating_sub(at)),
                    None => stray += 1,
                }
            }
        }
        micros.sort_unstable();
        let lost = due - micros.len();
        Self { posts: posts.len(), lost, stray, broken, micros, usage }
    }

    fn per_cpu_second(&self) -> f64 {
        self.micros.len() as f64 / self.usage.cpu().as_secs_f64().max(0.01)
    }

    fn figures(&self, name: &str, per_second: f64) -> Vec<Figure> {
        let count = |what: &str, count: usize| Figure::new(PART, format!("{name}: {what}"), count as f64, "");
        vec![
            count("posts", self.posts),
            count("messages", self.micros.len()),
            Figure::new(PART, format!("{name}: messages"), per_second, "/s"),
            count("lost", self.lost).exactly(0.0),
            count("stray", self.stray).exactly(0.0),
            count("sockets that ended", self.broken).exactly(0.0),
        ]
    }
}
