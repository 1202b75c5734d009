//! Erasing a person: their key, their rows in every table, and what the files of the database still hold of
//! them. Ends with a certificate.
//!
//! In this order, so that whatever is cut off is made whole by doing it again: what lets them in (`ops`) is
//! removed; the log is told, and the key destroyed ([`Commands::erase`]); every projector removes what it has
//! of them, in whichever process it runs, and every process what it remembers; their files are removed; then
//! [`scrub`] rewrites the tables, because a row that was deleted is still in its file. The feed on NATS is waited for: whoever fills
//! it takes them out.
//!
//! The events stay where they are in the log, sealed with a key that nobody has any more.

pub mod asked;
pub mod scrub;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use commands::bus::Bus;
use commands::log::{Keyring, MAX_EVENTS_PER_READ};
use commands::{Commands, Failed, Receipt};
use domain::log::{By, Clock, EventLog, Ids, LogError, Position};
use domain::user::{CannotErase, Reservation, username_stream};
use domain::{CommandId, Fold, UserId, user};
use projections::runtime::Mode;
use projections::{Projections, erased};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

pub use scrub::Scrub;

use crate::drive::store::{Store, StoreError};
use crate::feed::STREAM;
use crate::ops::tokens::ENDED_KNOWN_FOR;

/// How long the read models may take to be without the person.
pub const PURGED_WITHIN: Duration = Duration::from_secs(600);
/// How long the feed on NATS may take to be without the person.
pub const FED_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(100);
/// The kind of the event, readable when nothing else of the person is.
const ERASED: &str = "user.erased";
/// What keyed hashes of names in certificates belong to.
const HASH_DOMAIN: &str = "erased name";
/// What is kept of a person besides the log and what is shown: by table, which rows. `$1` is their id, `$2`
/// the same as text.
const OPS: [(&str, &str); 19] = [
    ("passwords", "user_id = $1"),
    ("native_tokens", "user_id = $1"),
    ("app_tokens", "user_id = $1 or app_id in (select id from ops.apps where user_id = $1)"),
    ("auth_sessions", "user_id = $1 or app_id in (select id from ops.apps where user_id = $1)"),
    ("apps", "user_id = $1"),
    ("browser_sessions", "user_id = $1"),
    ("sign_ins", "user_id = $1"),
    ("second_factors", "user_id = $1"),
    ("used_codes", "user_id = $1"),
    ("passkeys", "user_id = $1"),
    ("challenges", "user_id = $1"),
    ("mail_addresses", "user_id = $1"),
    ("outbox", "user_id = $1"),
    ("oauth_codes", "user_id = $1"),
    ("webhooks", "user_id = $1"),
    ("push_subscriptions", "user_id = $1"),
    ("deliveries", "user_id = $1 or about = $1 or other = $1"),
    ("jobs", "user_id = $1"),
    ("rate_windows", "split_part(key, ':', 1) = $2"),
];

/// What it takes to erase somebody.
pub struct Eraser {
    pub pool: PgPool,
    pub log: Arc<dyn EventLog>,
    pub keyring: Arc<Keyring>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    /// Where files are kept.
    pub files: Store,
    /// Whether this server tells a feed on NATS what happens.
    pub is_fed: bool,
}

/// What was done, and to whom: without a name, so that it can be kept and shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Certificate {
    pub user: UserId,
    /// By which whoever has the server's keys can tell that a name was this person's; none when they had been
    /// erased before.
    pub name_hash: Option<String>,
    /// When the log was told, and where.
    pub erased_at: DateTime<Utc>,
    pub position: u64,
    pub key_destroyed_at: DateTime<Utc>,
    /// Events in the log that nobody can read any more, by kind.
    pub unreadable_events: BTreeMap<String, u64>,
    /// Rows removed this time, by table.
    pub removed_rows: BTreeMap<String, u64>,
    /// Files and small pictures whose bytes were removed this time.
    pub removed_files: u64,
    /// Rows that are still there, by table; none unless something went wrong.
    pub left_rows: BTreeMap<String, u64>,
    /// From the first step until nothing showed them any more.
    pub gone_after_ms: u64,
    pub scrub: Scrub,
    pub written_at: DateTime<Utc>,
    /// Of this certificate as JSON without spaces, with this field empty.
    pub sha256: String,
}

/// A person of whom only the bytes on the disk are left.
struct Gone {
    user: UserId,
    name_hash: Option<String>,
    /// Where the log has their first event, and where it says that they are erased.
    began: Position,
    ended: Position,
    removed_rows: BTreeMap<String, u64>,
    removed_files: u64,
    left_rows: BTreeMap<String, u64>,
    gone_after_ms: u64,
}

