//! Notes with their counts, and the lists of notes: timelines, a person's notes, threads.
//!
//! A note that is deleted takes its replies, renotes and quotes with it, and theirs; so does one that
//! appears after what it answers or passes on has gone. What is there is thus the same however the
//! events were cut into batches.
//!
//! Every list narrows by who may see and who wants what, in the sense of [`domain::policy`] and never narrower;
//! the policy itself is asked when the ids have been loaded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::note::{Created, Parent, Visibility};
use domain::policy::{AuthorRules, Viewer};
use domain::poll::Poll;
use domain::{ChannelId, Event, FileId, ListId, NoteId, UserId};
use serde::Serialize;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow, Postgres};
use sqlx::query::QueryScalar;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::{LIMIT, MAX_ITEMS, Page};
use crate::reaction::{self, Reactions};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql::{self, Sums};
use crate::world::{NoteRow, Written};

/// The most renotes of one note by one person that are taken back at once.
pub const MAX_MY_RENOTES: i64 = 1_000;
/// How far up a conversation is followed.
pub const MAX_ANCESTORS: u32 = 1_000;

/// Fills `read.notes`, `read.withdrawn_renotes`, `read.mentions`, `read.note_authors` and `read.note_totals`.
pub struct Projection;

/// A row to be written; the names are those of the columns.
#[derive(Serialize)]
struct NewNote {
    id: Uuid,
    author: Uuid,
    text: Option<String>,
    cw: Option<String>,
    visibility: &'static str,
    local_only: bool,
    reaction_acceptance: Option<&'static str>,
    reply_id: Option<Uuid>,
    reply_author: Option<Uuid>,
    renote_id: Option<Uuid>,
    renote_author: Option<Uuid>,
    mentions: Vec<Uuid>,
    visible_to: Vec<Uuid>,
    tags: Vec<String>,
    emojis: Vec<String>,
    poll: Option<serde_json::Value>,
    files: Vec<Uuid>,
    uri: Option<String>,
    pure: bool,
    thread_id: Option<Uuid>,
    channel_id: Option<Uuid>,
}

impl NewNote {
    fn of(note: &Created) -> Result<Self, ProjectError> {
        Ok(Self {
            id: note.id.0,
            author: note.author.0,
            text: note.text.as_deref().map(|text| sql::clean(text).into_owned()),
            cw: note.cw.as_deref().map(|cw| sql::clean(cw).into_owned()),
            visibility: sql::visibility_word(note.visibility),
            local_only: note.local_only,
            reaction_acceptance: note.reaction_acceptance.map(sql::acceptance_word),
            reply_id: note.reply.map(|parent| parent.id.0),
            reply_author: note.reply.map(|parent| parent.author.0),
            renote_id: note.renote.map(|parent| parent.id.0),
            renote_author: note.renote.map(|parent| parent.author.0),
            mentions: note.mentions.iter().map(|user| user.0).collect(),
            visible_to: note.visible_to.iter().map(|user| user.0).collect(),
            tags: sql::clean_texts(&note.tags),
            emojis: sql::clean_texts(&note.emojis),
            poll: note.poll.as_ref().map(serde_json::to_value).transpose()?.map(sql::clean_json),
            files: note.files.iter().map(|file| file.0).collect(),
            uri: note.uri.as_ref().map(|uri| uri.as_str().to_owned()),
            pure: note.is_pure_renote(),
            thread_id: Some(note.thread()).filter(|thread| *thread != note.id).map(|thread| thread.0),
            channel_id: note.channel.map(|channel| channel.0),
        })
    }

    fn has_parent(&self) -> bool {
        self.reply_id.is_some() || self.renote_id.is_some()
    }
}

/// What a batch changes beside the rows of notes.
#[derive(Default)]
struct Changes {
    replies: Sums<Uuid>,
    /// A renote that is taken back still counts (recorded behaviour), until its author is erased.
    renotes: Sums<Uuid>,
    /// What each has written. What is deleted, or goes with a parent, still counts (recorded behaviour).
    authors: BTreeMap<Uuid, (i64, Option<DateTime<Utc>>)>,
    totals: Sums<bool>,
}

impl Changes {
    fn count(&mut self, reply: Option<Uuid>, local: bool, n: i64) {
        self.totals.add(local, n);
        if let Some(reply) = reply {
            self.replies.add(reply, n);
        }
    }

