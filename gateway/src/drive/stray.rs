//! Bytes of which the log may know nothing. They are written down (`ops.stray_files`) before they are put
//! where files are kept, and before a file is deleted, and crossed out when all is done. What stays written
//! down for long was cut off: the log says whether the bytes stay.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::drive::FileAdded;
use domain::emoji::Picture;
use domain::{EmojiId, FileId, UserId};
use sqlx::PgPool;
use uuid::Uuid;

use super::Drive;
use super::store::StoreError;
use crate::app::App;
use crate::platform::shutdown::Shutdown;

/// After so long nobody is still at it.
const STRAY_AFTER: TimeDelta = TimeDelta::hours(1);
/// How often is looked for what was left.
const EVERY: Duration = Duration::from_secs(600);
/// The most that are looked at in one round.
const MAX_AT_ONCE: i64 = 1_000;

/// Why stray files are still there.
#[derive(Debug, thiserror::Error)]
pub enum NotSwept {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Log(#[from] domain::log::LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Drive {
    /// Writes down that the bytes of a file may be there without it.
    pub async fn note(&self, pool: &PgPool, file: &FileAdded, now: DateTime<Utc>) -> sqlx::Result<()> {
        sqlx::query(
            "insert into ops.stray_files (file_id, user_id, key, thumbnail, noted_at)
             values ($1, $2, $3, $4, $5) on conflict (file_id, key) do update set noted_at = excluded.noted_at",
        )
        .bind(file.id.0)
        .bind(file.owner.0)
        .bind(&file.key)
        .bind(&file.thumbnail)
        .bind(now)
        .execute(pool)
        .await?;
        Ok(())
    }

    /// Writes down that the picture of an emoji may be there without it.
    pub async fn note_picture(
        &self,
        pool: &PgPool,
        emoji: EmojiId,
        picture: &Picture,
        now: DateTime<Utc>,
    ) -> sqlx::Result<()> {
        sqlx::query(
            "insert into ops.stray_files (file_id, emoji_id, key, thumbnail, noted_at)
             values ($1, $2, $3, $4, $5) on conflict (file_id, key) do update set noted_at = excluded.noted_at",
        )
        .bind(number(&picture.key).0)
        .bind(emoji.0)
        .bind(&picture.key)
        .bind(&picture.thumbnail)
        .bind(now)
        .execute(pool)
        .await?;
        Ok(())
    }

    /// Crosses the picture of an emoji out.
    pub async fn settled_picture(&self, pool: &PgPool, picture: &Picture) -> sqlx::Result<()> {
        self.settled(pool, number(&picture.key), &picture.key).await
    }

    /// Removes the picture that an emoji has no more. What fails is done later.
    pub async fn discard_picture(&self, pool: &PgPool, picture: &Picture) {
        let (file, thumbnail) = (number(&picture.key), picture.thumbnail.as_deref());
        if let Err(error) = self.remove(pool, file, None, &picture.key, thumbnail).await {
            tracing::warn!(%error, key = picture.key, "the picture of an emoji stays for now");
        }
    }

    /// Crosses a file out: it is in the log with these bytes, or they are gone.
    pub async fn settled(&self, pool: &PgPool, file: FileId, key: &str) -> sqlx::Result<()> {
        sqlx::query("delete from ops.stray_files where file_id = $1 and key = $2")
            .bind(file.0)
            .bind(key)
            .execute(pool)
            .await?;
        Ok(())
    }

    /// Removes the bytes of a file that is deleted. What fails is done later.
    pub async fn discard(&self, pool: &PgPool, file: &FileAdded) {
        let gone = self.remove(pool, file.id, Some(file.owner), &file.key, file.thumbnail.as_deref()).await;
        if let Err(error) = gone {
            tracing::warn!(%error, file = %file.id, "the bytes of a deleted file stay for now");
        }
    }

    async fn remove(
        &self,
        pool: &PgPool,
        file: FileId,
        owner: Option<UserId>,
        key: &str,
        thumbnail: Option<&str>,
    ) -> Result<(), NotSwept> {
        for key in [Some(key), thumbnail].into_iter().flatten() {
            self.store.delete(owner, key).await?;
        }
        Ok(self.settled(pool, file, key).await?)
    }
}

/// By which the bytes of a picture are written down: its key is one that was made for it.
fn number(key: &str) -> FileId {
    FileId(Uuid::try_parse(key).unwrap_or_default())
}

/// Looks for what was left, now and then, until the server stops.
pub async fn watch(app: App, shutdown: Shutdown) {
    loop {
        if let Err(error) = sweep(&app).await {
            tracing::warn!(%error, "stray files stay for now");
        }
        tokio::select! {
            _ = shutdown.wait() => return,
            () = tokio::time::sleep(EVERY) => (),
        }
    }
}

/// Removes the bytes of files that the log doesn't have.
pub async fn sweep(app: &App) -> Result<(), NotSwept> {
    type Row = (Uuid, Option<Uuid>, Option<Uuid>, String, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "select file_id, user_id, emoji_id, key, thumbnail from ops.stray_files
          where noted_at < $1 order by noted_at limit $2",
    )
    .bind(app.now() - STRAY_AFTER)
    .bind(MAX_AT_ONCE)
    .fetch_all(&app.pool)
    .await?;
    for (file, owner, emoji, key, thumbnail) in rows {
        let (file, owner) = (FileId(file), owner.map(UserId));
        let is_kept = match emoji.map(EmojiId) {
            Some(emoji) => {
                let emoji = app.commands.emoji(emoji).await?;
                emoji.definition.as_ref().is_some_and(|emoji| emoji.picture.key == key)
            }
            None => app.commands.file(file).await?.existing().is_some_and(|file| file.key == key),
        };
        if is_kept {
            app.drive.settled(&app.pool, file, &key).await?;
        } else {
            app.drive.remove(&app.pool, file, owner, &key, thumbnail.as_deref()).await?;
            tracing::info!(%file, "a stray file is gone");
        }
    }
    let unended = app.drive.store.sweep(app.now() - STRAY_AFTER).await?;
    if unended > 0 {
        tracing::info!(unended, "what was begun to be sent and never ended is gone");
    }
    Ok(())
}
