//! One socket, from its first frame to its last: a task that reads messages, writes what the hub queues,
//! and ends when the client is gone, silent or too slow, or the server stops.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::channel::{About, Kind};
use super::frame::{self, Frame, Said};
use super::hub::Guest;
use super::listeners::{Bearings, Channel, Ending, Inbox, Visitor};
use crate::api::{ApiError, SignedIn};
use crate::app::App;
use crate::platform::metrics::STREAMING_SENT_TOTAL;

/// How often a client is asked whether it is still there.
pub const PING_EVERY: Duration = Duration::from_secs(60);
/// A client from which nothing came for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(120);
/// How long one write may take.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
/// How long a client may take to answer the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Frames written before the connection is flushed.
const FRAMES_AT_ONCE: usize = 32;
/// However often a client says that it has read its notifications, it is noted no more often.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Why a socket is left.
enum Left {
    /// By the client, or with its connection.
    Gone,
    Ended(Ending),
}

/// Serves a socket until its end.
pub async fn serve(app: App, caller: Option<SignedIn>, visitor: Visitor, socket: WebSocket) {
    // None when the server has just been told to stop, or has filled up since the handshake.
    let Some((guest, mut inbox)) = app.hub.enter(visitor) else { return };
    let (mut out, mut incoming) = socket.split();
    let mut served = Served { app, caller, guest, read_last: None, read_next: None };
    let left = match served.load(visitor).await {
        Ok(true) => served.run(&mut out, &mut incoming, &mut inbox).await,
        Ok(false) => Left::Ended(Ending::SignedOut),
        Err(error) => {
            tracing::error!(%error, "a stream can't be opened");
            Left::Ended(Ending::Gap)
        }
    };
    if let Left::Ended(why) = left {
        if why == Ending::SignedOut {
            // Their client is still to hear of it.
            let told = std::iter::from_fn(|| inbox.queue.try_recv().ok()).map(message).collect();
            timeout(CLOSE_WITHIN, write(&mut out, told)).await.ok();
        }
        close(out, incoming, why).await;
    }
}

struct Served {
    app: App,
    caller: Option<SignedIn>,
    guest: Guest,
    /// When reading notifications was noted last, and is to be noted next.
    read_last: Option<Instant>,
    read_next: Option<Instant>,
}

type Out = SplitSink<WebSocket, Message>;
type Incoming = SplitStream<WebSocket>;

impl Served {
    /// Fills in what they are to others. False when their token has ended since they were let in: from when they
    /// have a place, its end is heard.
    async fn load(&self, visitor: Visitor) -> sqlx::Result<bool> {
        if let Some(token) = visitor.token
            && !self.app.core.tokens.dead(&[token]).await?.is_empty()
        {
            return Ok(false);
        }
        if let Some(caller) = &self.caller {
            let (pool, id) = (&self.app.pool, caller.id());
            let ids = [id];
            let (follows, channels, channel_mutes, aversions, me) = tokio::try_join!(
                projections::follow::all_of(pool, id),
                projections::channel::all_followed(pool, id),
                projections::channel::all_muted(pool, id),
                projections::mute::all_of(pool, id),
                projections::user::by_ids(pool, &ids),
            )?;
            let muted_hosts = me.into_values().flat_map(|me| me.profile.muted_instances.clone()).collect();
            self.guest
                .listeners()
                .loaded(id, Bearings { follows, aversions, channels, channel_mutes, muted_hosts });
        }
        Ok(true)
    }

    async fn run(&mut self, out: &mut Out, incoming: &mut Incoming, inbox: &mut Inbox) -> Left {
        self.be_seen();
        let mut heard = Instant::now();
        let mut pings = interval_at(heard + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut frames = Vec::with_capacity(FRAMES_AT_ONCE);
        loop {
            let messages = tokio::select! {
                biased;
                why = ended(&mut inbox.ending) => return Left::Ended(why),
                _ = inbox.queue.recv_many(&mut frames, FRAMES_AT_ONCE) => frames.drain(..).map(message).collect(),
                message = incoming.next() => {
                    let Some(Ok(message)) = message else { return Left::Gone };
                    heard = Instant::now();
                    match message {
                        Message::Text(text) => self.hear(&text).await.into_iter().map(self::message).collect(),
                        _ => Vec::new(),
                    }
                }
                _ = pings.tick() => {
                    if heard.elapsed() >= SILENCE {
                        return Left::Gone;
                    }
                    self.be_seen();
                    vec![Message::Ping(Vec::new().into())]
                }
                () = due(self.read_next) => {
                    self.read_notifications().await;
                    Vec::new()
                }
            };
            if messages.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                why = ended(&mut inbox.ending) => return Left::Ended(why),
                written = timeout(WRITE_WITHIN, write(out, messages)) => match written {
                    Ok(Ok(())) => (),
                    Ok(Err(_)) => return Left::Gone,
                    Err(_) => return Left::Ended(Ending::TooSlow),
                }
            }
        }
    }

