//! Notifications: what each person is told, and how far they have read.
//!
//! Most come from [`domain::notification::told_by`]; whom an event tells without naming them is added here: who
//! wants to hear of each note of somebody, and who asked and voted in a poll that ends. Whether somebody is
//! told at all is decided when it happens, from what they wanted then ([`domain::notification::is_told`]); so
//! what was muted is not told later. A notification about a note that has gone stays in its list, and in the
//! length of a page, as on Misskey; readers pass it over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::follow::Notify;
use domain::log::{Position, Recorded};
use domain::mute::Mute;
use domain::note::{Created, Visibility};
use domain::notification::{Bond, Kind, Told, Wish, is_told, told_by, wish};
use domain::policy::Stance;
use domain::{Event, NoteId, NotificationId, RoleId, UserId};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::pairs::{Changes, Pairs};
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

const TIES: Pairs = Pairs { table: "notification_ties", from: "holder", to: "other" };

/// Fills `read.notifications`, `read.notification_markers`, what decides who is told
/// (`read.notification_ties`, `…_wishes`, `…_members`, `…_threads`) and `read.poll_audiences`.
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
    target: Vec<Option<Uuid>>,
    role: Vec<Option<Uuid>>,
    details: Vec<Json<Value>>,
    /// Of the poll that has ended.
    poll_author: Vec<Option<Uuid>>,
}

impl Rows {
    fn push(&mut self, by: &Recorded, first: u16, user: UserId, told: Told) {
        self.notifiee.push(user.0);
        self.id.push(by.id.notification(first + place_of(user)).0);
        self.position.push(by.position.0 as i64);
        self.kind.push(told.kind.as_str());
        self.notifier.push(told.notifier.map(|user| user.0));
        self.note.push(told.note.map(|note| note.0));
        self.target.push(told.target.map(|note| note.0));
        self.role.push(told.role.map(|role| role.0));
        self.details.push(Json(sql::clean_json(Value::Object(told.details))));
        let author = match &by.event {
            Some(Event::PollEnded(ended)) => Some(ended.author.0),
            _ => None,
        };
        self.poll_author.push(author);
    }

    async fn write(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        if self.id.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into notifications
                    (notifiee, id, position, kind, notifier, note_id, target_id, role_id, details, poll_author)
             select notifiee, id, position, kind, notifier, note_id, target_id, role_id, details, poll_author
               from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::uuid[], $6::uuid[],
                           $7::uuid[], $8::uuid[], $9::jsonb[], $10::uuid[])
                    as n(notifiee, id, position, kind, notifier, note_id, target_id, role_id, details, poll_author)",
        )
        .bind(self.notifiee)
        .bind(self.id)
        .bind(self.position)
        .bind(self.kind)
        .bind(self.notifier)
        .bind(self.note)
        .bind(self.target)
        .bind(self.role)
        .bind(self.details)
        .bind(self.poll_author)
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
        5
    }

    fn tables(&self) -> &'static [&'static str] {
        &[
            "notifications",
            "notification_markers",
            "notification_ties",
            "notification_wishes",
            "notification_members",
            "notification_threads",
            "poll_audiences",
        ]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "follow.requested",
            "follow.greeted",
            "follow.started",
            "follow.changed",
            "follow.ended",
            "block.started",
            "block.ended",
            "mute.started",
            "mute.ended",
            "thread_mute.started",
            "thread_mute.ended",
            "list.member_added",
            "list.member_removed",
            "list.deleted",
            "note.created",
            "note.deleted",
            "reaction.added",
            "poll.voted",
            "poll.ended",
            "user.changed",
            "role.assigned",
            "user.signed_in",
            "user.app_authorized",
            "achievement.earned",
            "draft.posted",
            "draft.failed",
            "export.completed",
            "notifications.read",
            "notifications.flushed",
            "notifications.tested",
            "notification.sent",
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
    let mut minds = Minds::load(tx, batch).await?;
    let mut markers: BTreeMap<Uuid, i64> = BTreeMap::new();
    // By follower and followee, until the following that they begin.
    let mut greetings: BTreeMap<(UserId, UserId), &str> = BTreeMap::new();
    let (mut rows, mut polls) = (Rows::default(), Polls::default());
    for (recorded, event) in events(batch) {
        minds.hear(event);
        polls.hear(event);
        match event {
            Event::FollowGreeted(e) => {
                greetings.insert((e.follower, e.followee), &e.message);
            }
            Event::NotificationsRead(e) => {
                markers.insert(e.user.0, recorded.position.0 as i64);
            }
            Event::NotificationsFlushed(e) => {
                std::mem::take(&mut rows).write(tx).await?;
                sqlx::query("delete from notifications where notifiee = $1")
                    .bind(e.user.0)
                    .execute(&mut *tx)
                    .await?;
            }
            Event::NoteCreated(note) if is_news(note) => {
                for follower in minds.hearers_of(note.author) {
                    let told = Told::new(Kind::Note).by(note.author).of(note.id);
                    if minds.want(follower, &told, recorded.at) {
                        rows.push(recorded, HEARD_OF, follower, told);
                    }
                    if rows.id.len() >= MAX_ROWS {
                        std::mem::take(&mut rows).write(tx).await?;
                    }
                }
            }
            Event::PollEnded(e) => {
                let audience = std::mem::take(&mut polls).close(tx, e.note).await?;
                minds.load_wishes(tx, &audience).await?;
                for user in audience.into_iter().filter(|_| !e.is_gone) {
                    let told = Told::new(Kind::PollEnded).of(e.note);
                    if minds.want(UserId(user), &told, recorded.at) {
                        rows.push(recorded, TOLD, UserId(user), told);
                    }
                    if rows.id.len() >= MAX_ROWS {
                        std::mem::take(&mut rows).write(tx).await?;
                    }
                }
            }
            _ => (),
        }
        for (user, mut told) in told_by(event) {
            if let (Kind::FollowRequestAccepted, Some(followee)) = (told.kind, told.notifier)
                && let Some(message) = greetings.remove(&(user, followee))
            {
                told = told.with("message", message);
            }
            if minds.want(user, &told, recorded.at) {
                rows.push(recorded, TOLD, user, told);
            }
        }
        if rows.id.len() >= MAX_ROWS {
            std::mem::take(&mut rows).write(tx).await?;
        }
    }
    rows.write(tx).await?;
    polls.write(tx).await?;
    minds.save(tx).await?;
    mark(tx, markers).await
}

