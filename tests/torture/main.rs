//! Torture: servers on one database are killed, stopped, cut off and starved under a mixed load that
//! remembers what it was told. After each round the log and the read tables must hold exactly that.
//!
//! Everything is drawn from a seed, so a round that failed can be asked for again; what happens in between is
//! up to the machine. A reader that trusts bare sequence numbers is followed first, and must be caught.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod check;
mod faults;
mod follower;
mod load;
mod memory;
mod proxy;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sqlx::ConnectOptions;
use tokio::time::{Instant, sleep};

use faults::{Fault, Kind};
use follower::{Follower, Table};
use load::Load;
use memory::Counts;
use world::{Means, World};

/// What is wrong.
#[derive(Debug, Default)]
pub struct Findings {
    lines: Vec<String>,
    more: usize,
}

/// The most findings that are told.
const MAX_FINDINGS: usize = 30;
/// Something could not be brought about, so nothing was shown.
const CANNOT: u8 = 3;
/// Rounds before everything starts afresh, so that the log stays small.
const ROUNDS_PER_WORLD: u64 = 25;
const LOAD_FOR: Duration = Duration::from_millis(1_500);
/// Load after the last fault is over.
const LOAD_AFTER: Duration = Duration::from_millis(300);
/// Notes that are looked at through each server after a round.
const SHOWN: usize = 10;

struct Plan {
    seed: u64,
    first: u64,
    rounds: u64,
    people: usize,
    kinds: Vec<Kind>,
    directory: PathBuf,
    means: Means,
}

#[derive(Default)]
struct Totals {
    rounds: BTreeMap<&'static str, u64>,
    counts: Counts,
}

fn main() -> ExitCode {
    // Nobody else has installed one.
    tokio_rustls::rustls::crypto::ring::default_provider().install_default().ok();
    let matches = arguments().get_matches();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let plan = plan(&matches).await?;
        match matches.get_one::<String>("reader").map(String::as_str) {
            Some("naive") => naive(&plan).await,
            _ => torture(&plan).await,
        }
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("torture: {why}");
            ExitCode::from(CANNOT)
        }
    }
}

fn arguments() -> Command {
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    Command::new("torture")
        .args_override_self(true)
        .about("Servers under a mixed load and every kind of fault")
        .after_help("Exit codes: 0 nothing was lost, 1 something is wrong, 2 wrong arguments, 3 it could not be tried")
        .arg(number("seed").help("Draws everything [default: another each time]"))
        .arg(number("rounds").default_value("50"))
        .arg(number("from").default_value("0").help("The first round"))
        .arg(number("servers").default_value("2"))
        .arg(number("people").default_value("24"))
        .arg(Arg::new("only").long("only").value_name("FAULT,…").help("Only these faults"))
        .arg(Arg::new("kiroku").long("kiroku").value_name("PATH").help("The program [default: beside this one]"))
        .arg(Arg::new("directory").long("directory").default_value("/tmp").help("Where everything is kept"))
        .arg(
            Arg::new("reader")
                .long("reader")
                .default_value("log")
                .value_parser(["log", "naive"])
                .help("naive: follow a table by bare sequence numbers, and nothing else"),
        )
}

