//! Channels: places for notes about one thing, each in the stream `channel-{id}`; what a person is to one, in
//! the stream `channelstanding-{channel}-{user}`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{ChannelId, FileId, NoteId, UserId};
use crate::log::StreamId;
use crate::mute::Mute;
use crate::user::present;
use crate::{Event, Fold, note};

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 128;
/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 2_048;
/// The longest name of a colour, in characters.
pub const MAX_COLOR_CHARS: usize = 16;
/// Notes pinned to one channel.
pub const MAX_PINNED: usize = 100;
/// The colour of channels for which none was chosen.
pub const DEFAULT_COLOR: &str = "#86b300";

/// The stream of one channel.
pub fn stream(channel: ChannelId) -> StreamId {
    StreamId::new("channel", channel)
}

/// The stream of what one person is to a channel.
pub fn standing_stream(channel: ChannelId, user: UserId) -> StreamId {
    StreamId::new("channelstanding", format_args!("{channel}-{user}"))
}

/// `channel.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub id: ChannelId,
    pub owner: UserId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub color: String,
    pub is_sensitive: bool,
    /// Whether its notes may be passed on outside of it.
    pub allow_renote_to_external: bool,
    /// A picture that is shown above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banner: Option<FileId>,
}

/// What is changed of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// Nothing is written any more in one that is archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_archived: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_sensitive: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_renote_to_external: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Vec<NoteId>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub banner: Option<Option<FileId>>,
}

/// `channel.changed`, by its owner or a moderator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub id: ChannelId,
    pub owner: UserId,
    pub changes: Changes,
}

/// `channel.followed`: its notes are wanted in the home timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    pub channel: ChannelId,
    pub user: UserId,
}

/// `channel.unfollowed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfollowed {
    pub channel: ChannelId,
    pub user: UserId,
}

/// `channel.favorited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Favorited {
    pub channel: ChannelId,
    pub user: UserId,
}

/// `channel.unfavorited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfavorited {
    pub channel: ChannelId,
    pub user: UserId,
}

/// `channel.muted`: its notes are wanted nowhere but in itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Muted {
    pub channel: ChannelId,
    pub user: UserId,
    /// For ever when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// `channel.unmuted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmuted {
    pub channel: ChannelId,
    pub user: UserId,
}

macro_rules! of {
    ($who:ident: $($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.$who)
            }
        }
    )*};
}
of!(owner: Created, Changed);
of!(user: Followed, Unfollowed, Favorited, Unfavorited, Muted, Unmuted);

/// One channel, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// As it is now; none before it is made, and when its owner's data has been erased.
    pub now: Option<Created>,
    pub is_archived: bool,
}

impl Channel {
    pub fn exists(&self) -> bool {
        self.now.is_some()
    }

    /// Whether something may be written in it.
    pub fn is_open(&self) -> bool {
        self.exists() && !self.is_archived
    }
}

impl Fold for Channel {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ChannelCreated(e) => self.now = Some(e.clone()),
            Event::ChannelChanged(e) => {
                let Some(now) = &mut self.now else { return };
                let changes = e.changes.clone();
                now.name = changes.name.unwrap_or_else(|| std::mem::take(&mut now.name));
                now.color = changes.color.unwrap_or_else(|| std::mem::take(&mut now.color));
                now.description = changes.description.unwrap_or_else(|| now.description.take());
                now.is_sensitive = changes.is_sensitive.unwrap_or(now.is_sensitive);
                now.allow_renote_to_external =
                    changes.allow_renote_to_external.unwrap_or(now.allow_renote_to_external);
                self.is_archived = changes.is_archived.unwrap_or(self.is_archived);
            }
            _ => (),
        }
    }
}

/// What one person is to a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub follows: bool,
    pub favors: bool,
    pub mutes: Option<Mute>,
}

impl Standing {
    fn mutes(&self, now: DateTime<Utc>) -> bool {
        self.mutes.is_some_and(|mute| mute.stands(now))
    }
}

impl Fold for Standing {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ChannelFollowed(_) => self.follows = true,
            Event::ChannelUnfollowed(_) => self.follows = false,
            Event::ChannelFavorited(_) => self.favors = true,
            Event::ChannelUnfavorited(_) => self.favors = false,
            Event::ChannelMuted(e) => self.mutes = Some(Mute { expires_at: e.expires_at }),
            Event::ChannelUnmuted(_) => self.mutes = None,
            _ => (),
        }
    }
}

/// Why a channel is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotChange {
    #[error("no such channel")]
    NoSuchChannel,
    #[error("somebody else's channel")]
    NotYours,
}

