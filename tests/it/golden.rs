//! The scenario that was recorded on the reference server, played against this one: every step of an
//! endpoint that is offered is answered alike, or `tests/misskey/differences.md` says why not.
//!
//! The recording stands beside the repository, not in it; without it there is nothing to compare.
//! Both recordings and the verdict stay in the target directory (`tmp/golden`, for each engine of the log).

use std::fs;
use std::path::Path;

use gateway::misskey::registry;
use regex_lite::Regex;
use serde::Deserialize;
use tokio::process::Command;

use crate::eventstore;
use crate::eventstore_double::Double;
use crate::harness::TestApp;

/// Offered without being in the list of endpoints, as on the reference.
const UNLISTED: [&str; 4] = ["signin-flow", "signin-with-passkey", "signup", "signup-pending"];
/// Unexplained differences that are shown.
const SHOWN: usize = 80;

/// One line of the verdict.
#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    /// `missing`, `none`, `status`, `shape` or `value`.
    level: String,
    differences: Vec<String>,
}

/// One row of the table of differences.
struct Row {
    line: usize,
    /// Depends on who is faster, so it may explain nothing.
    sometimes: bool,
    steps: Regex,
    difference: Regex,
}

/// Where the reference was recorded. The server says that this is its address, and listens elsewhere.
const RECORDED_AT: &str = "http://127.0.0.1:3900";
/// How much longer the pauses are than in the recording: the reference took that much longer to answer, and what
/// happens at a time, such as the end of a poll, shall happen between the same steps.
const PACE: &str = "1.05";
/// The scenario comes from many addresses.
const FLAGS: [(&str, &str); 2] = [("trusted-proxies", "127.0.0.1"), ("url", RECORDED_AT)];
/// Runs a Python script whose connections to a port go to another one: `-c THIS PORT OTHER SCRIPT …`.
const REDIRECTED: &str = r#"
import runpy, socket, sys
_, public, real, script, *_ = sys.argv
look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, port, *a, **k: look_up(host, real if str(port) == public else port, *a, **k)
sys.argv = sys.argv[3:]
runpy.run_path(script, run_name="__main__")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_scenario_is_answered_alike_or_it_is_said_why_not() {
    play("postgres", async || TestApp::in_real_time(&FLAGS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_scenario_is_answered_alike_with_the_log_in_a_double_of_eventstore() {
    let double = Double::start().await;
    let url = double.url();
    play("double", async || TestApp::on_eventstore(&url, &eventstore::namespace(), &FLAGS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_scenario_is_answered_alike_with_the_log_in_eventstore() {
    match eventstore::server() {
        Some(url) => {
            let app = async || TestApp::on_eventstore(&url, &eventstore::namespace(), &FLAGS).await;
            play("eventstore", app).await;
        }
        None => println!("SKIPPED: KIROKU_TEST_EVENTSTORE_URL names no EventStoreDB"),
    }
}

/// Plays the scenario against a server with that engine.
async fn play(engine: &str, start: impl AsyncFnOnce() -> TestApp) {
    let reference = crate::root().join("../shared/misskey");
    if !reference.join("golden").is_dir() {
        println!("SKIPPED: there is no recording of the reference at {}", reference.display());
        return;
    }
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden").join(engine);
    let (ours, offered, verdict) = (work.join("ours"), work.join("offered.json"), work.join("verdict.json"));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&ours).unwrap();
    let paths: Vec<&str> = registry().paths().chain(UNLISTED).collect();
    fs::write(&offered, serde_json::to_vec(&paths).unwrap()).unwrap();

    let app = start().await;
    // The reference had no network.
    app.names.go_away();
    let mut record = Command::new(crate::python());
    record.args(["-c", REDIRECTED, port(RECORDED_AT), port(&app.url)]).arg(reference.join("record.py"));
    record.args(["--quiet", "--base-url", RECORDED_AT, "--pace", PACE, "--out"]).arg(&ours);
    // Its exit status says whether everything is there that the reference has; it isn't.
    let told = record.output().await.unwrap();
    assert!(ours.join("index.json").exists(), "record.py failed: {told:?}");
    app.settle().await;

    let mut compare = Command::new(crate::python());
    compare.arg(reference.join("compare.py")).arg(reference.join("golden")).arg(&ours);
    compare.args(["--show", "0", "--offered"]).arg(&offered).arg("--json").arg(&verdict);
    // Its exit status asks that everything is alike; the table below may say why something isn't.
    let told = compare.output().await.unwrap();
    println!("{}", String::from_utf8_lossy(&told.stdout));
    let steps: Vec<Step> = serde_json::from_slice(&fs::read(&verdict).unwrap()).unwrap();
    assert!(steps.len() > 1_000, "the comparison saw {} steps: {told:?}", steps.len());

    let rows = rows(&fs::read_to_string(crate::root().join("tests/misskey/differences.md")).unwrap());
    let (unexplained, idle) = judge(&steps, &rows);
    for told in unexplained.iter().take(SHOWN) {
        println!("{told}");
    }
    assert!(unexplained.is_empty(), "{} differences are not explained", unexplained.len());
    assert!(idle.is_empty(), "these rows of differences.md explain nothing: lines {idle:?}");
}

fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap()
}

/// The differences that no row explains, and the lines of the rows that explain none.
fn judge(steps: &[Step], rows: &[Row]) -> (Vec<String>, Vec<usize>) {
    let mut used = vec![false; rows.len()];
    let mut unexplained = Vec::new();
    let differing = steps.iter().filter(|step| !["missing", "value"].contains(&step.level.as_str()));
    for (step, difference) in differing.flat_map(|step| step.differences.iter().map(move |d| (step, d))) {
        let mut explained = false;
        for (row, used) in rows.iter().zip(&mut used) {
            if row.steps.is_match(&step.step) && row.difference.is_match(difference) {
                (*used, explained) = (true, true);
            }
        }
        if !explained {
            unexplained.push(format!("{}: {difference}", step.step));
        }
    }
    let idle = rows.iter().zip(&used).filter(|(row, used)| !**used && !row.sometimes);
    let idle = idle.map(|(row, _)| row.line).collect();
    (unexplained, idle)
}

/// Reads the rows ``| `steps` | `difference` | why |``; a bar inside an expression is written `\|`.
fn rows(text: &str) -> Vec<Row> {
    let expression = |cell: &str| cell.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
    let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with("| `"));
    lines
        .map(|(index, line)| {
            // Protected from the split, as Markdown has it.
            let protected = line.replace("\\|", "\u{0}");
            let cells: Vec<String> = protected.split('|').map(|cell| cell.replace('\u{0}', "|")).collect();
            let [_, steps, difference, why, _] = cells.as_slice() else {
                panic!("differences.md, line {}: not three cells", index + 1)
            };
            let parse = |cell: &str| {
                expression(cell).and_then(|text| Regex::new(&text).ok()).unwrap_or_else(|| {
                    panic!("differences.md, line {}: {cell} is not an expression", index + 1)
                })
            };
            assert!(!why.trim().is_empty(), "differences.md, line {}: says no reason", index + 1);
            let sometimes = why.trim().starts_with("Sometimes: ");
            Row { line: index + 1, sometimes, steps: parse(steps), difference: parse(difference) }
        })
        .collect()
}

#[test]
fn a_row_explains_what_it_names_and_nothing_else() {
    let table = "| steps | difference | why |\n|---|---|---|\n| `^(a\\|b)$` | `^status` | because |\n| `c` | `.` | idle |\n";
    let step = |step: &str, level: &str, difference: &str| Step {
        step: step.to_owned(),
        level: level.to_owned(),
        differences: vec![difference.to_owned()],
    };
    let steps = [
        step("a", "none", "status 200 expected"),
        step("b", "shape", "x: missing"),
        step("c", "missing", "not built"),
        step("d", "none", "status 200 expected"),
    ];
    let (unexplained, idle) = judge(&steps, &rows(table));
    assert_eq!(unexplained, ["b: x: missing", "d: status 200 expected"]);
    assert_eq!(idle, [4]);
}
