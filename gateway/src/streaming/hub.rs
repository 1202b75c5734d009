//! From the log to the sockets: one task that reads each new event once, when the read models show it,
//! loads what it is about once, and hands it to those who listen.
//!
//! Everything is loaded before anything is sent, so a failed batch can be tried again without telling a
//! thing twice. When a batch can't be loaded at all, every socket is closed: a client hears all, or knows
//! that it has to look for itself.
//!
//! It doesn't matter which process projects: what is told is told up to the position that the read models
//! have passed, and is read from the log itself where the end of it that is in memory here is older.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::log::{Clock, EventLog, LogError, Position, Recorded};
use domain::mute::Mute;
use domain::note::{self, Created};
use domain::notification::{Flushed, Read, told_by};
use domain::policy::{Between, Company, Facts, Place, may_see};
use domain::{AntennaId, ChannelId, Event, ListId, NoteId, RoleId, UserId};
use futures_util::{StreamExt, TryStreamExt, stream};
use projections::announcement::AnnouncementRow;
use projections::emoji::EmojiRow;
use projections::world::FollowingRow;
use projections::{Cache, Projections, Wanted, World, antenna, emoji, mute, notification, poll, reaction};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::channel::Post;
use super::errands::{self, Errand, Message, What};
use super::frame::{note_updated, to_everybody};
use super::leaving;
use super::listeners::{
    Change, Ending, Eyes, Inbox, Listeners, MAX_QUEUED_FRAMES, SocketId, Visitor, mailbox,
};
use super::telling::{Own, Telling, chain, sees, to_text, wants};
use crate::api::{ApiError, Core};
use crate::json::emoji::{detailed, picture_url};
use crate::json::{self, Look, Time, user::user_lite};
use crate::platform::metrics::STREAMING_CONNECTIONS;
use crate::platform::shutdown::Shutdown;
use crate::presence::Presence;

/// Sockets of this process.
pub const MAX_SOCKETS: usize = 50_000;
/// Sockets of this process that come from one address and belong to nobody who is signed in.
pub const MAX_STRANGERS_OF_ADDRESS: usize = 256;
/// Sockets of this process that belong to one person.
pub const MAX_OF_PERSON: usize = 256;
/// Events taken up at once; one append more may be in it.
pub const MAX_BATCH_EVENTS: usize = 256;
/// Events that were appended before this process began, and are told all the same since the read models
/// didn't show them yet. With more of them none is told: they are no news.
pub const MAX_LATE_EVENTS: usize = 1_000;
/// How long a notification may be read before it is called unread.
pub const UNREAD_AFTER: Duration = Duration::from_secs(2);
/// The event by which one is.
const UNREAD: &str = "unreadNotification";
/// Notifications that wait to be called unread; with more of them the oldest don't wait.
pub const MAX_UNREAD: usize = 10_000;
/// People whose messages are loaded at the same time.
const PEOPLE_AT_ONCE: usize = 8;
/// How often a batch is tried, and the pause after the first time; each later one is twice as long.
const MAX_ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What the hub reads from.
pub struct Sources {
    pub projections: Projections,
    pub log: Arc<dyn EventLog>,
    pub pool: PgPool,
    pub cache: Cache,
    pub clock: Arc<dyn Clock>,
    pub core: Arc<Core>,
    pub presence: Arc<Presence>,
    pub shutdown: Shutdown,
}

/// The open sockets of this process. Cheap to clone: every clone is the same.
#[derive(Clone)]
pub struct Hub {
    listeners: Arc<Mutex<Listeners>>,
    /// How many sockets are open.
    open: Arc<watch::Sender<usize>>,
    shutdown: Shutdown,
}

impl Hub {
    /// Begins to tell what is appended from now on, until the shutdown.
    pub async fn start(sources: Sources) -> Result<Self, LogError> {
        let hub = Self::silent(sources.shutdown.clone());
        let head = sources.log.head().await?;
        let (tokens, listeners) = (sources.core.tokens.clone(), hub.listeners.clone());
        let ends = tokens.ends();
        sources.shutdown.spawn(leaving::watch(tokens, ends, listeners));
        let teller = Teller { hub: hub.clone(), sources, unread: VecDeque::new() };
        tokio::spawn(teller.run(head));
        Ok(hub)
    }

