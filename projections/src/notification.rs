//! Notifications: what each person is told, and how far they have read.
//!
//! Most come from [`domain::notification::told_by`]; that somebody whose every note one wants to hear
//! of has written one is added here, from a private table of subscribers. A notification about a note
//! that has gone stays in its list, and in the length of a page, as on Misskey; readers pass it over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use domain::emoji::Reaction;
use domain::follow::Notify;
use domain::log::{Position, Recorded};
use domain::note::{Created, Visibility};
use domain::notification::{Says, told_by};
use domain::{Event, NoteId, NotificationId, RoleId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// The most unread notifications that are counted.
pub const MAX_UNREAD: i64 = 500;
/// Rows written by one statement.
const MAX_ROWS: usize = 10_000;
/// The first place of a notification among those that one event causes: hearing of a note comes before
/// being named in it (recorded behaviour). Which place after it depends on the person, so that no two
/// people's notifications are likely to have the same id.
const HEARD_OF: u16 = 0;
const TOLD: u16 = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 15;

/// What a notification is about, by Misskey's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Note,
    Follow,
    ReceiveFollowRequest,
    FollowRequestAccepted,
    Mention,
    Reply,
    Renote,
    Quote,
    Reaction,
    RoleAssigned,
    Login,
    CreateToken,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Note,
        Self::Follow,
        Self::ReceiveFollowRequest,
        Self::FollowRequestAccepted,
        Self::Mention,
        Self::Reply,
        Self::Renote,
        Self::Quote,
        Self::Reaction,
        Self::RoleAssigned,
        Self::Login,
        Self::CreateToken,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Follow => "follow",
            Self::ReceiveFollowRequest => "receiveFollowRequest",
            Self::FollowRequestAccepted => "followRequestAccepted",
            Self::Mention => "mention",
            Self::Reply => "reply",
            Self::Renote => "renote",
            Self::Quote => "quote",
            Self::Reaction => "reaction",
            Self::RoleAssigned => "roleAssigned",
            Self::Login => "login",
            Self::CreateToken => "createToken",
        }
    }

    fn read(stored: &str) -> sqlx::Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == stored).ok_or_else(|| sql::unknown(stored))
    }
}

/// Fills `read.notifications`, `read.notification_markers` and `read.note_subscribers`.
pub struct Projection;

/// Rows to be written, column by column.
#[derive(Default)]
struct Rows {
    notifiee: Vec<Uuid>,
    id: Vec<Uuid>,
    position: Vec<i64>,
    kind: Vec<&'static str>,
    notifier: Vec<Option<Uuid>>,
    note: Vec<Option<Uuid>>,
    reaction: Vec<Option<String>>,
    message: Vec<Option<String>>,
    role: Vec<Option<Uuid>>,
}

impl Rows {
    fn told(&mut self, by: &Recorded, user: UserId, says: Says) {
        self.role.push(match &says {
            Says::RoleAssigned { role } => Some(role.0),
            _ => None,
        });
        let (kind, notifier, note, reaction, message) = match says {
            Says::Follow { follower } => (Kind::Follow, Some(follower), None, None, None),
            Says::ReceiveFollowRequest { follower } => {
                (Kind::ReceiveFollowRequest, Some(follower), None, None, None)
            }
            Says::FollowRequestAccepted { followee, message } => {
                (Kind::FollowRequestAccepted, Some(followee), None, None, message)
            }
            Says::Mention { note, author } => (Kind::Mention, Some(author), Some(note), None, None),
            Says::Reply { note, author } => (Kind::Reply, Some(author), Some(note), None, None),
            Says::Renote { note, author } => (Kind::Renote, Some(author), Some(note), None, None),
            Says::Quote { note, author } => (Kind::Quote, Some(author), Some(note), None, None),
            Says::Reaction { note, reactor, reaction } => {
                (Kind::Reaction, Some(reactor), Some(note), Some(reaction), None)
            }
            Says::RoleAssigned { .. } => (Kind::RoleAssigned, None, None, None, None),
            Says::Login => (Kind::Login, None, None, None, None),
            Says::CreateToken => (Kind::CreateToken, None, None, None, None),
        };
        self.push(by, TOLD, user, kind, notifier, note);
        self.reaction.push(reaction.map(|reaction| sql::clean(reaction.as_str()).into_owned()));
        self.message.push(message.map(|message| sql::clean(&message).into_owned()));
    }