/// What they were told and what others were told of them.
async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    TIES.purge(tx, user).await?;
    for statement in [
        "delete from notifications where notifiee = $1 or notifier = $1 or poll_author = $1",
        "delete from notification_markers where user_id = $1",
        "delete from notification_wishes where user_id = $1",
        "delete from notification_members where owner = $1 or user_id = $1",
        "delete from notification_threads where user_id = $1",
        "delete from poll_audiences where user_id = $1 or author = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Whether those hear of a note who want to hear of each: replies and direct notes are no news.
fn is_news(note: &Created) -> bool {
    note.reply.is_none() && note.visibility != Visibility::Specified
}

/// What one person is to another, as far as it decides who is told what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tie {
    follows: bool,
    /// Wants to hear of each new note.
    hears: bool,
    blocks: bool,
    mute: Option<Mute>,
}

#[derive(Serialize)]
struct TieRow {
    holder: Uuid,
    other: Uuid,
    follows: bool,
    hears: bool,
    blocks: bool,
    mutes: bool,
    mute_until: Option<DateTime<Utc>>,
}

type Wishes = BTreeMap<String, Value>;

/// What those want to be told whom a batch might tell something.
#[derive(Default)]
struct Minds {
    ties: BTreeMap<(Uuid, Uuid), Tie>,
    /// Who wants to hear of each note of whom.
    hearers: BTreeMap<Uuid, BTreeSet<Uuid>>,
    wishes: BTreeMap<Uuid, Wishes>,
    /// Owners of lists, people, and the lists they are in.
    members: BTreeSet<(Uuid, Uuid, Uuid)>,
    threads: BTreeSet<(Uuid, Uuid)>,
    /// What the batch changed.
    changed_ties: BTreeSet<(Uuid, Uuid)>,
    changed_wishes: BTreeSet<Uuid>,
    changed_members: BTreeSet<(Uuid, Uuid, Uuid)>,
    deleted_lists: BTreeSet<Uuid>,
    changed_threads: BTreeSet<(Uuid, Uuid)>,
}