    /// For a process without sockets: tells nothing.
    pub fn silent(shutdown: Shutdown) -> Self {
        Self { listeners: Arc::default(), open: Arc::new(watch::Sender::new(0)), shutdown }
    }

    /// Returns when no socket is open any more.
    pub async fn drained(&self) {
        let mut open = self.open.subscribe();
        // Can't fail while `self` holds the sender.
        open.wait_for(|open| *open == 0).await.ok();
    }

    pub(super) fn is_full(&self) -> bool {
        *self.open.borrow() >= MAX_SOCKETS
    }

    /// Whether there are enough sockets of this person, or of strangers from there.
    pub(super) fn is_crowded(&self, visitor: &Visitor) -> bool {
        is_crowded(&self.lock(), visitor)
    }

    /// Takes a socket in; none when the server stops or has enough of them.
    pub(super) fn enter(&self, visitor: Visitor) -> Option<(Guest, Inbox)> {
        let mut listeners = self.lock();
        let is_full = listeners.len() >= MAX_SOCKETS || is_crowded(&listeners, &visitor);
        if self.shutdown.begun().is_some() || is_full {
            return None;
        }
        let (outbox, inbox) = mailbox(MAX_QUEUED_FRAMES);
        let id = listeners.enter(visitor, outbox);
        self.count(&listeners);
        Some((Guest { hub: self.clone(), id }, inbox))
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, listeners: &Listeners) {
        self.open.send_replace(listeners.len());
        metrics::gauge!(STREAMING_CONNECTIONS).set(listeners.len() as f64);
    }
}

/// A socket's place among the listeners, given up when this is dropped.
pub(super) struct Guest {
    hub: Hub,
    pub id: SocketId,
}

impl Guest {
    pub fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.hub.lock()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut listeners = self.hub.lock();
        listeners.leave(self.id);
        self.hub.count(&listeners);
    }
}

/// The task behind the hub.
struct Teller {
    hub: Hub,
    sources: Sources,
    unread: VecDeque<Unread>,
}

fn is_crowded(listeners: &Listeners, visitor: &Visitor) -> bool {
    match visitor.viewer {
        Some(user) => listeners.count_of(user) >= MAX_OF_PERSON,
        None => listeners.strangers(visitor.network) >= MAX_STRANGERS_OF_ADDRESS,
    }
}

/// A notification that is called unread when its time comes.
struct Unread {
    due: Instant,
    user: UserId,
    body: Arc<str>,
}

/// The log has nothing where the read models say that there is something.
#[derive(Debug, thiserror::Error)]
#[error("the log shows nothing after {at} up to {reached}")]
struct NotShown {
    at: Position,
    reached: Position,
}

/// What a batch needs from the read tables.
#[derive(Default)]
struct Needs {
    /// New notes that somebody might hear of, with those who might have reacted to what they pass on.
    told: HashMap<NoteId, HashSet<UserId>>,
    /// Those whom a note concerns that was written in a thread.
    named: HashSet<(UserId, NoteId)>,
    /// Captured notes to which something happened.
    changed: HashSet<NoteId>,
    /// Captured notes that are gone.
    gone: HashSet<NoteId>,
    /// People who came to lists, or went.
    listed: Vec<UserId>,
    errands: HashMap<UserId, Vec<Errand>>,
    /// Those who may have new notifications.
    notified: HashSet<UserId>,
}

