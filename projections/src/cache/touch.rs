//! What events change of the facts that are kept. Whatever has no line here empties its shelf.

use domain::{ChannelId, DecorationId, Event, FileId, ListId, NoteId, UserId};

use super::shelf::Touch;
use crate::world::{NoteRow, UserRow};

/// Counts of replies, renotes and reactions go with the note; so do the clips that it is in.
pub(super) fn notes(event: &Event) -> Touch<NoteId, NoteRow> {
    match event {
        Event::NoteCreated(e) => match NoteRow::of(e) {
            Some(row) => Touch::Is(e.id, Some(row)),
            None => {
                let parents = e.reply.iter().chain(&e.renote).map(|parent| parent.id);
                Touch::Keys(std::iter::once(e.id).chain(parents).collect())
            }
        },
        // What answers it and passes it on goes along, and what that answers counts one reply less.
        Event::NoteDeleted(e) => Touch::Hanging(vec![e.id]),
        Event::ReactionAdded(e) => Touch::Changes(e.note, |note, event| note.reactions.hear(event)),
        Event::ReactionRemoved(e) => Touch::Changes(e.note, |note, event| note.reactions.hear(event)),
        Event::ClipNoteAdded(e) => Touch::Keys(vec![e.note]),
        Event::ClipNoteRemoved(e) => Touch::Keys(vec![e.note]),
        Event::ClipDeleted(_) => Touch::Hanging(Vec::new()),
        Event::ClipCreated(_) | Event::ClipChanged(_) => Touch::Nothing,
        Event::ClipFavorited(_) | Event::ClipUnfavorited(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// Whether it changes what is shown of a note when another goes, or a clip. What is on its own, has no answers and is
/// in no clip, stays as it is.
pub(super) fn hangs(note: &NoteRow) -> bool {
    note.reply.is_some() || note.renote.is_some() || note.replies > 0 || note.clipped > 0
}

pub(super) fn users(event: &Event) -> Touch<UserId, UserRow> {
    match event {
        Event::UserCreated(e) => Touch::Keys(vec![e.user]),
        Event::UserChanged(e) => Touch::Keys(vec![e.user]),
        Event::UserActive(e) => Touch::Keys(vec![e.user]),
        Event::UserSuspended(e) => Touch::Keys(vec![e.user]),
        Event::UserUnsuspended(e) => Touch::Keys(vec![e.user]),
        Event::UserNoted(e) => Touch::Keys(vec![e.user]),
        Event::FollowStarted(e) => Touch::Keys(vec![e.follower, e.followee]),
        Event::FollowEnded(e) => Touch::Keys(vec![e.follower, e.followee]),
        Event::FollowRequested(_) | Event::FollowRequestEnded(_) | Event::FollowChanged(_) => Touch::Nothing,
        Event::NoteCreated(e) => Touch::Changes(e.author, UserRow::wrote),
        // The notes of others may go along with it, and still count.
        Event::NoteDeleted(e) => Touch::Keys(vec![e.author]),
        _ => Touch::All,
    }
}

pub(super) fn files<V>(event: &Event) -> Touch<FileId, V> {
    match event {
        Event::FileAdded(e) => Touch::Keys(vec![e.id]),
        Event::FileChanged(e) => Touch::Keys(vec![e.id]),
        Event::FileDeleted(e) => Touch::Keys(vec![e.id]),
        Event::FolderAdded(_) | Event::FolderChanged(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

pub(super) fn channels<V>(event: &Event) -> Touch<ChannelId, V> {
    match event {
        Event::ChannelCreated(e) => Touch::Keys(vec![e.id]),
        Event::ChannelChanged(e) => Touch::Keys(vec![e.id]),
        Event::NoteCreated(e) => Touch::Keys(e.channel.into_iter().collect()),
        Event::ChannelFollowed(_) | Event::ChannelUnfollowed(_) => Touch::Nothing,
        Event::ChannelFavorited(_) | Event::ChannelUnfavorited(_) => Touch::Nothing,
        Event::ChannelMuted(_) | Event::ChannelUnmuted(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// All roles by condition, under one key.
pub(super) fn conditional<V>(event: &Event) -> Touch<(), V> {
    match event {
        Event::RoleAssigned(_) | Event::RoleUnassigned(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// The roles that somebody is assigned to.
pub(super) fn given<V>(event: &Event) -> Touch<UserId, V> {
    match event {
        Event::RoleAssigned(e) => Touch::Keys(vec![e.user]),
        Event::RoleUnassigned(e) => Touch::Keys(vec![e.user]),
        _ => Touch::All,
    }
}

pub(super) fn decorations<V>(event: &Event) -> Touch<DecorationId, V> {
    match event {
        Event::DecorationCreated(e) => Touch::Keys(vec![e.decoration]),
        Event::DecorationChanged(e) => Touch::Keys(vec![e.decoration]),
        Event::DecorationDeleted(e) => Touch::Keys(vec![e.decoration]),
        _ => Touch::All,
    }
}

/// What people think of notes to which many reacted.
pub(super) fn my_reactions<V>(event: &Event) -> Touch<(UserId, NoteId), V> {
    match event {
        Event::ReactionAdded(e) => Touch::Keys(vec![(e.reactor, e.note)]),
        Event::ReactionRemoved(e) => Touch::Keys(vec![(e.reactor, e.note)]),
        _ => Touch::All,
    }
}

/// How often each choice of a poll was voted for. Votes stay when the note goes or the poll ends.
pub(super) fn votes<V>(event: &Event) -> Touch<NoteId, V> {
    match event {
        Event::PollVoted(e) => Touch::Keys(vec![e.note]),
        Event::NoteCreated(_) | Event::NoteDeleted(_) | Event::PollEnded(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

pub(super) fn my_votes<V>(event: &Event) -> Touch<(UserId, NoteId), V> {
    match event {
        Event::PollVoted(e) => Touch::Keys(vec![(e.voter, e.note)]),
        Event::NoteCreated(_) | Event::NoteDeleted(_) | Event::PollEnded(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// What the first of two people is to the second, and what they are to them.
pub(super) fn relations<V>(event: &Event) -> Touch<(UserId, UserId), V> {
    let both = |one, other| Touch::Keys(vec![(one, other), (other, one)]);
    match event {
        Event::FollowRequested(e) => both(e.follower, e.followee),
        Event::FollowRequestEnded(e) => both(e.follower, e.followee),
        Event::FollowStarted(e) => both(e.follower, e.followee),
        Event::FollowChanged(e) => both(e.follower, e.followee),
        Event::FollowEnded(e) => both(e.follower, e.followee),
        Event::BlockStarted(e) => both(e.blocker, e.blockee),
        Event::BlockEnded(e) => both(e.blocker, e.blockee),
        Event::MuteStarted(e) => Touch::Keys(vec![(e.muter, e.mutee)]),
        Event::MuteEnded(e) => Touch::Keys(vec![(e.muter, e.mutee)]),
        Event::RenoteMuteStarted(e) => Touch::Keys(vec![(e.muter, e.mutee)]),
        Event::RenoteMuteEnded(e) => Touch::Keys(vec![(e.muter, e.mutee)]),
        Event::ThreadMuteStarted(_) | Event::ThreadMuteEnded(_) => Touch::Nothing,
        Event::MemoChanged(e) => Touch::Keys(vec![(e.user, e.about)]),
        _ => Touch::All,
    }
}

/// What somebody and all others are to each other.
pub(super) fn near<V>(event: &Event) -> Touch<UserId, V> {
    firsts(relations::<()>(event))
}

pub(super) fn muted_threads<V>(event: &Event) -> Touch<(UserId, NoteId), V> {
    match event {
        Event::ThreadMuteStarted(e) => Touch::Keys(vec![(e.user, e.thread)]),
        Event::ThreadMuteEnded(e) => Touch::Keys(vec![(e.user, e.thread)]),
        Event::MuteStarted(_) | Event::MuteEnded(_) => Touch::Nothing,
        Event::RenoteMuteStarted(_) | Event::RenoteMuteEnded(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// Who mutes any thread.
pub(super) fn mute_threads<V>(event: &Event) -> Touch<UserId, V> {
    firsts(muted_threads::<()>(event))
}

/// Who mutes any channel.
pub(super) fn mute_channels<V>(event: &Event) -> Touch<UserId, V> {
    firsts(muted_channels::<()>(event))
}

pub(super) fn muted_channels<V>(event: &Event) -> Touch<(UserId, ChannelId), V> {
    match event {
        Event::ChannelMuted(e) => Touch::Keys(vec![(e.user, e.channel)]),
        Event::ChannelUnmuted(e) => Touch::Keys(vec![(e.user, e.channel)]),
        Event::NoteCreated(_) | Event::ChannelCreated(_) | Event::ChannelChanged(_) => Touch::Nothing,
        Event::ChannelFollowed(_) | Event::ChannelUnfollowed(_) => Touch::Nothing,
        Event::ChannelFavorited(_) | Event::ChannelUnfavorited(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// Whom somebody follows.
pub(super) fn followed<V>(event: &Event) -> Touch<UserId, V> {
    match event {
        Event::FollowStarted(e) => Touch::Keys(vec![e.follower]),
        Event::FollowChanged(e) => Touch::Keys(vec![e.follower]),
        Event::FollowEnded(e) => Touch::Keys(vec![e.follower]),
        Event::FollowRequested(_) | Event::FollowRequestEnded(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// Who is in a list.
pub(super) fn members<V>(event: &Event) -> Touch<ListId, V> {
    match event {
        Event::ListMemberAdded(e) => Touch::Keys(vec![e.list]),
        Event::ListMemberChanged(e) => Touch::Keys(vec![e.list]),
        Event::ListMemberRemoved(e) => Touch::Keys(vec![e.list]),
        Event::ListDeleted(e) => Touch::Keys(vec![e.id]),
        Event::ListCreated(_) | Event::ListChanged(_) => Touch::Nothing,
        Event::ListFavorited(_) | Event::ListUnfavorited(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// Which channels somebody follows.
pub(super) fn channels_followed<V>(event: &Event) -> Touch<UserId, V> {
    match event {
        Event::ChannelFollowed(e) => Touch::Keys(vec![e.user]),
        Event::ChannelUnfollowed(e) => Touch::Keys(vec![e.user]),
        Event::NoteCreated(_) | Event::ChannelCreated(_) | Event::ChannelChanged(_) => Touch::Nothing,
        Event::ChannelMuted(_) | Event::ChannelUnmuted(_) => Touch::Nothing,
        Event::ChannelFavorited(_) | Event::ChannelUnfavorited(_) => Touch::Nothing,
        _ => Touch::All,
    }
}

/// What changes of each first of the pairs that change.
fn firsts<K, V>(touch: Touch<(UserId, K), ()>) -> Touch<UserId, V> {
    match touch {
        Touch::Keys(pairs) => Touch::Keys(pairs.into_iter().map(|(first, _)| first).collect()),
        Touch::Nothing => Touch::Nothing,
        _ => Touch::All,
    }
}
