//! Notes that profiles show first. Those that have gone stay, and nothing shows them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::log::Recorded;
use domain::{Event, NoteId, UserId};
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::runtime::{ProjectError, Projector, events};

/// The most pins of one person that are shown.
const MAX_SHOWN: i64 = 100;

/// Fills `read.pins`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "pins"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["pins"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["pin.added", "pin.removed", "user.erased"]
    }

    // Rare, so each by itself.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (_, event) in events(batch) {
            match event {
                Event::PinAdded(e) => {
                    sqlx::query("insert into pins (user_id, id, note_id) values ($1, $2, $3)")
                        .bind(e.user.0)
                        .bind(e.id.0)
                        .bind(e.note.0)
                        .execute(&mut *tx)
                        .await?;
                }
                Event::PinRemoved(e) => {
                    sqlx::query("delete from pins where user_id = $1 and note_id = $2")
                        .bind(e.user.0)
                        .bind(e.note.0)
                        .execute(&mut *tx)
                        .await?;
                }
                Event::UserErased(e) => {
                    sqlx::query("delete from pins where user_id = $1")
                        .bind(e.user.0)
                        .execute(&mut *tx)
                        .await?;
                }
                _ => (),
            }
        }
        Ok(())
    }
}

/// What each of these people pinned and is still there, the latest first.
pub(crate) async fn of_people(
    pool: &PgPool,
    people: &[UserId],
) -> sqlx::Result<HashMap<UserId, Vec<NoteId>>> {
    let people: Vec<Uuid> = people.iter().map(|user| user.0).collect();
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "select p.user_id, p.note_id
           from (select distinct id from unnest($1::uuid[]) as d(id)) u
          cross join lateral (
                select p.user_id, p.id, p.note_id
                  from read.pins p
                 where p.user_id = u.id and exists (select 1 from read.notes n where n.id = p.note_id)
                 order by p.id desc limit $2) p
          order by p.user_id, p.id desc",
    )
    .bind(people)
    .bind(MAX_SHOWN)
    .fetch_all(pool)
    .await?;
    let mut pins: HashMap<UserId, Vec<NoteId>> = HashMap::new();
    for (user, note) in rows {
        pins.entry(UserId(user)).or_default().push(NoteId(note));
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::note::Deleted;

    #[sqlx::test(migrations = "../migrations")]
    async fn the_latest_pin_comes_first_and_what_has_gone_not_at_all(pool: PgPool) {
        let mut story = Story::new(&pool);
        let notes = [1, 2, 3].map(|_| story.note(1, |_| ()));
        for note in notes {
            story.pin(1, note);
        }
        story.project().await;
        let shown = async || of_people(&pool, &[user(1), user(2), user(1)]).await.unwrap();
        assert_eq!(shown().await, HashMap::from([(user(1), vec![notes[2], notes[1], notes[0]])]));
        story.unpin(1, notes[1]);
        story.says(Deleted { id: notes[2], author: user(1) });
        story.project().await;
        assert_eq!(shown().await, HashMap::from([(user(1), vec![notes[0]])]));
    }
}
