//! Votes and their counts per choice, and when polls end. The poll itself is part of its note.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::note::Created;
use domain::poll::Voted;
use domain::{Event, NoteId, UserId};
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::Sums;

/// Fills `read.votes`, `read.vote_counts` and `read.poll_ends`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "votes"
    }

    fn version(&self) -> u32 {
        3
    }

    fn tables(&self) -> &'static [&'static str] {
        &["votes", "vote_counts", "poll_ends"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["note.created", "note.deleted", "poll.voted", "poll.ended", "user.erased"]
    }

    /// Of what is written, only polls that end.
    fn heeds(&self, event: &Event) -> bool {
        let ends = |note: &Created| note.poll.as_ref().is_some_and(|poll| poll.expires_at.is_some());
        !matches!(event, Event::NoteCreated(note) if !ends(note))
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
    let mut votes: Vec<&Voted> = Vec::new();
    let mut counts: Sums<(Uuid, i32)> = Sums::default();
    let mut ends: BTreeMap<Uuid, Option<(Uuid, DateTime<Utc>)>> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::PollVoted(e) => {
                counts.add((e.note.0, choice(e)), 1);
                votes.push(e);
            }
            Event::NoteCreated(e) => {
                if let Some(end) = e.poll.as_ref().and_then(|poll| poll.expires_at) {
                    ends.insert(e.id.0, Some((e.author.0, end)));
                }
            }
            Event::NoteDeleted(e) => {
                ends.insert(e.id.0, None);
            }
            Event::PollEnded(e) => {
                ends.insert(e.note.0, None);
            }
            _ => (),
        }
    }
    write_ends(tx, ends).await?;
    if votes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into votes (id, note_id, user_id, choice)
         select id, note_id, user_id, choice
           from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[])
                as v(id, note_id, user_id, choice)",
    )
    .bind(votes.iter().map(|e| e.id.0).collect::<Vec<_>>())
    .bind(votes.iter().map(|e| e.note.0).collect::<Vec<_>>())
    .bind(votes.iter().map(|e| e.voter.0).collect::<Vec<_>>())
    .bind(votes.iter().map(|e| choice(e)).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    write_counts(tx, counts).await
}

async fn write_ends(
    tx: &mut PgConnection,
    ends: BTreeMap<Uuid, Option<(Uuid, DateTime<Utc>)>>,
) -> sqlx::Result<()> {
    let over: Vec<Uuid> = ends.iter().filter(|(_, end)| end.is_none()).map(|(note, _)| *note).collect();
    if !over.is_empty() {
        sqlx::query("delete from poll_ends where note_id = any($1)").bind(over).execute(&mut *tx).await?;
    }
    let (mut notes, mut authors, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (note, (author, end)) in ends.into_iter().filter_map(|(note, end)| Some((note, end?))) {
        notes.push(note);
        authors.push(author);
        times.push(end);
    }
    if !notes.is_empty() {
        sqlx::query(
            "insert into poll_ends (note_id, author, ends_at)
             select note_id, author, ends_at
               from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as e(note_id, author, ends_at)",
        )
        .bind(notes)
        .bind(authors)
        .bind(times)
        .execute(tx)
        .await?;
    }
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query("delete from poll_ends where author = $1").bind(user.0).execute(&mut *tx).await?;
    let gone: Vec<(Uuid, i32)> =
        sqlx::query_as("delete from votes where user_id = $1 returning note_id, choice")
            .bind(user.0)
            .fetch_all(&mut *tx)
            .await?;
    let mut counts = Sums::default();
    for key in gone {
        counts.add(key, -1);
    }
    write_counts(tx, counts).await
}

async fn write_counts(tx: &mut PgConnection, counts: Sums<(Uuid, i32)>) -> sqlx::Result<()> {
    let (keys, sums) = counts.split();
    if keys.is_empty() {
        return Ok(());
    }
    let (notes, choices): (Vec<Uuid>, Vec<i32>) = keys.into_iter().unzip();
    let gone: Vec<(Uuid, i32)> = sqlx::query_as(
        "with counts as (
             insert into vote_counts as c (note_id, choice, votes)
             select note_id, choice, n
               from unnest($1::uuid[], $2::integer[], $3::bigint[]) as d(note_id, choice, n)
             on conflict (note_id, choice) do update set votes = c.votes + excluded.votes
             returning note_id, choice, votes
         )
         select note_id, choice from counts where votes = 0",
    )
    .bind(notes)
    .bind(choices)
    .bind(sums)
    .fetch_all(&mut *tx)
    .await?;
    if !gone.is_empty() {
        let (notes, choices): (Vec<Uuid>, Vec<i32>) = gone.into_iter().unzip();
        sqlx::query(
            "delete from vote_counts c using unnest($1::uuid[], $2::integer[]) as d(note_id, choice)
              where c.note_id = d.note_id and c.choice = d.choice",
        )
        .bind(notes)
        .bind(choices)
        .execute(tx)
        .await?;
    }
    Ok(())
}

fn choice(vote: &Voted) -> i32 {
    i32::try_from(vote.choice).unwrap_or(i32::MAX)
}

/// Polls whose end hasn't been noticed and comes until then, with that time, the oldest end first.
pub async fn due(
    pool: &PgPool,
    until: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<(NoteId, DateTime<Utc>)>> {
    let notes: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "select note_id, ends_at from read.poll_ends where ends_at <= $1 order by ends_at, note_id limit $2",
    )
    .bind(until)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(notes.into_iter().map(|(note, at)| (NoteId(note), at)).collect())
}

