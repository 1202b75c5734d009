//! What requests of each kind cost, closed loop and open loop, in a world of people and notes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::Plan;
use crate::bare::Bare;
use crate::load::{self, BARE, Facts, NEWEST, PROBES, Probe, Push, Run};
use crate::meter::{Memory, Meter};
use crate::seed::{PEOPLE, Seed};
use crate::server::Server;
use crate::upload;

/// How many times more notes `--large` compares with.
const LARGE: usize = 10;
/// How much more a page may cost there.
const ALLOWED: f64 = 1.5;
/// The open loop asks at this part of what the closed loop reached, unless told otherwise.
const PART_OF_CLOSED: f64 = 0.5;
/// One endpoint at one size: the repeat whose cost is in the middle.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    pages: bool,
    notes: usize,
    closed: Run,
    open: Run,
    open_rate: f64,
    memory: Memory,
}

/// Whether all went well.
pub async fn run(plan: &Plan, directory: &Path) -> Result<bool, String> {
    let server = Server::start(plan, directory).await?;
    let sizes: Vec<usize> = if plan.large { vec![plan.notes, plan.notes * LARGE] } else { vec![plan.notes] };
    let most = sizes.last().copied().unwrap_or(plan.notes);
    let people = plan.people.unwrap_or(PEOPLE);
    let mut seed = Seed::begin(&server, people, most, plan.seed).await?;
    if plan.upload > 0 {
        let root = seed.facts.people.first().ok_or("nobody is there")?;
        let is_well = upload::probe(&server, root, plan.upload).await?;
        server.stop().await?;
        return Ok(is_well);
    }
    let mut measured = Vec::new();
    for notes in sizes {
        let began = std::time::Instant::now();
        seed.write(notes).await?;
        eprintln!("{notes} notes by {people} people, {:.0} s", began.elapsed().as_secs_f64());
        // What is written here would be in the way of what is read there.
        measured.extend(all(plan, &server, &Arc::new(seed.facts.clone()), notes == most).await?);
    }
    server.stop().await?;
    print(plan, &measured)
}

/// The same in a world that is kept, and made if it is not there yet. It stays as it is, so nothing that writes is
/// measured.
pub async fn run_in(plan: &Plan, world: &Path) -> Result<bool, String> {
    let told = |error: std::io::Error| format!("{}: {error}", world.display());
    let kept = world.join("facts.json");
    if !kept.exists() {
        std::fs::create_dir_all(world).map_err(told)?;
        let server = Server::start(plan, world).await?;
        let mut seed = Seed::begin(&server, plan.people.unwrap_or(PEOPLE), plan.notes, plan.seed).await?;
        seed.write(plan.notes).await?;
        let facts = serde_json::to_vec(&seed.close().await).map_err(|error| error.to_string())?;
        server.stop().await?;
        std::fs::write(&kept, facts).map_err(told)?;
    }
    let facts = serde_json::from_slice(&std::fs::read(&kept).map_err(told)?);
    let facts: Facts = facts.map_err(|error| error.to_string())?;
    let server = Server::start(plan, world).await?;
    let measured = all(plan, &server, &Arc::new(facts), false).await?;
    server.stop().await?;
    print(plan, &measured)
}

/// Each endpoint that is wanted, those that write if they may, and a bare handler beside the newest page.
async fn all(
    plan: &Plan,
    server: &Server,
    facts: &Arc<Facts>,
    may_write: bool,
) -> Result<Vec<Measured>, String> {
    let offered = server.offered().await?;
    let wanted = |probe: &&Probe| {
        offered.iter().any(|endpoint| endpoint == probe.endpoint)
            && (may_write || !probe.writes)
            && (plan.only.is_empty()
                || plan.only.iter().any(|only| only == probe.endpoint || only == probe.name))
    };
    let mut measured = Vec::new();
    for probe in PROBES.iter().filter(wanted) {
        measured.push(measure(plan, (server.address, &server.meter), facts, probe).await?);
    }
    if let Some(page) = measured.iter().find(|m| m.name == NEWEST) {
        let bare = Bare::start(page.closed.mean_body_bytes).await?;
        measured.push(measure(plan, (bare.address, &bare.meter), facts, BARE).await?);
    }
    Ok(measured)
}