impl Eraser {
    /// The person of an id, of a name here (`alice`, `@alice`), or of a name elsewhere (`@alice@host`). The
    /// name of a person here leads to them also when they have been erased.
    pub async fn find(&self, who: &str) -> Result<UserId, EraseError> {
        if let Ok(id) = Uuid::parse_str(who) {
            return Ok(UserId(id));
        }
        if who.len() == domain::ids::ID_CHARS
            && let Ok(id) = who.parse()
        {
            return Ok(id);
        }
        let (name, host) = match who.trim_start_matches('@').split_once('@') {
            Some((name, host)) => (name, Some(host)),
            None => (who.trim_start_matches('@'), None),
        };
        if let Some(user) = projections::user::by_username(&self.pool, name, host).await? {
            return Ok(user);
        }
        if host.is_some() {
            return Err(EraseError::NoSuchUser);
        }
        let stream = username_stream(&self.keyring.hash("username", &name.to_ascii_lowercase()));
        let (recorded, _) = self.log.stream(&stream).await?;
        let events = recorded.iter().filter_map(|recorded| recorded.event.as_ref());
        Reservation::of(events).holder.ok_or(EraseError::NoSuchUser)
    }

    /// Erases a person. Asked again, it does again what is left to do.
    pub async fn erase(&self, user: UserId) -> Result<Certificate, EraseError> {
        let gone = self.forget(user).await?;
        let scrub = scrub::scrub(&self.pool).await?;
        self.certify(gone, scrub).await
    }

    /// Erases several people; the bytes on the disk are rewritten once for all of them.
    pub async fn erase_all(&self, people: &[UserId]) -> Result<Vec<Certificate>, EraseError> {
        let mut gone = Vec::with_capacity(people.len());
        for user in people {
            gone.push(self.forget(*user).await?);
        }
        let scrub = scrub::scrub(&self.pool).await?;
        let mut certificates = Vec::with_capacity(gone.len());
        for gone in gone {
            certificates.push(self.certify(gone, scrub.clone()).await?);
        }
        Ok(certificates)
    }

    /// The part after which nobody gets in as them and nothing they wrote can be read; the read models follow
    /// the receipt. What is left to do, [`Self::erase`] does.
    pub async fn begin(&self, user: UserId) -> Result<Receipt, EraseError> {
        self.purge_ops(user).await?;
        let receipt = self.tell(user).await?;
        // A sign-in may have been on its way.
        self.purge_ops(user).await?;
        Ok(receipt)
    }

    /// Takes the person out of everything that is asked; only the bytes on the disk may still have them.
    async fn forget(&self, user: UserId) -> Result<Gone, EraseError> {
        let (story, _) = self.log.stream(&user::stream(user)).await?;
        let Some(began) = story.first().map(|recorded| recorded.position) else {
            return Err(EraseError::NoSuchUser);
        };
        let started = Instant::now();
        let name_hash = self.name_hash(user).await?;
        let before = erased::rows_of(&self.pool, user).await?;
        let mut removed_rows = self.purge_ops(user).await?;

        let receipt = self.tell(user).await?;
        self.purge_read_models(self.log.clone(), receipt.position).await?;
        // A sign-in may have been on its way.
        for (table, rows) in self.purge_ops(user).await? {
            *removed_rows.entry(table).or_default() += rows;
        }
        let removed_files = self.files.delete_all(user).await?;
        let left = erased::rows_of(&self.pool, user).await?;
        let gone_after_ms = started.elapsed().as_millis() as u64;

        for (table, rows) in before {
            let gone = rows.saturating_sub(left.get(table).copied().unwrap_or_default());
            if gone > 0 {
                removed_rows.insert(format!("read.{table}"), gone);
            }
        }
        let left_rows = left.into_iter().map(|(table, rows)| (format!("read.{table}"), rows)).collect();
        let ended = receipt.position;
        Ok(Gone { user, name_hash, began, ended, removed_rows, removed_files, left_rows, gone_after_ms })
    }