/// Votes per note and choice.
pub(crate) async fn counts(
    pool: &PgPool,
    notes: &[NoteId],
) -> sqlx::Result<HashMap<NoteId, Vec<(usize, i64)>>> {
    let rows: Vec<(Uuid, i32, i64)> =
        sqlx::query_as("select note_id, choice, votes from read.vote_counts where note_id = any((select $1::uuid[])::uuid[])")
            .bind(notes.iter().map(|note| note.0).collect::<Vec<_>>())
            .fetch_all(pool)
            .await?;
    let mut counts: HashMap<NoteId, Vec<(usize, i64)>> = HashMap::new();
    for (note, choice, votes) in rows {
        counts.entry(NoteId(note)).or_default().push((usize::try_from(choice).unwrap_or(usize::MAX), votes));
    }
    Ok(counts)
}

/// The choices of each of these people in their note, in their order.
pub(crate) async fn mine(
    pool: &PgPool,
    notes: &[(UserId, NoteId)],
) -> sqlx::Result<HashMap<(UserId, NoteId), Vec<u32>>> {
    let rows: Vec<(Uuid, Uuid, i32)> = sqlx::query_as(
        "select v.user_id, v.note_id, v.choice
           from unnest((select $1::uuid[]), (select $2::uuid[])) as k(user_id, note_id)
           join read.votes v on v.user_id = k.user_id and v.note_id = k.note_id
          order by v.choice",
    )
    .bind(notes.iter().map(|(user, _)| user.0).collect::<Vec<_>>())
    .bind(notes.iter().map(|(_, note)| note.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let mut mine: HashMap<(UserId, NoteId), Vec<u32>> = HashMap::new();
    for (user, note, choice) in rows {
        let key = (UserId(user), NoteId(note));
        mine.entry(key).or_default().push(u32::try_from(choice).unwrap_or(u32::MAX));
    }
    Ok(mine)
}

/// The choices of each of these people in each of these notes, in their order.
pub async fn votes_of_people(
    pool: &PgPool,
    notes: &[NoteId],
    people: &[UserId],
) -> sqlx::Result<HashMap<(UserId, NoteId), Vec<u32>>> {
    let rows: Vec<(Uuid, Uuid, i32)> = sqlx::query_as(
        "select user_id, note_id, choice from read.votes
          where note_id = any($1) and user_id = any($2) order by choice",
    )
    .bind(notes.iter().map(|note| note.0).collect::<Vec<_>>())
    .bind(people.iter().map(|user| user.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let mut votes: HashMap<(UserId, NoteId), Vec<u32>> = HashMap::new();
    for (user, note, choice) in rows {
        let key = (UserId(user), NoteId(note));
        votes.entry(key).or_default().push(u32::try_from(choice).unwrap_or(u32::MAX));
    }
    Ok(votes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, at, user};
    use domain::note::Deleted;
    use domain::poll::{Ended, Poll};

    #[sqlx::test(migrations = "../migrations")]
    async fn votes_are_counted_by_choice_and_kept_by_person(pool: PgPool) {
        let mut story = Story::new(&pool);
        let note = story.note(1, |_| ());
        story.vote(2, note, 1, 2);
        story.vote(2, note, 1, 0);
        story.project().await;
        story.vote(3, note, 1, 2);
        story.project().await;
        let mut votes = counts(&pool, &[note]).await.unwrap().remove(&note).unwrap();
        votes.sort_unstable();
        assert_eq!(votes, [(0, 1), (2, 2)]);
        assert_eq!(mine(&pool, &[(user(2), note)]).await.unwrap()[&(user(2), note)], [0, 2]);
        assert_eq!(mine(&pool, &[(user(1), note)]).await.unwrap().len(), 0);
        let theirs = votes_of_people(&pool, &[note], &[user(1), user(2)]).await.unwrap();
        assert_eq!(theirs, HashMap::from([((user(2), note), vec![0, 2])]));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn polls_are_due_at_their_time_until_somebody_noticed(pool: PgPool) {
        for at_once in [true, false] {
            let mut story = Story::new(&pool);
            let ask = |story: &mut Story, millis| {
                let choices = vec!["a".to_owned(), "b".to_owned()];
                let poll = Poll { choices, multiple: false, expires_at: Some(at(NOW + millis)) };
                story.note(1, |note| note.poll = Some(poll))
            };
            let (late, early) = (ask(&mut story, 2_000), ask(&mut story, 1_000));
            let gone = ask(&mut story, 1_000);
            story.note(1, |_| ());
            if !at_once {
                story.project().await;
            }
            story.says(Deleted { id: gone, author: user(1) });
            story.project().await;
            let due = async |millis, limit| -> Vec<_> {
                let due = due(&pool, at(NOW + millis), limit).await.unwrap();
                due.into_iter().map(|(note, _)| note).collect()
            };
            assert_eq!(due(999, 10).await, []);
            assert_eq!(due(1_000, 10).await, [early]);
            assert_eq!(due(2_000, 10).await, [early, late]);
            assert_eq!(due(2_000, 1).await, [early]);
            story.says(Ended { note: early, author: user(1), is_gone: false });
            story.project().await;
            assert_eq!(due(2_000, 10).await, [late]);
            story.empty().await;
        }
    }
}
