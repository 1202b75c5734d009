//! Who listens to what: every open socket with its channels and captured notes, and what the people behind
//! them are to others. Kept exact by the hub, so that a note finds its receivers without a query.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::follow::Notify;
use domain::mute::Mute;
use domain::policy::{Stance, Viewer};
use domain::{AntennaId, ChannelId as RoomId, ListId, NoteId, RoleId, UserId};
use projections::mute::Aversions;
use projections::world::FollowingRow;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::channel::{About, Kind, Params, Post, Ties, receives};
use super::frame::{ChannelId, Frame};
use crate::ops::tokens::TokenHash;

/// Frames that wait for one socket; when there are more, its reader is too slow.
pub const MAX_QUEUED_FRAMES: usize = 256;
/// Channels of one socket, as on Misskey.
pub const MAX_CHANNELS: usize = 32;
/// Notes captured by one socket.
pub const MAX_CAPTURES: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId(u64);

/// Who opens a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    pub viewer: Viewer,
    /// By which they were let in.
    pub token: Option<TokenHash>,
    /// From where, as it is counted.
    pub network: IpAddr,
}

/// Why the server ends a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    TooSlow,
    /// Something could not be delivered, so that the client must look for itself.
    Gap,
    /// The person's tokens have ended.
    SignedOut,
    Shutdown,
}

/// The hub's end of a socket.
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Frame>,
    ending: watch::Sender<Option<Ending>>,
}

/// The socket's own end.
#[derive(Debug)]
pub struct Inbox {
    pub queue: mpsc::Receiver<Frame>,
    pub ending: watch::Receiver<Option<Ending>>,
}

/// Both ends of a new socket; `frames` may wait.
pub fn mailbox(frames: usize) -> (Outbox, Inbox) {
    let (sender, queue) = mpsc::channel(frames);
    let ending = watch::Sender::new(None);
    let inbox = Inbox { queue, ending: ending.subscribe() };
    (Outbox { queue: sender, ending }, inbox)
}

/// One channel of a socket.
#[derive(Debug, Clone)]
pub struct Channel {
    pub id: ChannelId,
    pub kind: Kind,
    pub params: Params,
}

/// All open sockets.
#[derive(Debug, Default)]
pub struct Listeners {
    last: u64,
    sockets: HashMap<SocketId, Socket>,
    people: HashMap<UserId, Person>,
    /// Sockets of nobody in particular, by where they come from.
    strangers: HashMap<IpAddr, usize>,
    /// People here, by whom they follow.
    fans: HashMap<UserId, HashSet<UserId>>,
    /// Sockets with a channel that carries notes of strangers.
    public: HashSet<SocketId>,
    captured: HashMap<NoteId, HashSet<SocketId>>,
    /// Lists that somebody listens to.
    lists: HashMap<ListId, OpenList>,
    /// Those of them in which a person is.
    listed: HashMap<UserId, HashSet<ListId>>,
    antennas: HashMap<AntennaId, HashSet<SocketId>>,
    /// Sockets that listen to a channel.
    rooms: HashMap<RoomId, HashSet<SocketId>>,
    /// People here who follow a channel.
    visitors: HashMap<RoomId, HashSet<UserId>>,
    /// Sockets with a channel that asks for this hashtag, perhaps together with others.
    tagged: HashMap<String, HashSet<SocketId>>,
    /// Sockets with a channel about this role.
    roles: HashMap<RoleId, HashSet<SocketId>>,
}

/// A list that somebody listens to.
#[derive(Debug, Default)]
struct OpenList {
    sockets: HashSet<SocketId>,
    /// Each with whether their replies to others are wanted.
    members: HashMap<UserId, bool>,
    /// Who was taken out while the list was being loaded.
    left_meanwhile: Option<HashSet<UserId>>,
}

#[derive(Debug)]
struct Socket {
    visitor: Visitor,
    outbox: Outbox,
    channels: Vec<Channel>,
    /// How often each note was captured.
    captures: HashMap<NoteId, u32>,
}

/// Somebody signed in, with at least one socket.
#[derive(Debug, Default)]
struct Person {
    sockets: Vec<SocketId>,
    /// What they are to others is being read.
    loading: bool,
    follows: Others<FollowingRow>,
    mutes: Others<Mute>,
    renote_mutes: Others<()>,
    blocks: Others<()>,
    blocked_by: Others<()>,
    channels: Others<(), RoomId>,
    channel_mutes: Others<Mute, RoomId>,
    /// In lower case; none before they are known.
    muted_hosts: Option<HashSet<String>>,
}

/// What a person is to others.
#[derive(Debug)]
struct Others<V, K = UserId> {
    known: HashMap<K, V>,
    /// Of whom something was heard while it was being read: that is newer than what is read.
    heard: HashSet<K>,
}

impl<V, K> Default for Others<V, K> {
    fn default() -> Self {
        Self { known: HashMap::new(), heard: HashSet::new() }
    }
}

impl<V, K: Copy + Eq + std::hash::Hash> Others<V, K> {
    fn hear(&mut self, other: K, now: Option<V>, loading: bool) {
        match now {
            Some(value) => self.known.insert(other, value),
            None => self.known.remove(&other),
        };
        if loading {
            self.heard.insert(other);
        }
    }

    fn load(&mut self, read: impl IntoIterator<Item = (K, V)>) {
        let heard = std::mem::take(&mut self.heard);
        self.known.extend(read.into_iter().filter(|(other, _)| !heard.contains(other)));
    }
}

/// What somebody is to others, as the read models had it after they came.
#[derive(Debug, Default)]
pub struct Bearings {
    pub follows: Vec<(UserId, FollowingRow)>,
    pub aversions: Aversions,
    /// Channels that they follow, and that they mute.
    pub channels: Vec<RoomId>,
    pub channel_mutes: Vec<(RoomId, Mute)>,
    /// Servers whose people they mute.
    pub muted_hosts: Vec<String>,
}

/// What was heard of what one person is to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Mute(Option<Mute>),
    RenoteMute(bool),
    Block(bool),
}

/// With whose eyes a note is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Eyes<'l> {
    pub viewer: Viewer,
    person: Option<&'l Person>,
}