/// A batch with all that is to be told of it.
struct Loaded {
    /// The notes, as loaded for nobody in particular.
    world: World,
    own: Own,
    gone: HashMap<NoteId, Created>,
    /// Who of those whom a note concerns mutes which thread.
    muted_threads: HashSet<(UserId, NoteId)>,
    /// Which antennas that somebody listens to heard a note.
    heard: HashMap<NoteId, Vec<AntennaId>>,
    messages: HashMap<Position, Vec<(UserId, Message)>>,
    /// Custom emoji that were reacted with, by name.
    emojis: HashMap<String, EmojiRow>,
    /// Moderators who listen to what they are told, when there is something.
    moderators: Vec<UserId>,
}

impl Teller {
    async fn run(mut self, head: Position) {
        let mut advanced = self.sources.projections.advanced();
        let shutdown = self.sources.shutdown.clone();
        let mut at = tokio::select! {
            _ = shutdown.wait() => head,
            at = self.begin(head, &mut advanced) => at,
        };
        loop {
            let due = self.unread.front().map(|unread| unread.due);
            let reached = tokio::select! {
                _ = shutdown.wait() => break,
                reached = advanced.wait_for(|reached| *reached > at) => match reached {
                    Ok(reached) => *reached,
                    Err(_) => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.call_unread();
                    continue;
                }
            };
            at = tokio::select! {
                _ = shutdown.wait() => break,
                told = self.tell_until(at, reached) => told,
            };
        }
        self.hub.lock().end_all(Ending::Shutdown);
    }

    /// From where on all is told: the end of the log when this process began, or where the read models were
    /// then, if they weren't far behind it.
    async fn begin(&self, head: Position, advanced: &mut watch::Receiver<Position>) -> Position {
        let shown = match advanced.wait_for(|shown| *shown > Position::START).await {
            Ok(shown) => *shown,
            Err(_) => return head,
        };
        if shown >= head {
            return head;
        }
        match self.sources.log.after(shown, MAX_LATE_EVENTS).await {
            Ok(late) if late.len() < MAX_LATE_EVENTS => shown,
            Ok(_) => head,
            Err(error) => {
                tracing::warn!(%error, "events from before the start aren't told");
                head
            }
        }
    }

    /// Tells what was appended between two positions that the read models have passed.
    async fn tell_until(&mut self, mut at: Position, reached: Position) -> Position {
        while at < reached {
            at = match self.batch(at, reached).await {
                Some(told) => told,
                None => {
                    self.hub.lock().end_all(Ending::Gap);
                    self.unread.clear();
                    reached
                }
            };
        }
        at
    }