    /// Does what a message asks, and returns the answer, if there is one.
    async fn hear(&mut self, text: &Utf8Bytes) -> Option<Frame> {
        let id = self.guest.id;
        match frame::read(text)? {
            Said::Connect { kind, id: channel, params, pong } => {
                let about = params.about.clone();
                if !self.may_listen(kind).await || !self.may_hear(&about).await {
                    return None;
                }
                let open = Channel { id: channel.clone(), kind, params };
                if !self.guest.listeners().connect(id, open) {
                    return None;
                }
                if !self.learn(&about).await {
                    self.guest.listeners().disconnect(id, &channel);
                    return None;
                }
                pong.then_some(Frame::Connected(channel))
            }
            Said::Disconnect(channel) => {
                self.guest.listeners().disconnect(id, &channel);
                None
            }
            Said::Capture(note) => {
                self.guest.listeners().capture(id, note);
                None
            }
            Said::Release(note) => {
                self.guest.listeners().release(id, note);
                None
            }
            Said::ReadNotifications => {
                if self.caller.is_some() && self.read_next.is_none() {
                    let now = Instant::now();
                    self.read_next = Some(self.read_last.map_or(now, |last| now.max(last + READ_EVERY)));
                }
                None
            }
        }
    }

    /// Whether they moderate. An app needs a permission that none can be given.
    async fn moderates(&self) -> bool {
        let Some(caller) = self.caller.as_ref().filter(|caller| caller.app.is_none()) else { return false };
        let account = self.app.core.accounts.account(caller.id()).await.ok().flatten();
        account.is_some_and(|account| account.moderates())
    }

    /// Whether the policies in force leave this channel to them.
    async fn may_listen(&self, kind: Kind) -> bool {
        if kind == Kind::Admin {
            return self.moderates().await;
        }
        let Some(policy) = kind.policy() else { return true };
        let allowed = match &self.caller {
            Some(caller) => {
                let account = self.app.core.accounts.account(caller.id()).await;
                account.map(|account| account.is_some_and(|account| account.may(policy)))
            }
            None => {
                let instance = projections::instance::load(&self.app.pool).await;
                instance.map(|instance| instance.policies.allows(policy)).map_err(ApiError::from)
            }
        };
        allowed.unwrap_or_else(|error| {
            tracing::error!(?error, "policies can't be read");
            false
        })
    }

    /// Whether what a channel is about is there, and theirs where it must be.
    async fn may_hear(&self, about: &About) -> bool {
        let mine = |owner| self.caller.as_ref().is_some_and(|me| me.id() == owner);
        let found = match about {
            About::Nothing | About::Tags(_) => Ok(true),
            About::Role(role) => {
                let found = projections::role::by_id(&self.app.pool, *role, self.app.now()).await;
                found.map(|found| {
                    found.is_some_and(|(row, _)| row.definition.is_public && row.definition.is_explorable)
                })
            }
            About::Antenna(antenna) => projections::antenna::by_id(&self.app.pool, *antenna)
                .await
                .map(|antenna| antenna.is_some_and(|antenna| mine(antenna.owner))),
            About::Channel(channel) => projections::channel::exists(&self.app.pool, *channel).await,
            About::List(list) => projections::list::by_id(&self.app.pool, *list)
                .await
                .map(|list| list.is_some_and(|list| mine(list.owner))),
        };
        found.unwrap_or_else(|error| {
            tracing::error!(%error, "it can't be read what a channel is about");
            false
        })
    }

    /// Fills in what has to be known of it, now that changes of it are heard.
    async fn learn(&self, about: &About) -> bool {
        let About::List(list) = about else { return true };
        match projections::list::all_members(&self.app.pool, *list).await {
            Ok(members) => {
                self.guest.listeners().list_loaded(*list, members);
                true
            }
            Err(error) => {
                tracing::error!(%error, "it can't be read who is in a list");
                false
            }
        }
    }

    async fn read_notifications(&mut self) {
        self.read_next = None;
        self.read_last = Some(Instant::now());
        let Some(caller) = &self.caller else { return };
        let (by, user) = (self.app.by(caller), caller.id());
        if let Err(error) = self.app.commands.read_notifications(by, user).await {
            tracing::warn!(%error, user.id = %user, "notifications stay unread");
        }
    }

    fn be_seen(&self) {
        if let Some(caller) = &self.caller {
            self.app.presence.seen(caller.id(), self.app.now());
        }
    }
}

fn message(frame: Frame) -> Message {
    metrics::counter!(STREAMING_SENT_TOTAL, "channel" => frame.label()).increment(1);
    Message::Text(frame.text())
}

async fn write(out: &mut Out, messages: Vec<Message>) -> Result<(), axum::Error> {
    for message in messages {
        out.feed(message).await?;
    }
    out.flush().await
}

/// Returns when the server ends the socket.
async fn ended(ending: &mut watch::Receiver<Option<Ending>>) -> Ending {
    match ending.wait_for(Option::is_some).await {
        Ok(why) => why.unwrap_or(Ending::Shutdown),
        // The hub has let go of the socket, which it does for nobody else.
        Err(_) => Ending::Shutdown,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Says why, and waits a little for the client to hear it.
async fn close(mut out: Out, mut incoming: Incoming, why: Ending) {
    let (code, reason) = match why {
        Ending::TooSlow => (close_code::AGAIN, "too slow"),
        Ending::Gap => (close_code::RESTART, "something was missed"),
        Ending::SignedOut => (close_code::POLICY, "the token has ended"),
        Ending::Shutdown => (close_code::AWAY, "the server stops"),
    };
    let parting = async {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        if out.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = incoming.next().await {}
        }
    };
    timeout(CLOSE_WITHIN, parting).await.ok();
}
