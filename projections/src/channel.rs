//! Channels, what is written in them, and what people are to them.
//!
//! Channels change rarely, so their events are written one by one; notes are counted together. What belongs to
//! a channel is written only while the channel is there. Notes that are deleted still count (as on Misskey),
//! until their author is erased.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::mute::Mute;
use domain::policy::Viewer;
use domain::{ChannelId, Event, FileId, NoteId, UserId};
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::{MAX_ITEMS, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;
use crate::world::ChannelRow;

/// Channels that are featured.
pub const MAX_FEATURED: u16 = 10;
/// The most channels of one person that are known to a stream.
pub const MAX_FOLLOWED: i64 = 10_000;

/// Fills `read.channels`, `read.channel_authors`, `read.channel_follows`, `read.channel_favorites` and
/// `read.channel_mutes`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["channels", "channel_authors", "channel_follows", "channel_favorites", "channel_mutes"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "channel.created",
            "channel.changed",
            "channel.followed",
            "channel.unfollowed",
            "channel.favorited",
            "channel.unfavorited",
            "channel.muted",
            "channel.unmuted",
            "note.created",
            "user.erased",
        ]
    }

    /// Of what is written, only what is said in channels.
    fn heeds(&self, event: &Event) -> bool {
        !matches!(event, Event::NoteCreated(note) if note.channel.is_none())
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            let mut written = Written::default();
            for (recorded, event) in events(part) {
                match event {
                    Event::NoteCreated(note) => {
                        if let Some(channel) = note.channel {
                            let entry = written.entry((channel.0, note.author.0)).or_insert((0, recorded.at));
                            *entry = (entry.0 + 1, entry.1.max(recorded.at));
                        }
                    }
                    other => {
                        count(tx, std::mem::take(&mut written)).await?;
                        write(tx, other).await?;
                    }
                }
            }
            count(tx, written).await?;
            if let Some(user) = erased {
                purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

/// By channel and author: how many notes, and when the last was written.
type Written = BTreeMap<(Uuid, Uuid), (i64, DateTime<Utc>)>;

async fn count(tx: &mut PgConnection, written: Written) -> sqlx::Result<()> {
    if written.is_empty() {
        return Ok(());
    }
    let (mut channels, mut authors, mut notes, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((channel, author), (n, at)) in written {
        channels.push(channel);
        authors.push(author);
        notes.push(n);
        last.push(at);
    }
    sqlx::query(
        "with d as (
             select d.channel_id, d.user_id, d.n, d.at
               from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[])
                    as d(channel_id, user_id, n, at)
               join channels c on c.id = d.channel_id
         ), known as (
             select a.channel_id, a.user_id
               from channel_authors a join d on d.channel_id = a.channel_id and d.user_id = a.user_id
         ), kept as (
             insert into channel_authors as a (channel_id, user_id, notes, last_noted_at)
             select channel_id, user_id, n, at from d
             on conflict (channel_id, user_id) do update
                set notes = a.notes + excluded.notes,
                    last_noted_at = greatest(a.last_noted_at, excluded.last_noted_at)
         )
         update channels c
            set notes = c.notes + s.n, users = c.users + s.fresh,
                last_noted_at = greatest(c.last_noted_at, s.at)
           from (select d.channel_id, sum(d.n)::bigint as n, max(d.at) as at,
                        count(*) filter (where k.user_id is null) as fresh
                   from d left join known k on k.channel_id = d.channel_id and k.user_id = d.user_id
                  group by d.channel_id) s
          where c.id = s.channel_id",
    )
    .bind(channels)
    .bind(authors)
    .bind(notes)
    .bind(last)
    .execute(tx)
    .await?;
    Ok(())
}

async fn write(tx: &mut PgConnection, event: &Event) -> sqlx::Result<()> {
    let query = match event {
        Event::ChannelCreated(e) => sqlx::query(
            "insert into channels (id, owner, name, description, color, is_sensitive,
                                   allow_renote_to_external, banner)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(e.id.0)
        .bind(e.owner.0)
        .bind(sql::clean(&e.name).into_owned())
        .bind(e.description.as_deref().map(|text| sql::clean(text).into_owned()))
        .bind(sql::clean(&e.color).into_owned())
        .bind(e.is_sensitive)
        .bind(e.allow_renote_to_external)
        .bind(e.banner.map(|file| file.0)),
        Event::ChannelChanged(e) => {
            let changes = &e.changes;
            sqlx::query(
                "update channels
                    set name = coalesce($2, name), description = case when $3 then $4 else description end,
                        color = coalesce($5, color), is_archived = coalesce($6, is_archived),
                        is_sensitive = coalesce($7, is_sensitive),
                        allow_renote_to_external = coalesce($8, allow_renote_to_external),
                        pinned = coalesce($9, pinned),
                        banner = case when $10 then $11 else banner end
                  where id = $1",
            )
            .bind(e.id.0)
            .bind(changes.name.as_deref().map(|name| sql::clean(name).into_owned()))
            .bind(changes.description.is_some())
            .bind(changes.description.clone().flatten().map(|text| sql::clean(&text).into_owned()))
            .bind(changes.color.as_deref().map(|color| sql::clean(color).into_owned()))
            .bind(changes.is_archived)
            .bind(changes.is_sensitive)
            .bind(changes.allow_renote_to_external)
            .bind(changes.pinned.as_ref().map(|pinned| pinned.iter().map(|note| note.0).collect::<Vec<_>>()))
            .bind(changes.banner.is_some())
            .bind(changes.banner.flatten().map(|file| file.0))
        }
        Event::ChannelFollowed(e) => stand(FOLLOW, e.channel, e.user),
        Event::ChannelUnfollowed(e) => stand(UNFOLLOW, e.channel, e.user),
        Event::ChannelFavorited(e) => stand(FAVOR, e.channel, e.user),
        Event::ChannelUnfavorited(e) => stand(UNFAVOR, e.channel, e.user),
        Event::ChannelMuted(e) => stand(MUTE, e.channel, e.user).bind(e.expires_at),
        Event::ChannelUnmuted(e) => stand(UNMUTE, e.channel, e.user),
        _ => return Ok(()),
    };
    query.execute(tx).await?;
    Ok(())
}

const FOLLOW: &str = "insert into channel_follows (channel_id, user_id)
    select $1, $2 where exists (select 1 from channels where id = $1)";
const UNFOLLOW: &str = "delete from channel_follows where channel_id = $1 and user_id = $2";
const FAVOR: &str = "insert into channel_favorites (channel_id, user_id)
    select $1, $2 where exists (select 1 from channels where id = $1)";
const UNFAVOR: &str = "delete from channel_favorites where channel_id = $1 and user_id = $2";
/// One that has expired may still be there.
const MUTE: &str = "insert into channel_mutes (channel_id, user_id, expires_at)
    select $1, $2, $3 where exists (select 1 from channels where id = $1)
    on conflict (user_id, channel_id) do update set expires_at = excluded.expires_at";
const UNMUTE: &str = "delete from channel_mutes where channel_id = $1 and user_id = $2";

fn stand(sql: &'static str, channel: ChannelId, user: UserId) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).bind(channel.0).bind(user.0)
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    let theirs: Vec<Uuid> = sqlx::query_scalar("delete from channels where owner = $1 returning id")
        .bind(user.0)
        .fetch_all(&mut *tx)
        .await?;
    for statement in [
        "delete from channel_authors where channel_id = any($1)",
        "delete from channel_follows where channel_id = any($1)",
        "delete from channel_favorites where channel_id = any($1)",
        "delete from channel_mutes where channel_id = any($1)",
    ] {
        sqlx::query(statement).bind(&theirs).execute(&mut *tx).await?;
    }
    let gone: Vec<(Uuid, i64)> =
        sqlx::query_as("delete from channel_authors where user_id = $1 returning channel_id, notes")
            .bind(user.0)
            .fetch_all(&mut *tx)
            .await?;
    if !gone.is_empty() {
        let (channels, notes): (Vec<Uuid>, Vec<i64>) = gone.into_iter().unzip();
        sqlx::query(
            "update channels c
                set notes = c.notes - d.n, users = c.users - 1,
                    last_noted_at = (select max(a.last_noted_at) from channel_authors a where a.channel_id = c.id)
               from unnest($1::uuid[], $2::bigint[]) as d(id, n)
              where c.id = d.id",
        )
        .bind(channels)
        .bind(notes)
        .execute(&mut *tx)
        .await?;
    }
    for statement in [
        "delete from channel_follows where user_id = $1",
        "delete from channel_favorites where user_id = $1",
        "delete from channel_mutes where user_id = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// What a viewer is to a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StandingRow {
    pub follows: bool,
    pub favors: bool,
    pub mutes: bool,
}

/// A channel and what the viewer ($1) is to it, now ($2).
const COLUMNS: &str = "c.id, c.owner, c.name, c.description, c.color, c.is_archived, c.is_sensitive,
    c.allow_renote_to_external, c.pinned, c.notes, c.users, c.last_noted_at, c.banner,
    (select d.key from read.drive_files d where d.id = c.banner) as banner_key,
    exists (select 1 from read.channel_follows f where f.user_id = $1 and f.channel_id = c.id) as follows,
    exists (select 1 from read.channel_favorites f where f.user_id = $1 and f.channel_id = c.id) as favors,
    exists (select 1 from read.channel_mutes m
             where m.user_id = $1 and m.channel_id = c.id
               and (m.expires_at is null or m.expires_at > $2)) as mutes";

fn channel_row(row: &PgRow) -> sqlx::Result<ChannelRow> {
    Ok(ChannelRow {
        id: ChannelId(row.try_get("id")?),
        owner: UserId(row.try_get("owner")?),
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        color: row.try_get("color")?,
        is_archived: row.try_get("is_archived")?,
        is_sensitive: row.try_get("is_sensitive")?,
        allow_renote_to_external: row.try_get("allow_renote_to_external")?,
        pinned: row.try_get::<Vec<Uuid>, _>("pinned")?.into_iter().map(NoteId).collect(),
        notes: row.try_get("notes")?,
        users: row.try_get("users")?,
        last_noted_at: row.try_get("last_noted_at")?,
        banner: row.try_get::<Option<Uuid>, _>("banner")?.map(FileId).zip(row.try_get("banner_key")?),
    })
}

/// The channels of these ids, without their banners, which no note shows.
pub(crate) async fn by_ids(pool: &PgPool, ids: &[ChannelId]) -> sqlx::Result<HashMap<ChannelId, ChannelRow>> {
    let rows = sqlx::query(
        "select id, owner, name, description, color, is_archived, is_sensitive, allow_renote_to_external,
                pinned, notes, users, last_noted_at, null::uuid as banner, null::text as banner_key
           from read.channels where id = any((select $1::uuid[])::uuid[])",
    )
    .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| channel_row(row).map(|channel| (channel.id, channel))).collect()
}

/// Who looks at channels, and when.
#[derive(Debug, Clone, Copy)]
pub struct Onlooker {
    pub viewer: Viewer,
    pub now: DateTime<Utc>,
}

type Seen = Vec<(ChannelRow, StandingRow)>;

/// Lists channels for which the rest of a statement holds; $3 to $5 are the bounds of the page.
async fn seen(
    pool: &PgPool,
    by: Onlooker,
    page: &Page,
    rest: &str,
    bind: impl FnOnce(Query<'static, Postgres, PgArguments>) -> Query<'static, Postgres, PgArguments>,
) -> sqlx::Result<Seen> {
    let sql =
        format!("select {COLUMNS} from read.channels c where c.id > $3 and c.id < $4 and {rest} limit $5");
    let query = sqlx::query(AssertSqlSafe(sql))
        .bind(by.viewer.map(|viewer| viewer.0))
        .bind(by.now)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit());
    let rows = bind(query).fetch_all(pool).await?;
    let row = |row: &PgRow| {
        let standing = StandingRow {
            follows: row.try_get("follows")?,
            favors: row.try_get("favors")?,
            mutes: row.try_get("mutes")?,
        };
        Ok((channel_row(row)?, standing))
    };
    rows.iter().map(row).collect()
}

fn newest() -> Page {
    Page::newest(MAX_ITEMS)
}

/// One channel.
pub async fn by_id(
    pool: &PgPool,
    channel: ChannelId,
    by: Onlooker,
) -> sqlx::Result<Option<(ChannelRow, StandingRow)>> {
    let found = seen(pool, by, &newest(), "c.id = $6", |query| query.bind(channel.0)).await?;
    Ok(found.into_iter().next())
}

/// Channels in which something was written, the last first.
pub async fn featured(pool: &PgPool, by: Onlooker) -> sqlx::Result<Seen> {
    let rest = "c.last_noted_at is not null and not c.is_archived order by c.last_noted_at desc, c.id desc";
    let page = Page::newest(MAX_FEATURED);
    seen(pool, by, &page, rest, |query| query).await
}

/// Channels that the viewer made; a page without bounds begins with the oldest (recorded behaviour).
pub async fn owned(pool: &PgPool, by: Onlooker, page: &Page) -> sqlx::Result<Seen> {
    let order = if page.since.is_none() && page.until.is_none() { "asc" } else { page.order() };
    let rest = format!("c.owner = $1 and not c.is_archived order by c.id {order}");
    seen(pool, by, page, &rest, |query| query).await
}

/// Channels that the viewer follows.
pub async fn followed(pool: &PgPool, by: Onlooker, page: &Page) -> sqlx::Result<Seen> {
    let rest = format!(
        "exists (select 1 from read.channel_follows f where f.user_id = $1 and f.channel_id = c.id)
          order by c.id {}",
        page.order()
    );
    seen(pool, by, page, &rest, |query| query).await
}

/// Channels that the viewer likes, newest first.
pub async fn favorites(pool: &PgPool, by: Onlooker) -> sqlx::Result<Seen> {
    let rest = "exists (select 1 from read.channel_favorites f where f.user_id = $1 and f.channel_id = c.id)
                 order by c.id desc";
    seen(pool, by, &newest(), rest, |query| query).await
}

/// Channels that the viewer mutes, newest first.
pub async fn muted(pool: &PgPool, by: Onlooker) -> sqlx::Result<Seen> {
    let rest = "exists (select 1 from read.channel_mutes m
                         where m.user_id = $1 and m.channel_id = c.id
                           and (m.expires_at is null or m.expires_at > $2))
                 order by c.id desc";
    seen(pool, by, &newest(), rest, |query| query).await
}

