//! Which notes are praised most: by reactions and renotes of others.
//!
//! Only public notes of this server that answer nothing are ranked. Notes are ranked by the day they were written
//! on, so that finding the best of some days costs the same however many notes there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::log::Recorded;
use domain::note::{Created, Visibility};
use domain::{ChannelId, Event, NoteId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::Sums;

/// What a reaction and a renote are worth.
const OF_REACTION: i64 = 1;
const OF_RENOTE: i64 = 5;
/// Days whose notes are shown, today with them.
const DAYS: i64 = 4;
/// The same for the notes of one person.
const DAYS_OF_USER: i64 = 8;
/// Notes that are shown, on all pages together.
const MAX_FEATURED: usize = 100;
/// The same for the notes of one person.
const MAX_OF_USER: usize = 50;

/// Fills `read.featured` and `read.praise`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "featured"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["featured", "praise"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["note.created", "note.deleted", "reaction.added", "reaction.removed", "user.erased"]
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

/// Whose praise of which note it is, and by what: the renote, or the note itself for a reaction.
type Source = (Uuid, Uuid, Uuid);

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let mut notes: Vec<&Created> = Vec::new();
    let mut praise: BTreeMap<Source, Option<i64>> = BTreeMap::new();
    let mut renotes: BTreeMap<Uuid, Source> = BTreeMap::new();
    let mut deleted: BTreeSet<Uuid> = BTreeSet::new();
    for (_, event) in events(batch) {
        match event {
            Event::NoteCreated(e) => {
                if is_ranked(e) {
                    notes.push(e);
                }
                if let Some(target) = e.renote.filter(|target| target.author != e.author) {
                    let source = (target.id.0, e.author.0, e.id.0);
                    renotes.insert(e.id.0, source);
                    praise.insert(source, Some(OF_RENOTE));
                }
            }
            Event::NoteDeleted(e) => {
                if let Some(source) = renotes.get(&e.id.0) {
                    praise.insert(*source, None);
                }
                deleted.insert(e.id.0);
            }
            Event::ReactionAdded(e) if e.author != e.reactor => {
                praise.insert((e.note.0, e.reactor.0, e.note.0), Some(OF_REACTION));
            }
            Event::ReactionRemoved(e) => {
                praise.insert((e.note.0, e.reactor.0, e.note.0), None);
            }
            _ => (),
        }
    }
    write_notes(tx, &notes).await?;
    let mut sums = Sums::default();
    take_back(tx, praise.iter().filter(|(_, score)| score.is_none()).map(|(source, _)| *source), &mut sums)
        .await?;
    give(tx, praise.into_iter().filter_map(|(source, score)| Some((source, score?))), &mut sums).await?;
    if !deleted.is_empty() {
        let deleted: Vec<Uuid> = deleted.into_iter().collect();
        let gone: Vec<(Uuid, i64)> = sqlx::query_as(
            "delete from praise where source = any($1) and source <> note_id returning note_id, score",
        )
        .bind(&deleted)
        .fetch_all(&mut *tx)
        .await?;
        gone.into_iter().for_each(|(note, score)| sums.add(note, -score));
        forget(tx, &deleted).await?;
    }
    add(tx, sums).await
}

fn is_ranked(note: &Created) -> bool {
    note.visibility == Visibility::Public
        && note.uri.is_none()
        && note.reply.is_none()
        && !note.is_pure_renote()
}

