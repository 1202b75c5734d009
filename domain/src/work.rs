//! Works that people show: posts of a gallery, pages, and plays, which are scripts that clients run. What works
//! somebody has is in the stream `works-{user}`, so that no two of their pages get one name in a race; whoever
//! likes one says so in `work-like-{work}-{user}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::event::Payload;
use crate::ids::{FileId, UserId, WorkId, WorkLikeId};
use crate::log::StreamId;
use crate::{Event, Fold};

/// Works that one person may have, of each kind.
pub const MAX_WORKS: usize = 1_000;
/// The longest title, and name of a page, in characters.
pub const MAX_TITLE_CHARS: usize = 256;
/// The longest description and summary, in characters.
pub const MAX_SUMMARY_CHARS: usize = 2_048;
/// The longest script, in characters.
pub const MAX_SCRIPT_CHARS: usize = 65_536;
/// The most pictures in a post.
pub const MAX_FILES: usize = 32;
/// The most that a page may say, as JSON in bytes.
pub const MAX_PAGE_BYTES: usize = 256 * 1024;
/// The most permissions that a play asks for, and the longest of their names, in characters.
pub const MAX_PERMISSIONS: usize = 100;
pub const MAX_PERMISSION_CHARS: usize = 100;

/// The stream of what works a person has.
pub fn stream(user: UserId) -> StreamId {
    StreamId::new("works", user)
}

/// The stream of whether a person likes a work.
pub fn like_stream(work: WorkId, user: UserId) -> StreamId {
    StreamId::new("work-like", format_args!("{work}-{user}"))
}

/// What a work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Post,
    Page,
    Play,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Post => "post",
            Kind::Page => "page",
            Kind::Play => "play",
        }
    }
}

/// A work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    Post(Post),
    Page(Page),
    Play(Play),
}

/// Pictures in a gallery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    pub title: String,
    pub description: Option<String>,
    pub files: Vec<FileId>,
    pub sensitive: bool,
}

/// A page of text, pictures and what else clients know to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub title: String,
    /// By which it is found among the pages of its owner.
    pub name: String,
    pub summary: Option<String>,
    /// As clients write and read it.
    pub content: Value,
    pub variables: Value,
    pub script: String,
    /// The picture above it.
    pub image: Option<FileId>,
    pub font: Font,
    pub centered: bool,
    pub hides_title: bool,
    pub private: bool,
}

/// The letters of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Font {
    Serif,
    SansSerif,
}

/// A script that clients run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Play {
    pub title: String,
    pub summary: String,
    pub script: String,
    pub permissions: Vec<String>,
    pub private: bool,
}

impl Content {
    pub fn kind(&self) -> Kind {
        match self {
            Content::Post(_) => Kind::Post,
            Content::Page(_) => Kind::Page,
            Content::Play(_) => Kind::Play,
        }
    }

    /// By which it is found among the pages of its owner.
    pub fn name(&self) -> Option<&str> {
        match self {
            Content::Page(page) => Some(&page.name),
            Content::Post(_) | Content::Play(_) => None,
        }
    }

    /// Whether only its owner sees it.
    pub fn is_private(&self) -> bool {
        match self {
            Content::Post(_) => false,
            Content::Page(page) => page.private,
            Content::Play(play) => play.private,
        }
    }
}

/// What is to become different of a work, by the names that it has there; what isn't there stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<String>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub summary: Option<Option<String>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileId>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub variables: Option<Value>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub image: Option<Option<FileId>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub font: Option<Font>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub centered: Option<bool>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub hides_title: Option<bool>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
}

/// What is there is a value, be it null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// `work.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: WorkId,
    pub user: UserId,
    pub work: Content,
}

/// `work.changed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub id: WorkId,
    pub user: UserId,
    pub changes: Changes,
}

/// `work.deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub id: WorkId,
    pub kind: Kind,
    pub user: UserId,
}

/// `work.liked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liked {
    pub id: WorkLikeId,
    pub work: WorkId,
    pub kind: Kind,
    /// Whose work it is.
    pub owner: UserId,
    /// Who likes it.
    pub user: UserId,
}

/// `work.unliked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unliked {
    pub work: WorkId,
    pub owner: UserId,
    pub user: UserId,
}

macro_rules! of_their_user {
    ($($payload:ty),* $(,)?) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.user)
            }
        }
    )*};
}

of_their_user!(Created, Changed, Deleted, Liked, Unliked);

/// What is known of a work where it is decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub kind: Kind,
    pub name: Option<String>,
    pub is_private: bool,
}