/// Channels in whose name, or description where that is asked, a text is found.
pub async fn search(
    pool: &PgPool,
    by: Onlooker,
    text: &str,
    only_names: bool,
    page: &Page,
) -> sqlx::Result<Seen> {
    let rest = format!(
        "not c.is_archived
          and (strpos(lower(c.name), lower($6)) > 0
               or (not $7 and strpos(lower(coalesce(c.description, '')), lower($6)) > 0))
          order by c.id {}",
        page.order()
    );
    let text = sql::clean(text).into_owned();
    seen(pool, by, page, &rest, |query| query.bind(text).bind(only_names)).await
}

/// The channels that a person follows, at most [`MAX_FOLLOWED`].
pub async fn all_followed(pool: &PgPool, user: UserId) -> sqlx::Result<Vec<ChannelId>> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select channel_id from read.channel_follows where user_id = $1 limit $2")
            .bind(user.0)
            .bind(MAX_FOLLOWED)
            .fetch_all(pool)
            .await?;
    Ok(ids.into_iter().map(ChannelId).collect())
}

/// The channels that a person mutes, or did for a time, at most [`MAX_FOLLOWED`].
pub async fn all_muted(pool: &PgPool, user: UserId) -> sqlx::Result<Vec<(ChannelId, Mute)>> {
    let rows: Vec<(Uuid, Option<DateTime<Utc>>)> =
        sqlx::query_as("select channel_id, expires_at from read.channel_mutes where user_id = $1 limit $2")
            .bind(user.0)
            .bind(MAX_FOLLOWED)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(|(channel, expires_at)| (ChannelId(channel), Mute { expires_at })).collect())
}

