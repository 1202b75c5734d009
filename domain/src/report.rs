//! Reports of abuse: somebody tells the moderators about somebody else, in the stream `report-{id}`. What a
//! report says is the data of whoever sent it.

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{ReportId, UserId};
use crate::log::StreamId;
use crate::user::User;
use crate::{Event, Fold};

/// The longest comment of a report, and note of a moderator in one, in characters.
pub const MAX_COMMENT_CHARS: usize = 2_048;
pub const MAX_NOTE_CHARS: usize = 8_192;

/// The stream of one report.
pub fn stream(report: ReportId) -> StreamId {
    StreamId::new("report", report)
}

/// `report.filed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filed {
    pub report: ReportId,
    pub reporter: UserId,
    pub target: UserId,
    pub comment: String,
    /// By Misskey's names.
    pub category: String,
}

/// How a report ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Accept,
    Reject,
}

/// `report.resolved`: a moderator has seen to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    pub report: ReportId,
    pub reporter: UserId,
    pub moderator: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// `report.annotated`: what moderators note about it from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotated {
    pub report: ReportId,
    pub reporter: UserId,
    pub text: String,
    /// What they noted until then.
    pub before: String,
}

macro_rules! of_the_reporter {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.reporter)
            }
        }
    )*};
}
of_the_reporter!(Filed, Resolved, Annotated);

/// One report, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub filed: Option<Filed>,
    pub resolved: bool,
    pub note: String,
}

impl Fold for Report {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ReportFiled(e) => self.filed = Some(e.clone()),
            Event::ReportResolved(_) => self.resolved = true,
            Event::ReportAnnotated(e) => self.note = e.text.clone(),
            _ => (),
        }
    }
}

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotReport {
    #[error("no such user")]
    NoSuchUser,
    #[error("it is about whoever sends it")]
    Oneself,
    #[error("the comment is too long")]
    TooLong,
}

/// Why nothing is done about a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotHandle {
    #[error("no such report")]
    NoSuchReport,
    #[error("the note is too long")]
    TooLong,
}

/// Decides a report about somebody.
pub fn file(current: &Report, target: &User, new: &Filed) -> Result<Vec<Event>, CannotReport> {
    if current.filed.is_some() {
        return Ok(Vec::new());
    }
    if !target.exists() {
        return Err(CannotReport::NoSuchUser);
    }
    if new.reporter == new.target {
        return Err(CannotReport::Oneself);
    }
    if new.comment.chars().count() > MAX_COMMENT_CHARS {
        return Err(CannotReport::TooLong);
    }
    Ok(vec![new.clone().into()])
}

/// Decides that a report is seen to; the first moderator's word stands.
pub fn resolve(
    current: &Report,
    report: ReportId,
    moderator: UserId,
    outcome: Option<Outcome>,
) -> Result<Vec<Event>, CannotHandle> {
    let filed = current.filed.as_ref().ok_or(CannotHandle::NoSuchReport)?;
    if current.resolved {
        return Ok(Vec::new());
    }
    Ok(vec![Resolved { report, reporter: filed.reporter, moderator, outcome }.into()])
}

/// Decides what is noted about a report.
pub fn annotate(current: &Report, report: ReportId, text: &str) -> Result<Vec<Event>, CannotHandle> {
    let filed = current.filed.as_ref().ok_or(CannotHandle::NoSuchReport)?;
    if text.chars().count() > MAX_NOTE_CHARS {
        return Err(CannotHandle::TooLong);
    }
    if current.note == text {
        return Ok(Vec::new());
    }
    let (reporter, before) = (filed.reporter, current.note.clone());
    Ok(vec![Annotated { report, reporter, text: text.to_owned(), before }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{id, person, user};

    fn about(target: u8) -> Filed {
        Filed {
            report: ReportId(id(9)),
            reporter: user(1),
            target: user(target),
            comment: "rude".to_owned(),
            category: "other".to_owned(),
        }
    }

    #[test]
    fn others_are_reported_and_not_oneself() {
        let (bob, nobody) = (person(2, |_| ()), User::default());
        let none = Report::default();
        assert_eq!(file(&none, &nobody, &about(2)), Err(CannotReport::NoSuchUser));
        assert_eq!(file(&none, &bob, &about(1)), Err(CannotReport::Oneself));
        let long = Filed { comment: "x".repeat(MAX_COMMENT_CHARS + 1), ..about(2) };
        assert_eq!(file(&none, &bob, &long), Err(CannotReport::TooLong));
        let events = file(&none, &bob, &about(2)).unwrap();
        assert_eq!(events[0].subject(), Some(user(1)));
    }

    #[test]
    fn a_report_is_annotated_and_resolved_once() {
        let (report, moderator) = (ReportId(id(9)), user(3));
        let mut current = Report::default();
        assert_eq!(resolve(&current, report, moderator, None), Err(CannotHandle::NoSuchReport));
        assert_eq!(annotate(&current, report, "x"), Err(CannotHandle::NoSuchReport));
        current.apply(&about(2).into());
        current.apply(&annotate(&current, report, "noted").unwrap()[0]);
        assert_eq!(annotate(&current, report, "noted"), Ok(Vec::new()));
        current.apply(&resolve(&current, report, moderator, Some(Outcome::Accept)).unwrap()[0]);
        assert_eq!(resolve(&current, report, user(4), None), Ok(Vec::new()));
        assert_eq!((current.resolved, current.note.as_str()), (true, "noted"));
    }
}
