//! Posts of authors with many followers, as fast as they are taken: in how many home timelines a second they can
//! be read, and that they are there.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;
use futures_util::future::try_join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Plan;
use crate::figure::Figure;
use crate::load::{Push, percentile_ms};
use crate::posts::{self, Sent};
use crate::seed::Seed;
use crate::server::Server;

const PART: &str = "fan-out";
/// People, unless told otherwise; and whom each of them follows, who has as many followers on average.
const PEOPLE: usize = 2_000;
const FOLLOWS: usize = 403;
/// Posts that are on their way at once.
const AT_ONCE: usize = 64;
/// Whose newest page is looked at, and its notes.
const LOOKED_AT: usize = 50;
const PAGE: usize = 20;
const ASKED_DELIVERIES: f64 = 600_000.0;
const ASKED_POSTS: f64 = 2_500.0;
const ASKED_P99_MS: f64 = 100.0;

struct World {
    server: Server,
    seed: Seed,
    /// By follower.
    followed: Vec<HashSet<usize>>,
    /// By author.
    followers: Vec<usize>,
    /// Id and author of each that was written.
    posts: Vec<(String, usize)>,
}

pub async fn run(plan: &Plan, directory: &Path) -> Result<Vec<Figure>, String> {
    let mut world = World::begin(plan, directory).await?;
    let push = Push { connections: AT_ONCE, lasts: plan.seconds, rate: None };
    let (start, usage) = (Instant::now(), world.server.meter.usage());
    let sent = Sent::new(start);
    let written =
        posts::write(world.server.address, world.seed.facts.people.clone(), push, sent, None).await?;
    let took = start.elapsed().as_secs_f64();
    let usage = world.server.meter.usage() - usage;
    let mut micros: Vec<u64> = written.iter().map(|post| post.micros).collect();
    micros.sort_unstable();
    let posted = written.into_iter().map(|post| (post.id, post.author)).collect::<Vec<_>>();
    let per_second = posted.len() as f64 / took;
    let figure = |what: &str, value: f64, unit: &'static str| Figure::new(PART, what, value, unit);
    let followers = world.followers.iter().sum::<usize>() as f64 / world.followers.len() as f64;
    let mut figures = vec![
        figure("followers of an author on average", followers, ""),
        figure("notes/create, 64 connections", per_second, "/s").at_least(ASKED_POSTS),
        figure("notes/create, 64 connections, p50", percentile_ms(&micros, 0.50), "ms"),
        figure("notes/create, 64 connections, p99", percentile_ms(&micros, 0.99), "ms").at_most(ASKED_P99_MS),
        figure(
            "notes/create, 64 connections, per CPU second",
            posted.len() as f64 / usage.cpu().as_secs_f64().max(0.01),
            "/CPU s",
        ),
        figure("deliveries by notes/create", world.deliveries(&posted) / took, "/s")
            .at_least(ASKED_DELIVERIES),
    ];
    world.posts.extend(posted);
    figures.push(figure("pages that are wrong after that", world.wrong_pages(plan).await?, "").exactly(0.0));

    let start = Instant::now();
    let posted = world.command(plan).await?;
    let appended = start.elapsed().as_secs_f64();
    world.seed.shown().await?;
    let took = start.elapsed().as_secs_f64();
    figures.push(figure("posts by commands, appended", posted.len() as f64 / appended, "/s"));
    figures.push(figure("posts by commands, appended and to be read", posted.len() as f64 / took, "/s"));
    figures.push(
        figure("deliveries by commands", world.deliveries(&posted) / took, "/s").at_least(ASKED_DELIVERIES),
    );
    world.posts.extend(posted);
    figures.push(figure("pages that are wrong after that", world.wrong_pages(plan).await?, "").exactly(0.0));
    world.seed.close().await;
    world.server.stop().await?;
    Ok(figures)
}

impl World {
    async fn begin(plan: &Plan, directory: &Path) -> Result<Self, String> {
        let people = plan.people.unwrap_or(PEOPLE);
        let follows = FOLLOWS.min(people - 1);
        let server = Server::start(plan, directory).await?;
        let began = Instant::now();
        let mut seed = Seed::open(&server.data_dir, TimeDelta::zero(), plan.seed).await?;
        seed.sign_up(people).await?;
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let mut followers = vec![0; people];
        let mut followed = Vec::with_capacity(people);
        let mut pairs = Vec::with_capacity(people * follows);
        for follower in 0..people {
            // Everybody but themselves.
            let others = sample(&mut rng, people - 1, follows).into_iter();
            let theirs: HashSet<usize> = others.map(|n| n + usize::from(n >= follower)).collect();
            for followee in &theirs {
                followers[*followee] += 1;
                pairs.push((follower, *followee));
            }
            followed.push(theirs);
        }
        seed.follow(pairs).await?;
        seed.settle().await?;
        eprintln!("{people} people who follow {follows} each, {:.0} s", began.elapsed().as_secs_f64());
        Ok(Self { server, seed, followed, followers, posts: Vec::new() })
    }

    /// The same by commands of this process, without HTTP.
    async fn command(&self, plan: &Plan) -> Result<Vec<(String, usize)>, String> {
        let (start, next) = (Instant::now(), AtomicUsize::new(0));
        let caller = async || {
            let mut posted = Vec::new();
            while start.elapsed() < plan.seconds {
                let author = next.fetch_add(1, Ordering::Relaxed) % self.followers.len();
                let id = self.seed.post(author, "a cup of tea in the rain".to_owned()).await?;
                posted.push((id.to_string(), author));
            }
            Ok::<_, String>(posted)
        };
        let callers: Vec<_> = (0..AT_ONCE).map(|_| caller()).collect();
        Ok(try_join_all(callers).await?.into_iter().flatten().collect())
    }

    fn deliveries(&self, posted: &[(String, usize)]) -> f64 {
        posted.iter().map(|(_, author)| self.followers[*author] as f64).sum()
    }

    /// Of some people's newest pages, how many don't have exactly what was posted last for them.
    async fn wrong_pages(&mut self, plan: &Plan) -> Result<f64, String> {
        // Ids are in the order of time.
        self.posts.sort_unstable();
        let mut wrong: u32 = 0;
        let people = self.followed.len();
        let mut rng = StdRng::seed_from_u64(plan.seed);
        for reader in sample(&mut rng, people, LOOKED_AT.min(people)) {
            let theirs = &self.followed[reader];
            let is_theirs = |author: &usize| *author == reader || theirs.contains(author);
            let expected = self.posts.iter().rev().filter(|(_, author)| is_theirs(author));
            let expected: Vec<&str> = expected.take(PAGE).map(|(id, _)| id.as_str()).collect();
            let person = &self.seed.facts.people[reader];
            let page = self.server.call(person, "notes/timeline", json!({ "limit": PAGE })).await?;
            let notes = page.as_array().map(Vec::as_slice).unwrap_or_default();
            let found: Vec<&str> = notes.iter().filter_map(|note| note["id"].as_str()).collect();
            if found != expected {
                if wrong == 0 {
                    eprintln!("a page has {found:?}, not {expected:?}; {}", Value::from(notes));
                }
                wrong += 1;
            }
        }
        Ok(f64::from(wrong))
    }
}
