//! Custom emoji.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use domain::emoji::{Definition, Picture};
use domain::log::Recorded;
use domain::{EmojiId, Event, RoleId};
use sqlx::postgres::{PgConnection, PgPool, PgRow, Postgres};
use sqlx::{AssertSqlSafe, QueryBuilder, Row};
use uuid::Uuid;

use crate::page::Page;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// The most emoji that are listed at once, for everybody.
pub const MAX_LISTED: i64 = 20_000;
/// The most words that are looked for at once in one field.
const MAX_WORDS: usize = 16;

/// Fills `read.emojis`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "emojis"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["emojis"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["emoji.added", "emoji.changed", "emoji.deleted"]
    }

    // They change seldom: each event is written by itself.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (recorded, event) in events(batch) {
            match event {
                Event::EmojiAdded(e) => define(tx, e.emoji, &e.definition, recorded.at).await?,
                Event::EmojiChanged(e) => define(tx, e.emoji, &e.definition, recorded.at).await?,
                Event::EmojiDeleted(e) => {
                    sqlx::query("delete from emojis where id = $1").bind(e.emoji.0).execute(&mut *tx).await?;
                }
                _ => (),
            }
        }
        Ok(())
    }
}

async fn define(
    tx: &mut PgConnection,
    id: EmojiId,
    emoji: &Definition,
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into emojis (id, name, aliases, category, license, sensitive, local_only, roles, memo, key,
                             thumbnail, media_type, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         on conflict (id) do update
            set name = excluded.name, aliases = excluded.aliases, category = excluded.category,
                license = excluded.license, sensitive = excluded.sensitive,
                local_only = excluded.local_only, roles = excluded.roles, memo = excluded.memo,
                key = excluded.key, thumbnail = excluded.thumbnail, media_type = excluded.media_type,
                updated_at = excluded.updated_at",
    )
    .bind(id.0)
    .bind(&emoji.name)
    .bind(sql::clean_texts(&emoji.aliases))
    .bind(emoji.category.as_deref().map(sql::clean))
    .bind(emoji.license.as_deref().map(sql::clean))
    .bind(emoji.sensitive)
    .bind(emoji.local_only)
    .bind(emoji.roles.iter().map(|role| role.0).collect::<Vec<_>>())
    .bind(sql::clean(&emoji.memo))
    .bind(&emoji.picture.key)
    .bind(&emoji.picture.thumbnail)
    .bind(&emoji.picture.media_type)
    .bind(at)
    .execute(tx)
    .await?;
    Ok(())
}

/// A custom emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmojiRow {
    pub id: EmojiId,
    pub definition: Definition,
    pub updated_at: DateTime<Utc>,
}

const EMOJI: &str = "e.id, e.name, e.aliases, e.category, e.license, e.sensitive, e.local_only, e.roles,
     e.memo, e.key, e.thumbnail, e.media_type, e.updated_at";

fn emoji_row(row: &PgRow) -> sqlx::Result<EmojiRow> {
    Ok(EmojiRow {
        id: EmojiId(row.try_get("id")?),
        definition: Definition {
            name: row.try_get("name")?,
            aliases: row.try_get("aliases")?,
            category: row.try_get("category")?,
            license: row.try_get("license")?,
            sensitive: row.try_get("sensitive")?,
            local_only: row.try_get("local_only")?,
            roles: row.try_get::<Vec<Uuid>, _>("roles")?.into_iter().map(RoleId).collect(),
            memo: row.try_get("memo")?,
            picture: Picture {
                key: row.try_get("key")?,
                thumbnail: row.try_get("thumbnail")?,
                media_type: row.try_get("media_type")?,
            },
        },
        updated_at: row.try_get("updated_at")?,
    })
}

/// All emoji, by category and name; those without a category last.
pub async fn all(pool: &PgPool) -> sqlx::Result<Vec<EmojiRow>> {
    let sql =
        format!("select {EMOJI} from read.emojis e order by e.category nulls last, e.name, e.id limit $1");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(MAX_LISTED).fetch_all(pool).await?;
    rows.iter().map(emoji_row).collect()
}

/// Where the pictures of emoji are, after the given one.
pub async fn pictures(
    pool: &PgPool,
    after: Option<EmojiId>,
    limit: i64,
) -> sqlx::Result<Vec<(EmojiId, Picture)>> {
    let sql = format!("select {EMOJI} from read.emojis e where e.id > $1 order by e.id limit $2");
    let after = after.map_or(Uuid::nil(), |emoji| emoji.0);
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(limit).fetch_all(pool).await?;
    rows.iter().map(|row| emoji_row(row).map(|row| (row.id, row.definition.picture))).collect()
}

/// The emoji of a name.
pub async fn by_name(pool: &PgPool, name: &str) -> sqlx::Result<Option<EmojiRow>> {
    Ok(by_names(pool, &[name]).await?.remove(name))
}

