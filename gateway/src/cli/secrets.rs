//! The keys of a backup, in a file apart from its log: people's keys as the master key wraps them, and what
//! they need to sign in again. The master key is not in it.
//!
//! One line of JSON each: first a [`Head`], then a [`Row`] for every row of the [`CARRIED`] tables, as
//! PostgreSQL writes it in JSON, then an [`End`] with a mark of the master key: see [`super::segments`]. So
//! nobody can let himself in by a row of his own.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use chrono::{DateTime, Utc};
use commands::log::MasterKey;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Digest;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use uuid::Uuid;

use super::ToolError;
use super::segments::{Hashing, Mark, VERSION, Whole, at, changed};

/// The tables that are carried over, in an order in which they can be filled.
pub const CARRIED: [&str; 12] = [
    KEYRING,
    KEYS,
    "server_secrets",
    "passwords",
    "second_factors",
    "passkeys",
    "mail_addresses",
    "native_tokens",
    "apps",
    "app_tokens",
    "webhooks",
    "push_subscriptions",
];
/// Those that are not: they say what was going on, or are worked out again.
#[cfg(test)]
const LEFT: [&str; 20] = [
    "auth_sessions",
    "browser_sessions",
    "challenges",
    "checkpoints",
    "deliveries",
    "deliveries_made",
    "ended_tokens",
    "erasures",
    "feed",
    "followed_log",
    "jobs",
    "leases",
    "oauth_codes",
    "outbox",
    "pending_sign_ups",
    "rate_windows",
    "rebuilds",
    "sign_ins",
    "stray_files",
    "used_codes",
];
const KEYRING: &str = "keyring";
const KEYS: &str = "keys";
const FORMAT: &str = "kiroku-keys";
/// What the mark at the end is for.
const MARKED: &str = "keys of a backup";
/// A row is small: a name, a description, some hashes.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Rows put into a table at once.
const ROWS_AT_ONCE: usize = 1_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    pub format: String,
    pub version: u32,
    pub program: String,
    pub url: String,
    /// Whose keys they are: the first event of the log.
    pub first_event: Uuid,
    /// Nobody whose first event is at or before this position is missing.
    pub up_to: u64,
    pub written_at: DateTime<Utc>,
}