async fn write_notes(tx: &mut PgConnection, notes: &[&Created]) -> sqlx::Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into featured (note_id, author, channel_id, day)
         select note_id, author, channel_id, day
           from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::date[]) as n(note_id, author, channel_id, day)",
    )
    .bind(notes.iter().map(|note| note.id.0).collect::<Vec<_>>())
    .bind(notes.iter().map(|note| note.author.0).collect::<Vec<_>>())
    .bind(notes.iter().map(|note| note.channel.map(|channel| channel.0)).collect::<Vec<_>>())
    .bind(notes.iter().map(|note| note.id.time().date_naive()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Praise for notes that are ranked.
async fn give(
    tx: &mut PgConnection,
    praise: impl Iterator<Item = (Source, i64)>,
    sums: &mut Sums<Uuid>,
) -> sqlx::Result<()> {
    let (mut notes, mut people, mut sources, mut scores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((note, user, source), score) in praise {
        notes.push(note);
        people.push(user);
        sources.push(source);
        scores.push(score);
    }
    if notes.is_empty() {
        return Ok(());
    }
    let given: Vec<(Uuid, i64)> = sqlx::query_as(
        "insert into praise (note_id, user_id, source, score)
         select p.note_id, p.user_id, p.source, p.score
           from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[]) as p(note_id, user_id, source, score)
           join featured f on f.note_id = p.note_id
         on conflict (note_id, user_id, source) do nothing
         returning note_id, score",
    )
    .bind(notes)
    .bind(people)
    .bind(sources)
    .bind(scores)
    .fetch_all(tx)
    .await?;
    given.into_iter().for_each(|(note, score)| sums.add(note, score));
    Ok(())
}

async fn take_back(
    tx: &mut PgConnection,
    praise: impl Iterator<Item = Source>,
    sums: &mut Sums<Uuid>,
) -> sqlx::Result<()> {
    let (mut notes, mut people, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for (note, user, source) in praise {
        notes.push(note);
        people.push(user);
        sources.push(source);
    }
    if notes.is_empty() {
        return Ok(());
    }
    let gone: Vec<(Uuid, i64)> = sqlx::query_as(
        "delete from praise p using unnest($1::uuid[], $2::uuid[], $3::uuid[]) as g(note_id, user_id, source)
          where p.note_id = g.note_id and p.user_id = g.user_id and p.source = g.source
         returning p.note_id, p.score",
    )
    .bind(notes)
    .bind(people)
    .bind(sources)
    .fetch_all(tx)
    .await?;
    gone.into_iter().for_each(|(note, score)| sums.add(note, -score));
    Ok(())
}

async fn add(tx: &mut PgConnection, sums: Sums<Uuid>) -> sqlx::Result<()> {
    let (notes, sums) = sums.split();
    if notes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update featured f set score = f.score + d.score
           from unnest($1::uuid[], $2::bigint[]) as d(note_id, score)
          where f.note_id = d.note_id",
    )
    .bind(notes)
    .bind(sums)
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that have gone, with all praise of them.
async fn forget(tx: &mut PgConnection, notes: &[Uuid]) -> sqlx::Result<()> {
    for statement in
        ["delete from featured where note_id = any($1)", "delete from praise where note_id = any($1)"]
    {
        sqlx::query(statement).bind(notes).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let notes: Vec<Uuid> = sqlx::query_scalar("select note_id from featured where author = $1")
        .bind(user.0)
        .fetch_all(&mut *tx)
        .await?;
    forget(tx, &notes).await?;
    let gone: Vec<(Uuid, i64)> =
        sqlx::query_as("delete from praise where user_id = $1 returning note_id, score")
            .bind(user.0)
            .fetch_all(&mut *tx)
            .await?;
    let mut sums = Sums::default();
    gone.into_iter().for_each(|(note, score)| sums.add(note, -score));
    add(tx, sums).await
}

/// The most praised of the last days, of everywhere outside of channels or of one channel; the newest come first.
pub async fn notes(
    pool: &PgPool,
    channel: Option<ChannelId>,
    now: DateTime<Utc>,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let of = match channel {
        Some(_) => "f.channel_id = $1",
        None => "f.channel_id is null and $1::uuid is null",
    };
    best(pool, of, channel.map(|channel| channel.0), (DAYS, MAX_FEATURED), now, page).await
}

/// The most praised notes of one person; the newest come first.
pub async fn notes_of_user(
    pool: &PgPool,
    user: UserId,
    now: DateTime<Utc>,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let of = "f.author = $1 and f.channel_id is null";
    best(pool, of, Some(user.0), (DAYS_OF_USER, MAX_OF_USER), now, page).await
}

async fn best(
    pool: &PgPool,
    of: &str,
    whose: Option<Uuid>,
    (days, most): (i64, usize),
    now: DateTime<Utc>,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let today = now.date_naive();
    let days: Vec<NaiveDate> =
        (0..days).filter_map(|ago| today.checked_sub_signed(TimeDelta::days(ago))).collect();
    let order = page.order();
    let sql = format!(
        "select b.note_id
           from (select f.note_id
                   from unnest($2::date[]) as d(day)
                  cross join lateral (
                        select f.note_id, f.score from read.featured f
                         where {of} and f.day = d.day and f.score > 0
                         order by f.score desc, f.note_id desc limit {most}) f
                  order by f.score desc, f.note_id desc limit {most}) b
          where b.note_id > $3 and b.note_id < $4
          order by b.note_id {order} limit $5"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(whose)
        .bind(days)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    Ok(ids.into_iter().map(NoteId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::note::{Deleted, Parent};

    #[sqlx::test(migrations = "../migrations")]
    async fn notes_are_ranked_by_what_others_make_of_them(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 1..=4 {
            story.person(n, &format!("user{n}"));
        }
        let channel = ChannelId(story.id());
        let liked = story.note(1, |_| ());
        let passed_on = story.note(2, |_| ());
        let unseen = story.note(2, |note| note.visibility = Visibility::Home);
        let reply = story.note(2, |note| note.reply = Some(Parent { id: liked, author: user(1) }));
        let there = story.note(2, |note| note.channel = Some(channel));
        let praised_by_self = story.note(3, |_| ());
        for note in [liked, unseen, reply, there] {
            story.react(3, note, if note == liked { 1 } else { 2 }, "🎉");
        }
        story.react(3, praised_by_self, 3, "🎉");
        let renote = story.renote(4, passed_on, 2);
        story.project().await;
        let all = Page::newest(10);
        let now = story.now();
        let everywhere = async |page: Page| notes(&pool, None, now, &page).await.unwrap();
        assert_eq!(everywhere(all).await, [passed_on, liked]);
        assert_eq!(everywhere(Page { until: Some(passed_on.0), ..all }).await, [liked]);
        assert_eq!(notes(&pool, Some(channel), now, &all).await.unwrap(), [there]);
        assert_eq!(notes_of_user(&pool, user(2), now, &all).await.unwrap(), [passed_on]);
        let later = now + TimeDelta::days(DAYS);
        assert_eq!(notes(&pool, None, later, &all).await.unwrap(), []);
        assert_eq!(notes_of_user(&pool, user(2), later, &all).await.unwrap(), [passed_on]);

        story.says(Deleted { id: renote, author: user(4) });
        story.unreact(3, liked, 1, "🎉");
        story.react(3, liked, 1, "👍");
        story.project().await;
        assert_eq!(everywhere(all).await, [liked]);
        story.unreact(3, liked, 1, "👍");
        story.project().await;
        assert_eq!(everywhere(all).await, []);
    }
}