/// Who of these people mutes any channel, or did for a time.
pub(crate) async fn who_mute(pool: &PgPool, people: &[UserId]) -> sqlx::Result<HashMap<UserId, ()>> {
    let sql = "select o.id from unnest((select $1::uuid[])) as o(id)
                where exists (select from read.channel_mutes m where m.user_id = o.id)";
    sql::those(pool, sql, people).await
}

/// Which of these channels are muted, each by somebody, or were for a time.
pub(crate) async fn mutes(
    pool: &PgPool,
    channels: &[(UserId, ChannelId)],
) -> sqlx::Result<HashMap<(UserId, ChannelId), Mute>> {
    let rows: Vec<(Uuid, Uuid, Option<DateTime<Utc>>)> = sqlx::query_as(
        "select m.user_id, m.channel_id, m.expires_at
           from unnest((select $1::uuid[]), (select $2::uuid[])) as k(user_id, channel_id)
           join read.channel_mutes m on m.user_id = k.user_id and m.channel_id = k.channel_id",
    )
    .bind(channels.iter().map(|(user, _)| user.0).collect::<Vec<_>>())
    .bind(channels.iter().map(|(_, channel)| channel.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let row = |(user, id, expires_at)| ((UserId(user), ChannelId(id)), Mute { expires_at });
    Ok(rows.into_iter().map(row).collect())
}

/// Whether there is such a channel.
pub async fn exists(pool: &PgPool, channel: ChannelId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from read.channels where id = $1)")
        .bind(channel.0)
        .fetch_one(pool)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::channel::{Changed, Changes, Favorited, Followed, Muted, Unfollowed};

    fn names(rows: &Seen) -> Vec<&str> {
        rows.iter().map(|(row, _)| row.name.as_str()).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn channels_count_what_is_written_and_know_who_wants_it(pool: PgPool) {
        let mut story = Story::new(&pool);
        let soup = story.channel(1, |channel| channel.name = "Soup".to_owned());
        let salad = story.channel(1, |channel| channel.name = "Salad".to_owned());
        for (author, channel) in [(1, soup), (2, soup), (2, salad), (2, soup)] {
            story.note(author, |note| note.channel = Some(channel));
        }
        story.says(Followed { channel: soup, user: user(2) });
        story.says(Favorited { channel: soup, user: user(2) });
        let end = story.now() + chrono::TimeDelta::days(1);
        story.says(Muted { channel: salad, user: user(2), expires_at: Some(end) });
        story.project_in(2).await;

        let by = Onlooker { viewer: Some(user(2)), now: story.now() };
        let (row, standing) = by_id(&pool, soup, by).await.unwrap().unwrap();
        assert_eq!((row.notes, row.users), (3, 2));
        assert_eq!(standing, StandingRow { follows: true, favors: true, mutes: false });
        assert_eq!(names(&featured(&pool, by).await.unwrap()), ["Soup", "Salad"]);
        assert_eq!(names(&muted(&pool, by).await.unwrap()), ["Salad"]);
        let later = Onlooker { now: end, ..by };
        assert_eq!(names(&muted(&pool, later).await.unwrap()), Vec::<&str>::new());
        assert_eq!(names(&followed(&pool, by, &newest()).await.unwrap()), ["Soup"]);
        assert_eq!(names(&favorites(&pool, by).await.unwrap()), ["Soup"]);
        let mine = Onlooker { viewer: Some(user(1)), ..by };
        assert_eq!(names(&owned(&pool, mine, &newest()).await.unwrap()), ["Soup", "Salad"]);

        let found = async |text: &str, only_names| {
            let found = search(&pool, by, text, only_names, &newest()).await.unwrap();
            names(&found).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(found("sOUP", true).await, ["Soup"]);
        assert_eq!(found("about", false).await, ["Salad", "Soup"]);
        assert_eq!(found("about", true).await, Vec::<String>::new());
        story.says(Unfollowed { channel: soup, user: user(2) });
        let changes = Changes { is_archived: Some(true), description: Some(None), ..Changes::default() };
        story.says(Changed { id: soup, owner: user(1), changes });
        story.project().await;
        assert_eq!(all_followed(&pool, user(2)).await.unwrap(), []);
        assert_eq!(names(&featured(&pool, by).await.unwrap()), ["Salad"]);
        assert_eq!(by_id(&pool, soup, by).await.unwrap().unwrap().0.description, None);
    }
}