impl Minds {
    async fn load(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<Self> {
        let (mut pairs, mut people) = (BTreeSet::new(), BTreeSet::new());
        let (mut threads, mut authors) = (BTreeSet::new(), BTreeSet::new());
        let mut both = |a: UserId, b: UserId| pairs.extend([(a.0, b.0), (b.0, a.0)]);
        for (_, event) in events(batch) {
            for (user, told) in told_by(event) {
                people.insert(user.0);
                threads.extend(told.thread.map(|thread| (user.0, thread.0)));
                if let Some(notifier) = told.notifier {
                    both(user, notifier);
                }
            }
            if let Some((from, to)) = related(event) {
                people.insert(from.0);
                both(from, to);
            }
            if let Event::NoteCreated(note) = event
                && is_news(note)
            {
                authors.insert(note.author.0);
            }
        }
        let mut minds = Self::default();
        if !authors.is_empty() {
            let authors: Vec<Uuid> = authors.into_iter().collect();
            let hearers: Vec<(Uuid, Uuid)> =
                sqlx::query_as("select holder, other from notification_ties where other = any($1) and hears")
                    .bind(authors)
                    .fetch_all(&mut *tx)
                    .await?;
            for (holder, author) in hearers {
                minds.hearers.entry(author).or_default().insert(holder);
                people.insert(holder);
                pairs.extend([(holder, author), (author, holder)]);
            }
        }
        minds.load_members(tx, &pairs).await?;
        minds.load_ties(tx, pairs).await?;
        minds.load_threads(tx, threads).await?;
        minds.load_wishes(tx, &people.into_iter().collect::<Vec<_>>()).await?;
        Ok(minds)
    }

    async fn load_ties(&mut self, tx: &mut PgConnection, pairs: BTreeSet<(Uuid, Uuid)>) -> sqlx::Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let (holders, others): (Vec<Uuid>, Vec<Uuid>) = pairs.into_iter().unzip();
        type Found = (Uuid, Uuid, bool, bool, bool, bool, Option<DateTime<Utc>>);
        let found: Vec<Found> = sqlx::query_as(
            "select t.holder, t.other, t.follows, t.hears, t.blocks, t.mutes, t.mute_until
               from notification_ties t
               join unnest($1::uuid[], $2::uuid[]) as p(holder, other)
                 on t.holder = p.holder and t.other = p.other",
        )
        .bind(holders)
        .bind(others)
        .fetch_all(tx)
        .await?;
        for (holder, other, follows, hears, blocks, mutes, expires_at) in found {
            let tie = Tie { follows, hears, blocks, mute: mutes.then_some(Mute { expires_at }) };
            self.ties.insert((holder, other), tie);
        }
        Ok(())
    }

