//! What became of each note: when it was written, what it hangs on, and when it went.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::note::Created;
use domain::{Event, UserId};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::People;
use super::hours::{Hours, Series, Whose};
use super::life::{Life, Lives};
use crate::runtime::events;

/// One note.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Line {
    id: Uuid,
    pub(super) author: Uuid,
    reply_id: Option<Uuid>,
    renote_id: Option<Uuid>,
    has_files: bool,
    written: DateTime<Utc>,
    gone: Option<DateTime<Utc>>,
}

impl Line {
    fn parents(&self) -> impl Iterator<Item = Uuid> {
        self.reply_id.into_iter().chain(self.renote_id)
    }
}

impl Life for Line {
    const TABLE: &'static str = "chart_notes";

    fn id(&self) -> Uuid {
        self.id
    }

    fn came(&self) -> DateTime<Utc> {
        self.written
    }

    fn gone(&self) -> Option<DateTime<Utc>> {
        self.gone
    }

    fn with_gone(self, hour: DateTime<Utc>) -> Self {
        Self { gone: Some(hour), ..self }
    }

    fn each(&self, people: &People, mut counts: impl FnMut(Whose, Series, i64)) {
        let kinds = [
            (Series::Notes, true),
            (Series::PlainNotes, self.reply_id.is_none() && self.renote_id.is_none()),
            (Series::Replies, self.reply_id.is_some()),
            (Series::Renotes, self.renote_id.is_some()),
            (Series::NotesWithFiles, self.has_files),
        ];
        for whose in [Whose::Person(UserId(self.author)), people.origin(self.author)] {
            for (series, _) in kinds.iter().filter(|(_, is)| *is) {
                counts(whose, *series, 1);
            }
        }
    }
}

/// The notes that a batch is about, and what it does to them.
#[derive(Default)]
pub(super) struct Notes {
    lives: Lives<Line>,
    children: HashMap<Uuid, Vec<Uuid>>,
}

impl Notes {
    /// What the batch answers, passes on and deletes, and all that hangs on what it deletes.
    pub(super) async fn load(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<Self> {
        let (mut parents, mut deleted) = (Vec::new(), Vec::new());
        for (_, event) in events(batch) {
            match event {
                Event::NoteCreated(note) => {
                    parents.extend(note.reply.into_iter().chain(note.renote).map(|parent| parent.id.0));
                }
                Event::NoteDeleted(note) => deleted.push(note.id.0),
                _ => (),
            }
        }
        let mut notes = Self::default();
        if parents.is_empty() && deleted.is_empty() {
            return Ok(notes);
        }
        let lines: Vec<Line> = sqlx::query_as(
            "with recursive going(id) as (
                 select d.id from unnest($1::uuid[]) as d(id)
                 union
                 select c.id
                   from going g
                  cross join lateral (select r.id from chart_notes r where r.reply_id = g.id and r.gone is null
                                      union all
                                      select r.id from chart_notes r where r.renote_id = g.id and r.gone is null) c
             )
             select n.id, n.author, n.reply_id, n.renote_id, n.has_files, n.written, n.gone
               from chart_notes n
              where n.id = any(array(select g.id from going g union select p.id from unnest($2::uuid[]) as p(id)))
                and n.gone is null",
        )
        .bind(deleted)
        .bind(parents)
        .fetch_all(tx)
        .await?;
        for line in lines {
            notes.hang(&line);
            notes.lives.standing.insert(line.id, line);
        }
        Ok(notes)
    }

    fn hang(&mut self, line: &Line) {
        for parent in line.parents() {
            self.children.entry(parent).or_default().push(line.id);
        }
    }

    /// Whose notes may be counted because of this batch, besides those of new ones.
    pub(super) fn authors(&self) -> impl Iterator<Item = Uuid> {
        self.lives.standing.values().map(|line| line.author)
    }

    /// A note appears, if what it hangs on is there.
    pub(super) fn create(&mut self, note: &Created, hour: DateTime<Utc>) {
        let line = Line {
            id: note.id.0,
            author: note.author.0,
            reply_id: note.reply.map(|parent| parent.id.0),
            renote_id: note.renote.map(|parent| parent.id.0),
            has_files: !note.files.is_empty(),
            written: hour,
            gone: None,
        };
        if line.parents().all(|parent| self.lives.standing.contains_key(&parent)) {
            self.hang(&line);
            self.lives.come(line);
        }
    }

    /// A note goes, with all that hangs on it.
    pub(super) fn delete(&mut self, id: Uuid, hour: DateTime<Utc>) {
        let mut going = vec![id];
        while let Some(id) = going.pop() {
            if self.lives.go(id, hour) {
                going.extend(self.children.remove(&id).into_iter().flatten());
            }
        }
    }

    pub(super) async fn write(
        self,
        tx: &mut PgConnection,
        people: &People,
        hours: &mut Hours,
    ) -> sqlx::Result<()> {
        self.lives.count(hours, people);
        let new = self.lives.newcomers();
        if !new.is_empty() {
            sqlx::query(
                "insert into chart_notes (id, author, reply_id, renote_id, has_files, written, gone)
                 select id, author, reply_id, renote_id, has_files, written, gone
                   from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::boolean[],
                               $6::timestamptz[], $7::timestamptz[])
                        as n(id, author, reply_id, renote_id, has_files, written, gone)",
            )
            .bind(new.iter().map(|line| line.id).collect::<Vec<_>>())
            .bind(new.iter().map(|line| line.author).collect::<Vec<_>>())
            .bind(new.iter().map(|line| line.reply_id).collect::<Vec<_>>())
            .bind(new.iter().map(|line| line.renote_id).collect::<Vec<_>>())
            .bind(new.iter().map(|line| line.has_files).collect::<Vec<_>>())
            .bind(new.iter().map(|line| line.written).collect::<Vec<_>>())
            .bind(new.iter().map(|line| line.gone).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await?;
        }
        self.lives.write_gone(tx).await
    }
}

/// Forgets the person's notes and all that ever hung on them; what is to be counted no more.
pub(super) async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<Vec<Line>> {
    sqlx::query_as(
        "with recursive going(id) as (
             select n.id from chart_notes n where n.author = $1
             union
             select c.id
               from going g
              cross join lateral (select r.id from chart_notes r where r.reply_id = g.id
                                  union all
                                  select r.id from chart_notes r where r.renote_id = g.id) c
         )
         delete from chart_notes n where n.id = any(array(select g.id from going g))
         returning n.id, n.author, n.reply_id, n.renote_id, n.has_files, n.written, n.gone",
    )
    .bind(user.0)
    .fetch_all(tx)
    .await
}