/// Emoji by their names; unknown ones are left out.
pub async fn by_names(pool: &PgPool, names: &[&str]) -> sqlx::Result<HashMap<String, EmojiRow>> {
    let sql = format!("select {EMOJI} from read.emojis e where e.name = any($1)");
    let names: Vec<_> = names.iter().map(|name| sql::clean(name)).collect();
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(names).fetch_all(pool).await?;
    rows.iter().map(|row| emoji_row(row).map(|row| (row.definition.name.clone(), row))).collect()
}

/// The emoji of an id.
pub async fn by_id(pool: &PgPool, id: EmojiId) -> sqlx::Result<Option<EmojiRow>> {
    let sql = format!("select {EMOJI} from read.emojis e where e.id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.0).fetch_optional(pool).await?;
    row.as_ref().map(emoji_row).transpose()
}

/// The emoji whose picture, or whose small picture, is under this key.
pub async fn by_key(pool: &PgPool, key: &str) -> sqlx::Result<Option<EmojiRow>> {
    let sql = format!("select {EMOJI} from read.emojis e where e.key = $1 or e.thumbnail = $1 limit 1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(sql::clean(key)).fetch_optional(pool).await?;
    row.as_ref().map(emoji_row).transpose()
}

/// What is looked for in names, aliases and categories.
#[derive(Debug, Clone, Copy)]
pub enum Search<'a> {
    /// Emoji of exactly these names.
    Named(&'a [&'a str]),
    /// A part of any of the three.
    Part(&'a str),
}

/// A page of emoji.
pub async fn page(pool: &PgPool, search: Option<Search<'_>>, page: &Page) -> sqlx::Result<Vec<EmojiRow>> {
    let mut query = QueryBuilder::<Postgres>::new(format!("select {EMOJI} from read.emojis e where e.id > "));
    query.push_bind(page.since()).push(" and e.id < ").push_bind(page.until());
    match search {
        None => (),
        Some(Search::Named(names)) => {
            let names: Vec<String> = names.iter().map(|name| sql::clean(name).into_owned()).collect();
            query.push(" and e.name = any(").push_bind(names).push(")");
        }
        Some(Search::Part(part)) => {
            let part = sql::clean(part).into_owned();
            query.push(" and (strpos(e.name, ").push_bind(part.clone());
            query.push(") > 0 or strpos(coalesce(e.category, ''), ").push_bind(part.clone());
            query.push(") > 0 or exists (select 1 from unnest(e.aliases) a where strpos(a, ").push_bind(part);
            query.push(") > 0))");
        }
    }
    query.push(format!(" order by e.id {} limit ", page.order())).push_bind(page.limit());
    query.build().fetch_all(pool).await?.iter().map(emoji_row).collect()
}

/// By what emoji are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    Id,
    UpdatedAt,
    Name,
    MediaType,
    Aliases,
    Category,
    License,
    Sensitive,
    LocalOnly,
    Roles,
}

impl SortKey {
    fn column(self) -> &'static str {
        match self {
            SortKey::Id => "e.id",
            SortKey::UpdatedAt => "e.updated_at",
            SortKey::Name => "e.name",
            SortKey::MediaType => "e.media_type",
            SortKey::Aliases => "e.aliases",
            SortKey::Category => "e.category",
            SortKey::License => "e.license",
            SortKey::Sensitive => "e.sensitive",
            SortKey::LocalOnly => "e.local_only",
            SortKey::Roles => "e.roles",
        }
    }
}

/// Which emoji; each text is words of which one is a part of the field.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    /// The first and last day of the last change.
    pub updated_from: Option<NaiveDate>,
    pub updated_to: Option<NaiveDate>,
    pub name: Option<&'a str>,
    pub media_type: Option<&'a str>,
    pub aliases: Option<&'a str>,
    pub category: Option<&'a str>,
    pub license: Option<&'a str>,
    /// The key of the picture.
    pub key: Option<&'a str>,
    pub sensitive: Option<bool>,
    pub local_only: Option<bool>,
    /// Kept for one of these.
    pub roles: &'a [RoleId],
}

/// A page of emoji that are looked for in many ways, by `offset` as Misskey's API asks; and how many there are
/// of them in all.
pub async fn filtered(
    pool: &PgPool,
    filter: &Filter<'_>,
    sort: &[(SortKey, bool)],
    page: &Page,
    offset: i64,
) -> sqlx::Result<(Vec<EmojiRow>, i64)> {
    let mut count = QueryBuilder::<Postgres>::new("select count(*) from read.emojis e where true");
    narrow(&mut count, filter, page);
    let total: i64 = count.build_query_scalar().fetch_one(pool).await?;
    let mut query = QueryBuilder::<Postgres>::new(format!("select {EMOJI} from read.emojis e where true"));
    narrow(&mut query, filter, page);
    query.push(" order by ");
    for (key, descending) in sort {
        query.push(format!("{} {}, ", key.column(), if *descending { "desc" } else { "asc" }));
    }
    query.push("e.id desc limit ").push_bind(page.limit()).push(" offset ").push_bind(offset);
    let rows = query.build().fetch_all(pool).await?;
    Ok((rows.iter().map(emoji_row).collect::<sqlx::Result<_>>()?, total))
}

