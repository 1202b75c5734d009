//! `kiroku rebuild` and `kiroku verify`: read models made anew from the log, beside the live ones.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};
use domain::log::{EventLog, Position};
use projections::rebuild::{self, Handle, How, Progress as Reached, ProjectorReport, RebuildError, Report};
use projections::{Mode, Projections, Projector};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::desk::{self, Desk};
use super::files::{self, Missing};
use super::log::check;
use super::output::{Progress, note};
use super::projections::standing;
use super::{Outcome, ToolError, tool};
use crate::platform::attach::With;

pub fn rebuild_command() -> Command {
    tool(Command::new("rebuild").about("Make read models anew from the log, and switch to them"))
        .arg(names())
        .after_help(
            "They are made beside the live ones, while reads and writes go on, and put in their place at once. \
             Interrupted, the next run goes on from there. Grants, and views of your own that look at the \
             tables, go along; what can't, such as a materialized view or a foreign key, is refused before \
             anything is built: let it look at such a view. Exits with 5 when the live ones were not as the \
             log says; they are then.",
        )
}

pub fn verify_command() -> Command {
    tool(Command::new("verify").about("Check the log, and compare the read models with what it says"))
        .arg(names())
        .after_help(
            "Checks the log itself (positions, versions, the chain of hashes, that every payload opens or is \
             erased), then makes read models anew beside the live ones, compares them row by row, and drops \
             them; and looks whether the files that `drive` tells of are there. Nothing live is changed, but where no server runs, read models that are behind the log \
             are filled first. Exits with 5 when something differs.",
        )
}

pub fn run_rebuild(matches: &ArgMatches) -> ExitCode {
    run(matches, async |desk, projectors| {
        let report = rebuilt(desk, projectors).await?;
        desk.output.either(&report, told(&report))?;
        Ok(if report.is_clean() { Outcome::Done } else { Outcome::Differs })
    })
}

pub fn run_verify(matches: &ArgMatches) -> ExitCode {
    run(matches, async |desk, projectors| {
        let (found, outcome) = verify(desk, projectors).await?;
        if desk.output.json {
            desk.output.value(&found)?;
        }
        Ok(outcome)
    })
}

/// Checks everything; says in text what was found, or returns it as JSON.
pub async fn verify(desk: &Desk, projectors: Vec<Arc<dyn Projector>>) -> Result<(Value, Outcome), ToolError> {
    let checked = tokio::select! {
        biased;
        checked = check::checked(desk) => checked?,
        _ = desk.shutdown.wait() => return Err(ToolError::Stopped),
    };
    if !desk.output.json {
        desk.output.line(check::told(&checked))?;
    }
    fill(desk, &projectors).await?;
    let (pool, log) = (&desk.attached.pool, desk.log.clone() as Arc<dyn EventLog>);
    let tells_of_files = projectors.iter().any(|projector| projector.name() == TELLS_OF_FILES);
    let report =
        followed(desk, "verify", async |handle| rebuild::verify(pool, log, projectors, handle).await);
    let report = report.await?;
    if !desk.output.json {
        desk.output.line(told(&report))?;
    }
    let missing = match tells_of_files {
        true => tokio::select! {
            missing = missing(desk) => missing?,
            _ = desk.shutdown.wait() => return Err(ToolError::Stopped),
        },
        false => Missing::default(),
    };
    if let Some(lost) = missing.told().filter(|_| !desk.output.json) {
        desk.output.line(lost)?;
    }
    let is_clean = checked.is_clean() && report.is_clean() && missing.missing == 0;
    let outcome = if is_clean { Outcome::Done } else { Outcome::Differs };
    Ok((json!({ "log": checked, "read_models": report, "files": missing }), outcome))
}

/// Which files are told of, and are not kept.
async fn missing(desk: &Desk) -> Result<Missing, ToolError> {
    let store = desk.files()?;
    files::missing(&desk.attached.pool, desk.log.as_ref(), usize::MAX, async |owner, key| {
        Ok(store.size(owner, key).await?.is_some())
    })
    .await
}

pub async fn rebuilt(desk: &Desk, projectors: Vec<Arc<dyn Projector>>) -> Result<Report, ToolError> {
    fill(desk, &projectors).await?;
    let (pool, log) = (&desk.attached.pool, desk.log.clone() as Arc<dyn EventLog>);
    followed(desk, "rebuild", async |handle| rebuild::rebuild(pool, log, projectors, handle).await).await
}

/// The projector whose rows name people's files.
const TELLS_OF_FILES: &str = "drive";
/// Without any progress for so long, read models are not waited for any more.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How often it is looked how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Fills read models that nobody fills now, up to the head of the log. They may be behind it, where no server
/// runs, and still have of somebody what can't be read in the log any more.
async fn fill(desk: &Desk, projectors: &[Arc<dyn Projector>]) -> Result<(), ToolError> {
    let (pool, log) = (&desk.attached.pool, desk.log.clone());
    let standing = standing(pool, log.as_ref()).await?;
    let is_left = |projector: &&Arc<dyn Projector>| {
        let version = i64::from(projector.version());
        standing.iter().any(|one| {
            let is_current = one.stored_version.map(i64::from) == Some(version);
            one.name == projector.name() && is_current && one.lag_events > 0 && one.active.is_none()
        })
    };
    let left: Vec<Arc<dyn Projector>> = projectors.iter().filter(is_left).cloned().collect();
    if left.is_empty() {
        return Ok(());
    }
    let (first, head) = (standing.iter().map(|one| one.position).min().unwrap_or(0), log.head().await?);
    let running = Projections::start(pool, log, left, Mode::Project);
    let filled = tokio::select! {
        filled = filled(&running, Position(first), head) => filled,
        _ = desk.shutdown.wait() => Err(ToolError::Stopped),
    };
    running.stop().await;
    filled
}

