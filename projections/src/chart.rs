//! Charts: how much of what happened in each hour and day, by the time of the events. [`hours`] keeps the
//! sums, [`note`] and [`file`] what became of each, [`active`] who was here.
//!
//! What is told late is counted in its own hour, and the totals after it are put right. A note that goes
//! along with what it answers or passes on counts as gone in that hour; one whose parent is not there never
//! was. Thus the totals are those of what stands. An erased person was never there, so nobody is ever counted
//! as having left.

mod active;
mod file;
mod hours;
mod life;
mod note;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Days, NaiveDate, Utc};
use domain::log::Recorded;
use domain::{Event, UserId};
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::Sums;
use active::{Active, READ, WROTE};
use hours::Hours;
pub use hours::{Bucket, Chart, MAX_BUCKETS, Series, Span, Whose, Window, chart};
use life::Life;
use note::Notes;

/// How many days' newcomers [`retention`] tells of, and for how many days after.
pub const RETENTION_DAYS: u16 = 30;

/// Fills `read.chart_…`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "charts"
    }

    fn version(&self) -> u32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &[
            "chart_hours",
            "chart_people",
            "chart_notes",
            "chart_files",
            "chart_follows",
            "chart_reactions",
            "chart_active",
            "chart_kept",
        ]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "user.created",
            "user.active",
            "user.erased",
            "follow.started",
            "follow.ended",
            "note.created",
            "note.deleted",
            "reaction.added",
            "poll.voted",
            "notifications.read",
            "drive.file_added",
            "drive.file_deleted",
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

/// What is known of people: whether they are from here, and the hour since when they are there.
#[derive(Default)]
struct People {
    known: HashMap<Uuid, Person>,
    new: BTreeMap<Uuid, Person>,
}

#[derive(Debug, Clone, Copy)]
struct Person {
    local: bool,
    since: DateTime<Utc>,
}

impl People {
    async fn load(tx: &mut PgConnection, ids: Vec<Uuid>) -> sqlx::Result<Self> {
        if ids.is_empty() {
            return Ok(Self::default());
        }
        let rows: Vec<(Uuid, bool, DateTime<Utc>)> =
            sqlx::query_as("select user_id, local, since from chart_people where user_id = any($1)")
                .bind(ids)
                .fetch_all(tx)
                .await?;
        let known = rows.into_iter().map(|(id, local, since)| (id, Person { local, since })).collect();
        Ok(Self { known, new: BTreeMap::new() })
    }

    fn create(&mut self, id: Uuid, person: Person) {
        self.known.insert(id, person);
        self.new.insert(id, person);
    }

    fn get(&self, id: Uuid) -> Option<Person> {
        self.known.get(&id).copied()
    }

    /// Where they are from; who is not known any more is taken for one of this server.
    fn origin(&self, id: Uuid) -> Whose {
        if self.get(id).is_none_or(|person| person.local) { Whose::Local } else { Whose::Remote }
    }