/// The works that a person has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Works {
    pub works: BTreeMap<WorkId, Held>,
}

impl Fold for Works {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::WorkCreated(e) => {
                let held = Held {
                    kind: e.work.kind(),
                    name: e.work.name().map(str::to_owned),
                    is_private: e.work.is_private(),
                };
                self.works.insert(e.id, held);
            }
            Event::WorkChanged(e) => {
                if let Some(held) = self.works.get_mut(&e.id) {
                    held.name = e.changes.name.clone().or(held.name.take());
                    held.is_private = e.changes.private.unwrap_or(held.is_private);
                }
            }
            Event::WorkDeleted(e) => {
                self.works.remove(&e.id);
            }
            _ => (),
        }
    }
}

impl Works {
    /// The work of this kind.
    pub fn of(&self, kind: Kind, id: WorkId) -> Option<&Held> {
        self.works.get(&id).filter(|held| held.kind == kind)
    }

    fn is_taken(&self, name: &str, by_another_than: WorkId) -> bool {
        let taken =
            |(id, held): (&WorkId, &Held)| *id != by_another_than && held.name.as_deref() == Some(name);
        self.works.iter().any(taken)
    }
}

/// Whether a person likes a work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Like {
    pub stands: bool,
}

impl Fold for Like {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::WorkLiked(_) => self.stands = true,
            Event::WorkUnliked(_) => self.stands = false,
            _ => (),
        }
    }
}

/// Why a work is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotCreateWork {
    #[error("too many works")]
    TooMany,
    #[error("another page of theirs has that name")]
    NameTaken,
    #[error("no such file of theirs")]
    NoSuchFile,
}

/// Why a work is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotChangeWork {
    #[error("no such work of theirs")]
    NoSuchWork,
    #[error("another page of theirs has that name")]
    NameTaken,
    #[error("no such file of theirs")]
    NoSuchFile,
}

/// Why a work is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such work of theirs")]
pub struct NoSuchWork;

/// Why a work is not liked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotLike {
    #[error("no such work")]
    NoSuchWork,
    #[error("their own work")]
    Own,
    #[error("liked already")]
    AlreadyLiked,
}

/// Why a like is not taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnlike {
    #[error("no such work")]
    NoSuchWork,
    #[error("not liked")]
    NotLiked,
}

/// Decides a new work, whose files are known to be theirs.
pub fn create(
    current: &Works,
    user: UserId,
    id: WorkId,
    work: &Content,
) -> Result<Vec<Event>, CannotCreateWork> {
    let kind = work.kind();
    if current.works.values().filter(|held| held.kind == kind).count() >= MAX_WORKS {
        return Err(CannotCreateWork::TooMany);
    }
    if work.name().is_some_and(|name| current.is_taken(name, id)) {
        return Err(CannotCreateWork::NameTaken);
    }
    Ok(vec![Created { id, user, work: work.clone() }.into()])
}

/// Decides what becomes different of a work, whose files are known to be theirs.
pub fn change(
    current: &Works,
    user: UserId,
    (kind, id): (Kind, WorkId),
    changes: &Changes,
) -> Result<Vec<Event>, CannotChangeWork> {
    current.of(kind, id).ok_or(CannotChangeWork::NoSuchWork)?;
    if changes.name.as_deref().is_some_and(|name| current.is_taken(name, id)) {
        return Err(CannotChangeWork::NameTaken);
    }
    Ok(vec![Changed { id, user, changes: changes.clone() }.into()])
}

/// Decides the end of a work.
pub fn delete(current: &Works, user: UserId, kind: Kind, id: WorkId) -> Result<Vec<Event>, NoSuchWork> {
    current.of(kind, id).ok_or(NoSuchWork)?;
    Ok(vec![Deleted { id, kind, user }.into()])
}

/// Decides whether somebody likes a work of `owner`, who has these works.
pub fn like(
    current: &Like,
    works: &Works,
    owner: UserId,
    (kind, work): (Kind, WorkId),
    user: UserId,
    id: WorkLikeId,
) -> Result<Vec<Event>, CannotLike> {
    let held = works.of(kind, work).ok_or(CannotLike::NoSuchWork)?;
    if user == owner {
        return Err(CannotLike::Own);
    }
    if held.is_private {
        return Err(CannotLike::NoSuchWork);
    }
    if current.stands {
        return Err(CannotLike::AlreadyLiked);
    }
    Ok(vec![Liked { id, work, kind, owner, user }.into()])
}

