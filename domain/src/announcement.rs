//! Announcements: what those who run the server tell everybody, or one person, in the stream
//! `announcement-{id}`. That somebody has read one is in a stream of their own, or in the same when it is for
//! them alone: it is done with then.

use serde::{Deserialize, Serialize};

use crate::defined::Defined;
use crate::event::Payload;
use crate::ids::{AnnouncementId, UserId};
use crate::log::StreamId;
use crate::user::User;
use crate::{Event, Fold};

/// The longest title, and address of a picture, in characters.
pub const MAX_TITLE_CHARS: usize = 256;
pub const MAX_URL_CHARS: usize = 1_024;
/// The longest text, in characters.
pub const MAX_TEXT_CHARS: usize = 8_192;

/// The stream of one announcement.
pub fn stream(announcement: AnnouncementId) -> StreamId {
    StreamId::new("announcement", announcement)
}

/// The stream of whether somebody has read what is for everybody.
pub fn reading_stream(announcement: AnnouncementId, user: UserId) -> StreamId {
    StreamId::new("announcement", format_args!("{announcement}-{user}"))
}

/// What is beside the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Icon {
    #[default]
    Info,
    Warning,
    Error,
    Success,
}

/// Where clients show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Display {
    #[default]
    Normal,
    Banner,
    Dialog,
}

/// What an announcement is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub title: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    pub icon: Icon,
    pub display: Display,
    /// Unread only for those who were here before it.
    pub for_existing_users: bool,
    pub need_confirmation_to_read: bool,
    /// Kept for clients.
    pub need_enrollment_tutorial_to_read: bool,
    /// Seconds that clients keep it open.
    pub close_duration: i32,
    /// The greatest comes first.
    pub display_order: i32,
    /// Nobody is told of it, and it is unread for nobody.
    pub silence: bool,
    pub is_active: bool,
    /// None when it is for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

/// A change of an announcement: only what is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub title: Option<String>,
    pub text: Option<String>,
    pub image_url: Option<Option<String>>,
    pub icon: Option<Icon>,
    pub display: Option<Display>,
    pub for_existing_users: Option<bool>,
    pub need_confirmation_to_read: Option<bool>,
    pub need_enrollment_tutorial_to_read: Option<bool>,
    pub close_duration: Option<i32>,
    pub display_order: Option<i32>,
    pub silence: Option<bool>,
    pub is_active: Option<bool>,
}

/// `announcement.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub announcement: AnnouncementId,
    pub definition: Definition,
}

/// `announcement.changed`: what it is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub announcement: AnnouncementId,
    pub definition: Definition,
}

/// `announcement.deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub announcement: AnnouncementId,
    /// For whom it was, when it was for one person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

/// `announcement.read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub announcement: AnnouncementId,
    pub user: UserId,
}

impl Payload for Created {
    fn subject(&self) -> Option<UserId> {
        self.definition.user
    }
}

impl Payload for Changed {
    fn subject(&self) -> Option<UserId> {
        self.definition.user
    }
}

impl Payload for Deleted {
    fn subject(&self) -> Option<UserId> {
        self.user
    }
}

impl Payload for Read {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}

/// One announcement, folded.
pub type Announcement = Defined<Definition>;

impl Fold for Announcement {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::AnnouncementCreated(e) => self.define(e.definition.clone()),
            Event::AnnouncementChanged(e) => self.define(e.definition.clone()),
            Event::AnnouncementDeleted(_) => self.end(),
            Event::AnnouncementRead(_) => {
                if let Some(definition) = &mut self.definition {
                    definition.is_active = false;
                }
            }
            _ => (),
        }
    }
}

/// Whether somebody has read what is for everybody, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub read: bool,
}

impl Fold for Reading {
    fn apply(&mut self, event: &Event) {
        if let Event::AnnouncementRead(_) = event {
            self.read = true;
        }
    }
}

/// Why nothing is announced or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotAnnounce {
    #[error("no such announcement")]
    NoSuchAnnouncement,
    #[error("no such user")]
    NoSuchUser,
    #[error("a text is too long")]
    TooLong,
}

/// Decides an announcement; `to` is the person whom alone it is for.
pub fn create(
    current: &Announcement,
    announcement: AnnouncementId,
    definition: Definition,
    to: Option<&User>,
) -> Result<Vec<Event>, CannotAnnounce> {
    let definition = || match to {
        Some(user) if !user.exists() => Err(CannotAnnounce::NoSuchUser),
        _ => checked(definition),
    };
    current.create(definition, |definition| Created { announcement, definition })
}

/// Decides a change; what is then as before is no event.
pub fn change(
    current: &Announcement,
    announcement: AnnouncementId,
    changes: Changes,
) -> Result<Vec<Event>, CannotAnnounce> {
    let changed = |before: &Definition| checked(changes.over(before.clone()));
    current.change(CannotAnnounce::NoSuchAnnouncement, changed, |definition| Changed {
        announcement,
        definition,
    })
}

