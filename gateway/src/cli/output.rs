//! What tools print and ask: text or JSON on standard output, questions and progress on standard error.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use domain::log::Position;
use serde::Serialize;

use super::ToolError;

/// Standard output, as text or as JSON.
pub struct Output {
    pub json: bool,
}

impl Output {
    pub fn line(&self, text: impl std::fmt::Display) -> Result<(), ToolError> {
        writeln!(io::stdout(), "{}", harmless(&text.to_string())).map_err(ToolError::Output)
    }

    /// One line of JSON.
    pub fn value(&self, value: &impl Serialize) -> Result<(), ToolError> {
        let text = serde_json::to_string(value).map_err(|error| ToolError::Output(error.into()))?;
        self.line(text)
    }

    /// The value as JSON when that is asked for, else the text.
    pub fn either(&self, value: &impl Serialize, text: impl std::fmt::Display) -> Result<(), ToolError> {
        if self.json { self.value(value) } else { self.line(text) }
    }
}

/// What people wrote moves no cursor and paints nothing on a terminal: control characters are told as JSON
/// tells them, so that JSON stays what it is.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\n';
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut told = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            told.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            told.push(c);
        }
    }
    Cow::Owned(told)
}

/// Says something beside the output. With standard error closed there is nobody to tell.
pub fn note(text: impl std::fmt::Display) {
    writeln!(io::stderr(), "kiroku: {text}").ok();
}

/// Asks on a terminal before something that can't be undone; `yes` is the answer given beforehand.
pub fn confirm(question: &str, yes: bool) -> Result<(), ToolError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(ToolError::Wrong(format!(
            "{question} Say so with --yes: there is no terminal to ask on"
        )));
    }
    let mut err = io::stderr();
    write!(err, "{question} [y/N] ").and_then(|()| err.flush()).map_err(ToolError::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(ToolError::Output)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(ToolError::Declined),
    }
}

/// Columns, each as wide as its widest cell; the last one is not filled up.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// How far a long piece of work is: a bar on a terminal, now and then a line elsewhere.
pub struct Progress {
    what: &'static str,
    /// What is counted.
    unit: &'static str,
    started: Instant,
    /// Where this run began.
    first: Option<Position>,
    told: Option<Instant>,
    is_terminal: bool,
}

const BAR_CHARS: usize = 24;
const DRAW_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    pub fn of(what: &'static str) -> Self {
        Self::counting(what, "events")
    }

    pub fn counting(what: &'static str, unit: &'static str) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { what, unit, started: Instant::now(), first: None, told: None, is_terminal }
    }

    /// The log has been passed up to `position` of `target`, and `count` were seen on the way.
    pub fn at(&mut self, position: Position, target: Position, count: u64) {
        let first = *self.first.get_or_insert(position);
        let every = if self.is_terminal { DRAW_EVERY } else { LINE_EVERY };
        if self.told.unwrap_or(self.started).elapsed() < every {
            return;
        }
        self.told = Some(Instant::now());
        let line = described(self.what, self.unit, [first, position, target], count, self.started.elapsed());
        let mut err = io::stderr();
        let told = match self.is_terminal {
            true => write!(err, "\r\x1b[K{} {line}", bar(position, target)).and_then(|()| err.flush()),
            false => writeln!(err, "kiroku: {line}"),
        };
        // Nobody looks.
        told.ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal && self.told.is_some() {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}

fn bar(position: Position, target: Position) -> String {
    let full = match target.0 {
        0 => BAR_CHARS,
        total => (u128::from(position.0.min(total)) * BAR_CHARS as u128 / u128::from(total)) as usize,
    };
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR_CHARS - full))
}

fn described(
    what: &str,
    unit: &str,
    [first, position, target]: [Position; 3],
    count: u64,
    took: Duration,
) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let passed = position.0.saturating_sub(first.0) as f64 / seconds;
    let left = match target.0.saturating_sub(position.0) {
        0 => "nearly done".to_owned(),
        _ if passed < 1.0 => "time left unknown".to_owned(),
        left => format!("{} left", in_words(Duration::from_secs_f64(left as f64 / passed))),
    };
    let rate = count as f64 / seconds;
    format!("{what}: {count} {unit}, {rate:.0} {unit}/s, at {position} of {target}, {left}")
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ ..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Bytes in the largest unit that leaves a whole part.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units.get(unit).unwrap_or(&"B")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_rate_and_time_left() {
        let at = |numbers: [u64; 3]| numbers.map(Position);
        let line = described("rebuild", "events", at([1_000, 3_000, 10_000]), 5_000, Duration::from_secs(2));
        assert_eq!(line, "rebuild: 5000 events, 2500 events/s, at 3000 of 10000, 7 s left");
        assert!(described("x", "events", at([0, 5, 5]), 5, Duration::from_secs(1)).ends_with("nearly done"));
        assert!(
            described("x", "events", at([0, 0, 5]), 0, Duration::from_secs(9)).ends_with("time left unknown")
        );
        assert_eq!(in_words(Duration::from_secs(3_725)), "1 h 2 min");
        assert_eq!(bar(Position(1), Position(2)), format!("[{}{}]", "#".repeat(12), "-".repeat(12)));
        assert_eq!(bar(Position(7), Position(0)), format!("[{}]", "#".repeat(24)));
    }

    #[test]
    fn what_people_wrote_does_nothing_to_a_terminal() {
        assert_eq!(harmless("a\nb ü"), "a\nb ü");
        assert_eq!(harmless("\x1b]0;x\x07\r\u{9b}2J"), "\\u001b]0;x\\u0007\\u000d\\u009b2J");
        let json = serde_json::to_string("\u{9b}\u{7f}\x1b").unwrap();
        assert_eq!(serde_json::from_str::<String>(&harmless(&json)).unwrap(), "\u{9b}\u{7f}\x1b");
    }

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(["k", "value"], &rows), "k     value\na     1\nlong");
    }

    #[test]
    fn bytes_are_told_in_a_fitting_unit() {
        assert_eq!((bytes(1023), bytes(1536)), ("1023 B".to_owned(), "1.5 KiB".to_owned()));
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }
}