    fn touch(&mut self, author: UserId, written: i64, at: DateTime<Utc>) {
        let (notes, updated) = self.authors.entry(author.0).or_default();
        *notes += written;
        *updated = Some(updated.map_or(at, |earlier| earlier.max(at)));
    }
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "notes"
    }

    fn version(&self) -> u32 {
        4
    }

    fn tables(&self) -> &'static [&'static str] {
        &["notes", "withdrawn_renotes", "mentions", "note_authors", "note_totals"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["note.created", "note.deleted", "user.erased"]
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

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
    let mut created: Vec<NewNote> = Vec::new();
    let mut deleted: Vec<Uuid> = Vec::new();
    let mut changes = Changes::default();
    for (recorded, event) in events(batch) {
        match event {
            Event::NoteCreated(note) => {
                changes.touch(note.author, 1, recorded.at);
                let reply = note.reply.map(|parent| parent.id.0);
                changes.count(reply, note.uri.is_none(), 1);
                if let Some(renote) = note.renote.filter(|renote| renote.author != note.author) {
                    changes.renotes.add(renote.id.0, 1);
                }
                created.push(NewNote::of(note)?);
            }
            Event::NoteDeleted(note) => {
                changes.touch(note.author, 0, recorded.at);
                deleted.push(note.id.0);
            }
            _ => (),
        }
    }
    let ids: Vec<Uuid> = created.iter().map(|note| note.id).collect();
    let children: Vec<Uuid> = created.iter().filter(|note| note.has_parent()).map(|note| note.id).collect();
    if !created.is_empty() {
        insert(tx, &created).await?;
    }
    if !deleted.is_empty() || !children.is_empty() {
        remove(tx, &deleted, &children, &mut changes).await?;
    }
    if !ids.is_empty() {
        name(tx, &ids).await?;
    }
    write_changes(tx, changes).await?;
    Ok(())
}

/// Takes their notes along with what answers them, and their renotes out of the counts.
async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let notes: Vec<Uuid> =
        sqlx::query_scalar("select id from notes where author = $1").bind(user.0).fetch_all(&mut *tx).await?;
    let mut changes = Changes::default();
    if !notes.is_empty() {
        remove(tx, &notes, &[], &mut changes).await?;
    }
    let withdrawn: Vec<(Uuid, i64)> =
        sqlx::query_as("delete from withdrawn_renotes where author = $1 returning note_id, renotes")
            .bind(user.0)
            .fetch_all(&mut *tx)
            .await?;
    for (note, renotes) in withdrawn {
        changes.renotes.add(note, -renotes);
    }
    write_changes(tx, changes).await?;
    for statement in
        ["delete from mentions where user_id = $1", "delete from note_authors where user_id = $1"]
    {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn insert(tx: &mut PgConnection, notes: &[NewNote]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into notes (id, author, text, cw, visibility, local_only, reaction_acceptance,
                                 reply_id, reply_author, renote_id, renote_author, mentions, visible_to,
                                 tags, emojis, poll, files, uri, pure, thread_id, channel_id)
         select id, author, text, cw, visibility, local_only, reaction_acceptance,
                reply_id, reply_author, renote_id, renote_author, mentions, visible_to,
                tags, emojis, poll, files, uri, pure, thread_id, channel_id
           from jsonb_to_recordset($1) as n(
                id uuid, author uuid, text text, cw text, visibility text, local_only boolean,
                reaction_acceptance text, reply_id uuid, reply_author uuid, renote_id uuid,
                renote_author uuid, mentions uuid[], visible_to uuid[], tags text[], emojis text[],
                poll jsonb, files uuid[], uri text, pure boolean, thread_id uuid, channel_id uuid)",
    )
    .bind(Json(notes))
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes what was deleted, those of `children` whose parents are not there, and all that answers or
/// passes on what goes.
async fn remove(
    tx: &mut PgConnection,
    deleted: &[Uuid],
    children: &[Uuid],
    changes: &mut Changes,
) -> sqlx::Result<()> {
    type Gone = (Uuid, Uuid, Option<Uuid>, Option<Uuid>, bool, Vec<Uuid>, Vec<Uuid>);
    let gone: Vec<Gone> = sqlx::query_as(
        "with recursive gone(id) as (
             (select d.id from unnest($1::uuid[]) as d(id)
              union all
              select n.id
                from notes n
               where n.id = any($2)
                 and ((n.reply_id is not null
                       and not exists (select 1 from notes p where p.id = n.reply_id))
                   or (n.renote_id is not null
                       and not exists (select 1 from notes p where p.id = n.renote_id))))
             union
             select c.id
               from gone g
              cross join lateral (select r.id from notes r where r.reply_id = g.id
                                  union all
                                  select r.id from notes r where r.renote_id = g.id) c
         )
         delete from notes n where n.id = any(array(select g.id from gone g))
         returning n.id, n.author, n.reply_id,
                   case when n.renote_author <> n.author then n.renote_id end,
                   n.uri is null, n.mentions, n.visible_to",
    )
    .bind(deleted)
    .bind(children)
    .fetch_all(&mut *tx)
    .await?;
    let (mut named, mut by) = (Vec::new(), Vec::new());
    let mut withdrawn: Sums<(Uuid, Uuid)> = Sums::default();
    let ids: Vec<Uuid> = gone.iter().map(|(id, ..)| *id).collect();
    for (id, author, reply, renote, local, mentions, visible_to) in gone {
        changes.count(reply, local, -1);
        if let Some(renote) = renote {
            withdrawn.add((renote, author), 1);
        }
        for user in mentions.into_iter().chain(visible_to) {
            named.push(user);
            by.push(id);
        }
    }
    if !named.is_empty() {
        sqlx::query(
            "delete from mentions m using unnest($1::uuid[], $2::uuid[]) as d(user_id, note_id)
              where m.user_id = d.user_id and m.note_id = d.note_id",
        )
        .bind(named)
        .bind(by)
        .execute(&mut *tx)
        .await?;
    }
    withdraw(tx, withdrawn, &ids).await
}

/// Keeps whose renotes still count though they are gone, as long as what they passed on is there.
async fn withdraw(tx: &mut PgConnection, renotes: Sums<(Uuid, Uuid)>, gone: &[Uuid]) -> sqlx::Result<()> {
    let (keys, sums) = renotes.split();
    if !keys.is_empty() {
        let (notes, authors): (Vec<Uuid>, Vec<Uuid>) = keys.into_iter().unzip();
        sqlx::query(
            "insert into withdrawn_renotes as w (note_id, author, renotes)
             select d.note_id, d.author, d.n
               from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as d(note_id, author, n)
               join notes n on n.id = d.note_id
             on conflict (note_id, author) do update set renotes = w.renotes + excluded.renotes",
        )
        .bind(notes)
        .bind(authors)
        .bind(sums)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query("delete from withdrawn_renotes where note_id = any($1)").bind(gone).execute(tx).await?;
    Ok(())
}

/// Lists the new notes that stayed under the people they name.
async fn name(tx: &mut PgConnection, notes: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query(
        "insert into mentions (user_id, note_id)
         select distinct u.id, n.id
           from notes n
          cross join lateral unnest(n.mentions || n.visible_to) as u(id)
          where n.id = any($1)",
    )
    .bind(notes)
    .execute(tx)
    .await?;
    Ok(())
}

async fn write_changes(tx: &mut PgConnection, changes: Changes) -> sqlx::Result<()> {
    let (replied, replies) = changes.replies.split();
    let (renoted, renotes) = changes.renotes.split();
    if !replied.is_empty() || !renoted.is_empty() {
        sqlx::query(
            "update notes n
                set replies = n.replies + d.replies, renotes = n.renotes + d.renotes
               from (select id, sum(replies)::bigint as replies, sum(renotes)::bigint as renotes
                       from (select r.id, r.n as replies, 0 as renotes
                               from unnest($1::uuid[], $2::bigint[]) as r(id, n)
                             union all
                             select q.id, 0, q.n
                               from unnest($3::uuid[], $4::bigint[]) as q(id, n)) b
                      group by id) d
              where n.id = d.id",
        )
        .bind(replied)
        .bind(replies)
        .bind(renoted)
        .bind(renotes)
        .execute(&mut *tx)
        .await?;
    }
    let (mut authors, mut notes, mut updated) = (Vec::new(), Vec::new(), Vec::new());
    for (author, (n, at)) in changes.authors {
        authors.push(author);
        notes.push(n);
        updated.push(at);
    }
    if !authors.is_empty() {
        sqlx::query(
            "insert into note_authors as a (user_id, notes, updated_at)
             select user_id, notes, updated_at
               from unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) as d(user_id, notes, updated_at)
             on conflict (user_id) do update
                set notes = a.notes + excluded.notes,
                    updated_at = greatest(a.updated_at, excluded.updated_at)",
        )
        .bind(authors)
        .bind(notes)
        .bind(updated)
        .execute(&mut *tx)
        .await?;
    }
    let (local, totals) = changes.totals.split();
    if !local.is_empty() {
        sqlx::query(
            "insert into note_totals as t (local, notes)
             select local, notes from unnest($1::boolean[], $2::bigint[]) as d(local, notes)
             on conflict (local) do update set notes = t.notes + excluded.notes",
        )
        .bind(local)
        .bind(totals)
        .execute(&mut *tx)
        .await?;
        sqlx::query("delete from note_totals where notes = 0").execute(tx).await?;
    }
    Ok(())
}

/// How far up from a note what it answers and passes on is loaded.
pub(crate) const DEPTH: usize = 2;

/// The notes of these ids, with what they answer and pass on, [`DEPTH`] steps up. The rules of the authors and what
/// is the viewer's own are still to be filled in.
pub(crate) async fn by_ids(pool: &PgPool, ids: &[NoteId]) -> sqlx::Result<HashMap<NoteId, NoteRow>> {
    let reactions = reaction::of_notes();
    let sql = format!(
        "with recursive needed(id, depth) as (
             select w.id, 0 from unnest((select $1::uuid[])) as w(id)
             union
             select p.id, needed.depth + 1
               from needed
               join read.notes n on n.id = needed.id
              cross join lateral (values (n.reply_id), (n.renote_id)) as p(id)
              where needed.depth < $2 and p.id is not null
         )
         select n.id, n.author, n.text, n.cw, n.visibility, n.local_only, n.reaction_acceptance,
                n.reply_id, n.reply_author, n.renote_id, n.renote_author, n.mentions, n.visible_to,
                n.tags, n.emojis, n.poll, n.files, n.uri, n.pure, n.replies, n.renotes, n.channel_id,
                coalesce(n.thread_id, n.id) as thread,
                (select r.channel_id from read.notes r where r.id = n.renote_id) as renote_channel,
                (select count(*) from read.clip_notes k where k.note_id = n.id) as clipped,
                k.reactors, k.reacted, c.kinds, c.counts, t.reacted_to
           from read.notes n {reactions}
          where n.id in (select id from needed)",
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(DEPTH as i32)
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| note_row(row).map(|note| (note.id, note))).collect()
}

