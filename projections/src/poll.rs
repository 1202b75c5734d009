//! Votes and their counts per choice. The poll itself is part of its note.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::log::Recorded;
use domain::poll::Voted;
use domain::{Event, NoteId, UserId};
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::Sums;

/// Fills `read.votes` and `read.vote_counts`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "votes"
    }

    fn version(&self) -> u32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &["votes", "vote_counts"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["poll.voted", "user.erased"]
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
    for (_, event) in events(batch) {
        if let Event::PollVoted(e) = event {
            counts.add((e.note.0, choice(e)), 1);
            votes.push(e);
        }
    }
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

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
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

/// Votes per note and choice.
pub(crate) async fn counts(
    pool: &PgPool,
    notes: &[Uuid],
) -> sqlx::Result<HashMap<NoteId, Vec<(usize, i64)>>> {
    let rows: Vec<(Uuid, i32, i64)> =
        sqlx::query_as("select note_id, choice, votes from read.vote_counts where note_id = any($1)")
            .bind(notes)
            .fetch_all(pool)
            .await?;
    let mut counts: HashMap<NoteId, Vec<(usize, i64)>> = HashMap::new();
    for (note, choice, votes) in rows {
        counts.entry(NoteId(note)).or_default().push((usize::try_from(choice).unwrap_or(usize::MAX), votes));
    }
    Ok(counts)
}

/// The choices of one person per note, in their order.
pub(crate) async fn mine(
    pool: &PgPool,
    viewer: UserId,
    notes: &[Uuid],
) -> sqlx::Result<HashMap<NoteId, Vec<u32>>> {
    let rows: Vec<(Uuid, i32)> = sqlx::query_as(
        "select note_id, choice from read.votes where user_id = $1 and note_id = any($2) order by choice",
    )
    .bind(viewer.0)
    .bind(notes)
    .fetch_all(pool)
    .await?;
    let mut mine: HashMap<NoteId, Vec<u32>> = HashMap::new();
    for (note, choice) in rows {
        mine.entry(NoteId(note)).or_default().push(u32::try_from(choice).unwrap_or(u32::MAX));
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
    use crate::testing::{Story, user};

    #[sqlx::test(migrations = "../migrations")]
    async fn votes_are_counted_by_choice_and_kept_by_person(pool: PgPool) {
        let mut story = Story::new(&pool);
        let note = story.note(1, |_| ());
        story.vote(2, note, 1, 2);
        story.vote(2, note, 1, 0);
        story.project().await;
        story.vote(3, note, 1, 2);
        story.project().await;
        let mut votes = counts(&pool, &[note.0]).await.unwrap().remove(&note).unwrap();
        votes.sort_unstable();
        assert_eq!(votes, [(0, 1), (2, 2)]);
        assert_eq!(mine(&pool, user(2), &[note.0]).await.unwrap()[&note], [0, 2]);
        assert_eq!(mine(&pool, user(1), &[note.0]).await.unwrap().len(), 0);
        let theirs = votes_of_people(&pool, &[note], &[user(1), user(2)]).await.unwrap();
        assert_eq!(theirs, HashMap::from([((user(2), note), vec![0, 2])]));
    }
}