    fn heard_of(&mut self, by: &Recorded, user: UserId, note: &Created) {
        self.push(by, HEARD_OF, user, Kind::Note, Some(note.author), Some(note.id));
        self.reaction.push(None);
        self.message.push(None);
        self.role.push(None);
    }

    fn push(
        &mut self,
        by: &Recorded,
        first: u16,
        user: UserId,
        kind: Kind,
        notifier: Option<UserId>,
        note: Option<NoteId>,
    ) {
        self.notifiee.push(user.0);
        self.id.push(by.id.notification(first + place_of(user)).0);
        self.position.push(by.position.0 as i64);
        self.kind.push(kind.as_str());
        self.notifier.push(notifier.map(|user| user.0));
        self.note.push(note.map(|note| note.0));
    }

    async fn write(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        if self.id.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into notifications
                    (notifiee, id, position, kind, notifier, note_id, reaction, message, role_id)
             select notifiee, id, position, kind, notifier, note_id, reaction, message, role_id
               from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::uuid[], $6::uuid[],
                           $7::text[], $8::text[], $9::uuid[])
                    as n(notifiee, id, position, kind, notifier, note_id, reaction, message, role_id)",
        )
        .bind(self.notifiee)
        .bind(self.id)
        .bind(self.position)
        .bind(self.kind)
        .bind(self.notifier)
        .bind(self.note)
        .bind(self.reaction)
        .bind(self.message)
        .bind(self.role)
        .execute(tx)
        .await?;
        Ok(())
    }
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "notifications"
    }

    fn version(&self) -> u32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &["notifications", "notification_markers", "note_subscribers"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "follow.requested",
            "follow.greeted",
            "follow.started",
            "follow.changed",
            "follow.ended",
            "note.created",
            "reaction.added",
            "role.assigned",
            "user.signed_in",
            "user.app_authorized",
            "notifications.read",
            "user.erased",
        ]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let mut subscribers = Subscribers::load(tx, batch).await?;
    let mut markers: BTreeMap<Uuid, i64> = BTreeMap::new();
    // By follower and followee, until the following that they begin.
    let mut greetings: BTreeMap<(UserId, UserId), &str> = BTreeMap::new();
    let mut rows = Rows::default();
    for (recorded, event) in events(batch) {
        match event {
            Event::FollowGreeted(e) => {
                greetings.insert((e.follower, e.followee), &e.message);
            }
            Event::FollowStarted(e) => subscribers.set(e.follower, e.followee, Notify::None),
            Event::FollowEnded(e) => subscribers.set(e.follower, e.followee, Notify::None),
            Event::FollowChanged(e) => {
                if let Some(notify) = e.notify {
                    subscribers.set(e.follower, e.followee, notify);
                }
            }
            Event::NotificationsRead(e) => {
                markers.insert(e.user.0, recorded.position.0 as i64);
            }
            Event::NoteCreated(note) if is_news(note) => {
                for follower in subscribers.of(note.author) {
                    rows.heard_of(recorded, follower, note);
                    if rows.id.len() >= MAX_ROWS {
                        std::mem::take(&mut rows).write(tx).await?;
                    }
                }
            }
            _ => (),
        }
        for (user, mut says) in told_by(event) {
            if let Says::FollowRequestAccepted { followee, message: message @ None } = &mut says {
                *message = greetings.remove(&(user, *followee)).map(str::to_owned);
            }
            rows.told(recorded, user, says);
        }
        if rows.id.len() >= MAX_ROWS {
            std::mem::take(&mut rows).write(tx).await?;
        }
    }
    rows.write(tx).await?;
    subscribers.save(tx).await?;
    mark(tx, markers).await
}