impl Head {
    pub fn new(url: &str, first_event: Uuid, up_to: u64, written_at: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            url: url.to_owned(),
            first_event,
            up_to,
            written_at,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub table: String,
    pub row: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct End {
    rows: u64,
    /// Of the SHA-256 of all lines before this one.
    #[serde(flatten)]
    mark: Mark,
}

/// Writes the file, of one moment; returns how many rows it has.
pub async fn write(pool: &PgPool, path: &Path, head: &Head, master: &MasterKey) -> Result<u64, ToolError> {
    let mut file = Hashing::new(Whole::create(path).map_err(at(path))?);
    line(&mut file, head, path)?;
    let mut connection = pool.acquire().await?;
    let mut tx = connection.begin_with("begin isolation level repeatable read read only").await?;
    let mut written = 0;
    for table in CARRIED {
        let sql = format!("select to_jsonb(t)::text from ops.{table} t order by 1");
        let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            let row = serde_json::from_str(&row).map_err(|error| ToolError::Output(error.into()))?;
            line(&mut file, &Row { table: table.to_owned(), row }, path)?;
            written += 1;
        }
    }
    tx.rollback().await?;
    let mark = Mark::new(master, MARKED, &file.hash.clone().finalize());
    line(&mut file, &End { rows: written, mark }, path)?;
    file.inner.finish().map_err(at(path))?;
    Ok(written)
}

/// What a file of keys says, without its rows.
pub struct Looked {
    pub head: Head,
    /// Everybody who has, or had, a key.
    pub people: HashSet<Uuid>,
    /// The secret of the keyed hashes, wrapped by the master key.
    pub secret: Vec<u8>,
    /// The server's own key, wrapped.
    pub own: Vec<u8>,
}

/// Reads the file once, and refuses one that is not whole, or not of whoever has this key.
pub async fn look(path: &Path, master: &MasterKey) -> Result<Looked, ToolError> {
    let (mut people, mut secret, mut own) = (HashSet::new(), None, None);
    let head = each(path, master, async |Row { table, row }| {
        if table == KEYRING {
            secret = bytes(row.get("secret"));
            if !secret.as_ref().is_some_and(|secret| master.opens(secret)) {
                return Err(ToolError::Refused("this is not the master key of the backup".to_owned()));
            }
        }
        if table == KEYS {
            let person: Uuid = row
                .get("person")
                .and_then(Value::as_str)
                .and_then(|person| person.parse().ok())
                .ok_or_else(|| damaged(path))?;
            if person.is_nil() {
                own = bytes(row.get("wrapped"));
            }
            people.insert(person);
        }
        Ok(())
    });
    let head = head.await?;
    let (secret, own) = secret.zip(own).ok_or_else(|| damaged(path))?;
    Ok(Looked { head, people, secret, own })
}

/// Puts the rows into their tables and in the place of what was there, all or none, but not the secret of the
/// keyed hashes: without it no server starts. Of those who are erased only that they are.
pub async fn restore(
    pool: &PgPool,
    path: &Path,
    master: &MasterKey,
    erased: &HashMap<Uuid, DateTime<Utc>>,
) -> Result<(), ToolError> {
    let mut tx = pool.begin().await?;
    let tables = CARRIED.map(|table| format!("ops.{table}")).join(", ");
    sqlx::query(AssertSqlSafe(format!("truncate {tables} cascade"))).execute(&mut *tx).await?;
    let mut waiting = Waiting { table: KEYRING, rows: Vec::with_capacity(ROWS_AT_ONCE) };
    let mut dropped_apps = HashSet::new();
    each(path, master, async |row| {
        let Some(table) = CARRIED.into_iter().find(|carried| *carried == row.table) else {
            let refusal = format!("{} has a table that is not known here: ops.{}", path.display(), row.table);
            return Err(ToolError::Refused(refusal));
        };
        if table != waiting.table || waiting.rows.len() == ROWS_AT_ONCE {
            waiting.insert(&mut tx).await?;
            waiting.table = table;
        }
        if table != KEYRING {
            waiting.rows.extend(kept(table, row.row, erased, &mut dropped_apps));
        }
        Ok(())
    })
    .await?;
    waiting.insert(&mut tx).await?;
    sqlx::query("set local synchronous_commit = on").execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Puts in the secret of the keyed hashes: from then on a server can start.
pub async fn open_doors(pool: &PgPool, secret: &[u8]) -> Result<(), ToolError> {
    let mut tx = pool.begin().await?;
    sqlx::query("set local synchronous_commit = on").execute(&mut *tx).await?;
    sqlx::query("insert into ops.keyring (secret) values ($1)").bind(secret).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// A row as it is to be restored; none of a person who is erased but a key that is destroyed.
fn kept(
    table: &str,
    mut row: Map<String, Value>,
    erased: &HashMap<Uuid, DateTime<Utc>>,
    dropped_apps: &mut HashSet<String>,
) -> Option<Map<String, Value>> {
    let id = |name: &str| row.get(name).and_then(Value::as_str).and_then(|id| id.parse::<Uuid>().ok());
    if table == KEYS {
        let erased_at = id("person").and_then(|person| erased.get(&person));
        if let Some(at) = erased_at.filter(|_| !row.get("wrapped").is_none_or(Value::is_null)) {
            row.insert("wrapped".to_owned(), Value::Null);
            row.insert("destroyed_at".to_owned(), Value::String(at.to_rfc3339()));
        }
        return Some(row);
    }
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let is_gone = id("user_id").is_some_and(|user| erased.contains_key(&user))
        || text("app_id").is_some_and(|app| dropped_apps.contains(&app));
    if is_gone && table == "apps" {
        dropped_apps.extend(text("id"));
    }
    (!is_gone).then_some(row)
}

/// Rows of one table on their way into it.
struct Waiting {
    table: &'static str,
    rows: Vec<Map<String, Value>>,
}

impl Waiting {
    async fn insert(&mut self, tx: &mut PgConnection) -> Result<(), ToolError> {
        let (table, rows) = (self.table, std::mem::take(&mut self.rows));
        if rows.is_empty() {
            return Ok(());
        }
        let known: Vec<String> = sqlx::query_scalar(
            "select column_name::text from information_schema.columns
              where table_schema = 'ops' and table_name = $1",
        )
        .bind(table)
        .fetch_all(&mut *tx)
        .await?;
        // A column that came later keeps its default.
        let is_given = |column: &&String| rows.iter().any(|row| row.contains_key(column.as_str()));
        let columns: Vec<String> =
            known.iter().filter(is_given).map(|column| format!("\"{column}\"")).collect();
        let columns = columns.join(", ");
        let sql = format!(
            "insert into ops.{table} ({columns})
             select {columns} from jsonb_populate_recordset(null::ops.{table}, $1)"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(sqlx::types::Json(rows)).execute(tx).await?;
        Ok(())
    }
}

/// Hands on each row of the file; refuses one that is not whole, at the latest at its end.
async fn each(
    path: &Path,
    master: &MasterKey,
    mut take: impl AsyncFnMut(Row) -> Result<(), ToolError>,
) -> Result<Head, ToolError> {
    let mut file = BufReader::new(File::open(path).map_err(at(path))?);
    let mut hash = Hashing::new(std::io::sink());
    let mut line = Vec::new();
    let mut head: Option<Head> = None;
    let mut rows = 0;
    loop {
        line.clear();
        let read = (&mut file).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(at(path))?;
        if read == 0 {
            return Err(damaged(path));
        }
        if head.is_none() {
            let first: Head = serde_json::from_slice(&line).map_err(|_| damaged(path))?;
            if first.format != FORMAT || first.version > VERSION {
                return Err(damaged(path));
            }
            head = Some(first);
        } else if let Ok(row) = serde_json::from_slice::<Row>(&line) {
            rows += 1;
            take(row).await?;
        } else {
            let end: End = serde_json::from_slice(&line).map_err(|_| damaged(path))?;
            if !end.mark.is_of(master, MARKED, &hash.hash.finalize()) {
                return Err(changed(path));
            }
            return head.filter(|_| end.rows == rows).ok_or_else(|| damaged(path));
        }
        hash.write_all(&line).map_err(at(path))?;
    }
}

fn damaged(path: &Path) -> ToolError {
    ToolError::Refused(format!(
        "{} is not a whole file of keys that this version understands",
        path.display()
    ))
}

fn line(file: &mut impl Write, value: &impl Serialize, path: &Path) -> Result<(), ToolError> {
    let mut text = serde_json::to_vec(value).map_err(|error| ToolError::Output(error.into()))?;
    text.push(b'\n');
    file.write_all(&text).map_err(at(path))
}

/// Bytes as PostgreSQL writes them in JSON: `\x` and hexadecimal digits.
fn bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    let digits = value?.as_str()?.strip_prefix("\\x")?;
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use commands::log::Keyring;

    use super::*;

    #[sqlx::test(migrations = "../migrations")]
    async fn every_table_is_carried_over_or_left_on_purpose(pool: PgPool) {
        let mut there: Vec<String> =
            sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'ops'")
                .fetch_all(&pool)
                .await
                .unwrap();
        let mut known: Vec<&str> = CARRIED.into_iter().chain(LEFT).collect();
        known.sort_unstable();
        there.sort_unstable();
        assert_eq!(there, known, "decide whether a backup carries a new table");
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn master() -> MasterKey {
        MasterKey::given([7; 32])
    }

    async fn fill(pool: &PgPool) {
        Keyring::open(pool.clone(), &master()).await.unwrap();
        for sql in [
            "insert into ops.keys (person, wrapped)
             values ('00000000-0000-0000-0000-000000000000', '\\x00'),
                    ('00000000-0000-0000-0000-000000000001', '\\x0aff'),
                    ('00000000-0000-0000-0000-000000000002', '\\x0b')",
            "insert into ops.passwords (user_id, hash, changed_at)
             select ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'h' || n, '2026-01-02 03:04:05.123456+00'
               from generate_series(1, 2) n",
            "insert into ops.apps (id, user_id, secret_hash, name, description, permission, created_at)
             select ('00000000-0000-0000-0000-0000000000a' || n)::uuid,
                    ('00000000-0000-0000-0000-00000000000' || n)::uuid, ('\\x0' || n)::bytea, 'app \"x\"', '',
                    array['read:account', 'a,b'], now()
               from generate_series(1, 2) n",
            "insert into ops.app_tokens (id, user_id, app_id, hash, permission, created_at)
             select gen_random_uuid(), '00000000-0000-0000-0000-000000000001',
                    ('00000000-0000-0000-0000-0000000000a' || n)::uuid, ('\\x1' || n)::bytea, '{}', now()
               from generate_series(1, 2) n",
        ] {
            sqlx::query(sql).execute(pool).await.unwrap();
        }
    }

    async fn rows(pool: &PgPool, table: &str) -> Vec<String> {
        let sql = format!("select t::text from ops.{table} t order by 1");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_was_written_comes_back_but_for_the_erased(pool: PgPool) {
        fill(&pool).await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let head = Head::new("https://x.example", id(9), 3, DateTime::UNIX_EPOCH);
        assert_eq!(write(&pool, &path, &head, &master()).await.unwrap(), 10);
        let before = [rows(&pool, "passwords").await, rows(&pool, "apps").await];

        let looked = look(&path, &master()).await.unwrap();
        assert!(master().opens(&looked.secret));
        assert_eq!(looked.own, [0]);
        assert_eq!(looked.people, HashSet::from([id(0), id(1), id(2)]));
        sqlx::query("delete from ops.passwords").execute(&pool).await.unwrap();
        restore(&pool, &path, &master(), &HashMap::new()).await.unwrap();
        assert_eq!([rows(&pool, "passwords").await, rows(&pool, "apps").await], before);
        assert_eq!(rows(&pool, "keyring").await, Vec::<String>::new());
        assert_eq!(rows(&pool, "app_tokens").await.len(), 2);

        let erased = HashMap::from([(id(2), DateTime::UNIX_EPOCH)]);
        restore(&pool, &path, &master(), &erased).await.unwrap();
        let destroyed: Vec<(Uuid, DateTime<Utc>)> =
            sqlx::query_as("select person, destroyed_at from ops.keys where wrapped is null")
                .fetch_all(&pool)
                .await
                .unwrap();
        assert_eq!(destroyed, [(id(2), DateTime::UNIX_EPOCH)]);
        for table in ["passwords", "apps", "app_tokens"] {
            assert_eq!(rows(&pool, table).await.len(), 1, "{table}");
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_file_that_is_not_whole_or_not_its_owners_is_refused(pool: PgPool) {
        fill(&pool).await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let head = Head::new("u", id(9), 3, DateTime::UNIX_EPOCH);
        write(&pool, &path, &head, &master()).await.unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let before = rows(&pool, "passwords").await;
        let end = lines[lines.len() - 1];
        let password = lines.iter().find(|line| line.contains("h2")).unwrap();
        let added = whole.replace(end, &format!("{password}\n{}", end.replace("10", "11")));
        // Whoever can write the file, and knows all but the master key, marks it with a key of his own.
        write(&pool, &path, &head, &MasterKey::given([8; 32])).await.unwrap();
        let foreign = std::fs::read_to_string(&path).unwrap();
        let changed = whole.replace("h2", "h3");
        let cut = lines[..lines.len() - 1].join("\n");
        for (wrong, why) in [
            (&added, "was changed"),
            (&changed, "was changed"),
            (&foreign, "was changed"),
            (&cut, "not a whole file"),
            (&String::new(), "not a whole file"),
        ] {
            std::fs::write(&path, wrong).unwrap();
            let refused = look(&path, &master()).await.err().unwrap().to_string();
            assert!(refused.contains(why), "{refused}");
            restore(&pool, &path, &master(), &HashMap::new()).await.unwrap_err();
            assert_eq!(rows(&pool, "passwords").await, before, "nothing of it was taken");
        }
        std::fs::write(&path, &whole).unwrap();
        let refused = look(&path, &MasterKey::given([8; 32])).await.err().unwrap().to_string();
        assert!(refused.contains("not the master key"), "{refused}");
        assert!(look(&path, &master()).await.is_ok());
    }
}
