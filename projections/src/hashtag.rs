//! Hashtags: which notes have them, who has ever written them, and who has them in their profile.
//!
//! Rows of notes that have gone stay where the note was deleted along with another, and nothing shows them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use domain::ids::first_of;
use domain::log::Recorded;
use domain::policy::Viewer;
use domain::text::{named, normalize_tag};
use domain::{Event, NoteId, UserId};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::note::{VISIBLE, having_files};
use crate::page::{LIMIT, MAX_ITEMS, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::{self, Sums};
use crate::user::{ALIVE_DAYS, Origin, SortKey};

/// The length of one step in the chart of a trend.
const TREND_STEP: TimeDelta = TimeDelta::minutes(10);
/// Steps in the chart of a trend.
pub const TREND_STEPS: usize = 20;
/// Tags in the trend.
const TRENDING: i64 = 10;

/// Fills `read.note_tags`, `read.tag_people`, `read.tags` and `read.tag_strangers`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "hashtags"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["note_tags", "tag_people", "tags", "tag_strangers"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["note.created", "note.deleted", "user.created", "user.changed", "user.erased"]
    }

    /// Of what is written, only what has tags; of people, only what they say of themselves, and who is from elsewhere.
    fn heeds(&self, event: &Event) -> bool {
        match event {
            Event::NoteCreated(note) => !note.tags.is_empty(),
            Event::UserCreated(user) => user.host.is_some(),
            Event::UserChanged(user) => user.changes.description.is_some(),
            _ => true,
        }
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
    let (mut tags, mut notes, mut authors) = (Vec::new(), Vec::new(), Vec::new());
    let mut mentioned: BTreeMap<(String, Uuid), bool> = BTreeMap::new();
    let mut deleted: Vec<Uuid> = Vec::new();
    let mut strangers: Vec<Uuid> = Vec::new();
    let mut profiles: BTreeMap<Uuid, BTreeSet<String>> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::NoteCreated(e) => {
                for tag in e.tags.iter().map(|tag| sql::clean(tag).into_owned()).collect::<BTreeSet<_>>() {
                    mentioned.entry((tag.clone(), e.author.0)).or_insert(e.uri.is_none());
                    tags.push(tag);
                    notes.push(e.id.0);
                    authors.push(e.author.0);
                }
            }
            Event::NoteDeleted(e) => deleted.push(e.id.0),
            Event::UserCreated(e) if e.host.is_some() => strangers.push(e.user.0),
            Event::UserChanged(e) => {
                if let Some(description) = &e.changes.description {
                    let tags = named(description.as_deref().unwrap_or_default()).tags;
                    let tags = tags.iter().map(|tag| sql::clean(tag).into_owned()).collect();
                    profiles.insert(e.user.0, tags);
                }
            }
            _ => (),
        }
    }
    if !notes.is_empty() {
        sqlx::query(
            "insert into note_tags (tag, note_id, author)
             select tag, note_id, author from unnest($1::text[], $2::uuid[], $3::uuid[]) as t(tag, note_id, author)",
        )
        .bind(tags)
        .bind(notes)
        .bind(authors)
        .execute(&mut *tx)
        .await?;
    }
    if !deleted.is_empty() {
        sqlx::query("delete from note_tags where note_id = any($1)").bind(deleted).execute(&mut *tx).await?;
    }
    if !strangers.is_empty() {
        sqlx::query("insert into tag_strangers (user_id) select unnest($1::uuid[])")
            .bind(strangers)
            .execute(&mut *tx)
            .await?;
    }
    let mut counts: Sums<(String, bool, bool)> = Sums::default();
    let (people, local): (Vec<(String, Uuid)>, Vec<bool>) = mentioned.into_iter().unzip();
    let (tags, people): (Vec<String>, Vec<Uuid>) = people.into_iter().unzip();
    add(tx, false, tags, people, local, &mut counts).await?;
    if !profiles.is_empty() {
        attach(tx, profiles, &mut counts).await?;
    }
    count(tx, counts).await
}