impl Eyes<'_> {
    pub fn following(&self, author: UserId) -> Option<FollowingRow> {
        self.person.and_then(|person| person.follows.known.get(&author)).copied()
    }

    pub fn follows(&self, author: UserId) -> bool {
        self.following(author).is_some()
    }

    /// Whether the viewer follows a channel.
    pub fn visits(&self, channel: RoomId) -> bool {
        self.person.is_some_and(|person| person.channels.known.contains_key(&channel))
    }

    /// Whether the viewer mutes a channel now.
    pub fn mutes_channel(&self, channel: RoomId, now: DateTime<Utc>) -> bool {
        self.person
            .and_then(|person| person.channel_mutes.known.get(&channel))
            .is_some_and(|mute| mute.stands(now))
    }

    /// What the viewer is to somebody on a server, as far as it decides what they want to see.
    pub fn stance(&self, of: UserId, host: Option<&str>, now: DateTime<Utc>) -> Stance {
        let Some(person) = self.person else { return Stance::default() };
        let hosts = person.muted_hosts.as_ref();
        Stance {
            mutes: person.mutes.known.get(&of).is_some_and(|mute| mute.stands(now))
                || host.is_some_and(|host| hosts.is_some_and(|hosts| hosts.contains(host))),
            mutes_renotes: person.renote_mutes.known.contains_key(&of),
            blocks: person.blocks.known.contains_key(&of),
            is_blocked: person.blocked_by.known.contains_key(&of),
        }
    }
}

impl Listeners {
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Takes a socket in. From now on followings are kept up; [`Self::loaded`] fills in those before.
    pub fn enter(&mut self, visitor: Visitor, outbox: Outbox) -> SocketId {
        self.last += 1;
        let id = SocketId(self.last);
        let socket = Socket { visitor, outbox, channels: Vec::new(), captures: HashMap::new() };
        self.sockets.insert(id, socket);
        match visitor.viewer {
            Some(user) => {
                let person =
                    self.people.entry(user).or_insert_with(|| Person { loading: true, ..Person::default() });
                person.sockets.push(id);
            }
            None => *self.strangers.entry(visitor.network).or_default() += 1,
        }
        id
    }

    /// How many sockets of nobody in particular come from there.
    pub fn strangers(&self, network: IpAddr) -> usize {
        self.strangers.get(&network).copied().unwrap_or(0)
    }

    /// How many sockets of this person there are.
    pub fn count_of(&self, user: UserId) -> usize {
        self.people.get(&user).map_or(0, |person| person.sockets.len())
    }

    /// Fills in what a person is to others, as read after they came.
    pub fn loaded(&mut self, user: UserId, bearings: Bearings) {
        let Some(person) = self.people.get_mut(&user) else { return };
        if !std::mem::take(&mut person.loading) {
            return;
        }
        let Bearings { follows, aversions, channels, channel_mutes, muted_hosts } = bearings;
        let every = |others: Vec<UserId>| others.into_iter().map(|other| (other, ()));
        person.follows.load(follows);
        person.channels.load(channels.into_iter().map(|channel| (channel, ())));
        person.channel_mutes.load(channel_mutes);
        person.mutes.load(aversions.mutes);
        person.renote_mutes.load(every(aversions.renote_mutes));
        person.blocks.load(every(aversions.blocks));
        person.blocked_by.load(every(aversions.blocked_by));
        person.muted_hosts.get_or_insert_with(|| lower(&muted_hosts));
        for followee in person.follows.known.keys() {
            self.fans.entry(*followee).or_default().insert(user);
        }
        for channel in person.channels.known.keys() {
            self.visitors.entry(*channel).or_default().insert(user);
        }
    }

    pub fn leave(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(&id) else { return };
        self.public.remove(&id);
        for note in socket.captures.keys() {
            remove_from(&mut self.captured, note, &id);
        }
        for channel in &socket.channels {
            self.forget(id, &channel.params.about, &[]);
        }
        let Some(user) = socket.visitor.viewer else {
            if let Entry::Occupied(mut strangers) = self.strangers.entry(socket.visitor.network) {
                *strangers.get_mut() -= 1;
                if *strangers.get() == 0 {
                    strangers.remove();
                }
            }
            return;
        };
        let Entry::Occupied(mut person) = self.people.entry(user) else { return };
        person.get_mut().sockets.retain(|other| *other != id);
        if person.get().sockets.is_empty() {
            let person = person.remove();
            for followee in person.follows.known.keys() {
                remove_from(&mut self.fans, followee, &user);
            }
            for channel in person.channels.known.keys() {
                remove_from(&mut self.visitors, channel, &user);
            }
        }
    }

