//! How fast a server is, and what it costs: a server of its own, and requests, posts and sockets from this
//! process. By default the table of endpoints; each of the other [`PARTS`] when it is asked for. Prints tables,
//! and the same as JSON.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod bare;
mod cold_start;
mod endpoints;
mod fan_out;
mod figure;
mod grown;
mod large_author;
mod load;
mod log;
mod meter;
mod posts;
mod rebuild;
mod seed;
mod server;
mod sockets;
mod streams;
mod upload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use figure::Figure;
use grown::Grown;

/// What is measured beside the endpoints.
const PARTS: [&str; 6] = ["log", "streams", "fan-out", "large-author", "rebuild", "cold-start"];

struct Plan {
    kiroku: PathBuf,
    directory: PathBuf,
    /// Each part knows how many it needs when nobody says so.
    people: Option<usize>,
    notes: usize,
    events: u64,
    sockets: usize,
    followers: usize,
    connections: usize,
    /// Of the server, in MiB.
    memory: Option<u64>,
    warm_up: Duration,
    seconds: Duration,
    repeats: u64,
    rate: Option<f64>,
    large: bool,
    world: Option<PathBuf>,
    only: Vec<String>,
    upload: u64,
    seed: u64,
    parts: Vec<String>,
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
        .arg(
            Arg::new("part")
                .long("part")
                .value_name("PART,…")
                .value_delimiter(',')
                .value_parser(PARTS)
                .help("These instead of the endpoints"),
        )
        .arg(number("notes", "100000"))
        .arg(number("people", "0").hide_default_value(true).help("[default: 1000; fan-out: 2000]"))
        .arg(number("events", "1000000").help("In the log, for rebuild and cold-start"))
        .arg(number("sockets", "10000").help("For streams"))
        .arg(number("followers", "1000000").help("Of the large author"))
        .arg(number("connections", "16").help("Of the endpoints"))
        // Long enough that everybody has asked.
        .arg(number("warm-up", "2").help("For how many seconds each endpoint is asked before it is measured"))
        .arg(number("seconds", "5").help("How long each loop lasts"))
        .arg(number("repeats", "3").help("How often each closed loop is run"))
        .arg(
            number("rate", "0").help(
                "Requests a second of the open loop [default: half of the closed loop's; streams: 200]",
            ),
        )
        .arg(number("memory", "0").hide_default_value(true).help("The server's page_memory [default: its own]"))
        .arg(number("seed", "1").help("Draws everything"))
        .arg(
            Arg::new("large")
                .long("large")
                .action(ArgAction::SetTrue)
                .help("Also with ten times as many notes, where a page may cost 1.5 times as much"),
        )
        .arg(
            Arg::new("world")
                .long("world")
                .value_name("DIRECTORY")
                .conflicts_with_all(["large", "part", "upload"])
                .help("Keeps the world there, and writes no more to it; one that is there is used again, as large as it is"),
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
        people: Some(size("people")?).filter(|people| *people > 0).map(|people| people.max(2)),
        notes: size("notes")?.max(1_000),
        events: number("events").max(1),
        sockets: size("sockets")?.max(1),
        followers: size("followers")?.max(1),
        connections: size("connections")?.max(1),
        warm_up: Duration::from_secs(number("warm-up").max(1)),
        seconds: Duration::from_secs(number("seconds").max(1)),
        repeats: number("repeats").max(1),
        rate: Some(number("rate")).filter(|rate| *rate > 0).map(|rate| rate as f64),
        large: matches.get_flag("large"),
        world: text("world").map(PathBuf::from),
        only: text("only")
            .unwrap_or_default()
            .split(',')
            .filter(|e| !e.is_empty())
            .map(str::to_owned)
            .collect(),
        upload: number("upload"),
        memory: Some(number("memory")).filter(|memory| *memory > 0),
        seed: number("seed"),
        parts: matches.get_many("part").into_iter().flatten().cloned().collect(),
    })
}

/// Whether all went well.
async fn bench(plan: &Plan) -> Result<bool, String> {
    if let Some(world) = &plan.world {
        return endpoints::run_in(plan, world).await;
    }
    let directory = tempfile::Builder::new().prefix("kiroku-bench-").tempdir_in(&plan.directory);
    let directory = directory.map_err(|error| format!("{}: {error}", plan.directory.display()))?;
    // PostgreSQL does not run as root, and its user has to get through.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).map_err(|error| error.to_string())?;
    if plan.parts.is_empty() {
        return endpoints::run(plan, directory.path()).await;
    }
    parts(plan, directory.path()).await
}

/// One after the other, whatever becomes of those before; whether all went well. Each has a server of its own,
/// but for those that want the same large log.
async fn parts(plan: &Plan, directory: &Path) -> Result<bool, String> {
    let (mut figures, mut is_well) = (Vec::new(), true);
    let mut grown: Option<Grown> = None;
    figure::print_head();
    for part in PARTS.into_iter().filter(|part| plan.parts.iter().any(|asked| asked == part)) {
        let directory = directory.join(part);
        std::fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let found = match part {
            "log" => log::run(plan, &directory).await,
            "streams" => streams::run(plan, &directory).await,
            "fan-out" => fan_out::run(plan, &directory).await,
            "large-author" => large_author::run(plan, &directory).await,
            _ => in_grown(part, plan, &directory, &mut grown).await,
        };
        match found {
            Ok(found) => {
                found.iter().for_each(Figure::print);
                figures.extend(found);
            }
            Err(why) => {
                eprintln!("bench: {part}: {why}");
                is_well = false;
            }
        }
    }
    if let Some(world) = grown {
        world.server.stop().await?;
    }
    println!("\n{}", serde_json::to_string(&figures).map_err(|error| error.to_string())?);
    Ok(is_well && !figures.iter().any(Figure::is_fault))
}

async fn in_grown(
    part: &str,
    plan: &Plan,
    directory: &Path,
    grown: &mut Option<Grown>,
) -> Result<Vec<Figure>, String> {
    let world = match grown.take() {
        Some(world) => world,
        None => Grown::begin(plan, directory).await?,
    };
    let (found, world) = match part {
        "rebuild" => rebuild::run(plan, world).await?,
        _ => cold_start::run(plan, world).await?,
    };
    *grown = Some(world);
    Ok(found)
}