/// The tags of these profiles, from now on.
async fn attach(
    tx: &mut PgConnection,
    profiles: BTreeMap<Uuid, BTreeSet<String>>,
    counts: &mut Sums<(String, bool, bool)>,
) -> sqlx::Result<()> {
    let whose: Vec<Uuid> = profiles.keys().copied().collect();
    let remote: Vec<Uuid> = sqlx::query_scalar("select user_id from tag_strangers where user_id = any($1)")
        .bind(&whose)
        .fetch_all(&mut *tx)
        .await?;
    let gone: Vec<(String, bool)> =
        sqlx::query_as("delete from tag_people where attached and user_id = any($1) returning tag, local")
            .bind(whose)
            .fetch_all(&mut *tx)
            .await?;
    for (tag, local) in gone {
        counts.add((tag, true, local), -1);
    }
    let (mut tags, mut people, mut local) = (Vec::new(), Vec::new(), Vec::new());
    for (user, attached) in profiles {
        for tag in attached {
            tags.push(tag);
            people.push(user);
            local.push(!remote.contains(&user));
        }
    }
    add(tx, true, tags, people, local, counts).await
}

async fn add(
    tx: &mut PgConnection,
    attached: bool,
    tags: Vec<String>,
    people: Vec<Uuid>,
    local: Vec<bool>,
    counts: &mut Sums<(String, bool, bool)>,
) -> sqlx::Result<()> {
    if tags.is_empty() {
        return Ok(());
    }
    let new: Vec<(String, bool)> = sqlx::query_as(
        "insert into tag_people (tag, attached, user_id, local)
         select tag, $4, user_id, local
           from unnest($1::text[], $2::uuid[], $3::boolean[]) as p(tag, user_id, local)
         on conflict (tag, attached, user_id) do nothing
         returning tag, local",
    )
    .bind(tags)
    .bind(people)
    .bind(local)
    .bind(attached)
    .fetch_all(tx)
    .await?;
    for (tag, local) in new {
        counts.add((tag, attached, local), 1);
    }
    Ok(())
}

async fn count(tx: &mut PgConnection, counts: Sums<(String, bool, bool)>) -> sqlx::Result<()> {
    let (keys, sums) = counts.split();
    if keys.is_empty() {
        return Ok(());
    }
    let mut rows: BTreeMap<String, [i64; 4]> = BTreeMap::new();
    for ((tag, attached, local), n) in keys.into_iter().zip(sums) {
        rows.entry(tag).or_default()[usize::from(attached) * 2 + usize::from(!local)] += n;
    }
    let column = |n: usize| rows.values().map(|row| row[n]).collect::<Vec<i64>>();
    sqlx::query(
        "insert into tags as t (tag, mentioned_local, mentioned_remote, attached_local, attached_remote)
         select tag, ml, mr, al, ar
           from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                as d(tag, ml, mr, al, ar)
         on conflict (tag) do update
            set mentioned_local = t.mentioned_local + excluded.mentioned_local,
                mentioned_remote = t.mentioned_remote + excluded.mentioned_remote,
                attached_local = t.attached_local + excluded.attached_local,
                attached_remote = t.attached_remote + excluded.attached_remote",
    )
    .bind(rows.keys().cloned().collect::<Vec<_>>())
    .bind(column(0))
    .bind(column(1))
    .bind(column(2))
    .bind(column(3))
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "delete from tags
          where tag = any($1) and mentioned_local = 0 and mentioned_remote = 0
            and attached_local = 0 and attached_remote = 0",
    )
    .bind(rows.into_keys().collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let gone: Vec<(String, bool, bool)> =
        sqlx::query_as("delete from tag_people where user_id = $1 returning tag, attached, local")
            .bind(user.0)
            .fetch_all(&mut *tx)
            .await?;
    let mut counts = Sums::default();
    for key in gone {
        counts.add(key, -1);
    }
    count(tx, counts).await?;
    for statement in
        ["delete from note_tags where author = $1", "delete from tag_strangers where user_id = $1"]
    {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A tag with how many people have ever written it, or have it in their profile.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TagRow {
    pub tag: String,
    pub mentioned_local: i64,
    pub mentioned_remote: i64,
    pub attached_local: i64,
    pub attached_remote: i64,
}

/// By which count a list of tags is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKey {
    Mentioned(Origin),
    Attached(Origin),
}

impl TagKey {
    fn sql(self) -> &'static str {
        match self {
            TagKey::Mentioned(Origin::Combined) => "(t.mentioned_local + t.mentioned_remote)",
            TagKey::Mentioned(Origin::Local) => "t.mentioned_local",
            TagKey::Mentioned(Origin::Remote) => "t.mentioned_remote",
            TagKey::Attached(Origin::Combined) => "(t.attached_local + t.attached_remote)",
            TagKey::Attached(Origin::Local) => "t.attached_local",
            TagKey::Attached(Origin::Remote) => "t.attached_remote",
        }
    }
}