    /// Opens a channel; false when it may not be: too many, `main` twice, or nobody signed in.
    pub fn connect(&mut self, id: SocketId, channel: Channel) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else { return false };
        let again = channel.kind == Kind::Main && socket.has(Kind::Main);
        let nobody = channel.kind.needs_account() && socket.visitor.viewer.is_none();
        if socket.channels.len() >= MAX_CHANNELS || again || nobody {
            return false;
        }
        if channel.kind.is_public() {
            self.public.insert(id);
        }
        match &channel.params.about {
            About::Nothing => (),
            About::List(list) => {
                let new = || OpenList { left_meanwhile: Some(HashSet::new()), ..OpenList::default() };
                self.lists.entry(*list).or_insert_with(new).sockets.insert(id);
            }
            About::Antenna(antenna) => {
                self.antennas.entry(*antenna).or_default().insert(id);
            }
            About::Channel(channel) => {
                self.rooms.entry(*channel).or_default().insert(id);
            }
            About::Tags(asked) => {
                for tag in asked.iter().flatten() {
                    self.tagged.entry(tag.clone()).or_default().insert(id);
                }
            }
            About::Role(role) => _ = self.roles.entry(*role).or_default().insert(id),
        }
        socket.channels.push(channel);
        true
    }

    pub fn disconnect(&mut self, id: SocketId, channel: &ChannelId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Some(place) = socket.channels.iter().position(|open| open.id == *channel) else { return };
        let closed = socket.channels.remove(place);
        if !socket.channels.iter().any(|open| open.kind.is_public()) {
            self.public.remove(&id);
        }
        let left: Vec<About> = socket.channels.iter().map(|open| open.params.about.clone()).collect();
        self.forget(id, &closed.params.about, &left);
    }

    /// Takes a socket out of what one of its channels was about, but for what the others are about.
    fn forget(&mut self, id: SocketId, about: &About, left: &[About]) {
        match about {
            About::Nothing => (),
            About::List(list) if !left.contains(about) => {
                let Entry::Occupied(mut open) = self.lists.entry(*list) else { return };
                open.get_mut().sockets.remove(&id);
                if open.get().sockets.is_empty() {
                    for member in open.remove().members.keys() {
                        remove_from(&mut self.listed, member, list);
                    }
                }
            }
            About::Role(role) if !left.contains(about) => remove_from(&mut self.roles, role, &id),
            About::Antenna(antenna) if !left.contains(about) => {
                remove_from(&mut self.antennas, antenna, &id);
            }
            About::Channel(channel) if !left.contains(about) => remove_from(&mut self.rooms, channel, &id),
            About::List(_) | About::Role(_) | About::Antenna(_) | About::Channel(_) => (),
            About::Tags(asked) => {
                let still: HashSet<&String> = left
                    .iter()
                    .filter_map(|about| match about {
                        About::Tags(asked) => Some(asked.iter().flatten()),
                        _ => None,
                    })
                    .flatten()
                    .collect();
                for tag in asked.iter().flatten().filter(|tag| !still.contains(tag)) {
                    remove_from(&mut self.tagged, tag, &id);
                }
            }
        }
    }

    /// Fills in who is in a list, as read after somebody began to listen to it.
    pub fn list_loaded(&mut self, list: ListId, members: impl IntoIterator<Item = (UserId, bool)>) {
        let Some(open) = self.lists.get_mut(&list) else { return };
        let Some(left) = open.left_meanwhile.take() else { return };
        for (user, with_replies) in members {
            // What was heard meanwhile is newer than what was read.
            if let Entry::Vacant(vacant) = open.members.entry(user)
                && !left.contains(&user)
            {
                vacant.insert(with_replies);
                self.listed.entry(user).or_default().insert(list);
            }
        }
    }

    /// Somebody is in a list now, or something else is wanted of them.
    pub fn list_joined(&mut self, list: ListId, user: UserId, with_replies: bool) {
        let Some(open) = self.lists.get_mut(&list) else { return };
        open.members.insert(user, with_replies);
        self.listed.entry(user).or_default().insert(list);
    }

    /// Somebody is in a list no more.
    pub fn list_left(&mut self, list: ListId, user: UserId) {
        let Some(open) = self.lists.get_mut(&list) else { return };
        open.members.remove(&user);
        if let Some(left) = &mut open.left_meanwhile {
            left.insert(user);
        }
        remove_from(&mut self.listed, &user, &list);
    }

    /// A list is no more.
    pub fn list_ended(&mut self, list: ListId) {
        let Some(open) = self.lists.get_mut(&list) else { return };
        for user in std::mem::take(&mut open.members).keys() {
            remove_from(&mut self.listed, user, &list);
        }
        // What is still being read of it is old.
        open.left_meanwhile = None;
    }

    /// Whether anybody listens to a list.
    pub fn hears_list(&self, list: ListId) -> bool {
        self.lists.contains_key(&list)
    }

    /// The antennas that somebody listens to, and who that is.
    pub fn antennas(&self) -> HashMap<AntennaId, HashSet<UserId>> {
        let viewer = |id: &SocketId| self.sockets.get(id)?.visitor.viewer;
        let people = |sockets: &HashSet<SocketId>| sockets.iter().filter_map(viewer).collect();
        self.antennas.iter().map(|(antenna, sockets)| (*antenna, people(sockets))).collect()
    }

    /// Sends a note to those who listen to an antenna that heard it. `body` makes the text for a viewer, or
    /// none when they may not see the note.
    pub fn send_antenna(&self, antenna: AntennaId, mut body: impl FnMut(&Eyes<'_>) -> Option<Arc<str>>) {
        let sockets = self.antennas.get(&antenna).into_iter().flatten();
        for socket in sockets.filter_map(|id| self.sockets.get(id)) {
            let Some(text) = body(&self.eyes(socket.visitor.viewer)) else { continue };
            let about = About::Antenna(antenna);
            for channel in socket.channels.iter().filter(|channel| channel.params.about == about) {
                socket.send(channel, "note", text.clone());
            }
        }
    }

    /// Sends an event to those who listen to a list.
    pub fn send_list(&self, list: ListId, event: &'static str, body: &Arc<str>) {
        let sockets = self.lists.get(&list).into_iter().flat_map(|open| &open.sockets);
        for socket in sockets.filter_map(|id| self.sockets.get(id)) {
            let about = About::List(list);
            for channel in socket.channels.iter().filter(|channel| channel.params.about == about) {
                socket.send(channel, event, body.clone());
            }
        }
    }

    /// Captures a note; as often as it was captured it must be released.
    pub fn capture(&mut self, id: SocketId, note: NoteId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let full = socket.captures.len() >= MAX_CAPTURES;
        match socket.captures.entry(note) {
            Entry::Occupied(mut times) => *times.get_mut() = times.get().saturating_add(1),
            Entry::Vacant(_) if full => (),
            Entry::Vacant(first) => {
                first.insert(1);
                self.captured.entry(note).or_default().insert(id);
            }
        }
    }

    pub fn release(&mut self, id: SocketId, note: NoteId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Entry::Occupied(mut times) = socket.captures.entry(note) else { return };
        *times.get_mut() -= 1;
        if *times.get() == 0 {
            times.remove();
            remove_from(&mut self.captured, &note, &id);
        }
    }

    pub fn follow_started(&mut self, follower: UserId, followee: UserId, how: FollowingRow) {
        let Some(person) = self.people.get_mut(&follower) else { return };
        person.follows.hear(followee, Some(how), person.loading);
        self.fans.entry(followee).or_default().insert(follower);
    }

    pub fn follow_ended(&mut self, follower: UserId, followee: UserId) {
        let Some(person) = self.people.get_mut(&follower) else { return };
        person.follows.hear(followee, None, person.loading);
        remove_from(&mut self.fans, &followee, &follower);
    }

    /// Takes in a change of what one person is to another.
    pub fn changed(&mut self, from: UserId, to: UserId, change: Change) {
        if let Some(person) = self.people.get_mut(&from) {
            match change {
                Change::Mute(mute) => person.mutes.hear(to, mute, person.loading),
                Change::RenoteMute(stands) => {
                    person.renote_mutes.hear(to, stands.then_some(()), person.loading);
                }
                Change::Block(stands) => person.blocks.hear(to, stands.then_some(()), person.loading),
            }
        }
        if let Change::Block(stands) = change
            && let Some(person) = self.people.get_mut(&to)
        {
            person.blocked_by.hear(from, stands.then_some(()), person.loading);
        }
    }

    /// Takes in that somebody follows a channel, or no more.
    pub fn channel_followed(&mut self, user: UserId, channel: RoomId, follows: bool) {
        let Some(person) = self.people.get_mut(&user) else { return };
        person.channels.hear(channel, follows.then_some(()), person.loading);
        if follows {
            self.visitors.entry(channel).or_default().insert(user);
        } else {
            remove_from(&mut self.visitors, &channel, &user);
        }
    }

    /// Takes in that somebody mutes a channel, or no more.
    pub fn channel_muted(&mut self, user: UserId, channel: RoomId, mute: Option<Mute>) {
        if let Some(person) = self.people.get_mut(&user) {
            person.channel_mutes.hear(channel, mute, person.loading);
        }
    }

    /// Takes in whose people somebody mutes.
    pub fn hosts_muted(&mut self, user: UserId, hosts: &[String]) {
        if let Some(person) = self.people.get_mut(&user) {
            person.muted_hosts = Some(lower(hosts));
        }
    }

    /// Changes how somebody follows; nothing happens when they don't.
    pub fn follow_changed(
        &mut self,
        follower: UserId,
        followee: UserId,
        change: impl FnOnce(&mut FollowingRow),
    ) {
        if let Some(how) =
            self.people.get_mut(&follower).and_then(|person| person.follows.known.get_mut(&followee))
        {
            change(how);
        }
    }

    /// Whether anybody might be told of a note by this author.
    pub fn matters(&self, post: &Post<'_>) -> bool {
        self.people.contains_key(&post.author)
            || self.fans.contains_key(&post.author)
            || (receives_public(post) && !(self.public.is_empty() && self.roles.is_empty()))
            || self.apart(post).next().is_some()
    }

    /// Sockets that have asked for what the note is, wherever its author stands to them; some more than once.
    fn apart(&self, post: &Post<'_>) -> impl Iterator<Item = SocketId> {
        let lists = self.listed.get(&post.author).into_iter().flatten();
        let by_list = lists.filter_map(|list| self.lists.get(list)).flat_map(|open| &open.sockets);
        let by_tag = post.tags.iter().filter_map(|tag| self.tagged.get(tag)).flatten();
        let by_role = post.roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let rooms = post.channel.and_then(|channel| self.rooms.get(&channel)).into_iter().flatten();
        let visitors = post.channel.and_then(|channel| self.visitors.get(&channel)).into_iter().flatten();
        let by_visit = visitors.filter_map(|user| self.people.get(user)).flat_map(|person| &person.sockets);
        by_list.chain(by_tag).chain(by_role).chain(rooms).chain(by_visit).copied()
    }

    /// Whom a new note might reach through a timeline.
    pub fn near(&self, post: &Post<'_>) -> HashSet<UserId> {
        let mut near = self.fans.get(&post.author).cloned().unwrap_or_default();
        near.insert(post.author);
        let viewer = |id: &SocketId| self.sockets.get(id)?.visitor.viewer;
        if receives_public(post) {
            near.extend(self.public.iter().filter_map(viewer));
            near.extend(self.roles.values().flatten().filter_map(viewer));
        }
        near.extend(self.apart(post).filter_map(|id| viewer(&id)));
        near
    }

    /// Sends a new note to every timeline that carries it. `body` makes the text for a viewer, or none
    /// when they may not see the note.
    pub fn send_note(&self, post: &Post<'_>, mut body: impl FnMut(&Eyes<'_>) -> Option<Arc<str>>) {
        let fans = self.fans.get(&post.author).into_iter().flatten();
        let near = fans.chain([&post.author]).filter_map(|user| self.people.get(user));
        for id in near.flat_map(|person| &person.sockets) {
            self.offer(*id, post, &mut body);
        }
        let is_near = |id: SocketId| {
            let viewer = self.sockets.get(&id).and_then(|socket| socket.visitor.viewer);
            viewer.is_some_and(|user| {
                user == post.author
                    || self.people.get(&user).is_some_and(|p| p.follows.known.contains_key(&post.author))
            })
        };
        let is_public = receives_public(post);
        if is_public {
            for id in self.public.iter().filter(|id| !is_near(**id)) {
                self.offer(*id, post, &mut body);
            }
        }
        let apart: HashSet<SocketId> = self
            .apart(post)
            .filter(|id| !is_near(*id) && (!is_public || !self.public.contains(id)))
            .collect();
        for id in apart {
            self.offer(id, post, &mut body);
        }
    }

    fn offer(&self, id: SocketId, post: &Post<'_>, body: &mut impl FnMut(&Eyes<'_>) -> Option<Arc<str>>) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let eyes = self.eyes(socket.visitor.viewer);
        let following = eyes.following(post.author);
        let mut made = None;
        for channel in &socket.channels {
            let listed = match channel.params.about {
                About::List(list) => self.lists.get(&list).and_then(|open| open.members.get(&post.author)),
                _ => None,
            };
            let visits = post.channel.is_some_and(|channel| eyes.visits(channel));
            let ties = Ties { following, listed: listed.copied(), visits };
            if !receives(channel.kind, &channel.params, post, eyes.viewer, ties) {
                continue;
            }
            let Some(text) = made.get_or_insert_with(|| body(&eyes)) else { return };
            socket.send(channel, "note", text.clone());
        }
    }

    /// Sends a frame to every socket.
    pub fn send_everybody(&self, frame: &Frame) {
        self.sockets.values().for_each(|socket| socket.outbox.send(frame.clone()));
    }

    /// People who listen to what moderators are told.
    pub fn hear_as_moderators(&self) -> HashSet<UserId> {
        let listening = self.sockets.values().filter(|socket| socket.has(Kind::Admin));
        listening.filter_map(|socket| socket.visitor.viewer).collect()
    }

    /// Sends an event to the `admin` channels of a person.
    pub fn send_admin(&self, user: UserId, event: &'static str, body: &Arc<str>) {
        for socket in self.sockets_of(user) {
            for channel in socket.channels.iter().filter(|channel| channel.kind == Kind::Admin) {
                socket.send(channel, event, body.clone());
            }
        }
    }

    /// Sends an event to a person's `main` channels.
    pub fn send_main(&self, user: UserId, event: &'static str, body: &Arc<str>) {
        self.send_own(user, Kind::Main, event, body);
    }

    /// Sends an event to those channels of a person that are about themselves.
    pub fn send_own(&self, user: UserId, kind: Kind, event: &'static str, body: &Arc<str>) {
        for socket in self.sockets_of(user) {
            for channel in socket.channels.iter().filter(|channel| channel.kind == kind) {
                socket.send(channel, event, body.clone());
            }
        }
    }

    /// Whether a person has a `main` channel open.
    pub fn hears_main(&self, user: UserId) -> bool {
        self.hears(user, Kind::Main)
    }

    /// Whether a person has a channel of this kind open.
    pub fn hears(&self, user: UserId, kind: Kind) -> bool {
        self.sockets_of(user).any(|socket| socket.has(kind))
    }

    /// Everybody who has a `main` channel open.
    pub fn all_with_main(&self) -> Vec<UserId> {
        self.people.keys().copied().filter(|user| self.hears_main(*user)).collect()
    }

    /// People with a `main` channel who asked to be notified of each note of this author.
    pub fn notified_of(&self, author: UserId) -> Vec<UserId> {
        let fans = self.fans.get(&author).into_iter().flatten().copied();
        fans.filter(|fan| {
            self.eyes(Some(*fan)).following(author).is_some_and(|how| how.notify == Notify::Normal)
        })
        .filter(|fan| self.hears_main(*fan))
        .collect()
    }

    pub fn is_captured(&self, note: NoteId) -> bool {
        self.captured.contains_key(&note)
    }

    /// Sends a change of a note to those who captured it and may see it.
    pub fn send_captured(&self, note: NoteId, frame: &Frame, may_see: impl Fn(&Eyes<'_>) -> bool) {
        let watching = self.captured.get(&note).into_iter().flatten();
        for socket in watching.filter_map(|id| self.sockets.get(id)) {
            if may_see(&self.eyes(socket.visitor.viewer)) {
                socket.outbox.send(frame.clone());
            }
        }
    }

    /// The eyes of a person who is here, or of somebody who follows nobody.
    pub fn eyes(&self, viewer: Viewer) -> Eyes<'_> {
        Eyes { viewer, person: viewer.and_then(|user| self.people.get(&user)) }
    }

    /// Ends the sockets of one person.
    pub fn end_of(&self, user: UserId, why: Ending) {
        self.sockets_of(user).for_each(|socket| socket.outbox.end(why));
    }

    /// The tokens of these people by which sockets are open; everybody's when none are named.
    pub fn tokens(&self, people: Option<&HashSet<UserId>>) -> HashSet<TokenHash> {
        let named =
            |socket: &&Socket| people.is_none_or(|p| socket.visitor.viewer.is_some_and(|u| p.contains(&u)));
        self.sockets.values().filter(named).filter_map(|socket| socket.visitor.token).collect()
    }

    /// Ends the sockets that were opened by these tokens.
    pub fn end_with(&self, tokens: &HashSet<TokenHash>, why: Ending) {
        let by = |socket: &&Socket| socket.visitor.token.is_some_and(|token| tokens.contains(&token));
        self.sockets.values().filter(by).for_each(|socket| socket.outbox.end(why));
    }

    pub fn end_all(&self, why: Ending) {
        self.sockets.values().for_each(|socket| socket.outbox.end(why));
    }

    fn sockets_of(&self, user: UserId) -> impl Iterator<Item = &Socket> {
        let ids = self.people.get(&user).map_or(&[][..], |person| &person.sockets);
        ids.iter().filter_map(|id| self.sockets.get(id))
    }
}