fn narrow(query: &mut QueryBuilder<Postgres>, filter: &Filter<'_>, page: &Page) {
    query.push(" and e.id > ").push_bind(page.since()).push(" and e.id < ").push_bind(page.until());
    if let Some(from) = filter.updated_from {
        query.push(" and (e.updated_at at time zone 'utc')::date >= ").push_bind(from);
    }
    if let Some(to) = filter.updated_to {
        query.push(" and (e.updated_at at time zone 'utc')::date <= ").push_bind(to);
    }
    for (column, words) in [
        ("e.name", filter.name),
        ("e.media_type", filter.media_type),
        ("array_to_string(e.aliases, ' ')", filter.aliases),
        ("coalesce(e.category, '')", filter.category),
        ("coalesce(e.license, '')", filter.license),
        ("e.key", filter.key),
    ] {
        let words: Vec<&str> = words.unwrap_or_default().split_whitespace().take(MAX_WORDS).collect();
        for (n, word) in words.iter().enumerate() {
            let before = if n == 0 { " and (" } else { " or " };
            query.push(format!("{before}strpos({column}, ")).push_bind(sql::clean(word).into_owned());
            query.push(") > 0");
        }
        if !words.is_empty() {
            query.push(")");
        }
    }
    if let Some(sensitive) = filter.sensitive {
        query.push(" and e.sensitive = ").push_bind(sensitive);
    }
    if let Some(local_only) = filter.local_only {
        query.push(" and e.local_only = ").push_bind(local_only);
    }
    if !filter.roles.is_empty() {
        let roles: Vec<Uuid> = filter.roles.iter().map(|role| role.0).collect();
        query.push(" and e.roles && ").push_bind(roles);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, emoji_definition};
    use domain::emoji::{Added, Changed, Deleted};

    fn names(rows: &[EmojiRow]) -> Vec<&str> {
        rows.iter().map(|row| row.definition.name.as_str()).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn emoji_are_listed_found_and_gone(pool: PgPool) {
        let mut story = Story::new(&pool);
        let id = |n: u128| EmojiId(Uuid::from_u128(n));
        for (n, name, category, alias) in [
            (1, "blob", Some("faces"), "round"),
            (2, "cat", Some("animals"), "neko"),
            (3, "zzz", None, "sleep"),
            (4, "gone", None, "x"),
        ] {
            let mut definition = emoji_definition(name);
            definition.category = category.map(str::to_owned);
            definition.aliases = vec![alias.to_owned()];
            definition.sensitive = n == 3;
            story.says(Added { emoji: id(n), definition });
        }
        let gone = emoji_definition("gone");
        story.says(Deleted { emoji: id(4), definition: gone });
        let changed = Definition { license: Some("CC0 1.0".to_owned()), ..emoji_definition("dog") };
        story.says(Changed { emoji: id(2), definition: changed.clone() });
        story.project().await;

        assert_eq!(names(&all(&pool).await.unwrap()), ["blob", "dog", "zzz"]);
        assert_eq!(by_name(&pool, "cat").await.unwrap(), None);
        let dog = by_name(&pool, "dog").await.unwrap().unwrap();
        assert_eq!((dog.id, &dog.definition), (id(2), &changed));
        assert_eq!(by_key(&pool, "key-dog").await.unwrap(), Some(dog));
        let newest = Page::newest(10);
        let found = async |search| page(&pool, search, &newest).await.unwrap();
        assert_eq!(names(&found(None).await), ["zzz", "dog", "blob"]);
        assert_eq!(names(&found(Some(Search::Part("o"))).await), ["dog", "blob"]);
        assert_eq!(names(&found(Some(Search::Part("slee"))).await), ["zzz"]);
        assert_eq!(names(&found(Some(Search::Part("face"))).await), ["blob"]);
        assert_eq!(names(&found(Some(Search::Named(&["blob", "z"]))).await), ["blob"]);

        let filtered = async |filter: Filter<'_>, sort: &[(SortKey, bool)], offset| {
            let (rows, total) = filtered(&pool, &filter, sort, &Page::newest(2), offset).await.unwrap();
            (names(&rows).join(" "), total)
        };
        let by_name = [(SortKey::Name, false)];
        assert_eq!(filtered(Filter::default(), &by_name, 0).await, ("blob dog".to_owned(), 3));
        assert_eq!(filtered(Filter::default(), &by_name, 2).await, ("zzz".to_owned(), 3));
        let words = Filter { name: Some("blo z"), ..Filter::default() };
        assert_eq!(filtered(words, &[], 0).await, ("zzz blob".to_owned(), 2));
        let licensed = Filter { license: Some("CC0"), ..Filter::default() };
        assert_eq!(filtered(licensed, &[], 0).await, ("dog".to_owned(), 1));
        let lewd = Filter { sensitive: Some(true), ..Filter::default() };
        assert_eq!(filtered(lewd, &[], 0).await, ("zzz".to_owned(), 1));
        let nobodys = Filter { roles: &[RoleId(Uuid::max())], ..Filter::default() };
        assert_eq!(filtered(nobodys, &[], 0).await, (String::new(), 0));
    }
}
