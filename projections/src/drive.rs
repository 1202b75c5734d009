//! Files and folders, and how much room they take.
//!
//! A file that is in a folder which has gone is in none. That is looked at when either changes, so it is the
//! same however the events were cut into batches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use domain::drive::{FileAdded, Properties};
use domain::log::Recorded;
use domain::{Event, FileId, FolderId, UserId};
use sqlx::postgres::{PgConnection, PgPool, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, QueryBuilder, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::{MAX_ITEMS, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;
use crate::world::FileRow;

/// Files of the same content that are found at once.
const MAX_ALIKE: i64 = 100;

/// Fills `read.drive_files`, `read.drive_folders` and `read.drive_usage`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "drive"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["drive_files", "drive_folders", "drive_usage"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "drive.file_added",
            "drive.file_changed",
            "drive.file_deleted",
            "drive.folder_added",
            "drive.folder_changed",
            "drive.folder_deleted",
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

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let (mut placed, mut gone) = (Vec::new(), Vec::new());
    let mut usage: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::FileAdded(e) => {
                add_file(tx, e).await?;
                let used = usage.entry(e.owner.0).or_default();
                *used = (used.0 + 1, used.1 + bytes(e.size));
                placed.push(e.id.0);
            }
            Event::FileChanged(e) => {
                let changes = &e.changes;
                sqlx::query(
                    "update drive_files
                        set name = coalesce($2, name),
                            comment = case when $3 then $4 else comment end,
                            sensitive = coalesce($5, sensitive),
                            folder_id = case when $6 then $7 else folder_id end
                      where id = $1",
                )
                .bind(e.id.0)
                .bind(changes.name.as_deref().map(sql::clean))
                .bind(changes.comment.is_some())
                .bind(changes.comment.as_ref().and_then(Option::as_deref).map(sql::clean))
                .bind(changes.sensitive)
                .bind(changes.folder.is_some())
                .bind(changes.folder.flatten().map(|folder| folder.0))
                .execute(&mut *tx)
                .await?;
                placed.push(e.id.0);
            }
            Event::FileDeleted(e) => {
                let size: Option<i64> =
                    sqlx::query_scalar("delete from drive_files where id = $1 returning size")
                        .bind(e.id.0)
                        .fetch_optional(&mut *tx)
                        .await?;
                if let Some(size) = size {
                    let used = usage.entry(e.owner.0).or_default();
                    *used = (used.0 - 1, used.1 - size);
                }
            }
            Event::FolderAdded(e) => {
                sqlx::query("insert into drive_folders (id, owner, name, parent_id) values ($1, $2, $3, $4)")
                    .bind(e.id.0)
                    .bind(e.owner.0)
                    .bind(sql::clean(&e.name))
                    .bind(e.parent.map(|parent| parent.0))
                    .execute(&mut *tx)
                    .await?;
            }
            Event::FolderChanged(e) => {
                sqlx::query(
                    "update drive_folders
                        set name = coalesce($2, name),
                            parent_id = case when $3 then $4 else parent_id end
                      where id = $1",
                )
                .bind(e.id.0)
                .bind(e.changes.name.as_deref().map(sql::clean))
                .bind(e.changes.parent.is_some())
                .bind(e.changes.parent.flatten().map(|parent| parent.0))
                .execute(&mut *tx)
                .await?;
            }
            Event::FolderDeleted(e) => {
                sqlx::query("delete from drive_folders where id = $1").bind(e.id.0).execute(&mut *tx).await?;
                gone.push(e.id.0);
            }
            _ => (),
        }
    }
    if !placed.is_empty() {
        sqlx::query(
            "update drive_files f set folder_id = null
              where f.id = any($1) and f.folder_id is not null
                and not exists (select 1 from drive_folders d where d.id = f.folder_id)",
        )
        .bind(placed)
        .execute(&mut *tx)
        .await?;
    }
    if !gone.is_empty() {
        sqlx::query("update drive_files set folder_id = null where folder_id = any($1)")
            .bind(gone)
            .execute(&mut *tx)
            .await?;
    }
    write_usage(tx, usage).await
}

