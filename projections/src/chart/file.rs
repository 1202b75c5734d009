//! What became of each file: when it was added, how large it is, and when it went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::drive::FileAdded;
use domain::log::Recorded;
use domain::{Event, UserId};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::People;
use super::hours::{Hours, Series, Whose};
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
    /// Counts, `n` times, that it was added, and gone if it is.
    pub(super) fn count(&self, hours: &mut Hours, people: &People, n: i64) {
        self.count_added(hours, people, n);
        if let Some(gone) = self.gone {
            self.count_gone(hours, people, gone, n);
        }
    }

    fn count_added(&self, hours: &mut Hours, people: &People, n: i64) {
        for whose in self.whose(people) {
            hours.add(whose, Series::Files, self.added, n, 0);
            hours.add(whose, Series::FileBytes, self.added, n * self.bytes, 0);
        }
    }

    fn count_gone(&self, hours: &mut Hours, people: &People, gone: DateTime<Utc>, n: i64) {
        for whose in self.whose(people) {
            hours.add(whose, Series::Files, gone, 0, n);
            hours.add(whose, Series::FileBytes, gone, 0, n * self.bytes);
        }
    }

    fn whose(&self, people: &People) -> [Whose; 2] {
        [Whose::Person(UserId(self.owner)), people.origin(self.owner)]
    }
}

/// The files that a batch is about, and what it does to them.
#[derive(Default)]
pub(super) struct Files {
    /// Those that are there.
    standing: BTreeMap<Uuid, Line>,
    new: BTreeSet<Uuid>,
    gone: BTreeMap<Uuid, Line>,
}

impl Files {
    pub(super) async fn load(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<Self> {
        let deleted = events(batch).filter_map(|(_, event)| match event {
            Event::FileDeleted(e) => Some(e.id.0),
            _ => None,
        });
        let deleted: Vec<Uuid> = deleted.collect();
        if deleted.is_empty() {
            return Ok(Self::default());
        }
        let lines: Vec<Line> = sqlx::query_as(
            "select id, owner, bytes, added, gone from chart_files where id = any($1) and gone is null",
        )
        .bind(deleted)
        .fetch_all(tx)
        .await?;
        Ok(Self { standing: lines.into_iter().map(|line| (line.id, line)).collect(), ..Self::default() })
    }

    pub(super) fn add(&mut self, file: &FileAdded, hour: DateTime<Utc>) {
        let bytes = i64::try_from(file.size).unwrap_or(i64::MAX);
        let line = Line { id: file.id.0, owner: file.owner.0, bytes, added: hour, gone: None };
        self.new.insert(line.id);
        self.standing.insert(line.id, line);
    }

    pub(super) fn delete(&mut self, id: Uuid, hour: DateTime<Utc>) {
        if let Some(line) = self.standing.remove(&id) {
            self.gone.insert(id, Line { gone: Some(hour), ..line });
        }
    }

    pub(super) async fn write(
        self,
        tx: &mut PgConnection,
        people: &People,
        hours: &mut Hours,
    ) -> sqlx::Result<()> {
        let of = |id: &Uuid| self.standing.get(id).or_else(|| self.gone.get(id));
        let new: Vec<&Line> = self.new.iter().filter_map(of).collect();
        for line in &new {
            line.count_added(hours, people, 1);
        }
        for (line, hour) in self.gone.values().filter_map(|line| Some((line, line.gone?))) {
            line.count_gone(hours, people, hour, 1);
        }
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
        let old = self.gone.values().filter(|line| !self.new.contains(&line.id));
        let (ids, at): (Vec<Uuid>, Vec<Option<DateTime<Utc>>>) = old.map(|line| (line.id, line.gone)).unzip();
        if !ids.is_empty() {
            sqlx::query(
                "update chart_files f set gone = d.gone
                   from unnest($1::uuid[], $2::timestamptz[]) as d(id, gone) where f.id = d.id",
            )
            .bind(ids)
            .bind(at)
            .execute(tx)
            .await?;
        }
        Ok(())
    }
}

/// Forgets the person's files; what is to be counted no more.
pub(super) async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<Vec<Line>> {
    sqlx::query_as("delete from chart_files where owner = $1 returning id, owner, bytes, added, gone")
        .bind(user.0)
        .fetch_all(tx)
        .await
}
