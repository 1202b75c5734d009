//! Times and places in the log, as an operator types them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Utc};
use domain::log::{Clock, Position, Recorded};

use super::ToolError;
use crate::system::SystemClock;

/// A point in the history: what is up to and including it has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Position(Position),
    Time(DateTime<Utc>),
}

impl Moment {
    pub fn parse(text: &str) -> Result<Self, ToolError> {
        match text.parse() {
            Ok(position) => Ok(Self::Position(Position(position))),
            Err(_) => time(text).map(Self::Time),
        }
    }

    pub fn includes(self, event: &Recorded) -> bool {
        match self {
            Self::Position(position) => event.position <= position,
            Self::Time(time) => event.at <= time,
        }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Position(position) => write!(f, "position {position}"),
            Self::Time(time) => write!(f, "{}", time.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

/// `now`, RFC 3339, or a day with or without a time of day, in UTC.
pub fn time(text: &str) -> Result<DateTime<Utc>, ToolError> {
    if text == "now" {
        return Ok(SystemClock.now());
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let in_utc = || local.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let day = || Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN));
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    zoned.or_else(|| in_utc().or_else(day).map(|time| time.and_utc())).ok_or_else(|| {
        ToolError::Wrong(format!(
            "`{text}` is not a time, such as 2026-01-02, 2026-01-02T03:04:05Z or now (all in UTC)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_utc_and_numbers_are_positions() {
        let at = |text: &str| time(text).unwrap().to_rfc3339();
        assert_eq!(at("2026-01-02"), "2026-01-02T00:00:00+00:00");
        assert_eq!(at("2026-01-02 03:04"), "2026-01-02T03:04:00+00:00");
        assert_eq!(at("2026-01-02T03:04:05.5"), "2026-01-02T03:04:05.500+00:00");
        assert_eq!(at("2026-01-02T03:04:05+09:00"), "2026-01-01T18:04:05+00:00");
        assert_eq!(Moment::parse("17").unwrap(), Moment::Position(Position(17)));
        for wrong in ["", "yesterday", "2026-13-01", "-1"] {
            assert!(Moment::parse(wrong).is_err(), "{wrong}");
        }
    }
}