impl NoteRow {
    /// The row of a note that was just written, if it is certain without its parents. None of it is shown to anybody
    /// before the table has it.
    pub fn of(note: &Created) -> Option<Self> {
        if note.reply.is_some() || note.renote.is_some() || note.poll.is_some() {
            return None;
        }
        let text = |text: &Option<String>| text.as_deref().map(|text| sql::clean(text).into_owned());
        Some(Self::new(Written {
            id: note.id,
            author: note.author,
            text: text(&note.text),
            cw: text(&note.cw),
            visibility: note.visibility,
            local_only: note.local_only,
            reaction_acceptance: note.reaction_acceptance,
            reply: None,
            renote: None,
            mentions: note.mentions.clone(),
            visible_to: note.visible_to.clone(),
            tags: sql::clean_texts(&note.tags),
            emojis: sql::clean_texts(&note.emojis),
            poll: None,
            files: note.files.clone(),
            uri: note.uri.as_ref().map(|uri| uri.as_str().to_owned()),
            pure: note.is_pure_renote(),
            thread: note.thread(),
            channel: note.channel,
            renote_channel: None,
        }))
    }

    /// Nobody has made anything of it, and the rules of its author and what is the viewer's own are still to be
    /// filled in.
    fn new(written: Written) -> Self {
        Self {
            written: written.into(),
            replies: 0,
            renotes: 0,
            clipped: 0,
            reactions: Reactions::none(),
            votes: Vec::new(),
            rules: AuthorRules::default(),
            in_muted_thread: false,
            in_muted_channel: false,
        }
    }
}

fn note_row(row: &PgRow) -> sqlx::Result<NoteRow> {
    let parent = |id: &str, author: &str| -> sqlx::Result<Option<Parent>> {
        let (id, author): (Option<Uuid>, Option<Uuid>) = (row.try_get(id)?, row.try_get(author)?);
        Ok(id.zip(author).map(|(id, author)| Parent { id: NoteId(id), author: UserId(author) }))
    };
    let acceptance: Option<&str> = row.try_get("reaction_acceptance")?;
    let channel = |name: &str| row.try_get::<Option<Uuid>, _>(name).map(|id| id.map(ChannelId));
    let written = Written {
        id: NoteId(row.try_get("id")?),
        author: UserId(row.try_get("author")?),
        text: row.try_get("text")?,
        cw: row.try_get("cw")?,
        visibility: sql::visibility(row.try_get("visibility")?)?,
        local_only: row.try_get("local_only")?,
        reaction_acceptance: acceptance.map(sql::acceptance).transpose()?,
        reply: parent("reply_id", "reply_author")?,
        renote: parent("renote_id", "renote_author")?,
        mentions: sql::users(row.try_get("mentions")?),
        visible_to: sql::users(row.try_get("visible_to")?),
        tags: row.try_get("tags")?,
        emojis: row.try_get("emojis")?,
        poll: row.try_get::<Option<Json<Poll>>, _>("poll")?.map(|poll| poll.0),
        files: row.try_get::<Vec<Uuid>, _>("files")?.into_iter().map(FileId).collect(),
        uri: row.try_get("uri")?,
        pure: row.try_get("pure")?,
        thread: NoteId(row.try_get("thread")?),
        channel: channel("channel_id")?,
        renote_channel: channel("renote_channel")?,
    };
    Ok(NoteRow {
        reactions: reaction::read(row)?,
        replies: row.try_get("replies")?,
        renotes: row.try_get("renotes")?,
        clipped: row.try_get("clipped")?,
        ..NoteRow::new(written)
    })
}

/// A timeline and what is said in the channels that the viewer ($1) follows; $5 is `with_renotes`. Replies to
/// others are left out as in the timeline.
fn with_channels(timeline: String, order: &str, with_files: bool) -> String {
    let (wanted, files) = (wanted(), having_files(with_files));
    format!(
        "select b.id
           from (({timeline})
                 union
                 (select h.id
                    from read.channel_follows c
                   cross join lateral (
                         select n.id
                           from read.notes n
                          where n.channel_id = c.channel_id and n.id > $2 and n.id < $3
                            and (n.reply_id is null or n.author = $1
                                 or n.reply_author = n.author or n.reply_author = $1
                                 or exists (select from read.follows f
                                     where f.follower = $1 and f.followee = n.author and f.with_replies))
                            and ($5 or not n.pure) {files}
                            and {VISIBLE} and {wanted}
                          order by n.id {order} limit {LIMIT}) h
                   where c.user_id = $1
                   order by h.id {order} limit {LIMIT})) b
          order by b.id {order} limit {LIMIT}"
    )
}