    async fn certify(&self, gone: Gone, mut scrub: Scrub) -> Result<Certificate, EraseError> {
        let Gone { user, name_hash, began, ended, removed_rows, removed_files, left_rows, gone_after_ms } =
            gone;
        scrub.not_done.extend(self.left_in_feed(ended).await?);
        let certificate = Certificate {
            user,
            name_hash,
            erased_at: self.erased_at(user).await?,
            position: ended.0,
            key_destroyed_at: self.key_destroyed_at(user).await?,
            unreadable_events: self.unreadable(user, began, ended).await?,
            removed_rows,
            removed_files,
            left_rows,
            gone_after_ms,
            scrub,
            written_at: self.clock.now(),
            sha256: String::new(),
        };
        Ok(certificate.sealed()?)
    }

    /// Says so in the log, and destroys the key.
    async fn tell(&self, user: UserId) -> Result<Receipt, EraseError> {
        let now = self.clock.now();
        let by = By { user: None, now, command: CommandId(self.ids.at(now)) };
        let bus = Bus::postgres(&self.pool);
        let commands = Commands::new(self.log.clone(), self.keyring.clone(), self.ids.clone(), bus);
        commands.erase(by, user).await.map_err(|failed| match failed {
            Failed::Refused(CannotErase::NoSuchUser) => EraseError::NoSuchUser,
            Failed::Log(error) => error.into(),
            other => EraseError::Command(other.to_string()),
        })
    }

    /// Waits until no projector shows them; does its work where no server runs.
    async fn purge_read_models(&self, log: Arc<dyn EventLog>, at: Position) -> Result<(), EraseError> {
        let projections = Projections::start(&self.pool, log, projections::projectors(), Mode::Project);
        let reached = projections.wait(at, PURGED_WITHIN).await;
        let stopped = projections.status().into_iter().find_map(|status| {
            let reason = status.stopped?;
            (status.position < at).then(|| EraseError::Stopped { projector: status.name, reason })
        });
        projections.stop().await;
        reached.map_err(EraseError::Late)?;
        stopped.map_or(Ok(()), Err)
    }