    async fn load_members(
        &mut self,
        tx: &mut PgConnection,
        pairs: &BTreeSet<(Uuid, Uuid)>,
    ) -> sqlx::Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let (owners, users): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
        let found: Vec<(Uuid, Uuid, Uuid)> = sqlx::query_as(
            "select m.owner, m.user_id, m.list_id
               from notification_members m
               join unnest($1::uuid[], $2::uuid[]) as p(owner, user_id)
                 on m.owner = p.owner and m.user_id = p.user_id",
        )
        .bind(owners)
        .bind(users)
        .fetch_all(tx)
        .await?;
        self.members.extend(found);
        Ok(())
    }

    async fn load_threads(
        &mut self,
        tx: &mut PgConnection,
        threads: BTreeSet<(Uuid, Uuid)>,
    ) -> sqlx::Result<()> {
        if threads.is_empty() {
            return Ok(());
        }
        let (users, threads): (Vec<Uuid>, Vec<Uuid>) = threads.into_iter().unzip();
        let found: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "select t.user_id, t.thread_id
               from notification_threads t
               join unnest($1::uuid[], $2::uuid[]) as p(user_id, thread_id)
                 on t.user_id = p.user_id and t.thread_id = p.thread_id",
        )
        .bind(users)
        .bind(threads)
        .fetch_all(tx)
        .await?;
        self.threads.extend(found);
        Ok(())
    }

    /// Those of the people who are not known yet.
    async fn load_wishes(&mut self, tx: &mut PgConnection, people: &[Uuid]) -> sqlx::Result<()> {
        let known = |user: &&Uuid| self.wishes.contains_key(*user) || self.changed_wishes.contains(*user);
        let people: Vec<Uuid> = people.iter().filter(|user| !known(user)).copied().collect();
        if people.is_empty() {
            return Ok(());
        }
        let found: Vec<(Uuid, Json<Wishes>)> =
            sqlx::query_as("select user_id, config from notification_wishes where user_id = any($1)")
                .bind(people)
                .fetch_all(tx)
                .await?;
        self.wishes.extend(found.into_iter().map(|(user, config)| (user, config.0)));
        Ok(())
    }

    /// Takes in what changes somebody's mind.
    fn hear(&mut self, event: &Event) {
        match event {
            Event::FollowStarted(e) => self.change(e.follower, e.followee, |tie| {
                (tie.follows, tie.hears) = (true, false);
            }),
            Event::FollowChanged(e) => {
                if let Some(notify) = e.notify {
                    self.change(e.follower, e.followee, |tie| {
                        tie.hears = tie.follows && notify == Notify::Normal;
                    });
                }
            }
            Event::FollowEnded(e) => self.change(e.follower, e.followee, |tie| {
                (tie.follows, tie.hears) = (false, false);
            }),
            Event::BlockStarted(e) => self.change(e.blocker, e.blockee, |tie| tie.blocks = true),
            Event::BlockEnded(e) => self.change(e.blocker, e.blockee, |tie| tie.blocks = false),
            Event::MuteStarted(e) => {
                let mute = Mute { expires_at: e.expires_at };
                self.change(e.muter, e.mutee, |tie| tie.mute = Some(mute));
            }
            Event::MuteEnded(e) => self.change(e.muter, e.mutee, |tie| tie.mute = None),
            Event::ThreadMuteStarted(e) => {
                self.changed_threads.insert((e.user.0, e.thread.0));
                self.threads.insert((e.user.0, e.thread.0));
            }
            Event::ThreadMuteEnded(e) => {
                self.changed_threads.insert((e.user.0, e.thread.0));
                self.threads.remove(&(e.user.0, e.thread.0));
            }
            Event::ListMemberAdded(e) => {
                let member = (e.owner.0, e.user.0, e.list.0);
                self.changed_members.insert(member);
                self.members.insert(member);
            }
            Event::ListMemberRemoved(e) => {
                let member = (e.owner.0, e.user.0, e.list.0);
                self.changed_members.insert(member);
                self.members.remove(&member);
            }
            Event::ListDeleted(e) => {
                self.deleted_lists.insert(e.id.0);
                self.members.retain(|(_, _, list)| *list != e.id.0);
            }
            Event::UserChanged(e) => {
                if let Some(config) = &e.changes.notification_recieve_config {
                    self.changed_wishes.insert(e.user.0);
                    self.wishes.insert(e.user.0, config.clone());
                }
            }
            _ => (),
        }
    }

    fn change(&mut self, holder: UserId, other: UserId, change: impl FnOnce(&mut Tie)) {
        let pair = (holder.0, other.0);
        let tie = self.ties.entry(pair).or_default();
        change(tie);
        let hearers = self.hearers.entry(other.0).or_default();
        if tie.hears {
            hearers.insert(holder.0)
        } else {
            hearers.remove(&holder.0)
        };
        self.changed_ties.insert(pair);
    }

    fn hearers_of(&self, author: UserId) -> Vec<UserId> {
        self.hearers.get(&author.0).into_iter().flatten().copied().map(UserId).collect()
    }

    /// Whether somebody is told.
    fn want(&self, user: UserId, told: &Told, at: DateTime<Utc>) -> bool {
        let tie = |from: UserId, to: UserId| self.ties.get(&(from.0, to.0)).copied().unwrap_or_default();
        let wish = self.wishes.get(&user.0).map_or(Wish::All, |config| wish(config, told.kind));
        let with = told.notifier.map(|notifier| {
            let is_listed = match wish {
                Wish::Members(Some(list)) => self.members.contains(&(user.0, notifier.0, list.0)),
                _ => false,
            };
            let mine = tie(user, notifier);
            let mutes = mine.mute.is_some_and(|mute| mute.stands(at));
            Bond {
                follows: mine.follows,
                is_followed: tie(notifier, user).follows,
                is_listed,
                stance: Stance { mutes, blocks: mine.blocks, ..Stance::default() },
            }
        });
        let in_muted_thread = told.thread.is_some_and(|thread| self.threads.contains(&(user.0, thread.0)));
        is_told(wish, with, in_muted_thread)
    }

    async fn save(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        let mut ties = Changes::new();
        for pair in self.changed_ties {
            let tie = self.ties.get(&pair).copied().unwrap_or_default();
            let row = TieRow {
                holder: pair.0,
                other: pair.1,
                follows: tie.follows,
                hears: tie.hears,
                blocks: tie.blocks,
                mutes: tie.mute.is_some(),
                mute_until: tie.mute.and_then(|mute| mute.expires_at),
            };
            ties.insert(pair, (tie != Tie::default()).then_some(row));
        }
        TIES.replace(tx, ties).await?;
        save_members(tx, &self.changed_members, &self.members, self.deleted_lists).await?;
        save_threads(tx, &self.changed_threads, &self.threads).await?;
        save_wishes(tx, self.changed_wishes, &self.wishes).await
    }
}