    async fn write(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        if self.new.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into chart_people (user_id, local, since)
             select user_id, local, since
               from unnest($1::uuid[], $2::boolean[], $3::timestamptz[]) as p(user_id, local, since)",
        )
        .bind(self.new.keys().copied().collect::<Vec<_>>())
        .bind(self.new.values().map(|person| person.local).collect::<Vec<_>>())
        .bind(self.new.values().map(|person| person.since).collect::<Vec<_>>())
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Whom an event is about.
fn named(event: &Event) -> [Option<Uuid>; 2] {
    match event {
        Event::UserActive(e) => [Some(e.user.0), None],
        Event::FollowStarted(e) => [Some(e.follower.0), Some(e.followee.0)],
        Event::FollowEnded(e) => [Some(e.follower.0), Some(e.followee.0)],
        Event::NoteCreated(e) => [Some(e.author.0), None],
        Event::ReactionAdded(e) => [Some(e.reactor.0), None],
        Event::PollVoted(e) => [Some(e.voter.0), None],
        Event::NotificationsRead(e) => [Some(e.user.0), None],
        Event::FileAdded(e) => [Some(e.owner.0), None],
        Event::FileDeleted(e) => [Some(e.owner.0), None],
        _ => [None, None],
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let mut notes = Notes::load(tx, batch).await?;
    let mut files = file::load(tx, batch).await?;
    let about = events(batch).flat_map(|(_, event)| named(event)).flatten();
    let mut people = People::load(tx, about.chain(notes.authors()).collect()).await?;
    let mut hours = Hours::default();
    let mut follows: BTreeMap<(Uuid, Uuid, DateTime<Utc>), (i64, i64)> = BTreeMap::new();
    let mut reactions: Sums<(Uuid, Uuid, DateTime<Utc>)> = Sums::default();
    let mut active = Active::default();
    for (recorded, event) in events(batch) {
        let hour = Span::Hour.start(recorded.at);
        match event {
            Event::UserCreated(e) => {
                people.create(e.user.0, Person { local: e.host.is_none(), since: hour });
                hours.add(people.origin(e.user.0), Series::Users, hour, 1, 0);
            }
            Event::UserActive(e) => active.was(&people, e.user, recorded.at, READ),
            Event::PollVoted(e) => active.was(&people, e.voter, recorded.at, READ),
            Event::NotificationsRead(e) => active.was(&people, e.user, recorded.at, READ),
            Event::NoteCreated(note) => {
                notes.create(note, hour);
                active.was(&people, note.author, recorded.at, WROTE);
            }
            Event::NoteDeleted(note) => notes.delete(note.id.0, hour),
            Event::FileAdded(file) => files.come(file::Line::of(file, hour)),
            Event::FileDeleted(file) => {
                files.go(file.id.0, hour);
            }
            Event::ReactionAdded(e) => {
                reactions.add((e.author.0, e.reactor.0, hour), 1);
                active.was(&people, e.reactor, recorded.at, READ);
            }
            Event::FollowStarted(e) => follows.entry((e.follower.0, e.followee.0, hour)).or_default().0 += 1,
            Event::FollowEnded(e) => follows.entry((e.follower.0, e.followee.0, hour)).or_default().1 += 1,
            _ => (),
        }
    }
    people.write(tx).await?;
    notes.write(tx, &people, &mut hours).await?;
    files.count(&mut hours, &people);
    file::write(tx, &files).await?;
    write_follows(tx, &follows).await?;
    for (pair, (started, ended)) in follows {
        count_follows(&mut hours, &people, pair, started, ended);
    }
    let (keys, sums) = reactions.split();
    write_reactions(tx, &keys, &sums).await?;
    for ((author, reactor, hour), n) in keys.into_iter().zip(sums) {
        count_reactions(&mut hours, &people, author, reactor, hour, n);
    }
    active.write(tx, &people, &mut hours).await?;
    hours.write(tx).await
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let gone = note::purge(tx, user).await?;
    let files = file::purge(tx, user).await?;
    let follows: Vec<(Uuid, Uuid, DateTime<Utc>, i64, i64)> = sqlx::query_as(
        "delete from chart_follows where follower = $1 or followee = $1
         returning follower, followee, hour, started, ended",
    )
    .bind(user.0)
    .fetch_all(&mut *tx)
    .await?;
    let reactions: Vec<(Uuid, Uuid, DateTime<Utc>, i64)> = sqlx::query_as(
        "delete from chart_reactions where author = $1 or reactor = $1
         returning author, reactor, hour, reactions",
    )
    .bind(user.0)
    .fetch_all(&mut *tx)
    .await?;
    let about = gone.iter().map(|line| line.author);
    let about = about.chain(follows.iter().flat_map(|(from, to, ..)| [*from, *to]));
    let about = about.chain(reactions.iter().map(|(_, reactor, ..)| *reactor));
    let people = People::load(tx, about.chain([user.0]).collect()).await?;
    let mut hours = Hours::default();
    for line in &gone {
        line.count(&mut hours, &people, -1);
    }
    for line in &files {
        line.count(&mut hours, &people, -1);
    }
    for (follower, followee, hour, started, ended) in follows {
        count_follows(&mut hours, &people, (follower, followee, hour), -started, -ended);
    }
    for (author, reactor, hour, n) in reactions {
        count_reactions(&mut hours, &people, author, reactor, hour, -n);
    }
    active::purge(tx, user, &people, &mut hours).await?;
    if let Some(person) = people.get(user.0) {
        hours.add(people.origin(user.0), Series::Users, person.since, -1, 0);
    }
    sqlx::query("delete from chart_people where user_id = $1").bind(user.0).execute(&mut *tx).await?;
    hours.write(tx).await
}

async fn write_follows(
    tx: &mut PgConnection,
    follows: &BTreeMap<(Uuid, Uuid, DateTime<Utc>), (i64, i64)>,
) -> sqlx::Result<()> {
    if follows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into chart_follows as f (follower, followee, hour, started, ended)
         select follower, followee, hour, started, ended
           from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::bigint[])
                as d(follower, followee, hour, started, ended)
         on conflict (follower, followee, hour) do update
            set started = f.started + excluded.started, ended = f.ended + excluded.ended",
    )
    .bind(follows.keys().map(|(follower, ..)| *follower).collect::<Vec<_>>())
    .bind(follows.keys().map(|(_, followee, _)| *followee).collect::<Vec<_>>())
    .bind(follows.keys().map(|(.., hour)| *hour).collect::<Vec<_>>())
    .bind(follows.values().map(|(started, _)| *started).collect::<Vec<_>>())
    .bind(follows.values().map(|(_, ended)| *ended).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts a following for both sides, each by where the other one is from.
fn count_follows(
    hours: &mut Hours,
    people: &People,
    (follower, followee, hour): (Uuid, Uuid, DateTime<Utc>),
    started: i64,
    ended: i64,
) {
    let following = match people.origin(followee) {
        Whose::Remote => Series::FollowingRemote,
        _ => Series::FollowingLocal,
    };
    let followers = match people.origin(follower) {
        Whose::Remote => Series::RemoteFollowers,
        _ => Series::LocalFollowers,
    };
    hours.add(Whose::Person(UserId(follower)), following, hour, started, ended);
    hours.add(Whose::Person(UserId(followee)), followers, hour, started, ended);
}

async fn write_reactions(
    tx: &mut PgConnection,
    keys: &[(Uuid, Uuid, DateTime<Utc>)],
    sums: &[i64],
) -> sqlx::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into chart_reactions as r (author, reactor, hour, reactions)
         select author, reactor, hour, reactions
           from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[])
                as d(author, reactor, hour, reactions)
         on conflict (author, reactor, hour) do update set reactions = r.reactions + excluded.reactions",
    )
    .bind(keys.iter().map(|(author, ..)| *author).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, reactor, _)| *reactor).collect::<Vec<_>>())
    .bind(keys.iter().map(|(.., hour)| *hour).collect::<Vec<_>>())
    .bind(sums)
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts reactions for the author of the notes, by where the one who reacts is from.
fn count_reactions(
    hours: &mut Hours,
    people: &People,
    author: Uuid,
    reactor: Uuid,
    hour: DateTime<Utc>,
    n: i64,
) {
    let series = match people.origin(reactor) {
        Whose::Remote => Series::ReactionsOfRemote,
        _ => Series::ReactionsOfLocal,
    };
    hours.add(Whose::Person(UserId(author)), series, hour, n, 0);
}

