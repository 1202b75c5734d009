//! How fast a server is, and what it costs: a world of people and notes on a server of its own, then requests
//! of each kind from this process, closed loop and open loop. Prints a table, and the same as JSON.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod bare;
mod load;
mod meter;
mod seed;
mod server;
mod upload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde::Serialize;

use bare::Bare;
use load::{BARE, NEWEST, PROBES, Probe, Push, Run};
use meter::{Memory, Meter};
use seed::Seed;
use server::Server;

/// How many times more notes `--large` compares with.
const LARGE: usize = 10;
/// How much more a page may cost there.
const ALLOWED: f64 = 1.5;
/// The open loop asks at this part of what the closed loop reached, unless told otherwise.
const PART_OF_CLOSED: f64 = 0.5;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);

struct Plan {
    kiroku: PathBuf,
    directory: PathBuf,
    people: usize,
    notes: usize,
    connections: usize,
    seconds: Duration,
    repeats: u64,
    rate: Option<f64>,
    large: bool,
    only: Vec<String>,
    upload: u64,
    seed: u64,
}

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

fn main() -> ExitCode {
    // Nobody else has installed one.
    tokio_rustls::rustls::crypto::ring::default_provider().install_default().ok();
    let matches = arguments().get_matches();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let bare = matches.get_one::<u64>("bare").copied();
    match runtime.block_on(async {
        match bare {
            Some(bytes) => bare::serve(bytes).await.map(|()| true),
            None => bench(&plan(&matches)?).await,
        }
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Command {
    let number = |name: &'static str, default: &'static str| {
        Arg::new(name).long(name).value_parser(value_parser!(u64)).default_value(default)
    };
    Command::new("bench")
        .args_override_self(true)
        .about("How fast a server is, and what it costs")
        .after_help("Exit codes: 0 all went well, 1 something failed or costs more than it may")
        .arg(number("notes", "100000"))
        .arg(number("people", "1000"))
        .arg(number("connections", "16"))
        .arg(number("seconds", "5").help("How long each loop lasts"))
        .arg(number("repeats", "3").help("How often each closed loop is run"))
        .arg(
            number("rate", "0")
                .help("Requests a second of the open loop [default: half of the closed loop's]"),
        )
        .arg(number("seed", "1").help("Draws everything"))
        .arg(
            Arg::new("large")
                .long("large")
                .action(ArgAction::SetTrue)
                .help("Also with ten times as many notes, where a page may cost 1.5 times as much"),
        )
        .arg(number("upload", "0").help("Only upload a file of so many megabytes, and watch the memory"))
        .arg(Arg::new("only").long("only").value_name("ENDPOINT,…").default_value(""))
        .arg(
            Arg::new("kiroku")
                .long("kiroku")
                .value_name("PATH")
                .help("The program [default: beside this one]"),
        )
        .arg(
            Arg::new("bare")
                .long("bare")
                .value_name("BYTES")
                .value_parser(value_parser!(u64))
                .hide(true)
                .help("Answers so many bytes to everything, and nothing else"),
        )
        .arg(
            Arg::new("directory")
                .long("directory")
                .default_value("/var/tmp")
                .help("Where everything is kept"),
        )
}

fn plan(matches: &ArgMatches) -> Result<Plan, String> {
    let number = |name: &str| *matches.get_one::<u64>(name).unwrap_or(&0);
    let size = |name: &str| usize::try_from(number(name)).map_err(|error| format!("{name}: {error}"));
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("kiroku"));
    let kiroku = match text("kiroku") {
        Some(path) => PathBuf::from(path),
        None => beside().map_err(|error| error.to_string())?,
    };
    Ok(Plan {
        kiroku: kiroku.canonicalize().map_err(|error| format!("{}: {error}", kiroku.display()))?,
        directory: text("directory").map(PathBuf::from).unwrap_or_default(),
        people: size("people")?.max(2),
        notes: size("notes")?.max(1_000),
        connections: size("connections")?.max(1),
        seconds: Duration::from_secs(number("seconds").max(1)),
        repeats: number("repeats").max(1),
        rate: Some(number("rate")).filter(|rate| *rate > 0).map(|rate| rate as f64),
        large: matches.get_flag("large"),
        only: text("only")
            .unwrap_or_default()
            .split(',')
            .filter(|e| !e.is_empty())
            .map(str::to_owned)
            .collect(),
        upload: number("upload"),
        seed: number("seed"),
    })
}

/// Whether all went well.
async fn bench(plan: &Plan) -> Result<bool, String> {
    let directory = tempfile::Builder::new().prefix("kiroku-bench-").tempdir_in(&plan.directory);
    let directory = directory.map_err(|error| format!("{}: {error}", plan.directory.display()))?;
    // PostgreSQL does not run as root, and its user has to get through.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).map_err(|error| error.to_string())?;
    let server = Server::start(&plan.kiroku, directory.path()).await?;
    let sizes: Vec<usize> = if plan.large { vec![plan.notes, plan.notes * LARGE] } else { vec![plan.notes] };
    let most = sizes.last().copied().unwrap_or(plan.notes);
    let mut seed = Seed::begin(&server.data_dir, plan.people, most, plan.seed).await?;
    let offered = offered(&server).await?;
    seed.prepare(&server, &offered).await?;
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
        eprintln!("{notes} notes by {} people, {:.0} s", plan.people, began.elapsed().as_secs_f64());
        let facts = Arc::new(seed.facts.clone());
        let wanted = |probe: &&Probe| {
            offered.iter().any(|endpoint| endpoint == probe.endpoint)
                && (plan.only.is_empty()
                    || plan.only.iter().any(|only| only == probe.endpoint || only == probe.name))
        };
        for probe in PROBES.iter().filter(wanted) {
            measured.push(measure(plan, (server.address, &server.meter), &facts, probe, notes).await?);
        }
        if let Some(page) = measured.iter().find(|m| m.notes == notes && m.name == NEWEST) {
            let bare = Bare::start(page.closed.mean_body_bytes).await?;
            measured.push(measure(plan, (bare.address, &bare.meter), &facts, BARE, notes).await?);
        }
    }
    server.stop().await?;
    print(plan, &measured)
}

async fn offered(server: &Server) -> Result<Vec<String>, String> {
    let answer = reqwest::Client::new().post(format!("http://{}/api/endpoints", server.address)).send().await;
    let bytes =
        answer.map_err(|error| error.to_string())?.bytes().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

async fn measure(
    plan: &Plan,
    (address, meter): (SocketAddr, &Meter),
    facts: &Arc<load::Facts>,
    probe: &'static Probe,
    notes: usize,
) -> Result<Measured, String> {
    let closed = Push { connections: plan.connections, lasts: plan.seconds, rate: None };
    let go = async |push: Push, seed: u64| load::run(address, meter, facts, probe, push, seed).await;
    go(Push { lasts: WARM_UP, ..closed }, plan.seed).await?;
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