/// Whose relation to whom an event changes.
fn related(event: &Event) -> Option<(UserId, UserId)> {
    match event {
        Event::FollowStarted(e) => Some((e.follower, e.followee)),
        Event::FollowChanged(e) => Some((e.follower, e.followee)),
        Event::FollowEnded(e) => Some((e.follower, e.followee)),
        Event::BlockStarted(e) => Some((e.blocker, e.blockee)),
        Event::BlockEnded(e) => Some((e.blocker, e.blockee)),
        Event::MuteStarted(e) => Some((e.muter, e.mutee)),
        Event::MuteEnded(e) => Some((e.muter, e.mutee)),
        _ => None,
    }
}

async fn save_members(
    tx: &mut PgConnection,
    changed: &BTreeSet<(Uuid, Uuid, Uuid)>,
    members: &BTreeSet<(Uuid, Uuid, Uuid)>,
    deleted: BTreeSet<Uuid>,
) -> sqlx::Result<()> {
    type Columns = (Vec<Uuid>, (Vec<Uuid>, Vec<Uuid>));
    let columns = |members: &mut dyn Iterator<Item = &(Uuid, Uuid, Uuid)>| -> Columns {
        members.map(|(owner, user, list)| (*owner, (*user, *list))).unzip()
    };
    if !changed.is_empty() {
        let (owners, (users, lists)) = columns(&mut changed.iter());
        sqlx::query(
            "delete from notification_members m
              using unnest($1::uuid[], $2::uuid[], $3::uuid[]) as d(owner, user_id, list_id)
              where m.owner = d.owner and m.user_id = d.user_id and m.list_id = d.list_id",
        )
        .bind(owners)
        .bind(users)
        .bind(lists)
        .execute(&mut *tx)
        .await?;
        let (owners, (users, lists)) = columns(&mut changed.intersection(members));
        sqlx::query(
            "insert into notification_members (owner, user_id, list_id)
             select owner, user_id, list_id
               from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as d(owner, user_id, list_id)",
        )
        .bind(owners)
        .bind(users)
        .bind(lists)
        .execute(&mut *tx)
        .await?;
    }
    if !deleted.is_empty() {
        sqlx::query("delete from notification_members where list_id = any($1)")
            .bind(deleted.into_iter().collect::<Vec<_>>())
            .execute(tx)
            .await?;
    }
    Ok(())
}

async fn save_threads(
    tx: &mut PgConnection,
    changed: &BTreeSet<(Uuid, Uuid)>,
    muted: &BTreeSet<(Uuid, Uuid)>,
) -> sqlx::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let (users, threads): (Vec<Uuid>, Vec<Uuid>) = changed.iter().copied().unzip();
    sqlx::query(
        "delete from notification_threads t using unnest($1::uuid[], $2::uuid[]) as d(user_id, thread_id)
          where t.user_id = d.user_id and t.thread_id = d.thread_id",
    )
    .bind(users)
    .bind(threads)
    .execute(&mut *tx)
    .await?;
    let (users, threads): (Vec<Uuid>, Vec<Uuid>) = changed.intersection(muted).copied().unzip();
    sqlx::query(
        "insert into notification_threads (user_id, thread_id)
         select user_id, thread_id from unnest($1::uuid[], $2::uuid[]) as d(user_id, thread_id)",
    )
    .bind(users)
    .bind(threads)
    .execute(tx)
    .await?;
    Ok(())
}

async fn save_wishes(
    tx: &mut PgConnection,
    changed: BTreeSet<Uuid>,
    wishes: &BTreeMap<Uuid, Wishes>,
) -> sqlx::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let (mut users, mut configs) = (Vec::new(), Vec::new());
    for user in &changed {
        if let Some(config) = wishes.get(user).filter(|config| !config.is_empty()) {
            users.push(*user);
            configs.push(Json(sql::fields(config).map_err(|error| sqlx::Error::Encode(error.into()))?));
        }
    }
    sqlx::query("delete from notification_wishes where user_id = any($1)")
        .bind(changed.into_iter().collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "insert into notification_wishes (user_id, config)
         select user_id, config from unnest($1::uuid[], $2::jsonb[]) as d(user_id, config)",
    )
    .bind(users)
    .bind(configs)
    .execute(tx)
    .await?;
    Ok(())
}

/// What a batch changes of who is told when polls end.
#[derive(Default)]
struct Polls {
    /// New polls that will end, and their authors.
    asked: Vec<(Uuid, Uuid)>,
    /// Notes and voters; most are of polls that never end.
    voted: Vec<(Uuid, Uuid)>,
    /// Notes that are gone.
    gone: Vec<Uuid>,
}

