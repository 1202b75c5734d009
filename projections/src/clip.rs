//! Collections of notes. Notes that have gone stay in them, and nothing shows or counts them; and whoever keeps
//! a clip that has gone stays in its list, likewise.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::clip::{About, Created, Favorited};
use domain::log::Recorded;
use domain::{ClipId, Event, NoteId, UserId};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::{LIMIT, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// The most clips that are shown of those that one person keeps, or that have one note.
const MAX_SHOWN: i64 = 100;

/// Fills `read.clips`, `read.clip_notes` and `read.clip_favorites`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "clips"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["clips", "clip_notes", "clip_favorites"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "clip.created",
            "clip.changed",
            "clip.deleted",
            "clip.note_added",
            "clip.note_removed",
            "clip.favorited",
            "clip.unfavorited",
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

/// What a batch comes to.
#[derive(Default)]
struct Changes<'e> {
    created: Vec<&'e Created>,
    about: BTreeMap<Uuid, &'e About>,
    deleted: Vec<Uuid>,
    /// By clip and note: whose clip it is, when the note is in it at the end.
    notes: BTreeMap<(Uuid, Uuid), Option<Uuid>>,
    clipped: BTreeMap<Uuid, DateTime<Utc>>,
    /// By clip and person.
    favorites: BTreeMap<(Uuid, Uuid), Option<&'e Favorited>>,
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let mut changes = Changes::default();
    for (recorded, event) in events(batch) {
        match event {
            Event::ClipCreated(e) => changes.created.push(e),
            Event::ClipChanged(e) => {
                changes.about.insert(e.id.0, &e.about);
            }
            Event::ClipDeleted(e) => changes.deleted.push(e.id.0),
            Event::ClipNoteAdded(e) => {
                changes.notes.insert((e.clip.0, e.note.0), Some(e.user.0));
                changes.clipped.insert(e.clip.0, recorded.at);
            }
            Event::ClipNoteRemoved(e) => {
                changes.notes.insert((e.clip.0, e.note.0), None);
            }
            Event::ClipFavorited(e) => {
                changes.favorites.insert((e.clip.0, e.user.0), Some(e));
            }
            Event::ClipUnfavorited(e) => {
                changes.favorites.insert((e.clip.0, e.user.0), None);
            }
            _ => (),
        }
    }
    write_clips(tx, &changes).await?;
    write_notes(tx, &changes).await?;
    write_favorites(tx, &changes).await?;
    // At last: a note that came into a clip after its end is not in it.
    if !changes.deleted.is_empty() {
        for statement in
            ["delete from clips where id = any($1)", "delete from clip_notes where clip_id = any($1)"]
        {
            sqlx::query(statement).bind(&changes.deleted).execute(&mut *tx).await?;
        }
    }
    Ok(())
}