async fn filled(running: &Projections, first: Position, head: Position) -> Result<(), ToolError> {
    let mut shown = Progress::of("filling");
    let mut reached: Vec<Position> = Vec::new();
    let mut moved_at = Instant::now();
    while let Err(lagging) = running.wait(head, LOOK_EVERY).await {
        let now: Vec<Position> = running.status().iter().map(|status| status.position).collect();
        let least = now.iter().copied().min().unwrap_or(head);
        shown.at(least, head, least.0.saturating_sub(first.0));
        if now != reached {
            (reached, moved_at) = (now, Instant::now());
        } else if moved_at.elapsed() >= STUCK_AFTER {
            return Err(ToolError::Refused(lagging.to_string()));
        }
    }
    for status in running.status() {
        if let Some(reason) = status.stopped {
            note(format!("{} stays where it is: {reason}", status.name));
        }
    }
    Ok(())
}

fn names() -> Arg {
    Arg::new("names")
        .value_name("NAME")
        .action(ArgAction::Append)
        .num_args(0..)
        .help("Only these read models, as `kiroku projections` names them [default: all]")
}

fn run<W>(matches: &ArgMatches, work: W) -> ExitCode
where
    W: AsyncFnOnce(&Desk, Vec<Arc<dyn Projector>>) -> Result<Outcome, ToolError>,
{
    desk::run(matches, async |tool| {
        let chosen = chosen(matches)?;
        tool.at_desk(With::Others, async |desk| {
            desk.follows().await?;
            work(desk, chosen).await
        })
        .await
    })
}

fn chosen(matches: &ArgMatches) -> Result<Vec<Arc<dyn Projector>>, ToolError> {
    let all = projections::projectors();
    let names: Vec<&String> = matches.get_many("names").into_iter().flatten().collect();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|one| one.name() != name.as_str())) {
        let known: Vec<&str> = all.iter().map(|projector| projector.name()).collect();
        let refusal = format!("there is no read model `{unknown}`; these are: {}", known.join(", "));
        return Err(ToolError::Wrong(refusal));
    }
    let is_chosen = |name: &str| names.is_empty() || names.iter().any(|chosen| *chosen == name);
    Ok(all.into_iter().filter(|projector| is_chosen(projector.name())).collect())
}

/// Shows how far it is, and lets it end at the next good moment when the operator interrupts.
async fn followed<W>(desk: &Desk, what: &'static str, work: W) -> Result<Report, ToolError>
where
    W: AsyncFnOnce(&Handle) -> Result<Report, RebuildError>,
{
    let (stop, stopping) = watch::channel(false);
    let progress = watch::Sender::new(Reached::default());
    let mut moves = progress.subscribe();
    let handle = Handle { progress, stop: stopping };
    let mut shown = Progress::of(what);
    let working = work(&handle);
    tokio::pin!(working);
    loop {
        tokio::select! {
            ended = &mut working => return ended.map_err(|error| match error {
                RebuildError::Log(error) => error.into(),
                RebuildError::Sql(error) => error.into(),
                RebuildError::Stopped { .. } => ToolError::Stopped,
                other => ToolError::Refused(other.to_string()),
            }),
            Ok(()) = moves.changed() => {
                let at = moves.borrow_and_update().clone();
                shown.at(at.position, at.target, at.events);
            }
            _ = desk.shutdown.wait(), if !*stop.borrow() => {
                stop.send_replace(true);
            }
        }
    }
}

fn told(report: &Report) -> String {
    let mut lines: Vec<String> = report.projectors.iter().flat_map(told_of).collect();
    let done = if report.switched { "rebuilt, and live now" } else { "compared" };
    lines.push(format!("{done}: {} events in {:.1} s", report.events, report.seconds));
    lines.join("\n")
}

fn told_of(projector: &ProjectorReport) -> Vec<String> {
    let ProjectorReport { name, version, position, compared, tables } = projector;
    let rows: i64 = tables.iter().map(|table| table.rebuilt.rows).sum();
    let verdict = match (compared, tables.iter().all(|table| table.is_same())) {
        (false, _) => "not compared: nobody had filled this version's tables",
        (true, true) => "as the log says",
        (true, false) => "NOT as the log says",
    };
    let mut lines = vec![format!("{name} {version}, {rows} rows at position {position}: {verdict}")];
    for table in tables.iter().filter(|table| !table.is_same()) {
        lines.push(format!("  {}: {} rows differ", table.name, table.differing));
        for difference in &table.differences {
            let how = match &difference.how {
                How::OnlyLive => "is there, and the log does not say so".to_owned(),
                How::OnlyRebuilt => "is missing".to_owned(),
                How::Columns(columns) => format!("differs in {}", columns.join(", ")),
            };
            lines.push(format!("    {} {how}", key(&difference.key)));
        }
        let more = table.differing - table.differences.len() as i64;
        if more > 0 {
            lines.push(format!("    and {more} more"));
        }
    }
    lines
}

fn key(key: &Value) -> String {
    match key {
        Value::Object(columns) => {
            let told: Vec<String> = columns.iter().map(|(name, value)| format!("{name}={value}")).collect();
            told.join(" ")
        }
        other => other.to_string(),
    }
}
