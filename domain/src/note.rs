//! Notes: written, renoted, quoted, deleted; each in the stream `note-{id}`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{ChannelId, FileId, NoteId, UserId};
use crate::log::StreamId;
use crate::poll::Poll;
use crate::remote::ObjectUri;
use crate::{Event, Fold};

/// The longest text of a note, in characters.
pub const MAX_TEXT_CHARS: usize = 3_000;
/// The longest content warning, in characters.
pub const MAX_CW_CHARS: usize = 100;
/// The most files of one note.
pub const MAX_FILES: usize = 16;
/// People a direct note may be addressed to.
pub const MAX_VISIBLE_USERS: usize = 100;

/// The stream of one note.
pub fn stream(note: NoteId) -> StreamId {
    StreamId::new("note", note)
}

/// Who is meant to see a note; from wide to narrow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    #[default]
    Public,
    /// Public, but not in the local and global timelines.
    Home,
    Followers,
    /// Only those it is addressed to.
    Specified,
}

/// Which reactions an author wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReactionAcceptance {
    LikeOnly,
    LikeOnlyForRemote,
    NonSensitiveOnly,
    NonSensitiveOnlyForLocalLikeOnlyForRemote,
}

/// The note that another one answers or passes on, with its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub id: NoteId,
    pub author: UserId,
}

/// `note.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: NoteId,
    pub author: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cw: Option<String>,
    pub visibility: Visibility,
    #[serde(default)]
    pub local_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction_acceptance: Option<ReactionAcceptance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Parent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renote: Option<Parent>,
    /// The note at the top of the thread that this one answers in. Replies from before threads were noted have
    /// none, see [`Self::thread`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<NoteId>,
    /// People named in the text or answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Whom a direct note is addressed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visible_to: Vec<UserId>,
    /// Hashtags as they are searched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Names of custom emoji in the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emojis: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// Files of the author, in the order in which they are shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileId>,
    /// Where it was written, if in a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
    /// Of a remote note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<ObjectUri>,
}

impl Created {
    /// The note at the top of the thread that this one is in.
    pub fn thread(&self) -> NoteId {
        self.thread.or(self.reply.map(|reply| reply.id)).unwrap_or(self.id)
    }

    /// A renote that adds nothing of its own.
    pub fn is_pure_renote(&self) -> bool {
        self.renote.is_some()
            && self.text.is_none()
            && self.cw.is_none()
            && self.reply.is_none()
            && self.poll.is_none()
            && self.files.is_empty()
    }
}

/// `note.deleted`: with what counts need to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub id: NoteId,
    pub author: UserId,
}

impl Payload for Created {
    fn subject(&self) -> Option<UserId> {
        Some(self.author)
    }
}

impl Payload for Deleted {
    fn subject(&self) -> Option<UserId> {
        Some(self.author)
    }
}

/// One note, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// None before it is written, and when its author's data has been erased.
    pub created: Option<Created>,
    pub deleted: bool,
}

impl Note {
    /// The note, if it is there to be acted on.
    pub fn existing(&self) -> Option<&Created> {
        self.created.as_ref().filter(|_| !self.deleted)
    }
}

impl Fold for Note {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::NoteCreated(e) => self.created = Some(e.clone()),
            Event::NoteDeleted(_) => self.deleted = true,
            _ => (),
        }
    }
}

/// A note as its author asks for it, with texts parsed and names resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    pub text: Option<String>,
    pub cw: Option<String>,
    pub visibility: Visibility,
    pub local_only: bool,
    pub reaction_acceptance: Option<ReactionAcceptance>,
    pub mentions: Vec<UserId>,
    pub visible_to: Vec<UserId>,
    pub tags: Vec<String>,
    pub emojis: Vec<String>,
    pub poll: Option<Poll>,
    /// Known to be there, and the author's.
    pub files: Vec<FileId>,
    /// Where there is room for it, see [`crate::channel::place`].
    pub channel: Option<ChannelId>,
    /// It has words that may not be written here.
    pub is_prohibited: bool,
    /// It has words that are not for the public timelines.
    pub is_sensitive: bool,
}

/// The note to be answered or passed on, and whether the author of the new one may see it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub note: &'a Note,
    pub visible: bool,
    /// Its author blocks the author of the new one.
    pub blocked: bool,
}

/// What the author may do, from the policies in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    pub public_notes: bool,
    pub mentions: usize,
}