impl Polls {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::NoteCreated(note) if note.poll.as_ref().is_some_and(|poll| poll.expires_at.is_some()) => {
                self.asked.push((note.id.0, note.author.0));
            }
            Event::PollVoted(e) => self.voted.push((e.note.0, e.voter.0)),
            Event::NoteDeleted(e) => self.gone.push(e.id.0),
            _ => (),
        }
    }

    /// Everybody who is to be told of the end of a poll; from now on it is none.
    async fn close(self, tx: &mut PgConnection, note: NoteId) -> sqlx::Result<Vec<Uuid>> {
        self.write(tx).await?;
        let mut audience: Vec<Uuid> =
            sqlx::query_scalar("delete from poll_audiences where note_id = $1 returning user_id")
                .bind(note.0)
                .fetch_all(tx)
                .await?;
        audience.sort_unstable();
        Ok(audience)
    }

    async fn write(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        if !self.asked.is_empty() {
            let (notes, authors): (Vec<Uuid>, Vec<Uuid>) = self.asked.into_iter().unzip();
            sqlx::query(
                "insert into poll_audiences (note_id, user_id, author)
                 select note_id, author, author from unnest($1::uuid[], $2::uuid[]) as p(note_id, author)",
            )
            .bind(notes)
            .bind(authors)
            .execute(&mut *tx)
            .await?;
        }
        if !self.voted.is_empty() {
            let (notes, voters): (Vec<Uuid>, Vec<Uuid>) = self.voted.into_iter().unzip();
            sqlx::query(
                "insert into poll_audiences (note_id, user_id, author)
                 select distinct v.note_id, v.user_id, a.author
                   from unnest($1::uuid[], $2::uuid[]) as v(note_id, user_id)
                   join poll_audiences a on a.note_id = v.note_id and a.user_id = a.author
                 on conflict do nothing",
            )
            .bind(notes)
            .bind(voters)
            .execute(&mut *tx)
            .await?;
        }
        if !self.gone.is_empty() {
            sqlx::query("delete from poll_audiences where note_id = any($1)")
                .bind(self.gone)
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
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationRow {
    pub id: NotificationId,
    pub kind: Kind,
    /// By whom it was caused; none for what the notifiee did.
    pub notifier: Option<UserId>,
    pub note: Option<NoteId>,
    /// The note that a renote passes on.
    pub target: Option<NoteId>,
    pub role: Option<RoleId>,
    /// What else is shown, by its names in the API.
    pub details: Map<String, Value>,
}

const COLUMNS: &str = "id, kind, notifier, note_id, target_id, role_id, details";

/// What a person was told, of every kind: Misskey filters kinds only after it has taken a page.
pub async fn page(pool: &PgPool, user: UserId, page: &Page) -> sqlx::Result<Vec<NotificationRow>> {
    let order = page.order();
    let sql = format!(
        "select {COLUMNS}
           from read.notifications
          where notifiee = $1 and id > $2 and id < $3
          order by id {order} limit $4"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    rows.iter().map(read).collect()
}

/// What these people were told by the events after a position and up to another, each in order: for
/// streams.
pub async fn between(
    pool: &PgPool,
    users: &[UserId],
    after: Position,
    to: Position,
) -> sqlx::Result<Vec<(UserId, Position, NotificationRow)>> {
    let sql = format!(
        "select notifiee, position, {COLUMNS}
           from read.notifications
          where notifiee = any($1) and position > $2 and position <= $3
          order by position, id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
        .bind(after.0 as i64)
        .bind(to.0 as i64)
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| {
            let position: i64 = row.try_get("position")?;
            Ok((UserId(row.try_get("notifiee")?), Position(position as u64), read(row)?))
        })
        .collect()
}

/// Somebody who was told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldRow {
    pub user: UserId,
    pub id: NotificationId,
    pub kind: Kind,
    pub position: Position,
}

/// Who was told what by the events after a position and up to another.
pub async fn told_between(pool: &PgPool, after: Position, to: Position) -> sqlx::Result<Vec<ToldRow>> {
    let rows: Vec<(Uuid, Uuid, String, i64)> = sqlx::query_as(
        "select notifiee, id, kind, position from read.notifications
          where position > $1 and position <= $2 order by position, id",
    )
    .bind(after.0 as i64)
    .bind(to.0 as i64)
    .fetch_all(pool)
    .await?;
    let row = |(user, id, kind, position): (Uuid, Uuid, String, i64)| {
        Ok(ToldRow {
            user: UserId(user),
            id: NotificationId(id),
            kind: Kind::named(&kind).ok_or_else(|| sql::unknown(&kind))?,
            position: Position(position as u64),
        })
    };
    rows.into_iter().map(row).collect()
}

/// A notification, if it is there and its person has not read it.
pub async fn unread(
    pool: &PgPool,
    user: UserId,
    id: NotificationId,
) -> sqlx::Result<Option<NotificationRow>> {
    let sql = format!(
        "select {COLUMNS} from read.notifications n
          where n.notifiee = $1 and n.id = $2
            and n.position > coalesce(
                (select m.position from read.notification_markers m where m.user_id = $1), 0)"
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(user.0).bind(id.0).fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &PgRow) -> sqlx::Result<NotificationRow> {
    let kind: &str = row.try_get("kind")?;
    let id = |column: &str| row.try_get::<Option<Uuid>, _>(column);
    Ok(NotificationRow {
        id: NotificationId(row.try_get("id")?),
        kind: Kind::named(kind).ok_or_else(|| sql::unknown(kind))?,
        notifier: id("notifier")?.map(UserId),
        note: id("note_id")?.map(NoteId),
        target: id("target_id")?.map(NoteId),
        role: id("role_id")?.map(RoleId),
        details: row.try_get::<Json<Map<String, Value>>, _>("details")?.0,
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
    use domain::notification::{Flushed, Read, Sent, Tested};
    use domain::poll::{self, Poll};
    use domain::user::{AppAuthorized, ProfileChanges, SignedIn};
    use domain::{BlockId, ListId, MembershipId, MuteId, block, list, mute};

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
        assert_eq!(rows[3].details["reaction"], "🎉");
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

        let ids: Vec<_> = told_between(&pool, Position::START, *first).await.unwrap();
        assert!(ids.iter().any(|told| (told.user, told.kind) == (user(1), Kind::Follow)), "{ids:?}");
        assert_eq!(
            told_between(&pool, *first, Position(u64::MAX >> 1)).await.unwrap().len(),
            all.len() - ids.len()
        );
        assert_eq!(unread(&pool, user(1), rows[0].id).await.unwrap().as_ref(), Some(&rows[0]));
        assert_eq!(unread(&pool, user(2), rows[0].id).await.unwrap(), None);
        assert_eq!(unread_count(&pool, user(1)).await.unwrap(), 5);
        story.says(Read { user: user(1) });
        story.project().await;
        assert_eq!(unread(&pool, user(1), rows[0].id).await.unwrap(), None);
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
        let messages: Vec<_> =
            rows.iter().map(|row| (row.notifier, row.details["message"].as_str())).collect();
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

    /// However the batches are cut, what counts is what somebody wanted when it happened.
    #[sqlx::test(migrations = "../migrations")]
    async fn nobody_is_told_of_those_they_do_not_want_to_hear_of(pool: PgPool) {
        for size in [1, 2, usize::MAX] {
            let mut story = Story::new(&pool);
            let note = story.note(1, |_| ());
            let begins = story.now();
            let id = MuteId(story.id());
            let expires_at = Some(begins + chrono::TimeDelta::milliseconds(100));
            story.says(mute::Started { id, muter: user(1), mutee: user(2), expires_at });
            story.react(2, note, 1, "🎉");
            let id = BlockId(story.id());
            story.says(block::Started { id, blocker: user(1), blockee: user(3) });
            story.note(3, |n| n.mentions = vec![user(1)]);
            story.says(block::Ended { blocker: user(1), blockee: user(3) });
            let heard = story.note(3, |n| n.mentions = vec![user(1)]);
            story.says(mute::ThreadStarted { user: user(1), thread: heard });
            story.note(3, |n| {
                n.mentions = vec![user(1)];
                n.reply = Some(Parent { id: heard, author: user(3) });
            });
            while story.now() < begins + chrono::TimeDelta::milliseconds(100) {
                story.id();
            }
            let again = story.note(2, |n| n.mentions = vec![user(1)]);
            story.project_in(size).await;
            assert_eq!(told(&pool, 1).await, [(Kind::Mention, Some(again)), (Kind::Mention, Some(heard))]);
            story.empty().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn wishes_are_heard_by_kind(pool: PgPool) {
        for size in [1, usize::MAX] {
            let mut story = Story::new(&pool);
            let note = story.note(1, |_| ());
            let config = [("reaction", "following"), ("mention", "never"), ("login", "never")];
            let config = config.map(|(kind, word)| (kind.to_owned(), serde_json::json!({ "type": word })));
            let notification_recieve_config = Some(config.into());
            story.changes(1, ProfileChanges { notification_recieve_config, ..Default::default() });
            story.react(2, note, 1, "🎉");
            story.follow(1, 3);
            story.react(3, note, 1, "👍");
            story.note(3, |n| n.mentions = vec![user(1)]);
            story.says(SignedIn { user: user(1) });
            story.says(AppAuthorized { user: user(1), app: None });
            story.project_in(size).await;
            assert_eq!(
                told(&pool, 1).await,
                [
                    (Kind::CreateToken, None),
                    (Kind::Reaction, Some(note)),
                    (Kind::FollowRequestAccepted, None)
                ]
            );
            let notification_recieve_config = Some(Default::default());
            story.changes(1, ProfileChanges { notification_recieve_config, ..Default::default() });
            story.says(SignedIn { user: user(1) });
            story.project().await;
            assert_eq!(told(&pool, 1).await[0], (Kind::Login, None));
            story.empty().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn one_may_wish_to_be_told_of_those_in_a_list(pool: PgPool) {
        for size in [1, usize::MAX] {
            let mut story = Story::new(&pool);
            let (list, owner) = (ListId(story.id()), user(1));
            story.says(list::Created { id: list, owner, name: "friends".to_owned() });
            let wish = serde_json::json!({ "type": "list", "userListId": list });
            let notification_recieve_config = Some([("mention".to_owned(), wish)].into());
            story.changes(1, ProfileChanges { notification_recieve_config, ..Default::default() });
            let mentions = |story: &mut Story, n| story.note(n, |note| note.mentions = vec![user(1)]);
            for n in [2, 3] {
                let id = MembershipId(story.id());
                story.says(list::MemberAdded { id, list, owner, user: user(n) });
            }
            story.says(list::MemberRemoved { list, owner, user: user(3) });
            let first = mentions(&mut story, 2);
            mentions(&mut story, 3);
            story.says(list::Deleted { id: list, owner });
            mentions(&mut story, 2);
            story.project_in(size).await;
            assert_eq!(told(&pool, 1).await, [(Kind::Mention, Some(first))]);
            story.empty().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_end_of_a_poll_is_told_to_who_asked_and_who_voted(pool: PgPool) {
        for size in [1, 3, usize::MAX] {
            let mut story = Story::new(&pool);
            let mut polls = Vec::new();
            for ends in [true, true, false] {
                let expires_at = ends.then(|| story.now());
                let choices = vec!["a".to_owned(), "b".to_owned()];
                let poll = Poll { choices, multiple: true, expires_at };
                polls.push(story.note(1, |n| n.poll = Some(poll)));
            }
            for note in &polls {
                story.vote(2, *note, 1, 0);
                story.vote(2, *note, 1, 1);
                story.vote(1, *note, 1, 1);
            }
            for (note, is_gone) in [(polls[0], false), (polls[1], true)] {
                story.says(poll::Ended { note, author: user(1), is_gone });
            }
            story.vote(3, polls[0], 1, 0);
            story.project_in(size).await;
            for n in [1, 2] {
                assert_eq!(told(&pool, n).await, [(Kind::PollEnded, Some(polls[0]))]);
            }
            assert_eq!(told(&pool, 3).await, []);
            let left: i64 = sqlx::query_scalar("select count(*) from read.poll_audiences")
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(left, 0);
            story.empty().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn apps_and_tests_tell_and_all_is_thrown_away(pool: PgPool) {
        for size in [1, usize::MAX] {
            let mut story = Story::new(&pool);
            story.says(Sent { user: user(1), body: "hi\0".to_owned(), header: None, icon: None });
            story.says(Tested { user: user(1) });
            story.says(Tested { user: user(2) });
            story.project_in(size).await;
            let rows = page(&pool, user(1), &Page::newest(10)).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.kind).collect::<Vec<_>>(), [Kind::Test, Kind::App]);
            assert_eq!(
                serde_json::json!(rows[1].details),
                serde_json::json!({ "body": "hi\u{fffd}", "header": null, "icon": null })
            );
            story.says(Tested { user: user(1) });
            story.says(Flushed { user: user(1) });
            story.says(SignedIn { user: user(1) });
            story.project_in(size).await;
            assert_eq!(told(&pool, 1).await, [(Kind::Login, None)]);
            assert_eq!(told(&pool, 2).await, [(Kind::Test, None)]);
            story.empty().await;
        }
    }
}