async fn write_clips(tx: &mut PgConnection, changes: &Changes<'_>) -> sqlx::Result<()> {
    if !changes.created.is_empty() {
        let created = &changes.created;
        let name = |e: &&Created| sql::clean(&e.about.name).into_owned();
        let text = |e: &&Created| e.about.description.as_deref().map(|text| sql::clean(text).into_owned());
        sqlx::query(
            "insert into clips (id, user_id, name, description, public)
             select id, user_id, name, description, public
               from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::boolean[])
                    as c(id, user_id, name, description, public)",
        )
        .bind(created.iter().map(|e| e.id.0).collect::<Vec<_>>())
        .bind(created.iter().map(|e| e.user.0).collect::<Vec<_>>())
        .bind(created.iter().map(name).collect::<Vec<_>>())
        .bind(created.iter().map(text).collect::<Vec<_>>())
        .bind(created.iter().map(|e| e.about.public).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    }
    if !changes.about.is_empty() {
        let about = || changes.about.values();
        let text = |a: &&About| a.description.as_deref().map(|text| sql::clean(text).into_owned());
        sqlx::query(
            "update clips c set name = d.name, description = d.description, public = d.public
               from unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[])
                    as d(id, name, description, public)
              where c.id = d.id",
        )
        .bind(changes.about.keys().copied().collect::<Vec<_>>())
        .bind(about().map(|a| sql::clean(&a.name).into_owned()).collect::<Vec<_>>())
        .bind(about().map(text).collect::<Vec<_>>())
        .bind(about().map(|a| a.public).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn write_notes(tx: &mut PgConnection, changes: &Changes<'_>) -> sqlx::Result<()> {
    let gone = changes.notes.iter().filter(|(_, stands)| stands.is_none()).map(|(key, _)| *key);
    let (clips, notes): (Vec<Uuid>, Vec<Uuid>) = gone.unzip();
    if !clips.is_empty() {
        sqlx::query(
            "delete from clip_notes c using unnest($1::uuid[], $2::uuid[]) as d(clip_id, note_id)
              where c.clip_id = d.clip_id and c.note_id = d.note_id",
        )
        .bind(clips)
        .bind(notes)
        .execute(&mut *tx)
        .await?;
    }
    let (mut clips, mut notes, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for ((clip, note), owner) in &changes.notes {
        if let Some(owner) = owner {
            clips.push(*clip);
            notes.push(*note);
            owners.push(*owner);
        }
    }
    if !clips.is_empty() {
        sqlx::query(
            "insert into clip_notes (clip_id, note_id, user_id)
             select d.clip_id, d.note_id, d.user_id
               from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as d(clip_id, note_id, user_id)
               join clips c on c.id = d.clip_id
             on conflict (clip_id, note_id) do nothing",
        )
        .bind(clips)
        .bind(notes)
        .bind(owners)
        .execute(&mut *tx)
        .await?;
    }
    if !changes.clipped.is_empty() {
        sqlx::query(
            "update clips c set clipped_at = d.at
               from unnest($1::uuid[], $2::timestamptz[]) as d(id, at) where c.id = d.id",
        )
        .bind(changes.clipped.keys().copied().collect::<Vec<_>>())
        .bind(changes.clipped.values().copied().collect::<Vec<_>>())
        .execute(tx)
        .await?;
    }
    Ok(())
}

async fn write_favorites(tx: &mut PgConnection, changes: &Changes<'_>) -> sqlx::Result<()> {
    let gone = changes.favorites.iter().filter(|(_, stands)| stands.is_none()).map(|(key, _)| *key);
    let (clips, people): (Vec<Uuid>, Vec<Uuid>) = gone.unzip();
    if !clips.is_empty() {
        sqlx::query(
            "delete from clip_favorites f using unnest($1::uuid[], $2::uuid[]) as d(clip_id, user_id)
              where f.clip_id = d.clip_id and f.user_id = d.user_id",
        )
        .bind(clips)
        .bind(people)
        .execute(&mut *tx)
        .await?;
    }
    let added: Vec<&Favorited> = changes.favorites.values().copied().flatten().collect();
    if !added.is_empty() {
        sqlx::query(
            "insert into clip_favorites (id, clip_id, user_id)
             select id, clip_id, user_id
               from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as f(id, clip_id, user_id)
             on conflict (clip_id, user_id) do update set id = excluded.id",
        )
        .bind(added.iter().map(|e| e.id.0).collect::<Vec<_>>())
        .bind(added.iter().map(|e| e.clip.0).collect::<Vec<_>>())
        .bind(added.iter().map(|e| e.user.0).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    }
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    for statement in [
        "delete from clips where user_id = $1",
        "delete from clip_notes where user_id = $1",
        "delete from clip_favorites where user_id = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A clip with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipRow {
    pub id: ClipId,
    pub user: UserId,
    pub about: About,
    pub clipped_at: Option<DateTime<Utc>>,
    /// Notes in it that are there.
    pub notes: i64,
    /// People who keep it.
    pub favorites: i64,
    /// Whether the viewer keeps it.
    pub is_favorited: bool,
}

/// What is shown of `read.clips c`; $1 is the viewer.
const COLUMNS: &str = "c.id, c.user_id, c.name, c.description, c.public, c.clipped_at,
    (select count(*) from read.clip_notes x join read.notes n on n.id = x.note_id where x.clip_id = c.id)
        as notes,
    (select count(*) from read.clip_favorites f where f.clip_id = c.id) as favorites,
    exists (select 1 from read.clip_favorites f where f.clip_id = c.id and f.user_id = $1) as is_favorited";

/// Clips that the viewer may see: $1 is the viewer.
const VISIBLE: &str = "(c.public or c.user_id = $1)";

fn clip_row(row: &PgRow) -> sqlx::Result<ClipRow> {
    Ok(ClipRow {
        id: ClipId(row.try_get("id")?),
        user: UserId(row.try_get("user_id")?),
        about: About {
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            public: row.try_get("public")?,
        },
        clipped_at: row.try_get("clipped_at")?,
        notes: row.try_get("notes")?,
        favorites: row.try_get("favorites")?,
        is_favorited: row.try_get("is_favorited")?,
    })
}

/// One clip, if it is there for the viewer.
pub async fn by_id(pool: &PgPool, viewer: Option<UserId>, clip: ClipId) -> sqlx::Result<Option<ClipRow>> {
    let sql = format!("select {COLUMNS} from read.clips c where c.id = $2 and {VISIBLE}");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(clip.0)
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(clip_row).transpose()
}

/// Whose clip it is, for everybody's eyes or not.
pub async fn owner(pool: &PgPool, clip: ClipId) -> sqlx::Result<Option<UserId>> {
    let owner: Option<Uuid> = sqlx::query_scalar("select user_id from read.clips where id = $1")
        .bind(clip.0)
        .fetch_optional(pool)
        .await?;
    Ok(owner.map(UserId))
}

/// The clips of a person: all, or those that are for everybody.
pub async fn of_user(
    pool: &PgPool,
    viewer: Option<UserId>,
    user: UserId,
    public_only: bool,
    page: &Page,
) -> sqlx::Result<Vec<ClipRow>> {
    let order = page.order();
    let sql = format!(
        "select {COLUMNS} from read.clips c
          where c.user_id = $2 and c.id > $3 and c.id < $4 and {VISIBLE} and (c.public or not $6)
          order by c.id {order} limit $5"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(user.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(public_only)
        .fetch_all(pool)
        .await?;
    rows.iter().map(clip_row).collect()
}

/// The clips that a person keeps, the latest kept first.
pub async fn favorites(pool: &PgPool, user: UserId) -> sqlx::Result<Vec<ClipRow>> {
    let sql = format!(
        "select {COLUMNS} from read.clip_favorites k join read.clips c on c.id = k.clip_id
          where k.user_id = $1 and {VISIBLE} order by k.id desc limit $2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(user.0).bind(MAX_SHOWN).fetch_all(pool).await?;
    rows.iter().map(clip_row).collect()
}

/// The public clips that have a note, the newest first.
pub async fn with_note(pool: &PgPool, viewer: Option<UserId>, note: NoteId) -> sqlx::Result<Vec<ClipRow>> {
    let sql = format!(
        "select {COLUMNS} from read.clip_notes k join read.clips c on c.id = k.clip_id
          where k.note_id = $2 and c.public order by c.id desc limit $3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(note.0)
        .bind(MAX_SHOWN)
        .fetch_all(pool)
        .await?;
    rows.iter().map(clip_row).collect()
}

/// The notes of a clip; those with `words` in their text or content warning, when that is said. Pages go by
/// the ids of the notes.
pub async fn notes(
    pool: &PgPool,
    clip: ClipId,
    words: Option<&str>,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let order = page.order();
    let sql = format!(
        "select n.id
           from read.clip_notes c join read.notes n on n.id = c.note_id
          where c.clip_id = $1 and n.id > $2 and n.id < $3
            and ($5::text is null
                 or position($5 in lower(n.text)) > 0 or position($5 in lower(n.cw)) > 0)
          order by n.id {order} limit {LIMIT}"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(clip.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(words.map(|words| sql::clean(words).to_lowercase()))
        .fetch_all(pool)
        .await?;
    Ok(ids.into_iter().map(NoteId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::clip::Deleted;
    use domain::{clip, note};

    fn names(rows: &[ClipRow]) -> Vec<&str> {
        rows.iter().map(|row| row.about.name.as_str()).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn clips_are_shown_to_whom_they_are_for_with_what_is_in_them(pool: PgPool) {
        let mut story = Story::new(&pool);
        let (first, second) = (story.note(2, |n| n.text = Some("Ein WORT".into())), story.note(2, |_| ()));
        let (open, private) = (story.clip(1, "open", true), story.clip(1, "private", false));
        story.project().await;
        for note in [first, second] {
            story.put_in(1, open, note);
        }
        story.put_in(1, private, first);
        story.keep_clip(2, open);
        story.project().await;

        let me = Some(user(1));
        let page = Page::newest(10);
        let mine = of_user(&pool, me, user(1), false, &page).await.unwrap();
        assert_eq!(names(&mine), ["private", "open"]);
        assert_eq!((mine[1].notes, mine[1].favorites, mine[1].is_favorited), (2, 1, false));
        assert!(mine[0].clipped_at > mine[1].clipped_at);
        for viewer in [None, Some(user(2))] {
            let theirs = of_user(&pool, viewer, user(1), false, &page).await.unwrap();
            assert_eq!((names(&theirs), theirs[0].is_favorited), (vec!["open"], viewer.is_some()));
            assert_eq!(by_id(&pool, viewer, private).await.unwrap(), None);
        }
        assert_eq!(names(&of_user(&pool, me, user(1), true, &page).await.unwrap()), ["open"]);
        assert_eq!(names(&favorites(&pool, user(2)).await.unwrap()), ["open"]);
        assert_eq!(names(&with_note(&pool, None, first).await.unwrap()), ["open"]);
        assert_eq!(owner(&pool, private).await.unwrap(), me);
        let listed = async |words| notes(&pool, open, words, &page).await.unwrap();
        assert_eq!(listed(None).await, [second, first]);
        assert_eq!(listed(Some("wort")).await, [first]);

        story.says(note::Deleted { id: first, author: user(2) });
        story.says(clip::NoteRemoved { clip: private, user: user(1), note: first });
        let about = About { name: "renamed".to_owned(), description: None, public: true };
        story.says(clip::Changed { id: private, user: user(1), about });
        story.says(clip::Unfavorited { clip: open, user: user(2) });
        story.project().await;
        let mine = of_user(&pool, me, user(1), true, &page).await.unwrap();
        assert_eq!(names(&mine), ["renamed", "open"]);
        assert_eq!((mine[1].notes, mine[1].favorites), (1, 0));
        story.says(Deleted { id: open, user: user(1) });
        // It was on its way when the clip ended.
        story.put_in(1, open, second);
        story.project().await;
        assert_eq!(names(&of_user(&pool, me, user(1), false, &page).await.unwrap()), ["renamed"]);
        assert_eq!(listed(None).await, []);
    }
}