impl Socket {
    fn has(&self, kind: Kind) -> bool {
        self.channels.iter().any(|channel| channel.kind == kind)
    }

    fn send(&self, channel: &Channel, event: &'static str, body: Arc<str>) {
        self.outbox.send(Frame::Channel { id: channel.id.clone(), kind: channel.kind, event, body });
    }
}

impl Outbox {
    /// Queues a frame; a socket whose queue is full is ended, as it would miss this one.
    fn send(&self, frame: Frame) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(frame) {
            self.end(Ending::TooSlow);
        }
    }

    fn end(&self, why: Ending) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            ending.get_or_insert(why);
            first
        });
    }
}

fn lower(hosts: &[String]) -> HashSet<String> {
    hosts.iter().map(|host| host.to_lowercase()).collect()
}

fn receives_public(post: &Post<'_>) -> bool {
    post.visibility == domain::note::Visibility::Public && post.channel.is_none()
}

fn remove_from<K: Eq + std::hash::Hash, V: Eq + std::hash::Hash>(
    index: &mut HashMap<K, HashSet<V>>,
    key: &K,
    value: &V,
) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::frame::{Said, read};
    use super::*;
    use domain::FollowId;
    use domain::note::Visibility;
    use serde_json::{Value, json};
    use uuid::Uuid;

    const ALICE: u128 = 1;
    const BOB: u128 = 2;
    const PLAIN: FollowingRow =
        FollowingRow { id: FollowId(Uuid::nil()), notify: Notify::None, with_replies: false };

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn note(n: u128) -> NoteId {
        NoteId(Uuid::from_u128(n))
    }

    const LIST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn channel(kind: Kind) -> Channel {
        channel_about(kind, json!({}))
    }

    fn channel_about(kind: Kind, params: Value) -> Channel {
        let body = json!({ "channel": kind.name(), "id": kind.name(), "params": params });
        let text = json!({ "type": "connect", "body": body });
        match read(&text.to_string()) {
            Some(Said::Connect { kind, id, params, .. }) => Channel { id, kind, params },
            other => panic!("{other:?}"),
        }
    }

    fn channel_named(name: &str) -> ChannelId {
        let body = json!({ "channel": "main", "id": name });
        match read(&json!({ "type": "connect", "body": body }).to_string()) {
            Some(Said::Connect { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Somebody who follows these people.
    pub(in super::super) fn following(follows: &[u128]) -> Bearings {
        let follows = follows.iter().map(|followee| (user(*followee), PLAIN)).collect();
        Bearings { follows, ..Bearings::default() }
    }

    pub(in super::super) fn visitor(viewer: Viewer) -> Visitor {
        Visitor { viewer, token: None, network: IpAddr::from([127, 0, 0, 1]) }
    }

    struct Room {
        listeners: Listeners,
    }

    impl Room {
        fn new() -> Self {
            Self { listeners: Listeners::default() }
        }

        /// Somebody with these channels open, who follows these people.
        fn comes(&mut self, who: Option<u128>, follows: &[u128], kinds: &[Kind]) -> (SocketId, Inbox) {
            let (outbox, inbox) = mailbox(8);
            let id = self.listeners.enter(visitor(who.map(user)), outbox);
            if let Some(who) = who {
                self.listeners.loaded(user(who), following(follows));
            }
            for kind in kinds {
                assert!(self.listeners.connect(id, channel(*kind)));
            }
            (id, inbox)
        }

        fn posts(&self, author: u128, visibility: Visibility) {
            let post = Post {
                author: user(author),
                author_is_local: true,
                visibility,
                answers: None,
                is_pure_renote: false,
                channel: None,
                tags: &[],
                roles: &[],
                has_files: false,
            };
            self.listeners.send_note(&post, |_| Some("{}".into()));
        }
    }

    /// The channels and events heard so far.
    fn heard(inbox: &mut Inbox) -> Vec<(&'static str, &'static str)> {
        let mut heard = Vec::new();
        while let Ok(frame) = inbox.queue.try_recv() {
            heard.push(match frame {
                Frame::Channel { kind, event, .. } => (kind.name(), event),
                other => (other.label(), ""),
            });
        }
        heard.sort_unstable();
        heard
    }

    #[test]
    fn a_note_goes_once_to_each_channel_that_carries_it() {
        let mut room = Room::new();
        let (_, mut fan) = room.comes(Some(BOB), &[ALICE], &[Kind::Home, Kind::Hybrid, Kind::Local]);
        let (_, mut stranger) = room.comes(Some(3), &[], &[Kind::Home, Kind::Local]);
        let (_, mut anybody) = room.comes(None, &[], &[Kind::Global]);
        let (_, mut author) = room.comes(Some(ALICE), &[], &[Kind::Home, Kind::Main]);
        room.posts(ALICE, Visibility::Public);
        assert_eq!(
            heard(&mut fan),
            [("homeTimeline", "note"), ("hybridTimeline", "note"), ("localTimeline", "note")]
        );
        assert_eq!(heard(&mut stranger), [("localTimeline", "note")]);
        assert_eq!(heard(&mut anybody), [("globalTimeline", "note")]);
        assert_eq!(heard(&mut author), [("homeTimeline", "note")]);
        room.posts(ALICE, Visibility::Home);
        assert_eq!(heard(&mut fan), [("homeTimeline", "note"), ("hybridTimeline", "note")]);
        assert_eq!(heard(&mut stranger), []);
        assert_eq!(heard(&mut anybody), []);
    }

    #[test]
    fn who_may_not_see_it_hears_nothing() {
        let mut room = Room::new();
        let (_, mut fan) = room.comes(Some(BOB), &[ALICE], &[Kind::Home]);
        let (_, mut anybody) = room.comes(None, &[], &[Kind::Local]);
        let post = Post {
            author: user(ALICE),
            author_is_local: true,
            visibility: Visibility::Public,
            answers: None,
            is_pure_renote: false,
            channel: None,
            tags: &[],
            roles: &[],
            has_files: false,
        };
        room.listeners.send_note(&post, |eyes| eyes.viewer.is_some().then(|| "{}".into()));
        assert_eq!(heard(&mut fan), [("homeTimeline", "note")]);
        assert_eq!(heard(&mut anybody), []);
    }

    #[test]
    fn followings_are_kept_up() {
        let mut room = Room::new();
        let (_, mut bob) = room.comes(Some(BOB), &[], &[Kind::Home]);
        room.posts(ALICE, Visibility::Public);
        room.listeners.follow_started(user(BOB), user(ALICE), PLAIN);
        room.posts(ALICE, Visibility::Public);
        assert_eq!(heard(&mut bob), [("homeTimeline", "note")]);
        room.listeners.follow_ended(user(BOB), user(ALICE));
        room.posts(ALICE, Visibility::Public);
        assert_eq!(heard(&mut bob), []);
    }

    #[test]
    fn what_is_heard_while_followings_load_is_newer_than_what_is_read() {
        let mut listeners = Listeners::default();
        let (outbox, _inbox) = mailbox(8);
        listeners.enter(visitor(Some(user(BOB))), outbox);
        let with_replies = FollowingRow { with_replies: true, ..PLAIN };
        listeners.follow_started(user(BOB), user(10), with_replies);
        listeners.follow_ended(user(BOB), user(11));
        listeners.changed(user(BOB), user(10), Change::Block(true));
        listeners.changed(user(11), user(BOB), Change::Block(false));
        listeners.hosts_muted(user(BOB), &["New.example".to_owned()]);
        let all = || [10, 11, 12].map(user).to_vec();
        let aversions = Aversions { blocks: vec![user(12)], blocked_by: all(), ..Aversions::default() };
        let muted_hosts = vec!["old.example".to_owned()];
        listeners.loaded(user(BOB), Bearings { aversions, muted_hosts, ..following(&[10, 11, 12]) });
        let eyes = listeners.eyes(Some(user(BOB)));
        assert_eq!([10, 11, 12].map(|n| eyes.following(user(n))), [Some(with_replies), None, Some(PLAIN)]);
        let stances = [10, 11, 12].map(|n| eyes.stance(user(n), None, DateTime::UNIX_EPOCH));
        assert_eq!(stances.map(|stance| stance.blocks), [true, false, true]);
        assert_eq!(stances.map(|stance| stance.is_blocked), [true, false, true]);
        let of_host = |host| eyes.stance(user(9), Some(host), DateTime::UNIX_EPOCH).mutes;
        assert!(of_host("new.example") && !of_host("old.example"));
    }

    #[test]
    fn a_list_is_kept_up_and_carries_its_people() {
        let mut room = Room::new();
        let list: ListId = LIST.parse().unwrap();
        let (id, mut inbox) = room.comes(Some(BOB), &[], &[Kind::Local]);
        room.listeners.connect(id, channel_about(Kind::List, json!({ "listId": LIST })));
        room.listeners.list_joined(list, user(10), false);
        room.listeners.list_left(list, user(11));
        room.listeners.list_loaded(list, [10, 11, 12].map(|n| (user(n), true)));
        for author in [10, 11, 12, 13] {
            room.posts(author, Visibility::Home);
        }
        assert_eq!(heard(&mut inbox), [("userList", "note"), ("userList", "note")]);
        room.posts(10, Visibility::Public);
        assert_eq!(heard(&mut inbox), [("localTimeline", "note"), ("userList", "note")]);
        room.listeners.send_list(list, "userAdded", &"{}".into());
        assert_eq!(heard(&mut inbox), [("userList", "userAdded")]);
        room.listeners.list_ended(list);
        room.posts(10, Visibility::Home);
        room.listeners.disconnect(id, &channel_named(Kind::List.name()));
        assert!(!room.listeners.hears_list(list) && heard(&mut inbox).is_empty());
    }

    #[test]
    fn a_followed_channel_is_heard_at_home_until_it_is_left() {
        let mut room = Room::new();
        let channel: RoomId = LIST.parse().unwrap();
        let (_, mut visitor) = room.comes(Some(BOB), &[], &[Kind::Home, Kind::Local]);
        let (_, mut fan) = room.comes(Some(3), &[ALICE], &[Kind::Home]);
        let (id, mut inside) = room.comes(None, &[], &[]);
        room.listeners.connect(id, channel_about(Kind::Channel, json!({ "channelId": LIST })));
        room.listeners.channel_followed(user(BOB), channel, true);
        let says = |room: &Room| {
            let post = Post {
                author: user(ALICE),
                author_is_local: true,
                visibility: Visibility::Public,
                answers: None,
                is_pure_renote: false,
                has_files: false,
                channel: Some(channel),
                tags: &[],
                roles: &[],
            };
            room.listeners.send_note(&post, |_| Some("{}".into()));
        };
        says(&room);
        assert_eq!(heard(&mut visitor), [("homeTimeline", "note")]);
        assert_eq!(heard(&mut inside), [("channel", "note")]);
        assert_eq!(heard(&mut fan), []);
        room.listeners.channel_followed(user(BOB), channel, false);
        says(&room);
        assert_eq!((heard(&mut visitor), heard(&mut inside).len()), (Vec::new(), 1));
        room.listeners.channel_muted(user(BOB), channel, Some(Mute { expires_at: None }));
        assert!(room.listeners.eyes(Some(user(BOB))).mutes_channel(channel, DateTime::UNIX_EPOCH));
    }

    #[test]
    fn hashtags_are_heard_as_long_as_a_channel_asks_for_them() {
        let mut room = Room::new();
        let (id, mut inbox) = room.comes(None, &[], &[]);
        let asks = |name: &str, query: Value| {
            let mut channel = channel_about(Kind::Hashtag, json!({ "q": query }));
            channel.id = channel_named(name);
            channel
        };
        assert!(room.listeners.connect(id, asks("one", json!([["a"]]))));
        assert!(room.listeners.connect(id, asks("two", json!([["a", "b"]]))));
        let posts = |room: &Room, tags: &[&str]| {
            let tags: Vec<String> = tags.iter().map(|tag| String::from(*tag)).collect();
            let post = Post {
                author: user(ALICE),
                author_is_local: true,
                visibility: Visibility::Home,
                answers: None,
                is_pure_renote: false,
                has_files: false,
                channel: None,
                tags: &tags,
                roles: &[],
            };
            room.listeners.send_note(&post, |_| Some("{}".into()));
        };
        posts(&room, &["a"]);
        posts(&room, &["b", "a"]);
        assert_eq!(heard(&mut inbox).len(), 3);
        room.listeners.disconnect(id, &channel_named("one"));
        posts(&room, &["a"]);
        posts(&room, &["a", "b"]);
        assert_eq!(heard(&mut inbox).len(), 1);
    }

    #[test]
    fn main_is_open_once_and_for_accounts_only() {
        let mut room = Room::new();
        let (bob, mut inbox) = room.comes(Some(BOB), &[], &[Kind::Main]);
        assert!(!room.listeners.connect(bob, channel(Kind::Main)));
        let (anybody, _) = room.comes(None, &[], &[]);
        for kind in [Kind::Main, Kind::Home, Kind::Hybrid] {
            assert!(!room.listeners.connect(anybody, channel(kind)), "{kind:?}");
        }
        assert!(room.listeners.hears_main(user(BOB)));
        room.listeners.send_main(user(BOB), "mention", &"{}".into());
        assert_eq!(heard(&mut inbox), [("main", "mention")]);
        room.listeners.disconnect(bob, &channel(Kind::Main).id);
        assert!(!room.listeners.hears_main(user(BOB)));
    }

    #[test]
    fn channels_and_captures_are_bounded() {
        let mut room = Room::new();
        let (id, _inbox) = room.comes(None, &[], &[Kind::Local; MAX_CHANNELS]);
        assert!(!room.listeners.connect(id, channel(Kind::Local)));
        for n in 0..MAX_CAPTURES as u128 + 1 {
            room.listeners.capture(id, note(n));
        }
        assert!(room.listeners.is_captured(note(MAX_CAPTURES as u128 - 1)));
        assert!(!room.listeners.is_captured(note(MAX_CAPTURES as u128)));
    }

    #[test]
    fn a_captured_note_is_heard_of_until_it_is_released_as_often() {
        let mut room = Room::new();
        let (id, mut inbox) = room.comes(None, &[], &[]);
        let frame = Frame::Captured("{}".into());
        let send = |room: &Room| room.listeners.send_captured(note(1), &frame, |_| true);
        room.listeners.capture(id, note(1));
        room.listeners.capture(id, note(1));
        send(&room);
        room.listeners.release(id, note(1));
        send(&room);
        room.listeners.send_captured(note(1), &frame, |_| false);
        assert_eq!(heard(&mut inbox).len(), 2);
        room.listeners.release(id, note(1));
        room.listeners.release(id, note(1));
        send(&room);
        assert_eq!(heard(&mut inbox), []);
    }

    #[test]
    fn a_slow_reader_is_ended_and_others_are_not() {
        let mut room = Room::new();
        let (_, mut slow) = room.comes(None, &[], &[Kind::Local]);
        let (_, mut quick) = room.comes(None, &[], &[Kind::Local]);
        for _ in 0..8 {
            room.posts(ALICE, Visibility::Public);
            heard(&mut quick);
        }
        assert_eq!(*slow.ending.borrow(), None);
        room.posts(ALICE, Visibility::Public);
        assert_eq!(*slow.ending.borrow(), Some(Ending::TooSlow));
        assert_eq!(*quick.ending.borrow(), None);
        assert_eq!(heard(&mut slow).len(), 8);
        room.listeners.end_all(Ending::Shutdown);
        assert_eq!(*slow.ending.borrow(), Some(Ending::TooSlow));
        assert_eq!(*quick.ending.borrow(), Some(Ending::Shutdown));
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let mut room = Room::new();
        let (first, _a) = room.comes(Some(BOB), &[ALICE], &[Kind::Hybrid]);
        let (second, _b) = room.comes(Some(BOB), &[], &[Kind::Main]);
        room.listeners.capture(first, note(1));
        for (kind, about) in [
            (Kind::List, json!({ "listId": LIST })),
            (Kind::List, json!({ "listId": LIST })),
            (Kind::Antenna, json!({ "antennaId": LIST })),
            (Kind::Channel, json!({ "channelId": LIST })),
            (Kind::Hashtag, json!({ "q": [["tag", "b"]] })),
        ] {
            assert!(room.listeners.connect(first, channel_about(kind, about)));
        }
        room.listeners.list_loaded(LIST.parse().unwrap(), [(user(ALICE), false)]);
        room.listeners.channel_followed(user(BOB), LIST.parse().unwrap(), true);
        room.listeners.leave(first);
        assert!(room.listeners.eyes(Some(user(BOB))).follows(user(ALICE)));
        room.listeners.leave(second);
        let (stranger, _c) = room.comes(None, &[], &[]);
        assert_eq!(room.listeners.strangers(visitor(None).network), 1);
        room.listeners.leave(stranger);
        let Listeners {
            last: _,
            sockets,
            people,
            strangers,
            fans,
            public,
            captured,
            lists,
            listed,
            antennas,
            rooms,
            visitors,
            tagged,
            roles,
        } = &room.listeners;
        assert!(sockets.is_empty() && people.is_empty() && strangers.is_empty() && fans.is_empty());
        assert!(public.is_empty() && captured.is_empty());
        assert!(lists.is_empty() && listed.is_empty() && antennas.is_empty() && tagged.is_empty());
        assert!(rooms.is_empty() && visitors.is_empty() && roles.is_empty());
    }

    #[test]
    fn sockets_end_with_their_token() {
        let mut listeners = Listeners::default();
        let mut comes = |n, token: &str| {
            let (outbox, inbox) = mailbox(8);
            let token = Some(TokenHash::of(token));
            listeners.enter(Visitor { token, ..visitor(Some(user(n))) }, outbox);
            inbox
        };
        let (first, second, other) = (comes(BOB, "a"), comes(BOB, "b"), comes(ALICE, "c"));
        let of_bob = listeners.tokens(Some(&HashSet::from([user(BOB)])));
        assert_eq!(of_bob, ["a", "b"].map(TokenHash::of).into());
        assert_eq!(listeners.tokens(None).len(), 3);
        listeners.end_with(&[TokenHash::of("b")].into(), Ending::SignedOut);
        assert_eq!(*second.ending.borrow(), Some(Ending::SignedOut));
        assert_eq!((*first.ending.borrow(), *other.ending.borrow()), (None, None));
    }

    #[test]
    fn a_mute_is_over_at_its_time() {
        let mut room = Room::new();
        let (_, _bob) = room.comes(Some(BOB), &[], &[]);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let mutes = |room: &Room, seconds| {
            room.listeners.eyes(Some(user(BOB))).stance(user(ALICE), None, at(seconds)).mutes
        };
        room.listeners.changed(user(BOB), user(ALICE), Change::Mute(Some(Mute { expires_at: Some(at(5)) })));
        assert!(mutes(&room, 4) && !mutes(&room, 5));
        room.listeners.changed(user(BOB), user(ALICE), Change::Mute(None));
        assert!(!mutes(&room, 4));
    }

    #[test]
    fn notes_may_be_announced_to_those_who_asked() {
        let mut room = Room::new();
        let (_, _a) = room.comes(Some(BOB), &[ALICE], &[Kind::Main]);
        let (_, _b) = room.comes(Some(3), &[ALICE], &[Kind::Main]);
        assert_eq!(room.listeners.notified_of(user(ALICE)), []);
        room.listeners.follow_changed(user(BOB), user(ALICE), |how| how.notify = Notify::Normal);
        assert_eq!(room.listeners.notified_of(user(ALICE)), [user(BOB)]);
    }
}
