//! What apps keep on the server for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::registry::{MAX_ITEMS, Place};
use domain::{Event, UserId};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::types::Json;
use uuid::Uuid;

use crate::erased;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Fills `read.registry`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["registry"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["registry.set", "registry.removed", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                sqlx::query("delete from registry where user_id = $1").bind(user.0).execute(&mut *tx).await?;
            }
        }
        Ok(())
    }
}

/// What a batch does to one place.
#[derive(Default)]
struct Change<'e> {
    /// What was there before the batch is there no more.
    removed: bool,
    stands: Option<(Uuid, &'e Value, DateTime<Utc>)>,
}

/// How a place is stored: its domain, empty for none, its scope and its key.
type Columns = (String, Vec<String>, String);

fn columns(place: &Place) -> Columns {
    let domain = place.domain.as_deref().unwrap_or_default();
    (sql::clean(domain).into_owned(), sql::clean_texts(&place.scope), sql::clean(&place.key).into_owned())
}

// Rare, and of few people at a time, so each place by itself.
async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let mut changes: BTreeMap<(Uuid, Columns), Change<'_>> = BTreeMap::new();
    for (recorded, event) in events(batch) {
        match event {
            Event::RegistrySet(e) => {
                let change = changes.entry((e.user.0, columns(&e.place))).or_default();
                // The place keeps its rank in the list while something is there.
                let id = change.stands.map_or(e.id.0, |(id, ..)| id);
                change.stands = Some((id, &e.value, recorded.at));
            }
            Event::RegistryRemoved(e) => {
                changes.insert((e.user.0, columns(&e.place)), Change { removed: true, stands: None });
            }
            _ => (),
        }
    }
    for ((user, (domain, scope, key)), change) in changes {
        if change.removed {
            sqlx::query(
                "delete from registry where user_id = $1 and domain = $2 and scope = $3 and key = $4",
            )
            .bind(user)
            .bind(&domain)
            .bind(&scope)
            .bind(&key)
            .execute(&mut *tx)
            .await?;
        }
        if let Some((id, value, at)) = change.stands {
            sqlx::query(
                "insert into registry (user_id, domain, scope, key, id, value, updated_at)
                 values ($1, $2, $3, $4, $5, $6, $7)
                 on conflict (user_id, domain, scope, key) do update
                    set value = excluded.value, updated_at = excluded.updated_at",
            )
            .bind(user)
            .bind(domain)
            .bind(scope)
            .bind(key)
            .bind(id)
            .bind(Json(sql::clean_json(value.clone())))
            .bind(at)
            .execute(&mut *tx)
            .await?;
        }
    }
    Ok(())
}

/// A value that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub value: Value,
    pub updated_at: DateTime<Utc>,
}

/// The value at a place.
pub async fn item(pool: &PgPool, user: UserId, place: &Place) -> sqlx::Result<Option<Item>> {
    let (domain, scope, key) = columns(place);
    let row: Option<(Json<Value>, DateTime<Utc>)> = sqlx::query_as(
        "select value, updated_at from read.registry
          where user_id = $1 and domain = $2 and scope = $3 and key = $4",
    )
    .bind(user.0)
    .bind(domain)
    .bind(scope)
    .bind(key)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|(Json(value), updated_at)| Item { value, updated_at }))
}

/// Keys and values of a scope, in the order in which they came.
pub async fn of_scope(
    pool: &PgPool,
    user: UserId,
    domain: Option<&str>,
    scope: &[String],
) -> sqlx::Result<Vec<(String, Value)>> {
    let rows: Vec<(String, Json<Value>)> = sqlx::query_as(
        "select key, value from read.registry
          where user_id = $1 and domain = $2 and scope = $3 order by id limit $4",
    )
    .bind(user.0)
    .bind(sql::clean(domain.unwrap_or_default()))
    .bind(sql::clean_texts(scope))
    .bind(MAX_ITEMS as i64)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(key, Json(value))| (key, value)).collect())
}

/// The scopes in which something is kept, by domain; both in the order in which they came.
pub async fn scopes(pool: &PgPool, user: UserId) -> sqlx::Result<Vec<(Option<String>, Vec<Vec<String>>)>> {
    let rows: Vec<(String, Vec<String>)> = sqlx::query_as(
        "select domain, scope from read.registry where user_id = $1 group by domain, scope order by min(id::text collate \"C\")
          limit $2",
    )
    .bind(user.0)
    .bind(MAX_ITEMS as i64)
    .fetch_all(pool)
    .await?;
    let mut domains: Vec<(Option<String>, Vec<Vec<String>>)> = Vec::new();
    for (domain, scope) in rows {
        let domain = (!domain.is_empty()).then_some(domain);
        match domains.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, scopes)) => scopes.push(scope),
            None => domains.push((domain, vec![scope])),
        }
    }
    Ok(domains)
}

/// How many values are kept for a person at other places than this one.
pub async fn others(pool: &PgPool, user: UserId, place: &Place) -> sqlx::Result<u64> {
    let (domain, scope, key) = columns(place);
    let count: i64 = sqlx::query_scalar(
        "select count(*) from read.registry
          where user_id = $1 and not (domain = $2 and scope = $3 and key = $4)",
    )
    .bind(user.0)
    .bind(domain)
    .bind(scope)
    .bind(key)
    .fetch_one(pool)
    .await?;
    Ok(count.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use serde_json::json;

    fn place(domain: Option<&str>, scope: &[&str], key: &str) -> Place {
        let scope = scope.iter().map(|part| (*part).to_owned()).collect();
        Place { domain: domain.map(str::to_owned), scope, key: key.to_owned() }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_last_value_stands_at_the_rank_of_the_first(pool: PgPool) {
        let mut story = Story::new(&pool);
        let base = ["client", "base"];
        story.keep(1, place(None, &base, "b"), json!({ "dark": true }));
        story.keep(1, place(None, &base, "a"), json!("\0"));
        story.keep(1, place(Some("app"), &[], "a"), json!(null));
        story.project().await;
        story.keep(1, place(None, &base, "b"), json!([1]));
        story.keep(1, place(None, &[], "root"), json!(1));
        story.project().await;
        let scope = base.map(str::to_owned);
        let all = async || of_scope(&pool, user(1), None, &scope).await.unwrap();
        let pair = |key: &str, value: Value| (key.to_owned(), value);
        assert_eq!(all().await, [pair("b", json!([1])), pair("a", json!("\u{fffd}"))]);
        let found = item(&pool, user(1), &place(Some("app"), &[], "a")).await.unwrap();
        assert_eq!(found.map(|item| item.value), Some(json!(null)));
        assert_eq!(item(&pool, user(2), &place(None, &base, "b")).await.unwrap(), None);
        let scopes = scopes(&pool, user(1)).await.unwrap();
        let none: Vec<String> = Vec::new();
        let expected = [(None, vec![scope.to_vec(), none.clone()]), (Some("app".to_owned()), vec![none])];
        assert_eq!(scopes, expected);
        assert_eq!(others(&pool, user(1), &place(None, &base, "b")).await.unwrap(), 3);
        assert_eq!(others(&pool, user(1), &place(None, &base, "c")).await.unwrap(), 4);

        story.drop_kept(1, place(None, &base, "b"));
        story.keep(1, place(None, &base, "b"), json!(2));
        story.project().await;
        assert_eq!(all().await, [pair("a", json!("\u{fffd}")), pair("b", json!(2))]);
        story.drop_kept(1, place(None, &base, "b"));
        story.drop_kept(1, place(None, &base, "nosuch"));
        story.project().await;
        assert_eq!(all().await, [pair("a", json!("\u{fffd}"))]);
    }
}