/// Those who came on one day, and how many of them were here on the days after, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cohort {
    pub day: NaiveDate,
    pub people: i64,
    pub kept: Vec<(NaiveDate, i64)>,
}

/// The people of this server who came on each of the last [`RETENTION_DAYS`] days before today, the last
/// first; without the days on which nobody was there yet.
pub async fn retention(pool: &PgPool, today: NaiveDate) -> sqlx::Result<Vec<Cohort>> {
    let first = today - Days::new(u64::from(RETENTION_DAYS));
    let came: Vec<(NaiveDate, i64)> = sqlx::query_as(
        "select d.day::date,
                coalesce((select sum(h.up) from read.chart_hours h
                           where h.whose = $1 and h.series = $2
                             and h.hour >= d.day at time zone 'UTC'
                             and h.hour < (d.day + interval '1 day') at time zone 'UTC'), 0)::bigint
           from (select (min(h.hour) at time zone 'UTC')::date as day
                   from read.chart_hours h where h.whose = $1 and h.series = $2) b
          cross join lateral generate_series(greatest(b.day, $3)::timestamp, $4::timestamp, '1 day') as d(day)
          order by 1 desc",
    )
    .bind(Whose::Local.id())
    .bind(Series::Users.word())
    .bind(first)
    .bind(today - Days::new(1))
    .fetch_all(pool)
    .await?;
    let kept: Vec<(NaiveDate, NaiveDate, i64)> = sqlx::query_as(
        "select cohort, day, people from read.chart_kept where cohort >= $1 and cohort < $2 and day < $2",
    )
    .bind(first)
    .bind(today)
    .fetch_all(pool)
    .await?;
    let kept: HashMap<(NaiveDate, NaiveDate), i64> =
        kept.into_iter().map(|(cohort, day, people)| ((cohort, day), people)).collect();
    let of = |(cohort, people): (NaiveDate, i64)| {
        let days =
            cohort.iter_days().skip(1).take(usize::from(RETENTION_DAYS)).take_while(|day| *day < today);
        let kept = days.map(|day| (day, kept.get(&(cohort, day)).copied().unwrap_or(0))).collect();
        Cohort { day: cohort, people, kept }
    };
    Ok(came.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests;