/// Tags by a count, the greatest or the smallest first; only those that somebody has in their profile, of
/// everybody or of some, where `attached` says so.
pub async fn list(
    pool: &PgPool,
    key: TagKey,
    descending: bool,
    attached: Option<Origin>,
    limit: u16,
) -> sqlx::Result<Vec<TagRow>> {
    let (key, order) = (key.sql(), if descending { "desc" } else { "asc" });
    let only = attached.map_or_else(|| "true".to_owned(), |of| format!("{} > 0", TagKey::Attached(of).sql()));
    let sql = format!("select t.* from read.tags t where {only} order by {key} {order}, t.tag desc limit $1");
    sqlx::query_as(AssertSqlSafe(sql)).bind(i64::from(limit.min(MAX_ITEMS))).fetch_all(pool).await
}

/// One tag.
pub async fn show(pool: &PgPool, tag: &str) -> sqlx::Result<Option<TagRow>> {
    sqlx::query_as("select t.* from read.tags t where t.tag = $1")
        .bind(sql::clean(&normalize_tag(tag)))
        .fetch_optional(pool)
        .await
}

/// Tags that begin so, those first that most people have written.
pub async fn search(pool: &PgPool, start: &str, limit: u16, offset: u32) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select t.tag from read.tags t
          where t.tag >= $1 and t.tag < $1 || U&'\\+10FFFF'
          order by t.mentioned_local + t.mentioned_remote desc, t.tag limit $2 offset $3",
    )
    .bind(sql::clean(&normalize_tag(start)))
    .bind(i64::from(limit.min(MAX_ITEMS)))
    .bind(i64::from(offset))
    .fetch_all(pool)
    .await
}

/// A tag that is written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    pub tag: String,
    /// How many people wrote it in each step of time, the current one first.
    pub chart: Vec<i64>,
    pub people: i64,
}

/// The tags that most people write now, in notes for everybody; but for those that are hidden.
pub async fn trend(pool: &PgPool, hidden: &[String], now: DateTime<Utc>) -> sqlx::Result<Vec<Trend>> {
    let step = TREND_STEP.num_seconds();
    let current = now.timestamp().div_euclid(step);
    let steps = i64::try_from(TREND_STEPS).unwrap_or(i64::MAX);
    let since = DateTime::from_timestamp((current - steps + 1) * step, 0).unwrap_or(now);
    let rows: Vec<(String, i64, Uuid, Uuid)> = sqlx::query_as(
        "with written as (
             select t.tag, t.note_id, t.author
               from read.note_tags t join read.notes n on n.id = t.note_id
              where t.note_id >= $1 and n.visibility in ('public', 'home') and not t.tag = any($3)
         ), most as (
             select tag, count(distinct author) as people from written
              group by tag order by 2 desc, 1 limit $2
         )
         select w.tag, m.people, w.author, w.note_id from most m join written w on w.tag = m.tag",
    )
    .bind(first_of(since))
    .bind(TRENDING)
    .bind(hidden.iter().map(|tag| sql::clean(&normalize_tag(tag)).into_owned()).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let mut trends: BTreeMap<String, (i64, HashMap<usize, BTreeSet<Uuid>>)> = BTreeMap::new();
    for (tag, people, author, note) in rows {
        let ago = current - NoteId(note).time().timestamp().div_euclid(step);
        let at = usize::try_from(ago).unwrap_or(0).min(TREND_STEPS - 1);
        let trend = trends.entry(tag).or_insert_with(|| (people, HashMap::new()));
        trend.1.entry(at).or_default().insert(author);
    }
    let chart = |steps: HashMap<usize, BTreeSet<Uuid>>| {
        (0..TREND_STEPS).map(|at| steps.get(&at).map_or(0, |people| people.len() as i64)).collect()
    };
    let mut trends: Vec<Trend> =
        trends.into_iter().map(|(tag, (people, steps))| Trend { tag, chart: chart(steps), people }).collect();
    trends.sort_by(|a, b| b.people.cmp(&a.people).then_with(|| a.tag.cmp(&b.tag)));
    Ok(trends)
}