async fn add_file(tx: &mut PgConnection, file: &FileAdded) -> sqlx::Result<()> {
    let Properties { width, height, orientation } = file.properties;
    let pixels = |n: Option<u32>| n.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    sqlx::query(
        "insert into drive_files (id, owner, name, comment, media_type, md5, size, sensitive,
                                  width, height, orientation, blurhash, folder_id, key, thumbnail)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(file.id.0)
    .bind(file.owner.0)
    .bind(sql::clean(&file.name))
    .bind(file.comment.as_deref().map(sql::clean))
    .bind(sql::clean(&file.media_type))
    .bind(sql::clean(&file.md5))
    .bind(bytes(file.size))
    .bind(file.sensitive)
    .bind(pixels(width))
    .bind(pixels(height))
    .bind(orientation.map(i16::from))
    .bind(file.blurhash.as_deref().map(sql::clean))
    .bind(file.folder.map(|folder| folder.0))
    .bind(sql::clean(&file.key))
    .bind(file.thumbnail.as_deref().map(sql::clean))
    .execute(tx)
    .await?;
    Ok(())
}

fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

async fn write_usage(tx: &mut PgConnection, usage: BTreeMap<Uuid, (i64, i64)>) -> sqlx::Result<()> {
    if usage.is_empty() {
        return Ok(());
    }
    let (people, used): (Vec<Uuid>, Vec<(i64, i64)>) = usage.into_iter().unzip();
    let (files, bytes): (Vec<i64>, Vec<i64>) = used.into_iter().unzip();
    sqlx::query(
        "insert into drive_usage as u (user_id, files, bytes)
         select user_id, files, bytes
           from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as d(user_id, files, bytes)
         on conflict (user_id) do update
            set files = u.files + excluded.files, bytes = u.bytes + excluded.bytes",
    )
    .bind(&people)
    .bind(files)
    .bind(bytes)
    .execute(&mut *tx)
    .await?;
    sqlx::query("delete from drive_usage where user_id = any($1) and files = 0")
        .bind(people)
        .execute(tx)
        .await?;
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    for statement in [
        "delete from drive_files where owner = $1",
        "delete from drive_folders where owner = $1",
        "delete from drive_usage where user_id = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRow {
    pub id: FolderId,
    pub owner: UserId,
    pub name: String,
    pub parent: Option<FolderId>,
}

/// A folder with how much is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledFolder {
    pub folder: FolderRow,
    pub folders: i64,
    pub files: i64,
}

/// How files are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    Id,
    Name,
    Size,
}

/// Which files of whom.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    /// Of anybody when none.
    pub owner: Option<UserId>,
    /// None: wherever they are. `Some(None)`: in no folder.
    pub folder: Option<Option<FolderId>>,
    /// A type such as `image/png` or `image/*`.
    pub media_type: Option<&'a str>,
    pub name: Option<&'a str>,
    pub md5: Option<&'a str>,
    /// By what, and whether the greatest comes first; as the page says when there is none.
    pub sort: Option<(SortKey, bool)>,
}

const FILE: &str =
    "f.id, f.owner, f.name, f.comment, f.media_type, f.md5, f.size, f.sensitive, f.width, f.height,
     f.orientation, f.blurhash, f.folder_id, f.key, f.thumbnail";

fn file_row(row: &PgRow) -> sqlx::Result<FileRow> {
    let pixels = |name: &str| -> sqlx::Result<Option<u32>> {
        Ok(row.try_get::<Option<i32>, _>(name)?.and_then(|n| u32::try_from(n).ok()))
    };
    let size: i64 = row.try_get("size")?;
    let orientation: Option<i16> = row.try_get("orientation")?;
    Ok(FileRow {
        id: FileId(row.try_get("id")?),
        owner: UserId(row.try_get("owner")?),
        name: row.try_get("name")?,
        comment: row.try_get("comment")?,
        media_type: row.try_get("media_type")?,
        md5: row.try_get("md5")?,
        size: size.unsigned_abs(),
        sensitive: row.try_get("sensitive")?,
        properties: Properties {
            width: pixels("width")?,
            height: pixels("height")?,
            orientation: orientation.and_then(|n| u8::try_from(n).ok()),
        },
        blurhash: row.try_get("blurhash")?,
        folder: row.try_get::<Option<Uuid>, _>("folder_id")?.map(FolderId),
        key: row.try_get("key")?,
        thumbnail: row.try_get("thumbnail")?,
    })
}