    /// Tells the next batch, trying again when it can't be loaded. Says how far it went; none when it
    /// had to give up.
    async fn batch(&mut self, at: Position, reached: Position) -> Option<Position> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=MAX_ATTEMPTS {
            match self.load_and_tell(at, reached).await {
                Ok(told) => return Some(told),
                Err(error) => {
                    tracing::error!(?error, attempt, position = %at, "streams wait: events can't be loaded");
                }
            }
            sleep(pause).await;
            pause *= 2;
        }
        None
    }

    async fn load_and_tell(&mut self, at: Position, reached: Position) -> Result<Position, ApiError> {
        if self.hub.lock().len() == 0 {
            return Ok(reached);
        }
        let events = self.sources.projections.events_after(at, MAX_BATCH_EVENTS).await;
        let mut events = events.map_err(ApiError::internal)?;
        if events.is_empty() {
            // Another process has projected what the end of the log in memory here doesn't have yet.
            let read = self.sources.log.after(at, MAX_BATCH_EVENTS).await.map_err(ApiError::internal)?;
            events = read.into_iter().map(Arc::new).collect();
        }
        events.retain(|event| event.position <= reached);
        // The read models have passed it, so it is there.
        let last = events.last().map(|last| last.position).ok_or(NotShown { at, reached });
        let last = last.map_err(ApiError::internal)?;
        let loaded = self.load(&events, at, last).await?;
        self.tell(&events, &loaded);
        Ok(last)
    }

    async fn load(
        &self,
        events: &[Arc<Recorded>],
        after: Position,
        last: Position,
    ) -> Result<Loaded, ApiError> {
        let Sources { pool, cache, clock, .. } = &self.sources;
        let mut needs = self.needs(events);
        let heard = self.heard(events, &mut needs).await?;
        let gone = self.gone(&needs.gone).await?;
        let notes: Vec<NoteId> = needs.told.keys().chain(&needs.changed).copied().collect();
        let mut users = std::mem::take(&mut needs.listed);
        users.extend(gone.values().map(|created| created.author));
        let wanted = Wanted { notes, users, ..Wanted::default() };
        let world = cache.hydrate(wanted, None, clock.now()).await?;
        let own = self.own(&world, &needs.told).await?;
        let named: Vec<(UserId, NoteId)> = needs.named.iter().copied().collect();
        let muted_threads = match named.is_empty() {
            true => HashSet::new(),
            false => mute::threads(pool, &named).await?,
        };

        let notified: Vec<UserId> = std::mem::take(&mut needs.notified).into_iter().collect();
        if !notified.is_empty() {
            for (user, position, row) in notification::between(pool, &notified, after, last).await? {
                let errand = Errand { position, what: What::Notified(row) };
                needs.errands.entry(user).or_default().push(errand);
            }
        }
        let messages = self.messages(needs.errands).await?;
        let reported = events.iter().any(|event| matches!(event.event, Some(Event::ReportFiled(_))));
        let moderators = if reported { self.moderators().await? } else { Vec::new() };
        let emojis = self.emojis(events, &needs.changed).await?;
        Ok(Loaded { world, own, gone, heard, muted_threads, messages, emojis, moderators })
    }

    /// Takes changes of followings in, and finds out what somebody here wants to hear of.
    fn needs(&self, events: &[Arc<Recorded>]) -> Needs {
        let mut listeners = self.hub.lock();
        for event in events.iter().filter_map(|recorded| recorded.event.as_ref()) {
            keep_up(&mut listeners, event);
        }
        let mut needs = Needs::default();
        for recorded in events {
            let Some(event) = &recorded.event else { continue };
            match event {
                Event::NoteCreated(e) => {
                    let post = Post::of(e, e.uri.is_none(), &[]);
                    let concerned = concerned(e).into_iter().map(|(user, _)| user);
                    let concerned: Vec<UserId> =
                        concerned.filter(|user| listeners.hears_main(*user)).collect();
                    if e.thread() != e.id {
                        needs.named.extend(concerned.iter().map(|user| (*user, e.thread())));
                    }
                    if !concerned.is_empty() || listeners.matters(&post) {
                        let mut near = HashSet::new();
                        if e.renote.is_some() {
                            near = listeners.near(&post);
                            near.extend(concerned);
                        }
                        needs.told.insert(e.id, near);
                    }
                    needs.notified.extend(listeners.notified_of(e.author));
                }
                Event::NoteDeleted(e) if listeners.is_captured(e.id) => {
                    needs.gone.insert(e.id);
                }
                // It doesn't say who voted.
                Event::PollEnded(_) => needs.notified.extend(listeners.all_with_main()),
                _ => (),
            }
            if let Some(note) = changed_note(event)
                && listeners.is_captured(note)
            {
                needs.changed.insert(note);
            }
            if let Some((list, user, _)) = list_change(event)
                && listeners.hears_list(list)
            {
                needs.listed.push(user);
            }
            let told = told_by(event).into_iter().map(|(user, _)| user);
            needs.notified.extend(told.filter(|user| listeners.hears_main(*user)));
            for (user, what) in errands::errands(recorded) {
                if listeners.hears(user, what.channel()) {
                    let errand = Errand { position: recorded.position, what };
                    needs.errands.entry(user).or_default().push(errand);
                }
            }
        }
        needs
    }

    /// The custom emoji with which somebody reacted to one of these notes.
    async fn emojis(
        &self,
        events: &[Arc<Recorded>],
        notes: &HashSet<NoteId>,
    ) -> Result<HashMap<String, EmojiRow>, ApiError> {
        let mut names: Vec<&str> = events
            .iter()
            .filter_map(|recorded| match &recorded.event {
                Some(Event::ReactionAdded(e)) if notes.contains(&e.note) => e.reaction.local_name(),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(emoji::by_names(&self.sources.pool, &names).await?)
    }

    /// Those who listen to what moderators are told, and are moderators still.
    async fn moderators(&self) -> Result<Vec<UserId>, ApiError> {
        let listening = self.hub.lock().hear_as_moderators();
        let mut moderators = Vec::new();
        for user in listening {
            let account = self.sources.core.accounts.account(user).await?;
            if account.is_some_and(|account| account.moderates()) {
                moderators.push(user);
            }
        }
        Ok(moderators)
    }

    /// Which antennas that somebody listens to heard which of the new notes; those are told, too.
    async fn heard(
        &self,
        events: &[Arc<Recorded>],
        needs: &mut Needs,
    ) -> Result<HashMap<NoteId, Vec<AntennaId>>, ApiError> {
        let antennas = self.hub.lock().antennas();
        let mut heard: HashMap<NoteId, Vec<AntennaId>> = HashMap::new();
        let written: Vec<NoteId> = events
            .iter()
            .filter_map(|recorded| match &recorded.event {
                Some(Event::NoteCreated(note)) => Some(note.id),
                _ => None,
            })
            .collect();
        if antennas.is_empty() || written.is_empty() {
            return Ok(heard);
        }
        let open: Vec<AntennaId> = antennas.keys().copied().collect();
        for (antenna, note) in antenna::heard(&self.sources.pool, &open, &written).await? {
            heard.entry(note).or_default().push(antenna);
            let near = needs.told.entry(note).or_default();
            near.extend(antennas.get(&antenna).into_iter().flatten());
        }
        Ok(heard)
    }

    /// Deleted notes as they were written, from the log: the read tables have them no more.
    async fn gone(&self, ids: &HashSet<NoteId>) -> Result<HashMap<NoteId, Created>, ApiError> {
        let mut gone = HashMap::new();
        for id in ids {
            let written = self.sources.log.stream(&note::stream(*id)).await.map_err(ApiError::internal)?.0;
            let created = written.into_iter().find_map(|recorded| match recorded.event {
                Some(Event::NoteCreated(created)) => Some(created),
                _ => None,
            });
            gone.extend(created.map(|created| (*id, created)));
        }
        Ok(gone)
    }

    /// What viewers did with the notes that new ones pass on.
    async fn own(&self, world: &World, told: &HashMap<NoteId, HashSet<UserId>>) -> Result<Own, ApiError> {
        let (mut notes, mut people) = (HashSet::new(), HashSet::new());
        for (id, near) in told {
            let chain = chain(world, *id);
            if !chain.is_empty() {
                notes.extend(chain);
                people.extend(near.iter().copied());
            }
        }
        if notes.is_empty() || people.is_empty() {
            return Ok(Own::default());
        }
        let (notes, people): (Vec<_>, Vec<_>) = (notes.into_iter().collect(), people.into_iter().collect());
        let pool = &self.sources.pool;
        Ok(Own {
            reactions: reaction::of_people(pool, &notes, &people).await?,
            votes: poll::votes_of_people(pool, &notes, &people).await?,
        })
    }

    async fn messages(
        &self,
        errands: HashMap<UserId, Vec<Errand>>,
    ) -> Result<HashMap<Position, Vec<(UserId, Message)>>, ApiError> {
        let loading = errands.into_iter().map(|(user, errands)| async move {
            let messages = errands::messages(&self.sources, user, errands).await?;
            Ok::<_, ApiError>((user, messages))
        });
        let loaded: Vec<_> = stream::iter(loading).buffer_unordered(PEOPLE_AT_ONCE).try_collect().await?;
        let mut messages: HashMap<Position, Vec<(UserId, Message)>> = HashMap::new();
        for (user, told) in loaded {
            for message in told {
                messages.entry(message.position).or_default().push((user, message));
            }
        }
        Ok(messages)
    }

    fn tell(&mut self, events: &[Arc<Recorded>], loaded: &Loaded) {
        let look = Look {
            origin: &self.sources.core.origin,
            presence: &self.sources.presence,
            now: loaded.world.now,
        };
        let listeners = self.hub.lock();
        // Many are changed at once, and told of as one.
        let (mut changed, mut deleted) = (Vec::new(), Vec::new());
        for append in events.chunk_by(|a, b| a.position == b.position) {
            for recorded in append {
                let Some(event) = &recorded.event else { continue };
                match event {
                    Event::NoteCreated(e) => tell_note(&listeners, look, loaded, e),
                    Event::NoteDeleted(e) => {
                        if let Some(gone) = loaded.gone.get(&e.id) {
                            let frame =
                                note_updated(e.id, "deleted", &json!({ "deletedAt": Time(recorded.at) }));
                            listeners.send_captured(e.id, &frame, |eyes| was_seen(&loaded.world, eyes, gone));
                        }
                    }
                    Event::AnnouncementCreated(e) if e.definition.user.is_none() && !e.definition.silence => {
                        listeners.send_everybody(&to_everybody("announcementCreated", &announced(e)));
                    }
                    Event::EmojiChanged(e) => changed.push(detailed(look.origin, e.emoji, &e.definition)),
                    Event::EmojiDeleted(e) => deleted.push(detailed(look.origin, e.emoji, &e.definition)),
                    Event::EmojiAdded(e) => {
                        let emoji = detailed(look.origin, e.emoji, &e.definition);
                        listeners.send_everybody(&to_everybody("emojiAdded", &json!({ "emoji": emoji })));
                    }
                    Event::ReportFiled(e) => {
                        let told = json!({
                            "id": e.report, "targetUserId": e.target, "reporterId": e.reporter,
                            "comment": e.comment,
                        });
                        let body: Arc<str> = told.to_string().into();
                        for user in &loaded.moderators {
                            listeners.send_admin(*user, "newAbuseUserReport", &body);
                        }
                    }
                    Event::NotificationsRead(Read { user })
                    | Event::NotificationsFlushed(Flushed { user }) => {
                        self.unread.retain(|unread| unread.user != *user);
                    }
                    _ => {
                        tell_change(&listeners, loaded, look.origin, event);
                        tell_list(&listeners, &look, &loaded.world, event);
                    }
                }
            }
            let position = append.first().map(|first| first.position);
            for (user, message) in position.and_then(|p| loaded.messages.get(&p)).into_iter().flatten() {
                listeners.send_own(*user, message.channel, message.event, &message.body);
                if message.is_test {
                    listeners.send_main(*user, UNREAD, &message.body);
                } else if message.event == errands::NOTIFICATION {
                    let due = Instant::now() + UNREAD_AFTER;
                    self.unread.push_back(Unread { due, user: *user, body: message.body.clone() });
                }
            }
            for event in append.iter().filter_map(|recorded| recorded.event.as_ref()) {
                // Whoever had the token listens no longer; whoever has a good one comes back.
                match event {
                    Event::UserTokenRegenerated(e) => listeners.end_of(e.user, Ending::SignedOut),
                    Event::UserSuspended(e) => listeners.end_of(e.user, Ending::SignedOut),
                    Event::UserErased(e) => {
                        listeners.end_of(e.user, Ending::SignedOut);
                        // What tells of somebody has their id in it.
                        let gone = e.user.to_string();
                        self.unread.retain(|unread| !unread.body.contains(&gone));
                    }
                    _ => (),
                }
            }
        }
        for (name, emojis) in [("emojiUpdated", changed), ("emojiDeleted", deleted)] {
            if !emojis.is_empty() {
                listeners.send_everybody(&to_everybody(name, &json!({ "emojis": emojis })));
            }
        }
        drop(listeners);
        self.call_unread();
    }

    /// Calls notifications unread whose time has come, or that would be too many.
    fn call_unread(&mut self) {
        let now = Instant::now();
        while let Some(unread) = self.unread.front()
            && (unread.due <= now || self.unread.len() > MAX_UNREAD)
        {
            self.hub.lock().send_main(unread.user, UNREAD, &unread.body);
            self.unread.pop_front();
        }
    }
}

/// Takes in what people are to each other from now on, and what is in lists.
fn keep_up(listeners: &mut Listeners, event: &Event) {
    match event {
        Event::FollowStarted(e) => {
            let following =
                FollowingRow { id: e.id, notify: Default::default(), with_replies: e.with_replies };
            listeners.follow_started(e.follower, e.followee, following);
        }
        Event::FollowChanged(e) => listeners.follow_changed(e.follower, e.followee, |following| {
            following.notify = e.notify.unwrap_or(following.notify);
            following.with_replies = e.with_replies.unwrap_or(following.with_replies);
        }),
        Event::FollowEnded(e) => listeners.follow_ended(e.follower, e.followee),
        Event::ListMemberAdded(e) => listeners.list_joined(e.list, e.user, false),
        Event::ListMemberChanged(e) => listeners.list_joined(e.list, e.user, e.with_replies),
        Event::ListMemberRemoved(e) => listeners.list_left(e.list, e.user),
        Event::ListDeleted(e) => listeners.list_ended(e.id),
        Event::ChannelFollowed(e) => listeners.channel_followed(e.user, e.channel, true),
        Event::ChannelUnfollowed(e) => listeners.channel_followed(e.user, e.channel, false),
        Event::ChannelMuted(e) => {
            listeners.channel_muted(e.user, e.channel, Some(Mute { expires_at: e.expires_at }));
        }
        Event::ChannelUnmuted(e) => listeners.channel_muted(e.user, e.channel, None),
        Event::MuteStarted(e) => {
            let mute = Mute { expires_at: e.expires_at };
            listeners.changed(e.muter, e.mutee, Change::Mute(Some(mute)));
        }
        Event::MuteEnded(e) => listeners.changed(e.muter, e.mutee, Change::Mute(None)),
        Event::RenoteMuteStarted(e) => listeners.changed(e.muter, e.mutee, Change::RenoteMute(true)),
        Event::RenoteMuteEnded(e) => listeners.changed(e.muter, e.mutee, Change::RenoteMute(false)),
        Event::BlockStarted(e) => listeners.changed(e.blocker, e.blockee, Change::Block(true)),
        Event::BlockEnded(e) => listeners.changed(e.blocker, e.blockee, Change::Block(false)),
        Event::UserChanged(e) => {
            if let Some(hosts) = &e.changes.muted_instances {
                listeners.hosts_muted(e.user, hosts);
            }
        }
        _ => (),
    }
}

/// Who comes to a list or goes, and how that is called.
fn list_change(event: &Event) -> Option<(ListId, UserId, &'static str)> {
    match event {
        Event::ListMemberAdded(e) => Some((e.list, e.user, "userAdded")),
        Event::ListMemberRemoved(e) => Some((e.list, e.user, "userRemoved")),
        _ => None,
    }
}

fn tell_list(listeners: &Listeners, look: &Look<'_>, world: &World, event: &Event) {
    if let Some((list, user, name)) = list_change(event)
        && listeners.hears_list(list)
        && let Some(body) = world.user(user).and_then(|row| to_text(&user_lite(look, row)))
    {
        listeners.send_list(list, name, &body);
    }
}

/// A new announcement, in front of nobody in particular.
fn announced(created: &domain::announcement::Created) -> Value {
    let (id, definition) = (created.announcement, created.definition.clone());
    let row = AnnouncementRow { id, definition, updated_at: None, is_read: false };
    json!({ "announcement": json::announcement::announcement(&row, None) })
}

/// Whom a new note concerns, and the events by which they are told: being mentioned, answered, renoted.
pub fn concerned(note: &Created) -> Vec<(UserId, &'static str)> {
    let mentioned = note.mentions.iter().map(|user| (*user, "mention"));
    let answered = note.reply.iter().map(|reply| (reply.author, "reply"));
    let renoted = note.renote.iter().map(|renote| (renote.author, "renote"));
    mentioned.chain(answered).chain(renoted).filter(|(user, _)| *user != note.author).collect()
}

fn tell_note(listeners: &Listeners, look: Look<'_>, loaded: &Loaded, note: &Created) {
    if loaded.world.facts(note.id).is_none() {
        return;
    }
    let (world, own) = (&loaded.world, &loaded.own);
    let mut telling = Telling::new(look, world, own, note.id);
    let anywhere = Company::of(note, false);
    let renoted = note.renote.and_then(|renote| world.shell(renote.id)?.channel);
    let mut wanted = |eyes: &Eyes<'_>| {
        let mutes = |channel: &ChannelId| eyes.mutes_channel(*channel, world.now);
        let in_muted_channel = note.channel.iter().chain(&renoted).any(mutes);
        let company = Company { in_muted_channel, ..anywhere };
        wants(world, eyes, &company, Place::Anywhere).then(|| telling.text(eyes)).flatten()
    };
    let author = world.user(note.author);
    let roles: Vec<RoleId> = author.iter().flat_map(|author| &author.roles).map(|role| role.id).collect();
    listeners.send_note(&Post::of(note, note.uri.is_none(), &roles), &mut wanted);
    for antenna in loaded.heard.get(&note.id).into_iter().flatten() {
        listeners.send_antenna(*antenna, &mut wanted);
    }
    for (user, event) in concerned(note) {
        if !listeners.hears_main(user) {
            continue;
        }
        let eyes = listeners.eyes(Some(user));
        let company = Company::of(note, loaded.muted_threads.contains(&(user, note.thread())));
        if wants(world, &eyes, &company, Place::Mentions)
            && let Some(body) = telling.text(&eyes)
        {
            listeners.send_main(user, event, &body);
        }
    }
}