/// A timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeline {
    /// One's own notes and those of the people one follows. Replies to others are left out unless the
    /// following asks for them.
    Home,
    /// Public notes of this server, without replies to others than the viewer unless asked for.
    Local,
    /// Home and local in one (social).
    Hybrid,
    /// Every public note that is known here.
    Global,
}

/// Which notes of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Of local and hybrid timelines and of one person: replies to others, too.
    pub with_replies: bool,
    /// Pure renotes, too.
    pub with_renotes: bool,
    /// Nothing else than notes with files.
    pub with_files: bool,
}

/// Which public notes; none where it doesn't matter.
#[derive(Debug, Clone, Copy)]
pub struct PublicFilter {
    /// Only of this server.
    pub local: bool,
    pub reply: Option<bool>,
    pub renote: Option<bool>,
    pub poll: Option<bool>,
    pub files: Option<bool>,
}

/// Notes (as `n`) that the viewer ($1) may see, author's rules apart.
pub(crate) const VISIBLE: &str = "(n.visibility in ('public', 'home')
     or n.author = $1
     or (n.visibility = 'followers'
         and ($1 = any(n.mentions)
              or n.reply_author = $1
              or exists (select 1 from read.follows f where f.follower = $1 and f.followee = n.author)))
     or (n.visibility = 'specified' and $1 = any(n.visible_to)))";

/// Notes (as `n`) that are not by those who block the viewer ($1), and don't answer or pass on theirs.
const NOT_BLOCKED: &str = "not exists (select from read.blocks b
      where b.blockee = $1 and b.blocker in (n.author, n.reply_author, n.renote_author))";

/// Notes (as `n`) that the viewer ($1) may want, as far as that is for good: mutes for a time are left to the
/// policy, which knows the time.
fn wanted() -> String {
    format!(
        "{NOT_BLOCKED}
         and not exists (select from read.mutes m
              where m.muter = $1 and m.expires_at is null
                and m.mutee in (n.author, n.reply_author, n.renote_author))
         and not (n.pure and exists (select from read.renote_mutes r
              where r.muter = $1 and r.mutee = n.author))"
    )
}

/// The condition that a note (as `n`) has files, if that is asked.
pub(crate) fn having_files(asked: bool) -> &'static str {
    if asked { "and n.files <> '{}'" } else { "" }
}

/// Whoever is followed by the viewer ($1); $5 is `with_renotes`.
fn home_sql(order: &str, with_files: bool) -> String {
    let people = "select $1::uuid as author, true as with_replies
                  union all
                  select f.followee, f.with_replies from read.follows f where f.follower = $1";
    // Who follows somebody sees what they say to followers.
    let seen = "(n.author = $1 or n.visibility <> 'specified' or $1 = any(n.visible_to))";
    merged_sql(people, seen, order, with_files)
}

/// What `people` (their `author`, and whether `with_replies`) say, author by author; $5 is `with_renotes`.
///
/// The first few of each give an edge beyond which nothing can be on the page, and only what is before it is
/// read. So a page costs about as many notes as it shows, and a look at each of the people.
fn merged_sql(people: &str, seen: &str, order: &str, with_files: bool) -> String {
    let (wanted, files) = (wanted(), having_files(with_files));
    let of_each = |bound: &str, limit: &str| {
        format!(
            "select h.id
               from a
              cross join lateral (
                    select n.id
                      from read.notes n
                     where n.author = a.author and n.id > $2 and n.id < $3 {bound}
                       and n.channel_id is null
                       and {seen}
                       and (a.with_replies or n.reply_id is null
                            or n.reply_author = n.author or n.reply_author = $1)
                       and ($5 or not n.pure) {files}
                       and {wanted}
                     order by n.id {order} limit {limit}) h
              order by h.id {order}"
        )
    };
    let before = match order {
        "asc" => "and n.id <= coalesce((select e.id from edge e), $3)",
        _ => "and n.id >= coalesce((select e.id from edge e), $2)",
    };
    let (few, all) =
        (of_each("", "1 + 2 * $4 / (select greatest(count(*), 1) from a)"), of_each(before, LIMIT));
    format!(
        "with a as materialized ({people}),
              edge as materialized ({few} offset $4 - 1 limit 1)
         {all} limit {LIMIT}"
    )
}

/// Public notes of this server; $5 is `with_renotes`, $6 `with_replies`.
fn local_sql(order: &str, with_files: bool) -> String {
    let (wanted, files) = (wanted(), having_files(with_files));
    format!(
        "select n.id
           from read.notes n
          where n.visibility = 'public' and n.uri is null and n.id > $2 and n.id < $3
            and n.channel_id is null
            and ($6 or n.reply_id is null or n.reply_author = n.author or n.reply_author = $1)
            and ($5 or not n.pure) {files}
            and {wanted}
          order by n.id {order} limit {LIMIT}"
    )
}

/// Public notes; $5 is `with_renotes`.
fn global_sql(order: &str, with_files: bool) -> String {
    let (wanted, files) = (wanted(), having_files(with_files));
    format!(
        "select n.id
           from read.notes n
          where n.visibility = 'public' and n.id > $2 and n.id < $3 and ($5 or not n.pure) {files}
            and {wanted} and n.channel_id is null
          order by n.id {order} limit {LIMIT}"
    )
}

/// A page of a timeline, in front of a viewer.
pub async fn timeline(
    pool: &PgPool,
    which: Timeline,
    viewer: Viewer,
    filter: Filter,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let (order, files) = (page.order(), filter.with_files);
    let sql = match which {
        Timeline::Home => with_channels(home_sql(order, files), order, files),
        Timeline::Local => local_sql(order, files),
        Timeline::Hybrid => {
            let home = with_channels(home_sql(order, files), order, files);
            let local = local_sql(order, files);
            format!("select b.id from (({home}) union ({local})) b order by b.id {order} limit {LIMIT}")
        }
        Timeline::Global => global_sql(order, files),
    };
    let query = list(sql, viewer, page).bind(filter.with_renotes);
    let query = match which {
        Timeline::Local | Timeline::Hybrid => query.bind(filter.with_replies),
        Timeline::Home | Timeline::Global => query,
    };
    Ok(notes(query.fetch_all(pool).await?))
}

