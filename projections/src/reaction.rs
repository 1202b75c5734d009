//! Reactions and their counts per note. Those of a note that has gone stay, and nothing shows them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use domain::emoji::Reaction;
use domain::log::Recorded;
use domain::policy::Viewer;
use domain::reaction::Added;
use domain::{Event, NoteId, ReactionId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::note::VISIBLE;
use crate::page::{LIMIT, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::{self, Sums};

/// Fills `read.reactions` and `read.reaction_counts`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "reactions"
    }

    fn version(&self) -> u32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &["reactions", "reaction_counts"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["reaction.added", "reaction.removed", "user.erased"]
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
    // By note and person: what stands at the end of the batch.
    let mut standing: BTreeMap<(Uuid, Uuid), Option<&Added>> = BTreeMap::new();
    let mut counts: Sums<(Uuid, &str)> = Sums::default();
    for (_, event) in events(batch) {
        match event {
            Event::ReactionAdded(e) => {
                standing.insert((e.note.0, e.reactor.0), Some(e));
                counts.add((e.note.0, e.reaction.as_str()), 1);
            }
            Event::ReactionRemoved(e) => {
                standing.insert((e.note.0, e.reactor.0), None);
                counts.add((e.note.0, e.reaction.as_str()), -1);
            }
            _ => (),
        }
    }
    write_rows(tx, &standing).await?;
    write_counts(tx, counts).await
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let gone: Vec<(Uuid, String)> =
        sqlx::query_as("delete from reactions where user_id = $1 returning note_id, reaction")
            .bind(user.0)
            .fetch_all(&mut *tx)
            .await?;
    let mut counts: Sums<(Uuid, &str)> = Sums::default();
    for (note, reaction) in &gone {
        counts.add((*note, reaction), -1);
    }
    write_counts(tx, counts).await
}

async fn write_rows(
    tx: &mut PgConnection,
    standing: &BTreeMap<(Uuid, Uuid), Option<&Added>>,
) -> sqlx::Result<()> {
    let gone = standing.iter().filter(|(_, added)| added.is_none()).map(|(key, _)| *key);
    let (notes, people): (Vec<Uuid>, Vec<Uuid>) = gone.unzip();
    if !notes.is_empty() {
        sqlx::query(
            "delete from reactions r using unnest($1::uuid[], $2::uuid[]) as d(note_id, user_id)
              where r.note_id = d.note_id and r.user_id = d.user_id",
        )
        .bind(notes)
        .bind(people)
        .execute(&mut *tx)
        .await?;
    }
    let added: Vec<&Added> = standing.values().copied().flatten().collect();
    if !added.is_empty() {
        sqlx::query(
            "insert into reactions (id, note_id, user_id, reaction)
             select id, note_id, user_id, reaction
               from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[])
                    as r(id, note_id, user_id, reaction)
             on conflict (note_id, user_id) do update set id = excluded.id, reaction = excluded.reaction",
        )
        .bind(added.iter().map(|e| e.id.0).collect::<Vec<_>>())
        .bind(added.iter().map(|e| e.note.0).collect::<Vec<_>>())
        .bind(added.iter().map(|e| e.reactor.0).collect::<Vec<_>>())
        .bind(added.iter().map(|e| sql::clean(e.reaction.as_str())).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    }
    Ok(())
}

async fn write_counts(tx: &mut PgConnection, counts: Sums<(Uuid, &str)>) -> sqlx::Result<()> {
    let (keys, sums) = counts.split();
    if keys.is_empty() {
        return Ok(());
    }
    let (notes, reactions): (Vec<Uuid>, Vec<_>) =
        keys.into_iter().map(|(note, reaction)| (note, sql::clean(reaction))).unzip();
    let gone: Vec<(Uuid, String)> = sqlx::query_as(
        "with counts as (
             insert into reaction_counts as c (note_id, reaction, reactions)
             select note_id, reaction, n
               from unnest($1::uuid[], $2::text[], $3::bigint[]) as d(note_id, reaction, n)
             on conflict (note_id, reaction) do update set reactions = c.reactions + excluded.reactions
             returning note_id, reaction, reactions
         )
         select note_id, reaction from counts where reactions = 0",
    )
    .bind(notes)
    .bind(reactions)
    .bind(sums)
    .fetch_all(&mut *tx)
    .await?;
    if !gone.is_empty() {
        let (notes, reactions): (Vec<Uuid>, Vec<String>) = gone.into_iter().unzip();
        sqlx::query(
            "delete from reaction_counts c using unnest($1::uuid[], $2::text[]) as d(note_id, reaction)
              where c.note_id = d.note_id and c.reaction = d.reaction",
        )
        .bind(notes)
        .bind(reactions)
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// One reaction of one person; pages go by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionRow {
    pub id: ReactionId,
    pub user: UserId,
    pub reaction: Reaction,
}

/// The reactions to a note: all, or those of one kind as they are stored (`:name@.:`). None when the
/// note has gone.
pub async fn of_note(
    pool: &PgPool,
    note: NoteId,
    reaction: Option<&str>,
    page: &Page,
) -> sqlx::Result<Vec<ReactionRow>> {
    let order = page.order();
    let kind = if reaction.is_some() { "r.reaction = $5" } else { "$5::text is null" };
    let sql = format!(
        "select r.id, r.user_id, r.reaction
           from read.reactions r
          where r.note_id = $1 and r.id > $2 and r.id < $3 and {kind}
            and exists (select 1 from read.notes n where n.id = $1)
          order by r.id {order} limit {LIMIT}"
    );
    let rows: Vec<(Uuid, Uuid, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(note.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(reaction.map(sql::clean))
        .fetch_all(pool)
        .await?;
    let row = |(id, user, reaction)| ReactionRow {
        id: ReactionId(id),
        user: UserId(user),
        reaction: Reaction::stored(reaction),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// How a person reacted to notes that the viewer may see; pages go by the ids of the reactions.
pub async fn of_user(
    pool: &PgPool,
    user: UserId,
    viewer: Viewer,
    page: &Page,
) -> sqlx::Result<Vec<(ReactionRow, NoteId)>> {
    let order = page.order();
    let sql = format!(
        "select r.id, r.reaction, r.note_id
           from read.reactions r join read.notes n on n.id = r.note_id
          where r.user_id = $5 and r.id > $2 and r.id < $3 and {VISIBLE}
          order by r.id {order} limit {LIMIT}"
    );
    let rows: Vec<(Uuid, String, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(user.0)
        .fetch_all(pool)
        .await?;
    let row = |(id, reaction, note)| {
        (ReactionRow { id: ReactionId(id), user, reaction: Reaction::stored(reaction) }, NoteId(note))
    };
    Ok(rows.into_iter().map(row).collect())
}

/// How often each note got each reaction, the most frequent first.
pub(crate) async fn counts(
    pool: &PgPool,
    notes: &[NoteId],
) -> sqlx::Result<HashMap<NoteId, Vec<(Reaction, i64)>>> {
    let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(
        "select note_id, reaction, reactions from read.reaction_counts
          where note_id = any((select $1::uuid[])::uuid[]) order by note_id, reactions desc, reaction",
    )
    .bind(notes.iter().map(|note| note.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let mut counts: HashMap<NoteId, Vec<(Reaction, i64)>> = HashMap::new();
    for (note, reaction, n) in rows {
        counts.entry(NoteId(note)).or_default().push((Reaction::stored(reaction), n));
    }
    Ok(counts)
}

/// What each of these people thinks of their note.
pub(crate) async fn mine(
    pool: &PgPool,
    notes: &[(UserId, NoteId)],
) -> sqlx::Result<HashMap<(UserId, NoteId), Reaction>> {
    let rows: Vec<(Uuid, Uuid, String)> = sqlx::query_as(
        "select r.user_id, r.note_id, r.reaction
           from unnest((select $1::uuid[]), (select $2::uuid[])) as k(user_id, note_id)
           join read.reactions r on r.user_id = k.user_id and r.note_id = k.note_id",
    )
    .bind(notes.iter().map(|(user, _)| user.0).collect::<Vec<_>>())
    .bind(notes.iter().map(|(_, note)| note.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let row = |(user, note, reaction)| ((UserId(user), NoteId(note)), Reaction::stored(reaction));
    Ok(rows.into_iter().map(row).collect())
}

/// What each of these people thinks of each of these notes.
pub async fn of_people(
    pool: &PgPool,
    notes: &[NoteId],
    people: &[UserId],
) -> sqlx::Result<HashMap<(UserId, NoteId), Reaction>> {
    let rows: Vec<(Uuid, Uuid, String)> = sqlx::query_as(
        "select user_id, note_id, reaction from read.reactions where note_id = any($1) and user_id = any($2)",
    )
    .bind(notes.iter().map(|note| note.0).collect::<Vec<_>>())
    .bind(people.iter().map(|user| user.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let row = |(user, note, reaction)| ((UserId(user), NoteId(note)), Reaction::stored(reaction));
    Ok(rows.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, emoji, user};
    use domain::note::Deleted;

    fn shown(rows: &[ReactionRow]) -> Vec<(UserId, &str)> {
        rows.iter().map(|row| (row.user, row.reaction.as_str())).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn reactions_are_listed_counted_replaced_and_taken_back(pool: PgPool) {
        let mut story = Story::new(&pool);
        let note = story.note(1, |_| ());
        story.react(2, note, 1, "👍");
        story.react(3, note, 1, "👍");
        story.react(4, note, 1, "🎉");
        story.project().await;
        story.unreact(2, note, 1, "👍");
        story.react(2, note, 1, "❤");
        story.react(5, note, 1, "🎉");
        story.unreact(5, note, 1, "🎉");
        story.project().await;

        let all = of_note(&pool, note, None, &Page::newest(10)).await.unwrap();
        assert_eq!(shown(&all), [(user(2), "❤"), (user(4), "🎉"), (user(3), "👍")]);
        let older = Page { until: Some(all[0].id.0), ..Page::newest(1) };
        assert_eq!(shown(&of_note(&pool, note, None, &older).await.unwrap()), [(user(4), "🎉")]);
        let only = of_note(&pool, note, Some("👍"), &Page::newest(10)).await.unwrap();
        assert_eq!(shown(&only), [(user(3), "👍")]);

        let counts = counts(&pool, &[note]).await.unwrap();
        assert_eq!(counts[&note], [(emoji("❤"), 1), (emoji("🎉"), 1), (emoji("👍"), 1)]);
        assert_eq!(mine(&pool, &[(user(2), note)]).await.unwrap()[&(user(2), note)], emoji("❤"));
        assert_eq!(mine(&pool, &[(user(5), note)]).await.unwrap().len(), 0);
        let theirs = of_people(&pool, &[note], &[user(2), user(5)]).await.unwrap();
        assert_eq!(theirs, HashMap::from([((user(2), note), emoji("❤"))]));

        story.says(Deleted { id: note, author: user(1) });
        story.project().await;
        assert_eq!(of_note(&pool, note, None, &Page::newest(10)).await.unwrap(), []);
    }
}
