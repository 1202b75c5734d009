//! Reactions and their counts per note. Those of a note that has gone stay, and nothing shows them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use domain::emoji::Reaction;
use domain::log::{Position, Recorded};
use domain::policy::Viewer;
use domain::reaction::Added;
use domain::{Event, NoteId, ReactionId, UserId};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::note::VISIBLE;
use crate::page::{LIMIT, Page};
use crate::runtime::{ProjectError, Projector, events, to_position};
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

/// Who reacted to a note is known with it where so many did at most.
const MAX_KNOWN: usize = 16;

/// Before everything in the log.
pub(crate) const NOTHING: (Position, u32) = (Position::START, 0);

/// How people reacted to a note, up to some place in the log.
#[derive(Debug, Clone)]
pub struct Reactions {
    /// How often it got each, the most frequent first and else by name, none at zero.
    pub counts: Arc<[(Reaction, i64)]>,
    /// Who reacted, each with the place of theirs in `counts`, by person; none where many did.
    known: Option<Arc<[(UserId, u8)]>>,
    /// The last event, as its position and its place among those that have the same.
    pub(crate) to: (Position, u32),
}

impl Reactions {
    /// Nobody has reacted yet.
    pub fn none() -> Self {
        Self { counts: Arc::default(), known: Some(Arc::default()), to: NOTHING }
    }

    fn of(mut all: Vec<(UserId, Reaction)>, to: (Position, u32)) -> Self {
        all.sort_unstable_by_key(|(user, _)| *user);
        let mut counts: Vec<(Reaction, i64)> = Vec::new();
        for (_, reaction) in &all {
            match counts.iter_mut().find(|(kind, _)| kind == reaction) {
                Some((_, n)) => *n += 1,
                None => counts.push((reaction.clone(), 1)),
            }
        }
        let counted = Self::counted(counts, to);
        let place =
            |reaction| counted.counts.iter().position(|(kind, _)| kind == reaction).unwrap_or(0) as u8;
        let known = || all.iter().map(|(user, reaction)| (*user, place(reaction))).collect();
        Self { known: (all.len() <= MAX_KNOWN).then(known), ..counted }
    }

    fn counted(mut counts: Vec<(Reaction, i64)>, to: (Position, u32)) -> Self {
        counts.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        Self { counts: counts.into(), known: None, to }
    }

    /// What somebody thinks of the note, if anything; none where that is not known.
    pub(crate) fn by(&self, user: UserId) -> Option<Option<&Reaction>> {
        let known = self.known.as_deref()?;
        let place = known.binary_search_by_key(&user, |(reactor, _)| *reactor).ok();
        Some(place.and_then(|place| self.at(known.get(place)?.1)))
    }

    fn at(&self, place: u8) -> Option<&Reaction> {
        self.counts.get(usize::from(place)).map(|(reaction, _)| reaction)
    }

    /// Takes in that somebody reacted or does no more, unless that is known already.
    pub(crate) fn hear(&mut self, event: &Recorded) {
        let (user, reaction, n) = match &event.event {
            Some(Event::ReactionAdded(e)) => (e.reactor, &e.reaction, 1),
            Some(Event::ReactionRemoved(e)) => (e.reactor, &e.reaction, -1),
            _ => return,
        };
        let at = (event.position, event.ordinal);
        if at <= self.to {
            return;
        }
        let reaction = Reaction::stored(sql::clean(reaction.as_str()).into_owned());
        *self = match &self.known {
            Some(known) => {
                let others = known.iter().filter(|(other, _)| *other != user);
                let mut all: Vec<_> =
                    others.filter_map(|(other, place)| Some((*other, self.at(*place)?.clone()))).collect();
                all.extend((n > 0).then_some((user, reaction)));
                Self::of(all, at)
            }
            None => {
                let mut counts = self.counts.to_vec();
                match counts.iter_mut().find(|(kind, _)| *kind == reaction) {
                    Some((_, count)) => *count += n,
                    None => counts.push((reaction, n)),
                }
                counts.retain(|(_, count)| *count != 0);
                Self::counted(counts, at)
            }
        };
    }

    /// In bytes, beside itself.
    pub(crate) fn weight(&self) -> usize {
        48 * self.counts.len() + 17 * self.known.as_ref().map_or(0, |known| known.len())
    }
}

/// What [`read`] needs of each note `n`: who reacted, one more than [`MAX_KNOWN`] at most, and the counts where that
/// many are there.
pub(crate) fn of_notes() -> String {
    format!(
        "cross join lateral (
             select array_agg(k.user_id) as reactors, array_agg(k.reaction) as reacted
               from (select r.user_id, r.reaction from read.reactions r
                      where r.note_id = n.id limit {MAX_KNOWN} + 1) k
         ) k
         cross join lateral (
             select array_agg(c.reaction) as kinds, array_agg(c.reactions) as counts
               from read.reaction_counts c
              where c.note_id = n.id and cardinality(k.reactors) > {MAX_KNOWN}
         ) c
         cross join (
             select coalesce((select c.position from ops.checkpoints c where c.projector = 'reactions'), 0)
                    as reacted_to
         ) t"
    )
}