/// Notes of one person.
pub async fn of_user(
    pool: &PgPool,
    user: UserId,
    viewer: Viewer,
    filter: Filter,
    in_channels: bool,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let (order, files) = (page.order(), having_files(filter.with_files));
    let sql = format!(
        "select n.id
           from read.notes n
          where n.author = $5 and n.id > $2 and n.id < $3
            and ($6 or n.reply_id is null or n.reply_author = n.author)
            and ($7 or not n.pure) {files}
            and (n.channel_id is null or ($8 and (n.author = $1 or not exists (
                select from read.channels c where c.id = n.channel_id and c.is_sensitive))))
            and {VISIBLE} and {NOT_BLOCKED}
          order by n.id {order} limit {LIMIT}"
    );
    let query = list(sql, viewer, page).bind(user.0).bind(filter.with_replies).bind(filter.with_renotes);
    let query = query.bind(in_channels);
    Ok(notes(query.fetch_all(pool).await?))
}

/// Notes of the people in a list, which the viewer owns. Replies to others than the viewer are left out unless
/// the list asks for those of their author.
pub async fn of_list(
    pool: &PgPool,
    list: ListId,
    viewer: UserId,
    filter: Filter,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let people = "select m.user_id as author, m.with_replies from read.list_members m where m.list_id = $6";
    let sql = merged_sql(people, VISIBLE, page.order(), filter.with_files);
    let query = self::list(sql, Some(viewer), page).bind(filter.with_renotes).bind(list.0);
    Ok(notes(query.fetch_all(pool).await?))
}

/// The notes to which a file is attached.
pub async fn with_file(
    pool: &PgPool,
    file: FileId,
    viewer: UserId,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let order = page.order();
    let sql = format!(
        "select n.id
           from read.notes n
          where n.files <> '{{}}' and n.files @> array[$5::uuid] and n.id > $2 and n.id < $3
            and {VISIBLE}
          order by n.id {order} limit {LIMIT}"
    );
    Ok(notes(list(sql, Some(viewer), page).bind(file.0).fetch_all(pool).await?))
}

/// Notes that name the viewer or are addressed to them; `following` leaves only their own and those of
/// people they follow.
pub async fn mentions(
    pool: &PgPool,
    viewer: UserId,
    visibility: Option<Visibility>,
    following: bool,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let (order, wanted) = (page.order(), wanted());
    let sql = format!(
        "select n.id
           from read.mentions m
           join read.notes n on n.id = m.note_id
          where m.user_id = $1 and m.note_id > $2 and m.note_id < $3
            and ($5::text is null or n.visibility = $5)
            and (not $6 or n.author = $1
                 or exists (select 1 from read.follows w where w.follower = $1 and w.followee = n.author))
            and {VISIBLE} and {wanted}
            and not exists (select from read.thread_mutes t
                 where t.user_id = $1 and t.thread_id = coalesce(n.thread_id, n.id))
          order by m.note_id {order} limit {LIMIT}"
    );
    let query = list(sql, Some(viewer), page).bind(visibility.map(sql::visibility_word)).bind(following);
    Ok(notes(query.fetch_all(pool).await?))
}

/// What is said in a channel.
pub async fn in_channel(
    pool: &PgPool,
    channel: ChannelId,
    viewer: Viewer,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let order = page.order();
    let sql = format!(
        "select n.id from read.notes n
          where n.channel_id = $5 and n.id > $2 and n.id < $3 and {VISIBLE} and {NOT_BLOCKED}
          order by n.id {order} limit {LIMIT}"
    );
    let query = list(sql, viewer, page).bind(channel.0);
    Ok(notes(query.fetch_all(pool).await?))
}

/// Replies to a note and quotes of it.
pub async fn children(pool: &PgPool, note: NoteId, viewer: Viewer, page: &Page) -> sqlx::Result<Vec<NoteId>> {
    let (order, wanted) = (page.order(), wanted());
    let part = |which: &str| {
        format!(
            "select n.id from read.notes n
              where {which} and n.id > $2 and n.id < $3 and {VISIBLE} and {wanted}
              order by n.id {order} limit {LIMIT}"
        )
    };
    let (replies, quotes) = (part("n.reply_id = $5"), part("n.renote_id = $5 and not n.pure"));
    let sql =
        format!("select b.id from (({replies}) union ({quotes})) b order by b.id {order} limit {LIMIT}");
    let query = list(sql, viewer, page).bind(note.0);
    Ok(notes(query.fetch_all(pool).await?))
}

/// Replies to a note.
pub async fn replies(pool: &PgPool, note: NoteId, viewer: Viewer, page: &Page) -> sqlx::Result<Vec<NoteId>> {
    hanging_on("reply_id", pool, note, viewer, page).await
}

/// Renotes and quotes of a note.
pub async fn renotes(pool: &PgPool, note: NoteId, viewer: Viewer, page: &Page) -> sqlx::Result<Vec<NoteId>> {
    hanging_on("renote_id", pool, note, viewer, page).await
}

async fn hanging_on(
    by: &'static str,
    pool: &PgPool,
    note: NoteId,
    viewer: Viewer,
    page: &Page,
) -> sqlx::Result<Vec<NoteId>> {
    let (order, wanted) = (page.order(), wanted());
    let sql = format!(
        "select n.id from read.notes n
          where n.{by} = $5 and n.id > $2 and n.id < $3 and {VISIBLE} and {wanted}
          order by n.id {order} limit {LIMIT}"
    );
    let query = list(sql, viewer, page).bind(note.0);
    Ok(notes(query.fetch_all(pool).await?))
}

/// What a note answers, what that answers, and so on, up to [`MAX_ANCESTORS`]; the nearest first.
pub async fn ancestors(pool: &PgPool, note: NoteId, limit: u16, offset: u32) -> sqlx::Result<Vec<NoteId>> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "with recursive up(id, depth) as (
             select n.reply_id, 1 from read.notes n where n.id = $1 and n.reply_id is not null
             union all
             select n.reply_id, up.depth + 1
               from up join read.notes n on n.id = up.id
              where n.reply_id is not null and up.depth < $2::integer + $3::integer
         )
         select id from up where depth > $3 order by depth limit $2",
    )
    .bind(note.0)
    .bind(i32::from(limit.min(MAX_ITEMS)))
    .bind(offset.min(MAX_ANCESTORS) as i32)
    .fetch_all(pool)
    .await?;
    Ok(notes(ids))
}

/// One's own renotes and quotes of a note, newest first, at most [`MAX_MY_RENOTES`].
pub async fn my_renotes(pool: &PgPool, user: UserId, note: NoteId) -> sqlx::Result<Vec<NoteId>> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select n.id from read.notes n
          where n.author = $1 and n.renote_id = $2 order by n.id desc limit $3",
    )
    .bind(user.0)
    .bind(note.0)
    .bind(MAX_MY_RENOTES)
    .fetch_all(pool)
    .await?;
    Ok(notes(ids))
}