/// Decides that somebody doesn't like a work of `owner` any more.
pub fn unlike(
    current: &Like,
    works: &Works,
    owner: UserId,
    (kind, work): (Kind, WorkId),
    user: UserId,
) -> Result<Vec<Event>, CannotUnlike> {
    works.of(kind, work).ok_or(CannotUnlike::NoSuchWork)?;
    if !current.stands {
        return Err(CannotUnlike::NotLiked);
    }
    Ok(vec![Unliked { work, owner, user }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn id(n: u128) -> WorkId {
        WorkId(Uuid::from_u128(n))
    }

    fn page(name: &str, private: bool) -> Content {
        Content::Page(Page {
            title: "t".to_owned(),
            name: name.to_owned(),
            summary: None,
            content: Value::Array(Vec::new()),
            variables: Value::Array(Vec::new()),
            script: String::new(),
            image: None,
            font: Font::Serif,
            centered: false,
            hides_title: false,
            private,
        })
    }

    fn given(decided: impl IntoIterator<Item = Vec<Event>>) -> Works {
        let mut works = Works::default();
        decided.into_iter().flatten().for_each(|event| works.apply(&event));
        works
    }

    #[test]
    fn no_two_pages_of_a_person_have_one_name() {
        let first = create(&Works::default(), user(1), id(1), &page("a", false)).unwrap();
        let works = given([first]);
        assert_eq!(create(&works, user(1), id(2), &page("a", false)), Err(CannotCreateWork::NameTaken));
        let second = create(&works, user(1), id(2), &page("b", false)).unwrap();
        let mut works = works;
        second.iter().for_each(|event| works.apply(event));
        let named = |name: &str| Changes { name: Some(name.to_owned()), ..Changes::default() };
        let of = |n| (Kind::Page, id(n));
        assert_eq!(change(&works, user(1), of(2), &named("a")), Err(CannotChangeWork::NameTaken));
        change(&works, user(1), of(1), &named("a")).unwrap();
        change(&works, user(1), of(1), &named("c")).unwrap().iter().for_each(|event| works.apply(event));
        change(&works, user(1), of(2), &named("a")).unwrap();
        delete(&works, user(1), Kind::Page, id(1)).unwrap().iter().for_each(|event| works.apply(event));
        create(&works, user(1), id(3), &page("c", false)).unwrap();
        assert_eq!(delete(&works, user(1), Kind::Page, id(1)), Err(NoSuchWork));
    }

    #[test]
    fn a_page_is_not_found_among_posts() {
        let works = given([create(&Works::default(), user(1), id(1), &page("a", false)).unwrap()]);
        assert_eq!(delete(&works, user(1), Kind::Post, id(1)), Err(NoSuchWork));
        let none = Changes::default();
        assert_eq!(change(&works, user(1), (Kind::Play, id(1)), &none), Err(CannotChangeWork::NoSuchWork));
    }

    #[test]
    fn a_work_is_liked_once_by_somebody_else_who_sees_it() {
        let works = given([
            create(&Works::default(), user(1), id(1), &page("a", false)).unwrap(),
            create(&Works::default(), user(1), id(2), &page("b", true)).unwrap(),
        ]);
        let like_id = WorkLikeId(Uuid::from_u128(9));
        let try_like =
            |current: &Like, n, by| like(current, &works, user(1), (Kind::Page, id(n)), user(by), like_id);
        assert_eq!(try_like(&Like::default(), 1, 1), Err(CannotLike::Own));
        assert_eq!(try_like(&Like::default(), 2, 2), Err(CannotLike::NoSuchWork), "it is private");
        assert_eq!(try_like(&Like::default(), 3, 2), Err(CannotLike::NoSuchWork));
        let mut stands = Like::default();
        try_like(&stands, 1, 2).unwrap().iter().for_each(|event| stands.apply(event));
        assert_eq!(try_like(&stands, 1, 2), Err(CannotLike::AlreadyLiked));
        let back = |current: &Like| unlike(current, &works, user(1), (Kind::Page, id(1)), user(2));
        back(&stands).unwrap().iter().for_each(|event| stands.apply(event));
        assert_eq!(back(&stands), Err(CannotUnlike::NotLiked));
    }

    #[test]
    fn what_becomes_nothing_is_told_from_what_stays() {
        let changes = Changes { summary: Some(None), ..Changes::default() };
        let json = serde_json::to_string(&changes).unwrap();
        assert_eq!(json, r#"{"summary":null}"#);
        assert_eq!(serde_json::from_str::<Changes>(&json).unwrap(), changes);
    }
}