/// The channel is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such channel")]
pub struct NoSuchChannel;

/// Why a channel is not muted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotMute {
    #[error("no such channel")]
    NoSuchChannel,
    #[error("already muted")]
    AlreadyMuted,
    #[error("it would be over already")]
    Past,
}

/// Why a channel's mute does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotUnmute {
    #[error("no such channel")]
    NoSuchChannel,
    #[error("not muted")]
    NotMuted,
}

/// Why a note has no place where it was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    #[error("no such channel")]
    NoSuchChannel,
    #[error("the note may not be passed on outside of its channel")]
    RenoteOutside,
}

/// Decides a change of a channel, by its owner or by somebody who moderates.
pub fn change(
    channel: &Channel,
    by: UserId,
    moderates: bool,
    changes: Changes,
) -> Result<Vec<Event>, CannotChange> {
    let now = channel.now.as_ref().ok_or(CannotChange::NoSuchChannel)?;
    if now.owner != by && !moderates {
        return Err(CannotChange::NotYours);
    }
    if changes == Changes::default() {
        return Ok(Vec::new());
    }
    Ok(vec![Changed { id: now.id, owner: now.owner, changes }.into()])
}

/// Where a note is written: in the channel that is asked for, but an answer stays where it was asked, and a
/// note that is kept in a channel is passed on only there. Channels come with what they are.
pub fn place(
    asked: Option<(ChannelId, &Channel)>,
    reply: Option<&note::Created>,
    renote: Option<(&note::Created, &Channel)>,
) -> Result<Option<ChannelId>, Misplaced> {
    if asked.is_some_and(|(_, channel)| !channel.is_open()) {
        return Err(Misplaced::NoSuchChannel);
    }
    let asked = asked.map(|(id, _)| id);
    if let Some((renote, channel)) = renote
        && let Some(from) = renote.channel
        && Some(from) != asked
    {
        let from = channel.now.as_ref().ok_or(Misplaced::NoSuchChannel)?;
        if !from.allow_renote_to_external {
            return Err(Misplaced::RenoteOutside);
        }
    }
    Ok(reply.map_or(asked, |reply| reply.channel))
}

/// Decides that somebody follows a channel, or likes it; what is so already stays so.
pub fn stand(
    standing: &Standing,
    channel: &Channel,
    user: UserId,
    wish: Wish,
) -> Result<Vec<Event>, NoSuchChannel> {
    let channel = channel.now.as_ref().ok_or(NoSuchChannel)?.id;
    let event: Event = match wish {
        Wish::Follow if !standing.follows => Followed { channel, user }.into(),
        Wish::Unfollow if standing.follows => Unfollowed { channel, user }.into(),
        Wish::Favor if !standing.favors => Favorited { channel, user }.into(),
        Wish::Unfavor if standing.favors => Unfavorited { channel, user }.into(),
        Wish::Follow | Wish::Unfollow | Wish::Favor | Wish::Unfavor => return Ok(Vec::new()),
    };
    Ok(vec![event])
}

/// What a person wants to be to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Follow,
    Unfollow,
    Favor,
    Unfavor,
}