/// A list of notes with what all of them take: $1 the viewer, $2 and $3 the bounds, $4 the limit.
pub(crate) fn list<'q>(
    sql: String,
    viewer: Viewer,
    page: &Page,
) -> QueryScalar<'q, Postgres, Uuid, PgArguments> {
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(viewer.map(|viewer| viewer.0))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
}

pub(crate) fn notes(ids: Vec<Uuid>) -> Vec<NoteId> {
    ids.into_iter().map(NoteId).collect()
}

/// Public notes that may leave this server, or come from another.
pub async fn public(pool: &PgPool, filter: PublicFilter, page: &Page) -> sqlx::Result<Vec<NoteId>> {
    let order = page.order();
    let origin = if filter.local { "n.uri is null" } else { "true" };
    let is = |column: &str, wanted: Option<bool>| match wanted {
        None => "true".to_owned(),
        Some(true) => format!("n.{column} is not null"),
        Some(false) => format!("n.{column} is null"),
    };
    let kinds = [("reply_id", filter.reply), ("renote_id", filter.renote), ("poll", filter.poll)];
    let kinds = kinds.map(|(column, wanted)| is(column, wanted)).join(" and ");
    let files = match filter.files {
        None => "",
        Some(true) => "and n.files <> '{}'",
        Some(false) => "and n.files = '{}'",
    };
    let sql = format!(
        "select n.id from read.notes n
          where n.visibility = 'public' and not n.local_only and n.id > $1 and n.id < $2
            and {origin} and {kinds} {files}
          order by n.id {order} limit $3"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .fetch_all(pool)
        .await?;
    Ok(notes(ids))
}

/// Public questions of others of this server that are open at `now`, and that the viewer hasn't answered yet.
pub async fn open_questions(
    pool: &PgPool,
    viewer: UserId,
    now: DateTime<Utc>,
    in_channels: bool,
    (limit, offset): (u16, u32),
) -> sqlx::Result<Vec<NoteId>> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select n.id from read.notes n
          where n.poll is not null and n.visibility = 'public' and n.uri is null and n.author <> $1
            and (n.poll ->> 'expires_at' is null or (n.poll ->> 'expires_at')::timestamptz > $2)
            and not exists (select 1 from read.votes v where v.note_id = n.id and v.user_id = $1)
            and (n.channel_id is null or $5)
          order by n.id desc limit $3 offset $4",
    )
    .bind(viewer.0)
    .bind(now)
    .bind(i64::from(limit.min(MAX_ITEMS)))
    .bind(i64::from(offset))
    .bind(in_channels)
    .fetch_all(pool)
    .await?;
    Ok(notes(ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PEOPLE, Story, Truth, a_life, user};
    use crate::{Wanted, hydrate, user};
    use domain::follow::Changed;
    use domain::note::Deleted;
    use domain::policy::{self, Between, Company, Guarded, Place};
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    const ALL: Filter = Filter { with_replies: true, with_renotes: true, with_files: false };

    fn parent(id: NoteId, author: u8) -> Option<Parent> {
        Some(Parent { id, author: user(author) })
    }

    async fn counts(pool: &PgPool, id: NoteId) -> Option<(i64, i64)> {
        by_ids(pool, &[id]).await.unwrap().get(&id).map(|note| (note.replies, note.renotes))
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn replies_and_renotes_of_others_are_counted(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "a");
        story.person(2, "b");
        let root = story.note(1, |_| ());
        let reply = story.note(2, |n| n.reply = parent(root, 1));
        story.note(1, |n| n.reply = parent(root, 1));
        let renote = story.renote(2, root, 1);
        story.renote(1, root, 1);
        let quote = story.note(2, |n| n.renote = parent(root, 1));
        story.project().await;
        assert_eq!(counts(&pool, root).await, Some((2, 2)));
        let people = user::by_ids(&pool, &[user(1), user(2)]).await.unwrap();
        assert_eq!((people[&user(1)].notes, people[&user(2)].notes), (3, 3));
        assert_eq!(user::stats(&pool).await.unwrap().original_notes, 6);
        assert_eq!(my_renotes(&pool, user(2), root).await.unwrap(), [quote, renote]);

        for id in [reply, renote, quote] {
            story.says(Deleted { id, author: user(2) });
        }
        story.project().await;
        assert_eq!(counts(&pool, root).await, Some((1, 2)), "what was renoted once stays counted");
        let people = user::by_ids(&pool, &[user(2)]).await.unwrap();
        let bob = &people[&user(2)];
        assert_eq!((bob.notes, bob.updated_at), (3, story.log.all().last().map(|event| event.at)));
        assert_eq!(user::stats(&pool).await.unwrap().original_notes, 3);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_deleted_note_takes_along_what_answers_and_passes_it_on(pool: PgPool) {
        for at_once in [true, false] {
            let mut story = Story::new(&pool);
            for n in 1..=3 {
                story.person(n, &format!("user{n}"));
            }
            let other = story.note(3, |_| ());
            let root = story.note(1, |_| ());
            let reply = story.note(2, |n| {
                n.reply = parent(root, 1);
                n.mentions = vec![user(1)];
            });
            let quote = story.note(3, |n| {
                n.reply = parent(other, 3);
                n.renote = parent(reply, 2);
            });
            let renote = story.renote(1, quote, 3);
            if !at_once {
                story.project().await;
                assert_eq!(counts(&pool, other).await, Some((1, 0)));
            }
            story.says(Deleted { id: root, author: user(1) });
            let late = story.note(3, |n| n.reply = parent(reply, 2));
            story.project().await;
            for gone in [root, reply, quote, renote, late] {
                assert_eq!(counts(&pool, gone).await, None);
            }
            assert_eq!(counts(&pool, other).await, Some((0, 0)));
            let people = user::by_ids(&pool, &[user(1), user(2), user(3)]).await.unwrap();
            assert_eq!([1, 2, 3].map(|n| people[&user(n)].notes), [2, 1, 3], "as they were written");
            assert_eq!(user::stats(&pool).await.unwrap().notes, 1);
            assert_eq!(mentions(&pool, user(1), None, false, &Page::newest(10)).await.unwrap(), []);
            story.empty().await;
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn threads_are_walked_both_ways(pool: PgPool) {
        let mut story = Story::new(&pool);
        let root = story.note(1, |_| ());
        let reply = story.note(2, |n| n.reply = parent(root, 1));
        let deep = story.note(1, |n| n.reply = parent(reply, 2));
        let renote = story.renote(2, root, 1);
        let quote = story.note(2, |n| n.renote = parent(root, 1));
        let both = story.note(3, |n| {
            n.reply = parent(root, 1);
            n.renote = parent(deep, 1);
        });
        let secret = story.note(3, |n| {
            n.reply = parent(root, 1);
            n.visibility = Visibility::Specified;
            n.visible_to = vec![user(1)];
        });
        story.project().await;

        let page = Page::newest(10);
        assert_eq!(children(&pool, root, None, &page).await.unwrap(), [both, quote, reply]);
        assert_eq!(replies(&pool, root, Some(user(1)), &page).await.unwrap(), [secret, both, reply]);
        assert_eq!(replies(&pool, root, Some(user(2)), &page).await.unwrap(), [both, reply]);
        assert_eq!(renotes(&pool, root, None, &page).await.unwrap(), [quote, renote]);
        let oldest = Page { since: Some(root.0), oldest_first: true, ..Page::newest(2) };
        assert_eq!(children(&pool, root, None, &oldest).await.unwrap(), [reply, quote]);
        assert_eq!(ancestors(&pool, deep, 10, 0).await.unwrap(), [reply, root]);
        assert_eq!(ancestors(&pool, deep, 1, 1).await.unwrap(), [root]);
        assert_eq!(ancestors(&pool, deep, 10, u32::MAX).await.unwrap(), []);
        assert_eq!(ancestors(&pool, root, 10, 0).await.unwrap(), []);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn mentions_are_narrowed_by_visibility_and_by_following(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.follow(1, 2);
        let by_followed = story.note(2, |n| n.mentions = vec![user(1)]);
        let direct = story.note(3, |n| {
            n.visibility = Visibility::Specified;
            n.visible_to = vec![user(1)];
        });
        story.note(3, |n| {
            n.visibility = Visibility::Specified;
            n.mentions = vec![user(1)];
        });
        story.project().await;
        let page = Page::newest(10);
        assert_eq!(mentions(&pool, user(1), None, false, &page).await.unwrap(), [direct, by_followed]);
        let specified = Some(Visibility::Specified);
        assert_eq!(mentions(&pool, user(1), specified, false, &page).await.unwrap(), [direct]);
        assert_eq!(mentions(&pool, user(1), None, true, &page).await.unwrap(), [by_followed]);
    }

    /// Bob's notes as he sees them himself (recorded: `users/notes` 0540 and 0541).
    #[sqlx::test(migrations = "../migrations")]
    async fn notes_of_a_person_leave_out_replies_and_renotes_unless_asked(pool: PgPool) {
        let mut story = Story::new(&pool);
        let hello = story.note(1, |_| ());
        let plain = story.note(2, |_| ());
        let reply = story.note(2, |n| n.reply = parent(hello, 1));
        let thread = story.note(2, |n| n.reply = parent(plain, 2));
        let renote = story.renote(2, hello, 1);
        let quote = story.note(2, |n| n.renote = parent(hello, 1));
        story.project().await;
        let get = async |filter| {
            of_user(&pool, user(2), Some(user(2)), filter, false, &Page::newest(10)).await.unwrap()
        };
        assert_eq!(get(ALL).await, [quote, renote, thread, reply, plain]);
        let no_replies = Filter { with_replies: false, ..ALL };
        assert_eq!(get(no_replies).await, [quote, renote, thread, plain]);
        let no_renotes = Filter { with_renotes: false, ..no_replies };
        assert_eq!(get(no_renotes).await, [quote, thread, plain]);
        assert_eq!(get(Filter { with_files: true, ..ALL }).await, []);
        let file = story.file(2, |_| ());
        let picture = story.note(2, |n| n.files = vec![file]);
        story.project().await;
        let get =
            async |filter| of_user(&pool, user(2), None, filter, false, &Page::newest(10)).await.unwrap();
        assert_eq!(get(Filter { with_files: true, ..ALL }).await, [picture]);
        assert_eq!(with_file(&pool, file, user(2), &Page::newest(10)).await.unwrap(), [picture]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_home_timeline_has_replies_to_others_when_the_following_asks_for_them(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.follow(1, 2);
        let stranger = story.note(3, |_| ());
        let mine = story.note(1, |_| ());
        let plain = story.note(2, |n| n.visibility = Visibility::Followers);
        let to_me = story.note(2, |n| n.reply = parent(mine, 1));
        let to_self = story.note(2, |n| n.reply = parent(plain, 2));
        let to_other = story.note(2, |n| n.reply = parent(stranger, 3));
        let my_reply = story.note(1, |n| n.reply = parent(stranger, 3));
        let renote = story.renote(2, stranger, 3);
        story.project().await;
        let page = async |filter, page: Page| {
            timeline(&pool, Timeline::Home, Some(user(1)), filter, &page).await.unwrap()
        };
        let (filter, get) = (ALL, async |filter| page(filter, Page::newest(10)).await);
        assert_eq!(get(filter).await, [renote, my_reply, to_self, to_me, plain, mine]);
        let no_renotes = Filter { with_renotes: false, ..filter };
        assert_eq!(get(no_renotes).await, [my_reply, to_self, to_me, plain, mine]);
        story.says(Changed { follower: user(1), followee: user(2), notify: None, with_replies: Some(true) });
        story.project().await;
        assert_eq!(get(filter).await, [renote, my_reply, to_other, to_self, to_me, plain, mine]);
        let after = Page { since: Some(plain.0), oldest_first: true, ..Page::newest(2) };
        assert_eq!(page(filter, after).await, [to_me, to_self]);
    }

    /// The lists of the property below, each as SQL and as a sentence about one note.
    #[derive(Debug, Clone, Copy)]
    enum List {
        Home,
        Local { with_replies: bool },
        Hybrid { with_replies: bool },
        Global,
        OfUser(UserId),
        Mentions,
        Children(NoteId),
    }

    impl List {
        fn place(self) -> Place {
            match self {
                List::OfUser(_) => Place::OfAuthor,
                List::Mentions => Place::Mentions,
                _ => Place::Anywhere,
            }
        }
    }

    async fn selected(
        pool: &PgPool,
        list: List,
        viewer: Viewer,
        with_renotes: bool,
        page: &Page,
    ) -> Option<Vec<NoteId>> {
        let filter = |with_replies| Filter { with_replies, with_renotes, with_files: false };
        let timeline =
            async |which, filter| super::timeline(pool, which, viewer, filter, page).await.unwrap();
        Some(match (list, viewer) {
            (List::Home, Some(_)) => timeline(Timeline::Home, filter(false)).await,
            (List::Local { with_replies }, _) => timeline(Timeline::Local, filter(with_replies)).await,
            (List::Hybrid { with_replies }, Some(_)) => {
                timeline(Timeline::Hybrid, filter(with_replies)).await
            }
            (List::Global, _) => timeline(Timeline::Global, filter(false)).await,
            (List::OfUser(user), _) => of_user(pool, user, viewer, filter(true), true, page).await.unwrap(),
            (List::Mentions, Some(viewer)) => mentions(pool, viewer, None, false, page).await.unwrap(),
            (List::Children(note), _) => children(pool, note, viewer, page).await.unwrap(),
            _ => return None,
        })
    }

    fn belongs(list: List, note: &Created, viewer: Viewer, with_renotes: bool, truth: &Truth) -> bool {
        let mine = viewer == Some(note.author);
        let to = note.reply.map(|reply| reply.author);
        let no_reply_to_others = to.is_none() || to == Some(note.author) || (to == viewer);
        let shown = with_renotes || !note.is_pure_renote();
        let in_home = || {
            if let Some(channel) = note.channel {
                return viewer.is_some_and(|viewer| truth.channel_follows.contains(&(channel, viewer)));
            }
            mine || truth.follows.iter().any(|(from, followee, with_replies)| {
                Some(*from) == viewer && *followee == note.author && (*with_replies || no_reply_to_others)
            })
        };
        let in_local = |with_replies: bool| {
            note.visibility == Visibility::Public
                && note.uri.is_none()
                && note.channel.is_none()
                && (with_replies || no_reply_to_others)
        };
        match list {
            List::Home => shown && in_home(),
            List::Local { with_replies } => shown && in_local(with_replies),
            List::Hybrid { with_replies } => shown && (in_home() || in_local(with_replies)),
            List::Global => shown && note.visibility == Visibility::Public && note.channel.is_none(),
            List::OfUser(user) => {
                let is_sensitive = note.channel.is_some_and(|channel| truth.sensitive.contains(&channel));
                shown && note.author == user && (mine || !is_sensitive)
            }
            List::Mentions => viewer
                .is_some_and(|viewer| note.mentions.contains(&viewer) || note.visible_to.contains(&viewer)),
            List::Children(id) => {
                note.reply.is_some_and(|reply| reply.id == id)
                    || (!note.is_pure_renote() && note.renote.is_some_and(|renote| renote.id == id))
            }
        }
    }

    /// All pages of a list, with what the policy leaves of them.
    async fn walk(
        story: &Story,
        list: List,
        viewer: Viewer,
        with_renotes: bool,
        oldest_first: bool,
    ) -> Option<Vec<NoteId>> {
        let mut seen = Vec::new();
        let mut page = Page { since: None, until: None, oldest_first, limit: 4 };
        loop {
            let ids = selected(&story.pool, list, viewer, with_renotes, &page).await?;
            let Some(last) = ids.last() else { return Some(seen) };
            if oldest_first {
                page.since = Some(last.0);
            } else {
                page.until = Some(last.0);
            }
            let wanted = Wanted::notes(ids.iter().copied());
            let world = hydrate(&story.pool, wanted, viewer, story.now()).await.unwrap();
            seen.extend(ids.into_iter().filter(|id| world.pick(*id, list.place()).is_some()));
        }
    }

    /// Random worlds that are compared with what the policy alone makes of them.
    const WORLDS: usize = 16;

    #[sqlx::test(migrations = "../migrations")]
    async fn the_policy_applied_to_what_sql_selected_is_the_policy_applied_to_everything(pool: PgPool) {
        let mut runner = TestRunner::deterministic();
        let mut compared = 0;
        for _ in 0..WORLDS {
            let life = a_life().new_tree(&mut runner).unwrap().current();
            let mut story = Story::new(&pool);
            let truth = story.live(&life);
            story.project_in(7).await;
            let mut lists = vec![
                List::Home,
                List::Local { with_replies: true },
                List::Local { with_replies: false },
                List::Hybrid { with_replies: true },
                List::Hybrid { with_replies: false },
                List::Global,
                List::OfUser(user(1)),
                List::OfUser(user(2)),
                List::Mentions,
            ];
            lists.extend(truth.notes.first().map(|note| List::Children(note.id)));
            for (n, list) in lists.into_iter().enumerate() {
                for viewer in [None, Some(user(1)), Some(user(3))] {
                    // Either order and either filter, in turn.
                    let (oldest_first, with_renotes) = (n % 2 == 0, viewer.is_some() || n % 3 != 0);
                    let Some(got) = walk(&story, list, viewer, with_renotes, oldest_first).await else {
                        continue;
                    };
                    let wanted = |note: &&Created| {
                        let muted = viewer.is_some_and(|viewer| truth.mutes_thread(viewer, note.thread()));
                        let stance =
                            |of| viewer.map(|me| truth.stance(me, of, story.now())).unwrap_or_default();
                        let renoted = note.renote.and_then(|renote| truth.in_channel.get(&renote.id));
                        let in_muted_channel = note.channel.iter().chain(renoted).any(|channel| {
                            viewer.is_some_and(|viewer| truth.channel_mutes.contains(&(*channel, viewer)))
                        });
                        let company = Company { in_muted_channel, ..Company::of(note, muted) };
                        policy::wants(viewer, &company, list.place(), stance)
                    };
                    let visible = |note: &&Created| {
                        let follows = viewer.is_some_and(|viewer| truth.follows(viewer, note.author));
                        policy::may_see(
                            viewer,
                            &truth.facts(note),
                            Between { viewer_follows_author: follows },
                            story.now(),
                        )
                    };
                    let all = truth.notes.iter().filter(|n| belongs(list, n, viewer, with_renotes, &truth));
                    let mut expected: Vec<NoteId> =
                        all.filter(visible).filter(wanted).map(|note| note.id).collect();
                    expected.sort_unstable();
                    if !oldest_first {
                        expected.reverse();
                    }
                    assert_eq!(got, expected, "{list:?} for {viewer:?} in {life:#?}");
                    compared += expected.len();
                }
            }
            story.empty().await;
        }
        assert!(compared > WORLDS * usize::from(PEOPLE), "the worlds were empty: {compared}");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_facts_that_reach_the_policy_are_those_of_the_events(pool: PgPool) {
        let mut runner = TestRunner::deterministic();
        let life = a_life().new_tree(&mut runner).unwrap().current();
        let mut story = Story::new(&pool);
        let truth = story.live(&life);
        story.project().await;
        let wanted = Wanted::notes(truth.notes.iter().map(|note| note.id));
        let world = hydrate(&pool, wanted, None, story.now()).await.unwrap();
        assert_eq!(world.notes.len(), truth.notes.len());
        for note in &truth.notes {
            let expected = format!("{:?}", truth.facts(note));
            assert_eq!(format!("{:?}", world.notes[&note.id].facts()), expected);
        }
    }
}