/// Looks at what this machine has, and says what is left out.
async fn plan(matches: &ArgMatches) -> Result<Plan, String> {
    let number = |name: &str| *matches.get_one::<u64>(name).unwrap_or(&0);
    let seed =
        matches.get_one::<u64>("seed").copied().unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    let kiroku = match matches.get_one::<String>("kiroku") {
        Some(path) => std::path::absolute(path).map_err(|error| error.to_string())?,
        None => std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("kiroku"),
    };
    if !kiroku.is_file() {
        return Err(format!("{} is missing: cargo build --package gateway", kiroku.display()));
    }
    let directory = PathBuf::from(matches.get_one::<String>("directory").unwrap());
    let trial = tempfile::tempdir_in(&directory).map_err(|error| error.to_string())?;
    let (disk, power) = world::can_mount(trial.path()).await;
    let nats = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];
    let means = Means {
        nats: find(&nats).filter(|_| offers(&kiroku, "serve", "--nats-url-file")),
        faketime: find(&[
            "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
            "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        ]),
        disk,
        power,
        verify: offers(&kiroku, "verify", "--json"),
        rebuild: offers(&kiroku, "rebuild", "--json"),
        postgres_bin: postgres_bin().ok_or("PostgreSQL is not installed")?,
        servers: number("servers").max(1) as usize,
        kiroku,
    };
    let mut kinds = match matches.get_one::<String>("only") {
        Some(names) => names.split(',').map(kind).collect::<Result<_, _>>()?,
        None => faults::ALL.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
    };
    for (kind, is_possible, why) in [
        (Kind::CutPower, means.power, "a file system can't be shut down here"),
        (Kind::DiskFull, means.disk, "a file system can't be mounted here"),
        (Kind::Clock, means.faketime.is_some(), "libfaketime is not installed"),
        (Kind::PostgresClock, means.faketime.is_some(), "libfaketime is not installed"),
        (Kind::Rebuild, means.rebuild, "this kiroku has no rebuild"),
        (Kind::KillNats, means.nats.is_some(), "there is no nats-server, or kiroku knows none"),
    ] {
        if !is_possible && kinds.contains(&kind) {
            println!("SKIPPED: {kind}: {why}");
            kinds.retain(|other| *other != kind);
        }
    }
    if !means.verify {
        println!("SKIPPED: kiroku verify: this kiroku has none");
    }
    if kinds.is_empty() {
        return Err("no fault is left".to_owned());
    }
    let (first, rounds, people) = (number("from"), number("rounds"), number("people").max(2) as usize);
    Ok(Plan { seed, first, rounds, people, kinds, directory, means })
}

/// Follows a table by bare sequence numbers. True when nothing was missed, which would be bad.
async fn naive(plan: &Plan) -> Result<bool, String> {
    let directory = fresh_directory(plan)?;
    let means = Means { servers: 0, nats: None, disk: false, ..plan.means.clone() };
    let world = World::start(directory.clone(), means).await.map_err(|error| error.to_string())?;
    let (missed, events) = bite(plan, &world).await?;
    world.end().await;
    _ = std::fs::remove_dir_all(directory);
    println!("a reader that trusts bare sequence numbers missed {missed} of {events} events");
    Ok(missed == 0)
}

async fn bite(plan: &Plan, world: &World) -> Result<(usize, usize), String> {
    let mut findings = Findings::default();
    let events = follower::trust_bare_numbers(&world.database(), plan.seed, &mut findings)
        .await
        .map_err(|error| format!("the naive table: {error}"))?;
    Ok((findings.len(), events))
}

async fn torture(plan: &Plan) -> Result<bool, String> {
    println!("seed {}, {} rounds from {}", plan.seed, plan.rounds, plan.first);
    let mut totals = Totals::default();
    let (mut round, end) = (plan.first, plan.first + plan.rounds);
    while round < end {
        let directory = fresh_directory(plan)?;
        let until = end.min(round + ROUNDS_PER_WORLD);
        let started = World::start(directory.clone(), plan.means.clone()).await;
        let world = match started {
            Ok(world) => Arc::new(world),
            Err(error) => {
                world::unmount(&directory).await;
                return Err(format!("{error}; see {}", directory.display()));
            }
        };
        let went_well = life(plan, world.clone(), round..until, &mut totals).await;
        world.end().await;
        if !went_well? {
            println!("kept: {}", directory.display());
            return Ok(false);
        }
        _ = std::fs::remove_dir_all(directory);
        round = until;
    }
    let Totals { rounds, counts } = totals;
    let told: Vec<String> = rounds.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    println!("rounds per fault: {}", told.join(", "));
    println!(
        "{} acknowledged, {} refused, {} not done, {} without an answer; nothing is lost, nothing is doubled",
        counts.acknowledged, counts.refused, counts.not_done, counts.unknown
    );
    Ok(true)
}

/// The rounds of one world. False when something is wrong, which has been told.
async fn life(
    plan: &Plan,
    world: Arc<World>,
    rounds: std::ops::Range<u64>,
    totals: &mut Totals,
) -> Result<bool, String> {
    let (missed, events) = bite(plan, &world).await?;
    if missed == 0 {
        println!("a reader that trusts bare sequence numbers missed none of {events}: this harness is blind");
        return Ok(false);
    }
    let load = Load::new(world.clone()).map_err(|error| error.to_string())?;
    load.settle_in(plan.people).await?;
    let mut follower = Follower::start(Table::Log, world.database());
    let mut before = Counts::default();
    let first = rounds.start;
    for round in rounds {
        let began = Instant::now();
        let faults = Fault::plan(&plan.kinds, plan.seed, round);
        let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let findings = Mutex::new(Findings::default());
        strike(plan, &load, round, &faults, &findings).await;
        let mut findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        world.heal(&mut findings).await;
        load.finish().await;
        if let Err(late) = world.until_settled().await {
            findings.add(late);
        }
        let struck = began.elapsed();
        let counts = {
            let mut memory = load.memory();
            findings.append(std::mem::take(&mut memory.findings));
            memory.counts
        };
        if let Err(error) = examine(&load, &mut follower, &mut findings, plan.seed ^ round).await {
            findings.add(format!("the database can't be examined: {error}"));
        }
        let examined = began.elapsed();
        if let Err(why) = world.verify().await {
            findings.add(why);
        }
        println!(
            "round {round}: {}; {} acknowledged, {} refused, {} not done, {} unknown; {:.1} s, {:.1} s to examine, {:.1} s to verify",
            told.join(" + "),
            counts.acknowledged - before.acknowledged,
            counts.refused - before.refused,
            counts.not_done - before.not_done,
            counts.unknown - before.unknown,
            struck.as_secs_f64(),
            (examined - struck).as_secs_f64(),
            (began.elapsed() - examined).as_secs_f64(),
        );
        totals.add(&faults, &before, &counts);
        before = counts;
        if !findings.is_empty() {
            for line in findings.into_lines() {
                println!("  WRONG: {line}");
            }
            let Plan { seed, people, .. } = plan;
            let again = format!("torture --seed {seed} --people {people}");
            println!("again: {again} --from {round} --rounds 1");
            println!("or with what came before: {again} --from {first} --rounds {}", round - first + 1);
            return Ok(false);
        }
    }
    Ok(true)
}

/// The load of one round, and its faults.
async fn strike(plan: &Plan, load: &Load, round: u64, faults: &[Fault], findings: &Mutex<Findings>) {
    let stop = Arc::new(AtomicBool::new(false));
    let people = load.memory().people.clone();
    let lives = people.into_iter().zip(2u64..);
    let lives: Vec<_> = lives
        .map(|(person, n)| tokio::spawn(load.clone().live(person, rng(plan.seed, round, n), stop.clone())))
        .collect();
    let striking = faults.iter().map(|fault| fault.strike(&load.world, findings));
    tokio::join!(futures_util::future::join_all(striking), sleep(LOAD_FOR));
    sleep(LOAD_AFTER).await;
    stop.store(true, Ordering::Relaxed);
    for life in lives {
        if let Err(lost) = life.await {
            findings.lock().unwrap_or_else(PoisonError::into_inner).add(format!("a person is lost: {lost}"));
        }
    }
}

/// Everything against memory.
async fn examine(
    load: &Load,
    follower: &mut Follower,
    findings: &mut Findings,
    seed: u64,
) -> sqlx::Result<()> {
    let database = load.world.database();
    follower.compare(&database, findings).await?;
    let mut connection = database.connect().await?;
    let rows = check::read_log(&mut connection).await?;
    let tables = check::read_tables(&mut connection).await?;
    let shown: Vec<_> = {
        let mut memory = load.memory();
        check::log(&rows, &tables.notes, &mut memory, findings);
        check::tables(&tables, &memory, findings);
        let mut rng = StdRng::seed_from_u64(seed);
        (0..SHOWN.min(memory.newest.len()))
            .map(|_| memory.newest[rng.random_range(0..memory.newest.len())])
            .map(|id| (id, memory.notes[&id].clone(), memory.is_gone(id)))
            .collect()
    };
    for server in 0..load.world.servers.len() {
        for (id, draft, is_gone) in &shown {
            let name = load.world.servers[server].name;
            match load.call(server, "notes/show", &json!({ "noteId": id.to_string() })).await {
                Ok((200, note)) if !is_gone && note["text"].as_str() == draft.text.as_deref() => {}
                Ok((400, _)) if *is_gone => {}
                Ok((status, told)) => {
                    findings.add(format!("server {name} shows note {id} as {status} {told}"));
                }
                Err(error) => findings.add(format!("server {name} does not show note {id}: {error}")),
            }
        }
    }
    Ok(())
}

/// What one part of one round draws from.
pub fn rng(seed: u64, round: u64, part: u64) -> StdRng {
    let mut first = StdRng::seed_from_u64(seed);
    let mut second = StdRng::seed_from_u64(first.random::<u64>() ^ round);
    StdRng::seed_from_u64(second.random::<u64>() ^ part)
}

impl Findings {
    pub fn add(&mut self, line: String) {
        if self.lines.len() < MAX_FINDINGS {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    fn append(&mut self, other: Findings) {
        self.more += other.more;
        for line in other.lines {
            self.add(line);
        }
    }

    fn len(&self) -> usize {
        self.lines.len() + self.more
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        self.lines
    }
}

impl Totals {
    fn add(&mut self, faults: &[Fault], before: &Counts, counts: &Counts) {
        for fault in faults {
            let (name, _) = faults::ALL.iter().find(|(_, kind)| *kind == fault.kind).unwrap();
            *self.rounds.entry(name).or_default() += 1;
        }
        self.counts.acknowledged += counts.acknowledged - before.acknowledged;
        self.counts.refused += counts.refused - before.refused;
        self.counts.not_done += counts.not_done - before.not_done;
        self.counts.unknown += counts.unknown - before.unknown;
    }
}

fn fresh_directory(plan: &Plan) -> Result<PathBuf, String> {
    let made = tempfile::Builder::new().prefix("kiroku-torture-").tempdir_in(&plan.directory);
    Ok(made.map_err(|error| error.to_string())?.keep())
}

fn kind(name: &str) -> Result<Kind, String> {
    let known = faults::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    known.ok_or_else(|| {
        let names: Vec<&str> = faults::ALL.iter().map(|(name, _)| *name).collect();
        format!("`{name}` is none of {}", names.join(", "))
    })
}

fn find(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Whether a command of this kiroku has a flag.
fn offers(kiroku: &Path, command: &str, flag: &str) -> bool {
    let help = std::process::Command::new(kiroku).args([command, "--help"]).output();
    help.is_ok_and(|help| help.status.success() && String::from_utf8_lossy(&help.stdout).contains(flag))
}

/// The programs of the newest PostgreSQL.
fn postgres_bin() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = debian.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").is_file());
    newest.max_by_key(|path| version(path)).map(|path| path.join("bin"))
}