/// Decides that somebody mutes a channel.
pub fn mute(
    standing: &Standing,
    channel: &Channel,
    user: UserId,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotMute> {
    let channel = channel.now.as_ref().ok_or(CannotMute::NoSuchChannel)?.id;
    if standing.mutes(now) {
        return Err(CannotMute::AlreadyMuted);
    }
    if expires_at.is_some_and(|end| end <= now) {
        return Err(CannotMute::Past);
    }
    Ok(vec![Muted { channel, user, expires_at }.into()])
}

/// Decides that somebody mutes a channel no more.
pub fn unmute(
    standing: &Standing,
    channel: &Channel,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<Vec<Event>, CannotUnmute> {
    let channel = channel.now.as_ref().ok_or(CannotUnmute::NoSuchChannel)?.id;
    if !standing.mutes(now) {
        return Err(CannotUnmute::NotMuted);
    }
    Ok(vec![Unmuted { channel, user }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::{NOW, at, created, id, user};

    fn channel(change: impl FnOnce(&mut Created)) -> Channel {
        let mut made = Created {
            banner: None,
            id: ChannelId(id(50)),
            owner: user(1),
            name: "cooking".to_owned(),
            description: Some("food".to_owned()),
            color: DEFAULT_COLOR.to_owned(),
            is_sensitive: false,
            allow_renote_to_external: true,
        };
        change(&mut made);
        Channel { now: Some(made), is_archived: false }
    }

    fn after(mut standing: Standing, events: Vec<Event>) -> Standing {
        events.iter().for_each(|event| standing.apply(event));
        standing
    }

    #[test]
    fn a_channel_is_changed_by_its_owner_or_a_moderator() {
        let rename = Changes { name: Some("soup".to_owned()), description: Some(None), ..Changes::default() };
        let mine = channel(|_| ());
        assert_eq!(change(&mine, user(2), false, rename.clone()), Err(CannotChange::NotYours));
        assert!(change(&mine, user(2), true, rename.clone()).is_ok());
        assert_eq!(
            change(&Channel::default(), user(1), true, rename.clone()),
            Err(CannotChange::NoSuchChannel)
        );
        assert_eq!(change(&mine, user(1), false, Changes::default()), Ok(Vec::new()));
        let mut changed = mine.clone();
        change(&mine, user(1), false, rename).unwrap().iter().for_each(|event| changed.apply(event));
        let now = changed.now.unwrap();
        assert_eq!((now.name.as_str(), now.description, now.color.as_str()), ("soup", None, DEFAULT_COLOR));
    }

    #[test]
    fn a_note_is_written_where_it_may_be() {
        let (open, here) = (channel(|_| ()), ChannelId(id(50)));
        let archived = Channel { is_archived: true, ..open.clone() };
        let asked = Some((here, &open));
        assert_eq!(place(asked, None, None), Ok(Some(here)));
        assert_eq!(place(Some((here, &archived)), None, None), Err(Misplaced::NoSuchChannel));
        assert_eq!(place(Some((here, &Channel::default())), None, None), Err(Misplaced::NoSuchChannel));
        let mut inside = created();
        inside.channel = Some(here);
        assert_eq!(place(None, Some(&inside), None), Ok(Some(here)));
        assert_eq!(place(asked, Some(&created()), None), Ok(None), "an answer stays where it was asked");
    }

    #[test]
    fn a_channel_may_keep_its_notes_to_itself() {
        let (open, here) = (channel(|_| ()), ChannelId(id(50)));
        let closed = channel(|channel| channel.allow_renote_to_external = false);
        let mut inside = created();
        inside.channel = Some(here);
        assert_eq!(place(None, None, Some((&inside, &open))), Ok(None));
        assert_eq!(place(None, None, Some((&inside, &closed))), Err(Misplaced::RenoteOutside));
        assert_eq!(place(Some((here, &closed)), None, Some((&inside, &closed))), Ok(Some(here)));
        let gone = Channel::default();
        assert_eq!(place(None, None, Some((&inside, &gone))), Err(Misplaced::NoSuchChannel));
        assert_eq!(place(None, None, Some((&created(), &gone))), Ok(None));
    }

    #[test]
    fn what_is_so_already_stays_so() {
        let channel = channel(|_| ());
        let wish = |standing: &Standing, wish| stand(standing, &channel, user(2), wish).unwrap();
        let none = Standing::default();
        for (to, back) in [(Wish::Follow, Wish::Unfollow), (Wish::Favor, Wish::Unfavor)] {
            let stands = after(none.clone(), wish(&none, to));
            assert_ne!(stands, none);
            assert_eq!((wish(&stands, to), wish(&none, back)), (Vec::new(), Vec::new()));
            assert_eq!(after(stands.clone(), wish(&stands, back)), none);
        }
        let nowhere = stand(&none, &Channel::default(), user(2), Wish::Follow);
        assert_eq!(nowhere, Err(NoSuchChannel));
    }

    #[test]
    fn a_mute_ends_by_itself_or_by_hand() {
        let (channel, none) = (channel(|_| ()), Standing::default());
        let mutes = |standing: &Standing, end: Option<i64>, now| {
            mute(standing, &channel, user(2), end.map(at), at(now))
        };
        let for_ever = after(none.clone(), mutes(&none, None, NOW).unwrap());
        assert_eq!(mutes(&for_ever, None, NOW + 1), Err(CannotMute::AlreadyMuted));
        let for_a_while = after(none.clone(), mutes(&none, Some(NOW + 10), NOW).unwrap());
        assert_eq!(mutes(&for_a_while, None, NOW + 9), Err(CannotMute::AlreadyMuted));
        assert!(mutes(&for_a_while, None, NOW + 10).is_ok());
        assert_eq!(mutes(&none, Some(NOW), NOW), Err(CannotMute::Past));
        let ends = |standing: &Standing, now| unmute(standing, &channel, user(2), at(now));
        assert_eq!(ends(&for_a_while, NOW + 10), Err(CannotUnmute::NotMuted));
        assert_eq!(after(for_ever.clone(), ends(&for_ever, NOW).unwrap()), none);
    }
}