/// What they were told and what others were told of them.
async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    for statement in [
        "delete from notifications where notifiee = $1 or notifier = $1",
        "delete from notification_markers where user_id = $1",
        "delete from note_subscribers where followee = $1 or follower = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Whether those hear of a note who want to hear of each: replies and direct notes are no news.
fn is_news(note: &Created) -> bool {
    note.reply.is_none() && note.visibility != Visibility::Specified
}

/// Who wants to hear of each new note of the people that write or are followed in a batch.
struct Subscribers {
    /// Followers by followee.
    standing: BTreeMap<Uuid, BTreeSet<Uuid>>,
    /// What the batch changed, by followee and follower.
    changed: BTreeMap<(Uuid, Uuid), Notify>,
}

impl Subscribers {
    async fn load(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<Self> {
        let mut authors: Vec<Uuid> = events(batch)
            .filter_map(|(_, event)| match event {
                Event::NoteCreated(note) if is_news(note) => Some(note.author.0),
                _ => None,
            })
            .collect();
        authors.sort_unstable();
        authors.dedup();
        let mut standing: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
        if !authors.is_empty() {
            let rows: Vec<(Uuid, Uuid)> =
                sqlx::query_as("select followee, follower from note_subscribers where followee = any($1)")
                    .bind(authors)
                    .fetch_all(tx)
                    .await?;
            for (followee, follower) in rows {
                standing.entry(followee).or_default().insert(follower);
            }
        }
        Ok(Self { standing, changed: BTreeMap::new() })
    }

    fn set(&mut self, follower: UserId, followee: UserId, notify: Notify) {
        let of_followee = self.standing.entry(followee.0).or_default();
        match notify {
            Notify::Normal => of_followee.insert(follower.0),
            Notify::None => of_followee.remove(&follower.0),
        };
        self.changed.insert((followee.0, follower.0), notify);
    }

    fn of(&self, author: UserId) -> impl Iterator<Item = UserId> {
        self.standing.get(&author.0).into_iter().flatten().copied().map(UserId)
    }

    async fn save(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        let side = |wanted: Notify| -> (Vec<Uuid>, Vec<Uuid>) {
            self.changed.iter().filter(|(_, notify)| **notify == wanted).map(|(pair, _)| *pair).unzip()
        };
        let (followees, followers) = side(Notify::None);
        if !followees.is_empty() {
            sqlx::query(
                "delete from note_subscribers s
                  using unnest($1::uuid[], $2::uuid[]) as d(followee, follower)
                  where s.followee = d.followee and s.follower = d.follower",
            )
            .bind(followees)
            .bind(followers)
            .execute(&mut *tx)
            .await?;
        }
        let (followees, followers) = side(Notify::Normal);
        if !followees.is_empty() {
            sqlx::query(
                "insert into note_subscribers (followee, follower)
                 select followee, follower from unnest($1::uuid[], $2::uuid[]) as s(followee, follower)
                 on conflict do nothing",
            )
            .bind(followees)
            .bind(followers)
            .execute(tx)
            .await?;
        }
        Ok(())
    }
}

async fn mark(tx: &mut PgConnection, markers: BTreeMap<Uuid, i64>) -> sqlx::Result<()> {
    if markers.is_empty() {
        return Ok(());
    }
    let (users, positions): (Vec<Uuid>, Vec<i64>) = markers.into_iter().unzip();
    sqlx::query(
        "insert into notification_markers as m (user_id, position)
         select user_id, position from unnest($1::uuid[], $2::bigint[]) as d(user_id, position)
         on conflict (user_id) do update set position = excluded.position",
    )
    .bind(users)
    .bind(positions)
    .execute(tx)
    .await?;
    Ok(())
}

/// A person's place, the same in every replay (Fibonacci hashing of the id).
fn place_of(user: UserId) -> u16 {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let (high, low) = user.0.as_u64_pair();
    ((high ^ low).wrapping_mul(GOLDEN_RATIO) >> (u64::BITS - PLACE_BITS)) as u16
}

/// One notification; pages go by its id, which is unique among those of its notifiee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationRow {
    pub id: NotificationId,
    pub kind: Kind,
    /// By whom it was caused; none for what the notifiee did.
    pub notifier: Option<UserId>,
    pub note: Option<NoteId>,
    pub reaction: Option<Reaction>,
    pub message: Option<String>,
    pub role: Option<RoleId>,
}

/// What a person was told, of every kind: Misskey filters kinds only after it has taken a page.
pub async fn page(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<NotificationRow>> {
    let order = page.order();
    let sql = format!(
        "select id, kind, notifier, note_id, reaction, message, role_id
           from read.notifications
          where notifiee = $1 and id > $2 and id < $3
          order by id {order} limit $4"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(read).collect()
}

/// What these people were told by the events after a position and up to another, each in order: for
/// streams.
pub async fn between(
    pool: &PgPool,
    users: &[UserId],
    after: Position,
    to: Position,
) -> sqlx::Result<Vec<(UserId, Position, NotificationRow)>> {
    type Told =
        (Uuid, i64, Uuid, String, Option<Uuid>, Option<Uuid>, Option<String>, Option<String>, Option<Uuid>);
    let rows: Vec<Told> = sqlx::query_as(
        "select notifiee, position, id, kind, notifier, note_id, reaction, message, role_id
           from read.notifications
          where notifiee = any($1) and position > $2 and position <= $3
          order by position, id",
    )
    .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
    .bind(after.0 as i64)
    .bind(to.0 as i64)
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(notifiee, position, id, kind, notifier, note, reaction, message, role)| {
            let row = read((id, kind, notifier, note, reaction, message, role))?;
            Ok((UserId(notifiee), Position(position as u64), row))
        })
        .collect()
}

type Row = (Uuid, String, Option<Uuid>, Option<Uuid>, Option<String>, Option<String>, Option<Uuid>);

fn read((id, kind, notifier, note, reaction, message, role): Row) -> sqlx::Result<NotificationRow> {
    Ok(NotificationRow {
        id: NotificationId(id),
        kind: Kind::read(&kind)?,
        notifier: notifier.map(UserId),
        note: note.map(NoteId),
        reaction: reaction.map(Reaction::stored),
        message,
        role: role.map(RoleId),
    })
}

/// How many notifications came since the person last read them, up to [`MAX_UNREAD`].
pub async fn unread_count(pool: &PgPool, user: UserId) -> sqlx::Result<i64> {
    count_unread(pool, user, MAX_UNREAD).await
}

/// Whether there is a notification that the person has not read.
pub async fn has_unread(pool: &PgPool, user: UserId) -> sqlx::Result<bool> {
    Ok(count_unread(pool, user, 1).await? > 0)
}

async fn count_unread(pool: &PgPool, user: UserId, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*)
           from (select 1
                   from read.notifications n
                  where n.notifiee = $1
                    and n.position > coalesce(
                        (select m.position from read.notification_markers m where m.user_id = $1), 0)
                  limit $2) u",
    )
    .bind(user.0)
    .bind(most)
    .fetch_one(pool)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::follow::{Changed, Ended, Greeted};
    use domain::note::{Deleted, Parent};
    use domain::notification::Read;
    use domain::user::{AppAuthorized, SignedIn};

    async fn told(pool: &PgPool, n: u8) -> Vec<(Kind, Option<NoteId>)> {
        let rows = page(pool, user(n), &Page::newest(100)).await.unwrap();
        rows.iter().map(|row| (row.kind, row.note)).collect()
    }

    fn subscribe(follower: u8, followee: u8, notify: Notify) -> Changed {
        Changed {
            follower: user(follower),
            followee: user(followee),
            notify: Some(notify),
            with_replies: None,
        }
    }

    #[test]
    fn every_kind_is_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::read(kind.as_str()).unwrap(), kind);
        }
        assert!(Kind::read("nosuch").is_err());
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn people_are_told_and_read(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.follow(2, 1);
        let note = story.note(1, |_| ());
        story.react(2, note, 1, "🎉");
        story.react(1, note, 1, "👍");
        let reply = story.note(2, |n| n.reply = Some(Parent { id: note, author: user(1) }));
        story.says(SignedIn { user: user(1) });
        story.says(AppAuthorized { user: user(1), app: None });
        story.project().await;

        let rows = page(&pool, user(1), &Page::newest(100)).await.unwrap();
        let kinds: Vec<Kind> = rows.iter().map(|row| row.kind).collect();
        assert_eq!(kinds, [Kind::CreateToken, Kind::Login, Kind::Reply, Kind::Reaction, Kind::Follow]);
        assert_eq!((rows[2].notifier, rows[2].note), (Some(user(2)), Some(reply)));
        assert_eq!(rows[3].reaction.as_ref().map(Reaction::as_str), Some("🎉"));
        assert_eq!(told(&pool, 2).await, [(Kind::FollowRequestAccepted, None)]);
        let older = Page { until: Some(rows[2].id.0), ..Page::newest(1) };
        assert_eq!(page(&pool, user(1), &older).await.unwrap(), rows[3..4]);
        let newer = Page { since: Some(rows[3].id.0), oldest_first: true, ..Page::newest(2) };
        assert_eq!(page(&pool, user(1), &newer).await.unwrap(), [rows[2].clone(), rows[1].clone()]);

        let all =
            between(&pool, &[user(1), user(2)], Position::START, Position(u64::MAX >> 1)).await.unwrap();
        assert_eq!(all.iter().filter(|(to, ..)| *to == user(1)).count(), 5);
        let (_, first, _) = &all[0];
        let rest = between(&pool, &[user(1)], *first, all[all.len() - 1].1).await.unwrap();
        assert_eq!(rest.iter().map(|(.., row)| row.clone()).rev().collect::<Vec<_>>(), rows[..4]);

        assert_eq!(unread_count(&pool, user(1)).await.unwrap(), 5);
        story.says(Read { user: user(1) });
        story.project().await;
        assert!(!has_unread(&pool, user(1)).await.unwrap());
        assert!(has_unread(&pool, user(2)).await.unwrap());
        story.react(3, note, 1, "🎉");
        story.says(Deleted { id: note, author: user(1) });
        story.project().await;
        assert_eq!(unread_count(&pool, user(1)).await.unwrap(), 1, "what is about a gone note counts");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_greeting_is_told_with_the_following_it_begins(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.says(Greeted { follower: user(1), followee: user(2), message: "thanks!\0".to_owned() });
        story.follow(1, 2);
        story.follow(1, 3);
        story.project().await;
        let rows = page(&pool, user(1), &Page::newest(10)).await.unwrap();
        let messages: Vec<_> = rows.iter().map(|row| (row.notifier, row.message.as_deref())).collect();
        assert_eq!(messages, [(Some(user(3)), None), (Some(user(2)), Some("thanks!\u{fffd}"))]);
    }

    /// What alice got of bob in the recordings, whom she follows with `notify: normal`.
    #[sqlx::test(migrations = "../migrations")]
    async fn subscribers_hear_of_notes_and_renotes_but_not_of_replies_or_direct_notes(pool: PgPool) {
        for at_once in [true, false] {
            let mut story = Story::new(&pool);
            story.follow(1, 2);
            let mine = story.note(1, |_| ());
            let before = story.note(2, |_| ());
            story.says(subscribe(1, 2, Notify::Normal));
            if !at_once {
                story.project().await;
            }
            let plain = story.note(2, |n| n.visibility = Visibility::Home);
            story.note(2, |n| n.reply = Some(Parent { id: before, author: user(2) }));
            let reply = story.note(2, |n| n.reply = Some(Parent { id: mine, author: user(1) }));
            let renote = story.renote(2, mine, 1);
            story.note(2, |n| n.visibility = Visibility::Specified);
            story.says(subscribe(1, 2, Notify::None));
            story.note(2, |_| ());
            story.says(subscribe(1, 2, Notify::Normal));
            story.says(Ended { follower: user(1), followee: user(2), by_followee: true });
            story.note(2, |_| ());
            story.project().await;
            assert_eq!(
                told(&pool, 1).await,
                [
                    (Kind::Renote, Some(renote)),
                    (Kind::Note, Some(renote)),
                    (Kind::Reply, Some(reply)),
                    (Kind::Note, Some(plain)),
                    (Kind::FollowRequestAccepted, None),
                ]
            );
            story.empty().await;
        }
    }
}