    /// Waits until the feed has heard of it, and so has taken them out; why that is not so.
    async fn left_in_feed(&self, erased: Position) -> sqlx::Result<Option<String>> {
        let deadline = Instant::now() + FED_WITHIN;
        loop {
            let told: Option<i64> =
                sqlx::query_scalar("select position from ops.feed").fetch_optional(&self.pool).await?;
            let stands = match told.map(i64::unsigned_abs) {
                None if !self.is_fed => return Ok(None),
                Some(told) if told >= erased.0 => return Ok(None),
                Some(told) => format!("it has come to position {told}"),
                None => "nothing says how far it has come".to_owned(),
            };
            if Instant::now() >= deadline {
                return Ok(Some(format!(
                    "the feed on NATS has not taken them out: {stands}; let a server with `nats_url` run and ask \
                     again, or delete the stream {STREAM} and the row of ops.feed"
                )));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    async fn purge_ops(&self, user: UserId) -> sqlx::Result<BTreeMap<String, u64>> {
        let mut removed = BTreeMap::new();
        let mut tx = self.pool.begin().await?;
        // So that whoever still holds a token is told why it doesn't work any more.
        sqlx::query(
            "insert into ops.ended_tokens (hash, ended_at)
             select hash, $2 from ops.native_tokens where user_id = $1
             union select hash, $2 from ops.app_tokens where user_id = $1
             union select legacy_hash, $2 from ops.app_tokens where user_id = $1 and legacy_hash is not null
             on conflict do nothing",
        )
        .bind(user.0)
        .bind(self.clock.now())
        .execute(&mut *tx)
        .await?;
        sqlx::query("delete from ops.ended_tokens where ended_at < $1")
            .bind(self.clock.now() - ENDED_KNOWN_FOR)
            .execute(&mut *tx)
            .await?;
        for (table, theirs) in OPS {
            let sql =
                format!("delete from ops.{table} where ($1::uuid, $2::text) is not null and ({theirs})");
            let query = sqlx::query(AssertSqlSafe(sql)).bind(user.0).bind(user.to_string());
            let rows = query.execute(&mut *tx).await?.rows_affected();
            if rows > 0 {
                removed.insert(format!("ops.{table}"), rows);
            }
        }
        tx.commit().await?;
        Ok(removed)
    }

    async fn name_hash(&self, user: UserId) -> Result<Option<String>, EraseError> {
        let found = projections::user::by_ids(&self.pool, &[user]).await?.remove(&user);
        Ok(found.map(|person| {
            let name = person.username.to_lowercase();
            let full = person.host.map_or_else(|| name.clone(), |host| format!("{name}@{host}"));
            self.keyring.hash(HASH_DOMAIN, &full)
        }))
    }

    async fn erased_at(&self, user: UserId) -> Result<DateTime<Utc>, EraseError> {
        let (story, _) = self.log.stream(&user::stream(user)).await?;
        let told = story.iter().find(|recorded| recorded.kind == ERASED).map(|recorded| recorded.at);
        told.ok_or(EraseError::Unfinished)
    }

    async fn key_destroyed_at(&self, user: UserId) -> Result<DateTime<Utc>, EraseError> {
        let at: Option<Option<DateTime<Utc>>> =
            sqlx::query_scalar("select destroyed_at from ops.keys where person = $1")
                .bind(user.0)
                .fetch_optional(&self.pool)
                .await?;
        at.flatten().ok_or(EraseError::Unfinished)
    }

    /// How many events of theirs are in the log, by kind: none are before their account and after its end.
    async fn unreadable(
        &self,
        user: UserId,
        began: Position,
        ended: Position,
    ) -> Result<BTreeMap<String, u64>, EraseError> {
        let mut kinds = BTreeMap::new();
        let mut at = Position(began.0.saturating_sub(1));
        while at < ended {
            let rows = self.log.after(at, MAX_EVENTS_PER_READ).await?;
            let Some(last) = rows.last().map(|row| row.position) else { break };
            for row in rows.into_iter().filter(|row| row.subject == Some(user)) {
                *kinds.entry(row.kind).or_default() += 1;
            }
            at = last;
        }
        Ok(kinds)
    }
}

/// Why a person was not erased, or not altogether: asked again, it goes on.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error("no such user")]
    NoSuchUser,
    #[error("the read models still show them: {0}; ask again")]
    Late(projections::Lagging),
    #[error("the read models still show them: the projector {projector} has stopped: {reason}")]
    Stopped { projector: &'static str, reason: String },
    #[error("the log was not told: {0}")]
    Command(String),
    #[error("what was done can't be found in the log or among the keys; ask again")]
    Unfinished,
    #[error("the certificate can't be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("their files: {0}; ask again")]
    Files(#[from] StoreError),
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
}

impl Certificate {
    /// Whether nothing is left of them, as far as this server can tell.
    pub fn is_complete(&self) -> bool {
        self.left_rows.is_empty() && self.scrub.is_complete()
    }

    fn sealed(self) -> serde_json::Result<Self> {
        let digest = Sha256::digest(serde_json::to_vec(&Self { sha256: String::new(), ..self.clone() })?);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { sha256, ..self })
    }
}

/// For people: what is in the certificate, line by line.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        let list = |counts: &BTreeMap<String, u64>| {
            let each: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
            if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) }
        };
        writeln!(f, "Certificate of erasure")?;
        writeln!(f, "person              {}", self.user)?;
        if let Some(hash) = &self.name_hash {
            writeln!(f, "name, keyed hash    {hash}")?;
        }
        writeln!(f, "erased              {}, position {} of the log", self.erased_at, self.position)?;
        writeln!(f, "key destroyed       {}", self.key_destroyed_at)?;
        let events = &self.unreadable_events;
        writeln!(f, "unreadable events   {}{}", total(events), list(events))?;
        writeln!(f, "removed rows        {}{}", total(&self.removed_rows), list(&self.removed_rows))?;
        writeln!(f, "removed files       {}", self.removed_files)?;
        writeln!(f, "gone after          {} ms", self.gone_after_ms)?;
        if !self.left_rows.is_empty() {
            writeln!(f, "STILL THERE         {}{}", total(&self.left_rows), list(&self.left_rows))?;
        }
        write!(f, "{}", self.scrub)?;
        writeln!(f, "written             {}", self.written_at)?;
        write!(f, "sha-256             {}", self.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables that name people for good: whose key is destroyed, whom the certificates are about, whose files are
    /// still to be swept.
    const KEPT: [&str; 3] = ["erasures", "keys", "stray_files"];

    #[sqlx::test(migrations = "../migrations")]
    async fn every_table_of_people_is_emptied_or_kept_on_purpose(pool: PgPool) {
        let mut of_people: Vec<String> = sqlx::query_scalar(
            "select distinct table_name::text from information_schema.columns
              where table_schema = 'ops' and column_name in ('person', 'user_id', 'owner')",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        of_people.sort_unstable();
        let by_a_column = |(table, _): &(&'static str, _)| (*table != "rate_windows").then_some(*table);
        let mut known: Vec<&str> = OPS.iter().filter_map(by_a_column).chain(KEPT).collect();
        known.sort_unstable();
        assert_eq!(of_people, known, "decide whether an erasure empties a new table");
    }
}