/// Why a note is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotWrite {
    #[error("the note to be answered is not there")]
    NoSuchReplyTarget,
    #[error("the note to be renoted is not there")]
    NoSuchRenoteTarget,
    #[error("a pure renote can't be renoted")]
    RenoteOfPureRenote,
    #[error("a pure renote can't be answered")]
    ReplyToPureRenote,
    #[error("the note to be answered can't be seen")]
    ReplyToInvisible,
    #[error("a direct note is answered directly")]
    ReplyWiderThanSpecified,
    #[error("blocked by the author of the other note")]
    Blocked,
    #[error("the note is not for renoting")]
    RenoteDueToVisibility,
    #[error("a file is not there, or somebody else's")]
    NoSuchFile,
    #[error("the poll is over already")]
    PollExpired,
    #[error("too many mentions")]
    TooManyMentions,
    #[error("nothing to say")]
    Empty,
    #[error("no such channel")]
    NoSuchChannel,
    #[error("the note stays in its channel")]
    RenoteOutsideOfChannel,
    #[error("it has words that may not be written here")]
    Prohibited,
}

/// Why a note is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotDelete {
    #[error("no such note")]
    NoSuchNote,
    #[error("somebody else's note")]
    NotYours,
}

/// Decides a new note. A note is never wider than what it passes on or answers, and what is local
/// stays local.
pub fn write(
    id: NoteId,
    author: UserId,
    draft: Draft,
    reply: Option<Target<'_>>,
    renote: Option<Target<'_>>,
    allowed: Allowed,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotWrite> {
    let mut note = Created {
        id,
        author,
        text: draft.text,
        cw: draft.cw,
        visibility: draft.visibility,
        local_only: draft.local_only,
        reaction_acceptance: draft.reaction_acceptance,
        reply: None,
        renote: None,
        thread: None,
        mentions: draft.mentions,
        visible_to: Vec::new(),
        tags: draft.tags,
        emojis: draft.emojis,
        poll: draft.poll,
        files: draft.files,
        channel: draft.channel,
        uri: None,
    };
    if note.channel.is_some() {
        // What is said in a channel is for everybody there, and for nobody beyond this server.
        (note.visibility, note.local_only) = (Visibility::Public, true);
    }
    if let Some(target) = renote {
        pass_on(&mut note, target)?;
    }
    if let Some(target) = reply {
        answer(&mut note, target)?;
    }
    if note.text.is_none() && note.renote.is_none() && note.poll.is_none() && note.files.is_empty() {
        return Err(CannotWrite::Empty);
    }
    if note.poll.as_ref().and_then(|poll| poll.expires_at).is_some_and(|end| end <= now) {
        return Err(CannotWrite::PollExpired);
    }
    if draft.is_prohibited {
        return Err(CannotWrite::Prohibited);
    }
    let is_held_back = !allowed.public_notes || (draft.is_sensitive && note.channel.is_none());
    if note.visibility == Visibility::Public && is_held_back {
        note.visibility = Visibility::Home;
    }
    if note.visibility == Visibility::Specified {
        note.visible_to = draft.visible_to;
        if let Some(answered) = note.reply.map(|reply| reply.author).filter(|answered| *answered != author) {
            add(&mut note.visible_to, answered);
        }
        for user in note.visible_to.clone() {
            add(&mut note.mentions, user);
        }
    }
    if note.mentions.len() > allowed.mentions {
        return Err(CannotWrite::TooManyMentions);
    }
    Ok(vec![note.into()])
}

fn pass_on(note: &mut Created, target: Target<'_>) -> Result<(), CannotWrite> {
    let renoted = target.note.existing().ok_or(CannotWrite::NoSuchRenoteTarget)?;
    if renoted.is_pure_renote() {
        return Err(CannotWrite::RenoteOfPureRenote);
    }
    if target.blocked {
        return Err(CannotWrite::Blocked);
    }
    match renoted.visibility {
        Visibility::Public | Visibility::Home if target.visible => (),
        Visibility::Followers if renoted.author == note.author => (),
        _ => return Err(CannotWrite::RenoteDueToVisibility),
    }
    note.visibility = note.visibility.max(renoted.visibility);
    note.local_only |= renoted.local_only;
    note.renote = Some(Parent { id: renoted.id, author: renoted.author });
    Ok(())
}

fn answer(note: &mut Created, target: Target<'_>) -> Result<(), CannotWrite> {
    let answered = target.note.existing().ok_or(CannotWrite::NoSuchReplyTarget)?;
    if answered.is_pure_renote() {
        return Err(CannotWrite::ReplyToPureRenote);
    }
    if !target.visible {
        return Err(CannotWrite::ReplyToInvisible);
    }
    if answered.visibility == Visibility::Specified && note.visibility != Visibility::Specified {
        return Err(CannotWrite::ReplyWiderThanSpecified);
    }
    if target.blocked {
        return Err(CannotWrite::Blocked);
    }
    if answered.visibility != Visibility::Public && note.visibility == Visibility::Public {
        note.visibility = Visibility::Home;
    }
    note.local_only |= answered.local_only;
    note.reply = Some(Parent { id: answered.id, author: answered.author });
    note.thread = Some(answered.thread());
    if answered.author != note.author {
        add(&mut note.mentions, answered.author);
    }
    Ok(())
}

fn add(people: &mut Vec<UserId>, user: UserId) {
    if !people.contains(&user) {
        people.push(user);
    }
}

/// Decides the end of a note, by its author or by somebody who moderates.
pub fn delete(current: &Note, by: UserId, moderates: bool) -> Result<Vec<Event>, CannotDelete> {
    let note = current.existing().ok_or(CannotDelete::NoSuchNote)?;
    if note.author != by && !moderates {
        return Err(CannotDelete::NotYours);
    }
    Ok(vec![Deleted { id: note.id, author: note.author }.into()])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::user::{self, Profile, User};
    use uuid::Uuid;

    pub const NOW: i64 = 1_700_000_000_000;

    pub fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    pub fn id(n: u8) -> Uuid {
        Uuid::from_u128((NOW as u128) << 80 | 0x7000_8000_0000_0000_0000 | u128::from(n))
    }

    pub fn user(n: u8) -> UserId {
        UserId(id(n))
    }

    pub fn person(n: u8, profile: impl FnOnce(&mut Profile)) -> User {
        let created = user::Created { user: user(n), username: format!("user{n}"), host: None, uri: None };
        let mut person = User { created: Some(created), ..User::default() };
        profile(&mut person.profile);
        person
    }

    /// A public note of person 1 that says hello.
    pub fn created() -> Created {
        let draft = Draft { text: Some("hello".to_owned()), ..Draft::default() };
        match write(NoteId(id(100)), user(1), draft, None, None, FREE, at(NOW)).unwrap().remove(0) {
            Event::NoteCreated(note) => note,
            other => panic!("{other:?}"),
        }
    }

    pub fn a_note(change: impl FnOnce(&mut Created)) -> Note {
        let mut note = created();
        change(&mut note);
        Note { created: Some(note), deleted: false }
    }

    const FREE: Allowed = Allowed { public_notes: true, mentions: 20 };

    fn say(text: &str) -> Draft {
        Draft { text: Some(text.to_owned()), ..Draft::default() }
    }

    fn seen(note: &Note) -> Option<Target<'_>> {
        Some(Target { note, visible: true, blocked: false })
    }

    fn by(
        author: u8,
        draft: Draft,
        reply: Option<Target<'_>>,
        renote: Option<Target<'_>>,
    ) -> Result<Created, CannotWrite> {
        match write(NoteId(id(101)), user(author), draft, reply, renote, FREE, at(NOW))?.remove(0) {
            Event::NoteCreated(note) => Ok(note),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_renote_is_never_wider_than_its_note_and_local_stays_local() {
        let home = a_note(|n| {
            n.visibility = Visibility::Home;
            n.local_only = true;
        });
        let renote = by(2, Draft::default(), None, seen(&home)).unwrap();
        assert_eq!((renote.visibility, renote.local_only), (Visibility::Home, true));
        assert!(renote.is_pure_renote());
        let narrower = Draft { visibility: Visibility::Followers, ..Draft::default() };
        assert_eq!(by(2, narrower, None, seen(&home)).unwrap().visibility, Visibility::Followers);
    }

    #[test]
    fn only_the_author_passes_a_followers_note_on_and_nobody_a_direct_one() {
        let followers = a_note(|n| n.visibility = Visibility::Followers);
        assert_eq!(
            by(1, Draft::default(), None, seen(&followers)).unwrap().visibility,
            Visibility::Followers
        );
        assert_eq!(by(2, Draft::default(), None, seen(&followers)), Err(CannotWrite::RenoteDueToVisibility));
        let direct = a_note(|n| n.visibility = Visibility::Specified);
        assert_eq!(by(1, Draft::default(), None, seen(&direct)), Err(CannotWrite::RenoteDueToVisibility));
    }

    #[test]
    fn pure_renotes_are_neither_passed_on_nor_answered() {
        let pure = a_note(|n| {
            n.text = None;
            n.renote = Some(Parent { id: NoteId(id(9)), author: user(3) });
        });
        assert_eq!(by(2, Draft::default(), None, seen(&pure)), Err(CannotWrite::RenoteOfPureRenote));
        assert_eq!(by(2, say("quote"), None, seen(&pure)), Err(CannotWrite::RenoteOfPureRenote));
        assert_eq!(by(2, say("reply"), seen(&pure), None), Err(CannotWrite::ReplyToPureRenote));
    }

    #[test]
    fn a_reply_mentions_its_target_and_keeps_to_its_audience() {
        let home = a_note(|n| n.visibility = Visibility::Home);
        let reply = by(2, say("hi"), seen(&home), None).unwrap();
        assert_eq!((reply.mentions, reply.visibility), (vec![user(1)], Visibility::Home));
        assert_eq!(by(1, say("me too"), seen(&home), None).unwrap().mentions, []);
        let direct = a_note(|n| n.visibility = Visibility::Specified);
        assert_eq!(by(2, say("x"), seen(&direct), None), Err(CannotWrite::ReplyWiderThanSpecified));
        let hidden = Some(Target { note: &direct, visible: false, blocked: false });
        assert_eq!(by(2, say("x"), hidden, None), Err(CannotWrite::ReplyToInvisible));
    }

    #[test]
    fn a_reply_is_in_the_thread_of_its_target() {
        let top = created();
        assert_eq!(top.thread(), top.id);
        let first = by(2, say("first"), seen(&a_note(|_| ())), None).unwrap();
        assert_eq!(first.thread, Some(top.id));
        let second = Note { created: Some(first), deleted: false };
        assert_eq!(by(1, say("second"), seen(&second), None).unwrap().thread(), top.id);
    }

    #[test]
    fn who_is_blocked_neither_answers_nor_passes_on() {
        let note = a_note(|_| ());
        let blocked = Some(Target { note: &note, visible: true, blocked: true });
        assert_eq!(by(2, say("x"), blocked, None), Err(CannotWrite::Blocked));
        assert_eq!(by(2, Draft::default(), None, blocked), Err(CannotWrite::Blocked));
    }

    #[test]
    fn a_direct_note_mentions_whom_it_is_addressed_to() {
        let draft = Draft { visibility: Visibility::Specified, visible_to: vec![user(2)], ..say("for you") };
        let note = by(1, draft, None, None).unwrap();
        assert_eq!((note.visible_to, note.mentions), (vec![user(2)], vec![user(2)]));
        let direct = a_note(|n| n.visibility = Visibility::Specified);
        let draft = Draft { visibility: Visibility::Specified, ..say("to you alone") };
        assert_eq!(
            by(2, draft, seen(&direct), None).unwrap().visible_to,
            [user(1)],
            "who is answered sees it"
        );
        let public = Draft { visible_to: vec![user(2)], ..say("for all") };
        assert_eq!(by(1, public, None, None).unwrap().visible_to, []);
    }

    #[test]
    fn missing_targets_empty_notes_and_old_polls_are_refused() {
        let gone = Note { deleted: true, ..a_note(|_| ()) };
        assert_eq!(by(2, say("x"), seen(&gone), None), Err(CannotWrite::NoSuchReplyTarget));
        assert_eq!(by(2, say("x"), None, seen(&gone)), Err(CannotWrite::NoSuchRenoteTarget));
        assert_eq!(by(2, Draft::default(), None, None), Err(CannotWrite::Empty));
        let poll = Poll { choices: vec!["a".into(), "b".into()], multiple: false, expires_at: Some(at(NOW)) };
        let draft = Draft { poll: Some(poll), ..say("?") };
        assert_eq!(by(2, draft, None, None), Err(CannotWrite::PollExpired));
        let draft = Draft { mentions: (0..21).map(user).collect(), ..say("all of you") };
        assert_eq!(by(2, draft, None, None), Err(CannotWrite::TooManyMentions));
    }

    #[test]
    fn a_note_in_a_channel_is_for_everybody_on_this_server() {
        let channel = Some(ChannelId(id(50)));
        let draft = Draft {
            visibility: Visibility::Specified,
            visible_to: vec![user(2)],
            channel,
            ..say("for the channel")
        };
        let note = by(1, draft, None, None).unwrap();
        assert_eq!((note.visibility, note.local_only, note.channel), (Visibility::Public, true, channel));
        assert_eq!((note.visible_to, note.mentions), (Vec::new(), Vec::new()));
        let followers = a_note(|n| n.visibility = Visibility::Followers);
        let renote = by(1, Draft { channel, ..Draft::default() }, None, seen(&followers)).unwrap();
        assert_eq!(renote.visibility, Visibility::Followers, "never wider than what it passes on");
    }

    #[test]
    fn those_who_may_not_write_publicly_write_to_home() {
        let allowed = Allowed { public_notes: false, ..FREE };
        let events = write(NoteId(id(9)), user(1), say("x"), None, None, allowed, at(NOW)).unwrap();
        assert!(matches!(&events[0], Event::NoteCreated(note) if note.visibility == Visibility::Home));
    }

    #[test]
    fn a_note_is_deleted_once_by_its_author_or_a_moderator() {
        let note = a_note(|_| ());
        assert_eq!(delete(&note, user(2), false), Err(CannotDelete::NotYours));
        assert!(delete(&note, user(2), true).is_ok());
        let mut gone = note.clone();
        delete(&note, user(1), false).unwrap().iter().for_each(|event| gone.apply(event));
        assert_eq!(delete(&gone, user(1), false), Err(CannotDelete::NoSuchNote));
    }
}