/// The note that an event changes for those who captured it.
fn changed_note(event: &Event) -> Option<NoteId> {
    match event {
        Event::ReactionAdded(e) => Some(e.note),
        Event::ReactionRemoved(e) => Some(e.note),
        Event::PollVoted(e) => Some(e.note),
        _ => None,
    }
}

fn tell_change(listeners: &Listeners, loaded: &Loaded, origin: &str, event: &Event) {
    let world = &loaded.world;
    let (note, name, body) = match event {
        Event::ReactionAdded(e) => {
            let picture = e.reaction.local_name().and_then(|name| loaded.emojis.get(name));
            let url = picture.map(|emoji| picture_url(origin, &emoji.definition.picture));
            let emoji = url.zip(e.reaction.local_name());
            let emoji = emoji.map(|(url, name)| json!({ "name": format!("{name}@."), "url": url }));
            let body = json!({ "reaction": e.reaction, "emoji": emoji, "userId": e.reactor });
            (e.note, "reacted", body)
        }
        Event::ReactionRemoved(e) => {
            (e.note, "unreacted", json!({ "reaction": e.reaction, "userId": e.reactor }))
        }
        Event::PollVoted(e) => (e.note, "pollVoted", json!({ "choice": e.choice, "userId": e.voter })),
        _ => return,
    };
    if listeners.is_captured(note) {
        let company = world.company(note);
        let wanted = |eyes: &Eyes<'_>| company.is_some_and(|note| wants(world, eyes, &note, Place::OfAuthor));
        listeners.send_captured(note, &note_updated(note, name, &body), |eyes| {
            sees(world, eyes, note) && wanted(eyes)
        });
    }
}

/// Whether somebody may know that a note was there that is gone.
fn was_seen(world: &World, eyes: &Eyes<'_>, note: &Created) -> bool {
    world.user(note.author).is_some_and(|author| {
        let between = Between { viewer_follows_author: eyes.follows(note.author) };
        may_see(eyes.viewer, &Facts::of(note, author), between, world.now)
            && wants(world, eyes, &Company::of(note, false), Place::OfAuthor)
    })
}
