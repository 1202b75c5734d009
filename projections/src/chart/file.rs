//! What became of each file: when it was added, how large it is, and when it went.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::drive::FileAdded;
use domain::log::Recorded;
use domain::{Event, UserId};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::People;
use super::hours::{Series, Whose};
use super::life::{Life, Lives};
use crate::runtime::events;

/// One file.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Line {
    id: Uuid,
    owner: Uuid,
    bytes: i64,
    added: DateTime<Utc>,
    gone: Option<DateTime<Utc>>,
}

impl Line {
    pub(super) fn of(file: &FileAdded, hour: DateTime<Utc>) -> Self {
        let bytes = i64::try_from(file.size).unwrap_or(i64::MAX);
        Self { id: file.id.0, owner: file.owner.0, bytes, added: hour, gone: None }
    }
}

impl Life for Line {
    const TABLE: &'static str = "chart_files";

    fn id(&self) -> Uuid {
        self.id
    }

    fn came(&self) -> DateTime<Utc> {
        self.added
    }

    fn gone(&self) -> Option<DateTime<Utc>> {
        self.gone
    }

    fn with_gone(self, hour: DateTime<Utc>) -> Self {
        Self { gone: Some(hour), ..self }
    }

    fn each(&self, people: &People, mut counts: impl FnMut(Whose, Series, i64)) {
        for whose in [Whose::Person(UserId(self.owner)), people.origin(self.owner)] {
            counts(whose, Series::Files, 1);
            counts(whose, Series::FileBytes, self.bytes);
        }
    }
}

/// The files that the batch deletes.
pub(super) async fn load(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<Lives<Line>> {
    let mut files = Lives::default();
    let deleted = events(batch).filter_map(|(_, event)| match event {
        Event::FileDeleted(e) => Some(e.id.0),
        _ => None,
    });
    let deleted: Vec<Uuid> = deleted.collect();
    if deleted.is_empty() {
        return Ok(files);
    }
    let lines: Vec<Line> = sqlx::query_as(
        "select id, owner, bytes, added, gone from chart_files where id = any($1) and gone is null",
    )
    .bind(deleted)
    .fetch_all(tx)
    .await?;
    files.standing.extend(lines.into_iter().map(|line| (line.id, line)));
    Ok(files)
}

pub(super) async fn write(tx: &mut PgConnection, files: &Lives<Line>) -> sqlx::Result<()> {
    let new = files.newcomers();
    if !new.is_empty() {
        sqlx::query(
            "insert into chart_files (id, owner, bytes, added, gone)
             select id, owner, bytes, added, gone
               from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
                    as f(id, owner, bytes, added, gone)",
        )
        .bind(new.iter().map(|line| line.id).collect::<Vec<_>>())
        .bind(new.iter().map(|line| line.owner).collect::<Vec<_>>())
        .bind(new.iter().map(|line| line.bytes).collect::<Vec<_>>())
        .bind(new.iter().map(|line| line.added).collect::<Vec<_>>())
        .bind(new.iter().map(|line| line.gone).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    }
    files.write_gone(tx).await
}

/// Forgets the person's files; what is to be counted no more.
pub(super) async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<Vec<Line>> {
    sqlx::query_as("delete from chart_files where owner = $1 returning id, owner, bytes, added, gone")
        .bind(user.0)
        .fetch_all(tx)
        .await
}