/// The files of these ids; unknown ones are left out.
pub async fn by_ids(pool: &PgPool, ids: &[FileId]) -> sqlx::Result<HashMap<FileId, FileRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let sql = format!("select {FILE} from read.drive_files f where f.id = any((select $1::uuid[])::uuid[])");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await?;
    rows.iter().map(|row| file_row(row).map(|file| (file.id, file))).collect()
}

/// The file whose bytes, or whose small picture, are under this key.
pub async fn by_key(pool: &PgPool, key: &str) -> sqlx::Result<Option<FileRow>> {
    let sql = format!("select {FILE} from read.drive_files f where f.key = $1 or f.thumbnail = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(sql::clean(key)).fetch_optional(pool).await?;
    row.as_ref().map(file_row).transpose()
}

/// A page of files.
pub async fn files(pool: &PgPool, filter: &Filter<'_>, page: &Page) -> sqlx::Result<Vec<FileRow>> {
    let mut query =
        QueryBuilder::<Postgres>::new(format!("select {FILE} from read.drive_files f where f.id > "));
    query.push_bind(page.since()).push(" and f.id < ").push_bind(page.until());
    if let Some(owner) = filter.owner {
        query.push(" and f.owner = ").push_bind(owner.0);
    }
    match filter.folder {
        None => (),
        Some(None) => {
            query.push(" and f.folder_id is null");
        }
        Some(Some(folder)) => {
            query.push(" and f.folder_id = ").push_bind(folder.0);
        }
    }
    match filter.media_type.map(|wanted| (wanted, wanted.strip_suffix("/*"))) {
        None => (),
        Some((_, Some(family))) => {
            query.push(" and split_part(f.media_type, '/', 1) = ").push_bind(family.to_owned());
        }
        Some((exact, None)) => {
            query.push(" and f.media_type = ").push_bind(exact.to_owned());
        }
    }
    if let Some(name) = filter.name {
        query.push(" and f.name = ").push_bind(sql::clean(name).into_owned());
    }
    if let Some(md5) = filter.md5 {
        query.push(" and f.md5 = ").push_bind(sql::clean(md5).into_owned());
    }
    let (column, order) = match filter.sort {
        None => ("f.id", page.order()),
        Some((key, descending)) => {
            let column = match key {
                SortKey::Id => "f.id",
                SortKey::Name => "f.name",
                SortKey::Size => "f.size",
            };
            (column, if descending { "desc" } else { "asc" })
        }
    };
    query.push(format!(" order by {column} {order}, f.id {order} limit ")).push_bind(page.limit());
    query.build().fetch_all(pool).await?.iter().map(file_row).collect()
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: FileId,
    pub owner: UserId,
    pub key: String,
    pub thumbnail: Option<String>,
}

/// Files of everybody, the newest first, before the given one.
pub async fn kept(pool: &PgPool, before: Option<FileId>, limit: i64) -> sqlx::Result<Vec<Kept>> {
    let rows: Vec<(Uuid, Uuid, String, Option<String>)> = sqlx::query_as(
        "select id, owner, key, thumbnail from read.drive_files where id < $1 order by id desc limit $2",
    )
    .bind(before.map_or(Uuid::max(), |file| file.0))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let kept = |(id, owner, key, thumbnail)| Kept { id: FileId(id), owner: UserId(owner), key, thumbnail };
    Ok(rows.into_iter().map(kept).collect())
}

/// Those of these keys under which nothing is kept.
pub async fn unknown(pool: &PgPool, keys: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select k from unnest($1::text[]) k
          where not exists (select 1 from read.drive_files f where f.key = k collate \"C\")
            and not exists (select 1 from read.drive_files f where f.thumbnail = k collate \"C\")",
    )
    .bind(keys)
    .fetch_all(pool)
    .await
}

/// How many files there are.
pub async fn count(pool: &PgPool) -> sqlx::Result<u64> {
    let files: i64 = sqlx::query_scalar("select coalesce(sum(files), 0)::bigint from read.drive_usage")
        .fetch_one(pool)
        .await?;
    Ok(files.unsigned_abs())
}

/// Files of somebody by their content, the oldest first.
pub async fn alike(pool: &PgPool, owner: UserId, md5: &str) -> sqlx::Result<Vec<FileRow>> {
    let sql = format!(
        "select {FILE} from read.drive_files f where f.owner = $1 and f.md5 = $2 order by f.id limit $3"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(owner.0).bind(sql::clean(md5)).bind(MAX_ALIKE);
    query.fetch_all(pool).await?.iter().map(file_row).collect()
}

/// How many bytes somebody's files have.
pub async fn usage(pool: &PgPool, owner: UserId) -> sqlx::Result<u64> {
    let bytes: Option<i64> = sqlx::query_scalar("select bytes from read.drive_usage where user_id = $1")
        .bind(owner.0)
        .fetch_optional(pool)
        .await?;
    Ok(bytes.unwrap_or_default().unsigned_abs())
}

fn folder_row(row: &PgRow) -> sqlx::Result<FolderRow> {
    Ok(FolderRow {
        id: FolderId(row.try_get("id")?),
        owner: UserId(row.try_get("owner")?),
        name: row.try_get("name")?,
        parent: row.try_get::<Option<Uuid>, _>("parent_id")?.map(FolderId),
    })
}

/// Somebody's folders that are in another one, or in none.
pub async fn folders(
    pool: &PgPool,
    owner: UserId,
    parent: Option<FolderId>,
    name: Option<&str>,
    page: &Page,
) -> sqlx::Result<Vec<FolderRow>> {
    let order = page.order();
    let placed =
        if parent.is_some() { "f.parent_id = $2" } else { "f.parent_id is null and $2::uuid is null" };
    let sql = format!(
        "select f.id, f.owner, f.name, f.parent_id
           from read.drive_folders f
          where f.owner = $1 and {placed} and f.id > $3 and f.id < $4 and ($5::text is null or f.name = $5)
          order by f.id {order} limit $6"
    );
    let query: Query<'_, Postgres, _> = sqlx::query(AssertSqlSafe(sql));
    let query = query.bind(owner.0).bind(parent.map(|parent| parent.0)).bind(page.since()).bind(page.until());
    let rows = query.bind(name.map(sql::clean)).bind(page.limit()).fetch_all(pool).await?;
    rows.iter().map(folder_row).collect()
}

/// The folders of these ids; unknown ones are left out.
pub async fn folders_by_ids(pool: &PgPool, ids: &[FolderId]) -> sqlx::Result<HashMap<FolderId, FolderRow>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let sql = "select f.id, f.owner, f.name, f.parent_id from read.drive_folders f where f.id = any($1)";
    let rows = sqlx::query(sql).bind(ids).fetch_all(pool).await?;
    rows.iter().map(|row| folder_row(row).map(|folder| (folder.id, folder))).collect()
}

/// A folder and those around it, from the inside out, with how much is in each.
pub async fn folder(pool: &PgPool, owner: UserId, folder: FolderId) -> sqlx::Result<Vec<FilledFolder>> {
    let rows = sqlx::query(
        "with recursive around(id, owner, name, parent_id, depth) as (
             select f.id, f.owner, f.name, f.parent_id, 0
               from read.drive_folders f where f.id = $1 and f.owner = $2
             union all
             select f.id, f.owner, f.name, f.parent_id, a.depth + 1
               from around a join read.drive_folders f on f.id = a.parent_id
              where a.depth < $3
         )
         select a.id, a.owner, a.name, a.parent_id,
                (select count(*) from read.drive_folders i where i.owner = a.owner and i.parent_id = a.id) as folders,
                (select count(*) from read.drive_files i where i.owner = a.owner and i.folder_id = a.id) as files
           from around a order by a.depth",
    )
    .bind(folder.0)
    .bind(owner.0)
    .bind(i32::from(MAX_ITEMS))
    .fetch_all(pool)
    .await?;
    let filled = |row: &PgRow| {
        Ok(FilledFolder {
            folder: folder_row(row)?,
            folders: row.try_get("folders")?,
            files: row.try_get("files")?,
        })
    };
    rows.iter().map(filled).collect()
}

/// Whether a folder has files in it.
pub async fn has_files(pool: &PgPool, owner: UserId, folder: FolderId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select 1 from read.drive_files where owner = $1 and folder_id = $2)")
        .bind(owner.0)
        .bind(folder.0)
        .fetch_one(pool)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::drive::{FileChanged, FileChanges, FileDeleted, FolderAdded, FolderDeleted};

    const OWNER: u8 = 1;

    fn folder_added(story: &mut Story, parent: Option<FolderId>) -> FolderId {
        let id = FolderId(story.id());
        story.says(FolderAdded { id, owner: user(OWNER), name: "folder".to_owned(), parent });
        id
    }

    async fn listed(pool: &PgPool, filter: Filter<'_>) -> Vec<FileId> {
        let filter = Filter { owner: Some(user(OWNER)), ..filter };
        let rows = files(pool, &filter, &Page::newest(10)).await.unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn files_are_listed_as_asked_and_counted(pool: PgPool) {
        let mut story = Story::new(&pool);
        let folder = folder_added(&mut story, None);
        let a = story.file(OWNER, |file| (file.name, file.size) = ("b".to_owned(), 3));
        let b = story.file(OWNER, |file| {
            (file.name, file.size) = ("a".to_owned(), 5);
            file.media_type = "text/plain".to_owned();
        });
        let c = story.file(OWNER, |file| file.folder = Some(folder));
        story.file(2, |_| ());
        story.project().await;

        assert_eq!(listed(&pool, Filter::default()).await, [c, b, a]);
        assert_eq!(listed(&pool, Filter { folder: Some(None), ..Filter::default() }).await, [b, a]);
        assert_eq!(listed(&pool, Filter { folder: Some(Some(folder)), ..Filter::default() }).await, [c]);
        for (wanted, expected) in [("image/*", vec![c, a]), ("text/plain", vec![b]), ("imag/*", vec![])] {
            assert_eq!(
                listed(&pool, Filter { media_type: Some(wanted), ..Filter::default() }).await,
                expected
            );
        }
        for (sort, expected) in [
            ((SortKey::Name, false), [b, c, a]),
            ((SortKey::Size, true), [c, b, a]),
            ((SortKey::Id, false), [a, b, c]),
        ] {
            assert_eq!(listed(&pool, Filter { sort: Some(sort), ..Filter::default() }).await, expected);
        }
        assert_eq!(listed(&pool, Filter { name: Some("b"), ..Filter::default() }).await, [a]);
        assert_eq!(alike(&pool, user(OWNER), &"00".repeat(16)).await.unwrap().len(), 3);
        assert_eq!(usage(&pool, user(OWNER)).await.unwrap(), 18);
        assert_eq!(by_key(&pool, &a.to_string()).await.unwrap().map(|row| row.id), Some(a));

        story.says(FileDeleted { id: b, owner: user(OWNER) });
        story.project().await;
        assert_eq!(listed(&pool, Filter::default()).await, [c, a]);
        assert_eq!(usage(&pool, user(OWNER)).await.unwrap(), 13);
        assert_eq!(usage(&pool, user(9)).await.unwrap(), 0);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn folders_know_what_is_in_them_and_files_outlive_them(pool: PgPool) {
        let mut story = Story::new(&pool);
        let outer = folder_added(&mut story, None);
        let inner = folder_added(&mut story, Some(outer));
        let kept = story.file(OWNER, |file| file.folder = Some(inner));
        story.project().await;
        let around = folder(&pool, user(OWNER), inner).await.unwrap();
        let counts: Vec<_> = around.iter().map(|f| (f.folder.id, f.folders, f.files)).collect();
        assert_eq!(counts, [(inner, 0, 1), (outer, 1, 0)]);
        assert!(folder(&pool, user(2), inner).await.unwrap().is_empty());
        let names = async |parent| {
            let rows = folders(&pool, user(OWNER), parent, Some("folder"), &Page::newest(9)).await.unwrap();
            rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!((names(None).await, names(Some(outer)).await), (vec![outer], vec![inner]));

        // Moved in at the moment when the folder goes.
        story.says(FolderDeleted { id: inner, owner: user(OWNER) });
        story.project().await;
        assert_eq!(listed(&pool, Filter { folder: Some(None), ..Filter::default() }).await, [kept]);
        let changes = FileChanges { folder: Some(Some(inner)), ..FileChanges::default() };
        story.says(FileChanged { id: kept, owner: user(OWNER), changes });
        story.project().await;
        assert_eq!(listed(&pool, Filter { folder: Some(None), ..Filter::default() }).await, [kept]);
    }
}