/// Decides that an announcement is no more.
pub fn delete(current: &Announcement, announcement: AnnouncementId) -> Result<Vec<Event>, CannotAnnounce> {
    current.delete(CannotAnnounce::NoSuchAnnouncement, |before| Deleted { announcement, user: before.user })
}

/// Notes that the person for whom alone it is has read it.
pub fn read_own(current: &Announcement, announcement: AnnouncementId, user: UserId) -> Vec<Event> {
    let is_theirs = current.definition.as_ref().is_some_and(|d| d.user == Some(user) && d.is_active);
    if is_theirs { vec![Read { announcement, user }.into()] } else { Vec::new() }
}

/// Notes that somebody has read what is for everybody.
pub fn read(current: &Reading, announcement: AnnouncementId, user: UserId) -> Vec<Event> {
    if current.read { Vec::new() } else { vec![Read { announcement, user }.into()] }
}

impl Changes {
    fn over(self, before: Definition) -> Definition {
        Definition {
            title: self.title.unwrap_or(before.title),
            text: self.text.unwrap_or(before.text),
            image_url: self.image_url.unwrap_or(before.image_url),
            icon: self.icon.unwrap_or(before.icon),
            display: self.display.unwrap_or(before.display),
            for_existing_users: self.for_existing_users.unwrap_or(before.for_existing_users),
            need_confirmation_to_read: self
                .need_confirmation_to_read
                .unwrap_or(before.need_confirmation_to_read),
            need_enrollment_tutorial_to_read: self
                .need_enrollment_tutorial_to_read
                .unwrap_or(before.need_enrollment_tutorial_to_read),
            close_duration: self.close_duration.unwrap_or(before.close_duration),
            display_order: self.display_order.unwrap_or(before.display_order),
            silence: self.silence.unwrap_or(before.silence),
            is_active: self.is_active.unwrap_or(before.is_active),
            user: before.user,
        }
    }
}

fn checked(definition: Definition) -> Result<Definition, CannotAnnounce> {
    let fits = definition.title.chars().count() <= MAX_TITLE_CHARS
        && definition.text.chars().count() <= MAX_TEXT_CHARS
        && definition.image_url.as_ref().is_none_or(|url| url.chars().count() <= MAX_URL_CHARS);
    if fits { Ok(definition) } else { Err(CannotAnnounce::TooLong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{id, person, user};

    fn news(user: Option<UserId>) -> Definition {
        Definition {
            title: "News".to_owned(),
            text: "All is well".to_owned(),
            image_url: None,
            icon: Icon::Info,
            display: Display::Normal,
            for_existing_users: false,
            need_confirmation_to_read: false,
            need_enrollment_tutorial_to_read: false,
            close_duration: 0,
            display_order: 0,
            silence: false,
            is_active: true,
            user,
        }
    }

    #[test]
    fn it_is_made_changed_and_deleted() {
        let id = AnnouncementId(id(1));
        let none = Announcement::default();
        let long = Definition { title: "x".repeat(MAX_TITLE_CHARS + 1), ..news(None) };
        assert_eq!(create(&none, id, long, None), Err(CannotAnnounce::TooLong));
        let mut current = Announcement::of(&create(&none, id, news(None), None).unwrap());
        let better = Changes { text: Some("Better".to_owned()), ..Changes::default() };
        current.apply(&change(&current, id, better.clone()).unwrap()[0]);
        assert_eq!(change(&current, id, better.clone()), Ok(Vec::new()));
        current.apply(&delete(&current, id).unwrap()[0]);
        assert_eq!(delete(&current, id), Err(CannotAnnounce::NoSuchAnnouncement));
        assert_eq!(change(&current, id, better), Err(CannotAnnounce::NoSuchAnnouncement));
    }

    #[test]
    fn what_is_for_one_person_is_theirs_and_done_with_when_it_is_read() {
        let id = AnnouncementId(id(1));
        let alice = person(1, |_| ());
        let to_alice = news(Some(user(1)));
        let nobody = create(&Announcement::default(), id, to_alice.clone(), Some(&User::default()));
        assert_eq!(nobody, Err(CannotAnnounce::NoSuchUser));
        let events = create(&Announcement::default(), id, to_alice, Some(&alice)).unwrap();
        assert_eq!(events[0].subject(), Some(user(1)));
        let mut current = Announcement::of(&events);
        assert_eq!(read_own(&current, id, user(2)), Vec::new());
        current.apply(&read_own(&current, id, user(1))[0]);
        assert_eq!(read_own(&current, id, user(1)), Vec::new());
        assert!(!current.definition.unwrap().is_active);
    }

    #[test]
    fn what_is_for_everybody_is_read_once_by_each() {
        let id = AnnouncementId(id(1));
        let events = read(&Reading::default(), id, user(1));
        assert_eq!(read(&Reading::of(&events), id, user(1)), Vec::new());
    }
}