/// Out of a row of [`of_notes`].
pub(crate) fn read(row: &PgRow) -> sqlx::Result<Reactions> {
    // Whoever projects takes all that has one position together.
    let to = (to_position(row.try_get("reacted_to")?), u32::MAX);
    let Some(reactors) = row.try_get::<Option<Vec<Uuid>>, _>("reactors")? else {
        return Ok(Reactions { to, ..Reactions::none() });
    };
    let stored = |all: Vec<String>| all.into_iter().map(Reaction::stored);
    if reactors.len() > MAX_KNOWN {
        let counts: Vec<i64> = row.try_get("counts")?;
        return Ok(Reactions::counted(stored(row.try_get("kinds")?).zip(counts).collect(), to));
    }
    let reacted = stored(row.try_get("reacted")?);
    Ok(Reactions::of(reactors.into_iter().map(UserId).zip(reacted).collect(), to))
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
    use crate::note;
    use crate::testing::{Story, emoji, user};
    use domain::note::Deleted;

    fn shown(rows: &[ReactionRow]) -> Vec<(UserId, &str)> {
        rows.iter().map(|row| (row.user, row.reaction.as_str())).collect()
    }

    /// Loaded at any time and then told of everything, also of what it knows, it is what the tables say.
    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_heard_of_reactions_is_what_the_tables_say(pool: PgPool) {
        const PEOPLE: u8 = 34;
        let kind = |n: u8| ["👍", "🎉", "❤"][usize::from(n) % 3];
        let mut story = Story::new(&pool);
        let note = story.note(1, |_| ());
        let (mut heard, mut compared): (Vec<Reactions>, [usize; 2]) = (Vec::new(), [0; 2]);
        // All come, and then most go.
        for n in (2..=PEOPLE).chain(2..=PEOPLE - 9) {
            let comes = heard.len() < usize::from(PEOPLE - 1);
            match comes {
                true => story.react(n, note, 1, kind(n)),
                false => story.unreact(n, note, 1, kind(n)),
            }
            if comes && n % 4 == 1 {
                story.unreact(n, note, 1, kind(n));
                story.react(n, note, 1, kind(n));
            }
            story.project().await;
            let right = note::by_ids(&pool, &[note]).await.unwrap().remove(&note).unwrap().reactions;
            heard.push(right.clone());
            for reactions in &mut heard {
                story.log.all().iter().for_each(|event| reactions.hear(event));
                assert_eq!(reactions.counts, right.counts);
                let both = reactions.known.is_some() && right.known.is_some();
                if both {
                    (1..=PEOPLE).for_each(|n| assert_eq!(reactions.by(user(n)), right.by(user(n))));
                }
                compared[usize::from(both)] += 1;
            }
        }
        assert!(compared.iter().all(|n| *n > 100), "{compared:?}");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn who_thinks_otherwise_now_does_both_in_one_append(pool: PgPool) {
        let mut story = Story::new(&pool);
        let note = story.note(1, |_| ());
        story.react(2, note, 1, "👍");
        let first = story.log.all().len();
        story.unreact(2, note, 1, "👍");
        story.react(2, note, 1, "❤");
        let mut reactions = Reactions::none();
        let all = story.log.all();
        let (before, both) = all.split_at(first);
        before.iter().for_each(|event| reactions.hear(event));
        for _ in 0..2 {
            for (event, ordinal) in both.iter().zip(0..) {
                reactions.hear(&Recorded { position: both[0].position, ordinal, ..event.as_ref().clone() });
            }
            assert_eq!(*reactions.counts, [(emoji("❤"), 1)]);
            assert_eq!(reactions.by(user(2)), Some(Some(&emoji("❤"))));
        }
        drop(pool);
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

        let told = async || {
            let row = note::by_ids(&pool, &[note]).await.unwrap().remove(&note).unwrap();
            let by = |n| row.reactions.by(user(n)).map(|reaction| reaction.cloned());
            (row.reactions.counts.to_vec(), [2, 5].map(by))
        };
        let counts = vec![(emoji("❤"), 1), (emoji("🎉"), 1), (emoji("👍"), 1)];
        assert_eq!(told().await, (counts, [Some(Some(emoji("❤"))), Some(None)]));
        assert_eq!(mine(&pool, &[(user(2), note)]).await.unwrap()[&(user(2), note)], emoji("❤"));
        assert_eq!(mine(&pool, &[(user(5), note)]).await.unwrap().len(), 0);
        let theirs = of_people(&pool, &[note], &[user(2), user(5)]).await.unwrap();
        assert_eq!(theirs, HashMap::from([((user(2), note), emoji("❤"))]));

        for n in 6..19 {
            story.react(n, note, 1, "👍");
        }
        story.project().await;
        let counts = vec![(emoji("👍"), 14), (emoji("❤"), 1), (emoji("🎉"), 1)];
        assert_eq!(told().await, (counts, [Some(Some(emoji("❤"))), Some(None)]));
        story.react(19, note, 1, "🎉");
        story.project().await;
        let counts = vec![(emoji("👍"), 14), (emoji("🎉"), 2), (emoji("❤"), 1)];
        assert_eq!(told().await, (counts, [None, None]), "too many to know them");

        story.says(Deleted { id: note, author: user(1) });
        story.project().await;
        assert_eq!(of_note(&pool, note, None, &Page::newest(10)).await.unwrap(), []);
    }
}