/// Which people who have a tag in their profile.
#[derive(Debug, Clone, Copy)]
pub struct PeopleFilter {
    pub sort: SortKey,
    pub descending: bool,
    /// Only accounts that wrote or deleted a note within [`ALIVE_DAYS`].
    pub alive: bool,
    pub origin: Origin,
}

/// People who have a tag in their profile.
pub async fn people(
    pool: &PgPool,
    tag: &str,
    filter: PeopleFilter,
    now: DateTime<Utc>,
    limit: u16,
) -> sqlx::Result<Vec<UserId>> {
    let origin = match filter.origin {
        Origin::Combined => "true",
        Origin::Local => "p.local",
        Origin::Remote => "not p.local",
    };
    let key = match filter.sort {
        SortKey::Followers => "coalesce(f.followers, 0)",
        SortKey::CreatedAt => "p.user_id",
        SortKey::UpdatedAt => "n.updated_at",
    };
    let order = if filter.descending { "desc nulls last" } else { "asc nulls first" };
    let alive_since = filter
        .alive
        .then(|| now.checked_sub_signed(TimeDelta::days(i64::try_from(ALIVE_DAYS).unwrap_or(0))))
        .flatten();
    let sql = format!(
        "select p.user_id
           from read.tag_people p
           join read.users u on u.id = p.user_id
           left join read.follow_counts f on f.user_id = p.user_id
           left join read.note_authors n on n.user_id = p.user_id
          where p.tag = $1 and p.attached and not u.is_suspended and {origin}
            and ($2::timestamptz is null or n.updated_at > $2)
          order by {key} {order}, p.user_id limit $3"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(sql::clean(&normalize_tag(tag)).into_owned())
        .bind(alive_since)
        .bind(i64::from(limit.min(MAX_ITEMS)))
        .fetch_all(pool)
        .await?;
    Ok(sql::users(ids))
}

/// Which notes with a tag.
#[derive(Debug, Clone, Default)]
pub struct NotesFilter {
    /// Any of these groups of tags, of which a note has all.
    pub tags: Vec<Vec<String>>,
    /// Of this server, or not.
    pub local: Option<bool>,
    pub reply: Option<bool>,
    pub renote: Option<bool>,
    pub poll: Option<bool>,
    pub with_files: bool,
}

/// Notes with tags, that the viewer may see; pages go by the ids of the notes.
pub async fn notes(
    pool: &PgPool,
    viewer: Viewer,
    filter: &NotesFilter,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let order = page.order();
    // A note is found by the first tag of its group, and has to have the others.
    let groups: Vec<Vec<String>> = filter
        .tags
        .iter()
        .map(|group| group.iter().map(|tag| sql::clean(&normalize_tag(tag)).into_owned()).collect())
        .collect();
    let (mut firsts, mut rests) = (Vec::new(), Vec::new());
    for group in &groups {
        if let Some((first, rest)) = group.split_first() {
            firsts.push(first.clone());
            rests.push(serde_json::Value::from(rest.to_vec()));
        }
    }
    let files = having_files(filter.with_files);
    let sql = format!(
        "select distinct f.id
           from unnest($5::text[], $6::jsonb[]) as g(first, rest)
          cross join lateral (
                select n.id
                  from read.note_tags t join read.notes n on n.id = t.note_id
                 where t.tag = g.first and t.note_id > $2 and t.note_id < $3 and {VISIBLE} {files}
                   and not exists (select 1 from jsonb_array_elements_text(g.rest) r(tag)
                                    where not r.tag = any(n.tags))
                   and ($7::boolean is null or (n.uri is null) = $7)
                   and ($8::boolean is null or (n.reply_id is not null) = $8)
                   and ($9::boolean is null or (n.renote_id is not null) = $9)
                   and ($10::boolean is null or (n.poll is not null) = $10)
                 order by t.note_id {order} limit {LIMIT}) f
          order by f.id {order} limit {LIMIT}"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(firsts)
        .bind(rests)
        .bind(filter.local)
        .bind(filter.reply)
        .bind(filter.renote)
        .bind(filter.poll)
        .fetch_all(pool)
        .await?;
    Ok(ids.into_iter().map(NoteId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::moderation::Suspended;
    use domain::note::{Deleted, Visibility};
    use domain::user::ProfileChanges;

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    fn about(text: &str) -> ProfileChanges {
        ProfileChanges { description: Some(Some(text.to_owned())), ..ProfileChanges::default() }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn tags_count_people_and_list_notes(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 1..=3 {
            story.person(n, &format!("user{n}"));
        }
        let both = story.note(1, |note| note.tags = tags(&["tag1", "tag2"]));
        let one = story.note(2, |note| note.tags = tags(&["tag1"]));
        story.note(2, |note| note.tags = tags(&["tag1"]));
        let hidden = story.note(3, |note| {
            note.tags = tags(&["日本語"]);
            note.visibility = Visibility::Followers;
        });
        story.changes(1, about("#intro and #tag2"));
        story.project().await;
        story.changes(1, about("#intro"));
        story.changes(2, about("#intro"));
        story.project().await;

        let key = TagKey::Mentioned(Origin::Combined);
        let listed = list(&pool, key, true, None, 2).await.unwrap();
        let names: Vec<(&str, i64)> = listed.iter().map(|r| (r.tag.as_str(), r.mentioned_local)).collect();
        assert_eq!(names, [("tag1", 2), ("日本語", 1)]);
        let attached = list(&pool, key, true, Some(Origin::Local), 10).await.unwrap();
        assert_eq!(attached.iter().map(|r| (&*r.tag, r.attached_local)).collect::<Vec<_>>(), [("intro", 2)]);
        assert_eq!(show(&pool, "TAG2").await.unwrap().unwrap().attached_local, 0);
        assert_eq!(search(&pool, "Ta", 10, 0).await.unwrap(), ["tag1", "tag2"]);
        let filter =
            PeopleFilter { sort: SortKey::CreatedAt, descending: true, alive: false, origin: Origin::Local };
        let with = people(&pool, "Intro", filter, story.now(), 10).await.unwrap();
        assert_eq!(with, [user(2), user(1)]);
        let now = trend(&pool, &[], story.now()).await.unwrap();
        let shown: Vec<(&str, i64, i64)> = now.iter().map(|t| (&*t.tag, t.people, t.chart[0])).collect();
        assert_eq!(shown, [("tag1", 2, 2), ("tag2", 1, 1)]);

        let unhidden = trend(&pool, &tags(&["TAG1"]), story.now()).await.unwrap();
        assert_eq!(unhidden.iter().map(|t| &*t.tag).collect::<Vec<_>>(), ["tag2"]);

        let find = async |viewer: Option<u8>, groups: &[&[&str]], limit| {
            let tags = groups.iter().map(|group| tags(group)).collect();
            let filter = NotesFilter { tags, ..NotesFilter::default() };
            notes(&pool, viewer.map(user), &filter, &Page::newest(limit)).await.unwrap()
        };
        assert_eq!(find(None, &[&["Tag1", "tag2"], &["日本語"]], 10).await, [both]);
        assert_eq!(find(Some(3), &[&["tag1", "tag2"], &["日本語"]], 10).await, [hidden, both]);
        assert_eq!(find(None, &[&["tag1"]], 1).await.len(), 1);
        story.says(Deleted { id: both, author: user(1) });
        story.project().await;
        let left = find(None, &[&["tag1"]], 10).await;
        assert_eq!((left.len(), left[1]), (2, one));
        assert_eq!(show(&pool, "tag1").await.unwrap().unwrap().mentioned_local, 2);
        story.says(Suspended { user: user(2) });
        story.project().await;
        assert_eq!(people(&pool, "intro", filter, story.now(), 10).await.unwrap(), [user(1)]);
    }
}