async fn measure(
    plan: &Plan,
    (address, meter): (SocketAddr, &Meter),
    facts: &Arc<Facts>,
    probe: &'static Probe,
) -> Result<Measured, String> {
    let notes = facts.written;
    let closed = Push { connections: plan.connections, lasts: plan.seconds, rate: None };
    let go = async |push: Push, seed: u64| load::run(address, meter, facts, probe, push, seed).await;
    go(Push { lasts: plan.warm_up, ..closed }, plan.seed).await?;
    let mut runs = Vec::new();
    for repeat in 0..plan.repeats {
        runs.push(go(closed, plan.seed + 1 + repeat).await?);
    }
    runs.sort_by(|a, b| a.cpu_ms().total_cmp(&b.cpu_ms()));
    let closed_run = runs.swap_remove(runs.len() / 2);
    let open_rate = plan.rate.unwrap_or(closed_run.per_second() * PART_OF_CLOSED).max(1.0);
    let open = go(Push { rate: Some(open_rate), ..closed }, plan.seed + 1 + plan.repeats).await?;
    let memory = meter.memory();
    eprintln!("{} at {notes} notes: {:.0}/s", probe.name, closed_run.per_second());
    Ok(Measured { name: probe.name, pages: probe.pages, notes, closed: closed_run, open, open_rate, memory })
}

/// Tells what was found; whether it is as it should be.
fn print(plan: &Plan, measured: &[Measured]) -> Result<bool, String> {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:<27} {:>9} | {:>7} {:>8} {:>8} {:>9} {:>9} {:>7} | {:>7} {:>8} {:>8} | {:>7} {:>7} {:>9}",
        "endpoint",
        "notes",
        "req/s",
        "p50 ms",
        "p99 ms",
        "CPU ms",
        "req/CPU s",
        "KiB",
        "rate/s",
        "p50 ms",
        "p99 ms",
        "srv MiB",
        "db MiB",
        "B written"
    );
    for m in measured {
        let (c, o) = (&m.closed, &m.open);
        println!(
            "{:<27} {:>9} | {:>7.0} {:>8.2} {:>8.2} {:>9.3} {:>9.0} {:>7.1} | {:>7.0} {:>8.2} {:>8.2} | {:>7.0} {:>7.0} {:>9}",
            m.name,
            m.notes,
            c.per_second(),
            c.p50_ms,
            c.p99_ms,
            c.cpu_ms(),
            c.per_cpu_second(),
            c.mean_body_bytes as f64 / 1024.0,
            m.open_rate,
            o.p50_ms,
            o.p99_ms,
            mebibytes(m.memory.server_bytes),
            mebibytes(m.memory.database_bytes),
            c.usage.written_bytes / c.requests.max(1),
        );
    }
    let mut well = true;
    for m in measured {
        for run in [&m.closed, &m.open].into_iter().filter(|run| run.failed > 0) {
            println!("{}: {} of {} failed: {:?}", m.name, run.failed, run.requests, run.failure);
            well = false;
        }
    }
    for page in measured.iter().filter(|m| m.name == NEWEST) {
        if let Some(bare) = measured.iter().find(|m| m.notes == page.notes && m.name == BARE.name) {
            println!(
                "{NEWEST} at {} notes: {:.2} of the requests per CPU second of a bare handler, {:.2} of its requests",
                page.notes,
                page.closed.per_cpu_second() / bare.closed.per_cpu_second(),
                page.closed.per_second() / bare.closed.per_second(),
            );
        }
    }
    if plan.large {
        println!(
            "\n{:<27} {:>14} {:>14} {:>6}",
            "CPU ms per request",
            plan.notes,
            plan.notes * LARGE,
            "times"
        );
        for small in measured.iter().filter(|m| m.pages && m.notes == plan.notes) {
            let more = measured.iter().find(|m| m.name == small.name && m.notes != plan.notes);
            let Some(more) = more else { continue };
            let times = more.closed.cpu_ms() / small.closed.cpu_ms();
            let verdict = if times > ALLOWED { "too much" } else { "" };
            well &= times <= ALLOWED;
            let (a, b) = (small.closed.cpu_ms(), more.closed.cpu_ms());
            println!("{:<27} {a:>14.3} {b:>14.3} {times:>6.2} {verdict}", small.name);
        }
    }
    println!("\n{}", serde_json::to_string(measured).map_err(|error| error.to_string())?);
    Ok(well)
}
