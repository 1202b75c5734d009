//! Decorations of avatars. Who wears which stands in their profiles.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::decoration::{Definition, Worn};
use domain::log::Recorded;
use domain::{DecorationId, Event};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use uuid::Uuid;

use crate::cache::Source;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;
use crate::world::UserRow;

/// The most decorations that are listed at once.
pub const MAX_DECORATIONS: i64 = 1_000;

/// Fills `read.decorations`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "decorations"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["decorations"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["decoration.created", "decoration.changed", "decoration.deleted"]
    }

    // There are few of them: each event is written by itself.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (recorded, event) in events(batch) {
            match event {
                Event::DecorationCreated(e) => define(tx, e.decoration, &e.definition, None).await?,
                Event::DecorationChanged(e) => {
                    define(tx, e.decoration, &e.definition, Some(recorded.at)).await?;
                }
                Event::DecorationDeleted(e) => {
                    sqlx::query("delete from decorations where id = $1")
                        .bind(e.decoration.0)
                        .execute(&mut *tx)
                        .await?;
                }
                _ => (),
            }
        }
        Ok(())
    }
}

async fn define(
    tx: &mut PgConnection,
    id: DecorationId,
    definition: &Definition,
    changed_at: Option<DateTime<Utc>>,
) -> Result<(), ProjectError> {
    sqlx::query(
        "insert into decorations (id, definition, updated_at) values ($1, $2, $3)
         on conflict (id) do update
            set definition = excluded.definition, updated_at = excluded.updated_at",
    )
    .bind(id.0)
    .bind(Json(sql::fields(definition)?))
    .bind(changed_at)
    .execute(tx)
    .await?;
    Ok(())
}

/// A decoration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecorationRow {
    pub id: DecorationId,
    pub definition: Definition,
    pub updated_at: Option<DateTime<Utc>>,
}

fn decoration_row(row: &PgRow) -> sqlx::Result<DecorationRow> {
    Ok(DecorationRow {
        id: DecorationId(row.try_get("id")?),
        definition: row.try_get::<Json<Definition>, _>("definition")?.0,
        updated_at: row.try_get("updated_at")?,
    })
}

/// All decorations, the oldest first.
pub async fn list(pool: &PgPool) -> sqlx::Result<Vec<DecorationRow>> {
    let rows = sqlx::query("select id, definition, updated_at from read.decorations order by id limit $1")
        .bind(MAX_DECORATIONS)
        .fetch_all(pool)
        .await?;
    rows.iter().map(decoration_row).collect()
}

/// Decorations by their ids; unknown ones are left out.
pub async fn by_ids(
    pool: &PgPool,
    ids: &[DecorationId],
) -> sqlx::Result<HashMap<DecorationId, DecorationRow>> {
    let rows = sqlx::query(
        "select id, definition, updated_at from read.decorations where id = any((select $1::uuid[])::uuid[])",
    )
    .bind(ids.iter().map(|id| id.0).collect::<Vec<Uuid>>())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| decoration_row(row).map(|row| (row.id, row))).collect()
}

/// Puts on what people wear: what is offered no more, or not to them, is left out.
pub(crate) async fn dress<'u>(
    source: &Source<'_>,
    people: impl Iterator<Item = &'u mut UserRow>,
) -> sqlx::Result<()> {
    let wearing: Vec<&mut UserRow> =
        people.filter(|user| !user.profile.avatar_decorations.is_empty()).collect();
    if wearing.is_empty() {
        return Ok(());
    }
    let worn =
        |user: &UserRow| user.profile.avatar_decorations.iter().map(|worn| worn.id).collect::<Vec<_>>();
    let mut ids: Vec<DecorationId> = wearing.iter().flat_map(|user| worn(user)).collect();
    ids.sort_unstable();
    ids.dedup();
    let load = async |ids: Vec<DecorationId>| {
        let rows = by_ids(source.pool, &ids).await?;
        Ok(rows.into_iter().map(|(id, row)| (id, Arc::new(row))).collect())
    };
    let known = source.facts(|kept| &kept.decorations, ids, load).await?;
    for user in wearing {
        let roles: Vec<_> = user.roles.iter().map(|role| role.id).collect();
        let dressed = user.profile.avatar_decorations.iter().filter_map(|worn| {
            let row = known.get(&worn.id).filter(|row| row.definition.is_for(&roles))?;
            Some((Worn::clone(worn), row.definition.url.clone()))
        });
        user.decorations = dressed.collect();
    }
    Ok(())
}
