//! One post by somebody with very many followers: what it does to everybody else while it spreads.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Plan;
use crate::figure::{Figure, median};
use crate::load::{self, Facts, NEWEST, Person, Push, Run};
use crate::seed::{PEOPLE, Seed};
use crate::server::Server;

const PART: &str = "large-author";
/// What the others do, on so many connections each.
const OTHERS: [&str; 2] = [NEWEST, "notes/create"];
const CONNECTIONS: usize = 8;
/// Every moment that is measured is within so long after a post.
const POST_EVERY: Duration = Duration::from_secs(1);
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
const ALLOWED_TIMES: f64 = 1.5;

/// Two kinds of requests that are made at the same time.
type Both = [Run; 2];

pub async fn run(plan: &Plan, directory: &Path) -> Result<Vec<Figure>, String> {
    let server = Server::start(plan, directory).await?;
    let mut seed = Seed::begin(&server, plan.people.unwrap_or(PEOPLE), plan.notes, plan.seed).await?;
    seed.write(plan.notes).await?;
    let began = Instant::now();
    let author = seed.facts.people.len() - 1;
    seed.follow_from_afar(author, plan.followers).await?;
    seed.settle().await?;
    eprintln!("{} followers, {:.0} s", plan.followers, began.elapsed().as_secs_f64());
    let mut facts = seed.close().await;
    let author = facts.people.pop().ok_or("nobody is there")?;
    let facts = Arc::new(facts);

    let others = async |lasts: Duration, seed: u64| others(&server, &facts, lasts, seed).await;
    others(WARM_UP, plan.seed).await?;
    let (mut before, mut after, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..plan.repeats {
        before.push(others(plan.seconds, plan.seed + 2 * repeat + 1).await?);
        let (both, posts) = tokio::join!(
            others(plan.seconds, plan.seed + 2 * repeat + 2),
            post(&server, &author, plan.seconds)
        );
        after.push(both?);
        answered.extend(posts?);
    }
    server.stop().await?;

    let mut figures = vec![
        Figure::new(PART, "followers", plan.followers as f64, ""),
        Figure::new(PART, "posts to all of them", answered.len() as f64, ""),
        Figure::new(PART, "answered, at most", answered.into_iter().fold(0.0, f64::max), "ms"),
    ];
    for (which, name) in OTHERS.into_iter().enumerate() {
        let p99 = |runs: &[Both]| median(runs.iter().map(|both| both[which].p99_ms).collect());
        let p50 = |runs: &[Both]| median(runs.iter().map(|both| both[which].p50_ms).collect());
        let times =
            before.iter().zip(&after).map(|(before, after)| after[which].p99_ms / before[which].p99_ms);
        let failed: u64 = before.iter().chain(&after).map(|both| both[which].failed).sum();
        figures.extend([
            Figure::new(PART, format!("{name} of others, p50 before"), p50(&before), "ms"),
            Figure::new(PART, format!("{name} of others, p50 while it spreads"), p50(&after), "ms"),
            Figure::new(PART, format!("{name} of others, p99 before"), p99(&before), "ms"),
            Figure::new(PART, format!("{name} of others, p99 while it spreads"), p99(&after), "ms"),
            Figure::new(PART, format!("{name} of others, times the p99"), median(times.collect()), "")
                .at_most(ALLOWED_TIMES),
            Figure::new(PART, format!("{name} of others, failed"), failed as f64, "").exactly(0.0),
        ]);
    }
    Ok(figures)
}

async fn others(server: &Server, facts: &Arc<Facts>, lasts: Duration, seed: u64) -> Result<Both, String> {
    let push = Push { connections: CONNECTIONS, lasts, rate: None };
    let [read, write] = OTHERS.map(load::probe);
    let (read, write) = (read?, write?);
    let run = |probe, seed| load::run(server.address, &server.meter, facts, probe, push, seed);
    let (read, write) = tokio::try_join!(run(read, seed), run(write, seed + 1_000))?;
    Ok([read, write])
}

/// One post after the other for so long; how long each took, in milliseconds.
async fn post(server: &Server, author: &Person, lasts: Duration) -> Result<Vec<f64>, String> {
    let (start, mut due) = (Instant::now(), interval(POST_EVERY));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered = Vec::new();
    loop {
        due.tick().await;
        if start.elapsed() >= lasts {
            return Ok(answered);
        }
        let asked = Instant::now();
        server.call(author, "notes/create", json!({ "text": "to all of you" })).await?;
        answered.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
}
