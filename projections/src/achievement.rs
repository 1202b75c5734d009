//! What people have reached, and when.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::{Event, UserId};
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Fills `read.achievements`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "achievements"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["achievements"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["achievement.earned", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                let purge = sqlx::query("delete from achievements where user_id = $1").bind(user.0);
                purge.execute(&mut *tx).await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> sqlx::Result<()> {
    let (mut people, mut names, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (recorded, event) in events(batch) {
        if let Event::AchievementEarned(e) = event {
            people.push(e.user.0);
            names.push(sql::clean(&e.name));
            times.push(recorded.at);
        }
    }
    if people.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into achievements (user_id, name, earned_at)
         select user_id, name, earned_at
           from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as a(user_id, name, earned_at)
         on conflict (user_id, name) do nothing",
    )
    .bind(people)
    .bind(names)
    .bind(times)
    .execute(tx)
    .await?;
    Ok(())
}

/// What somebody has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AchievementRow {
    pub name: String,
    pub earned_at: DateTime<Utc>,
}

/// What each of these people has reached, in the order of time.
pub async fn of_people(
    pool: &PgPool,
    people: &[UserId],
) -> sqlx::Result<HashMap<UserId, Vec<AchievementRow>>> {
    let people: Vec<Uuid> = people.iter().map(|user| user.0).collect();
    let rows: Vec<(Uuid, String, DateTime<Utc>)> = sqlx::query_as(
        "select user_id, name, earned_at from read.achievements
          where user_id = any($1) order by earned_at, name",
    )
    .bind(people)
    .fetch_all(pool)
    .await?;
    let mut reached: HashMap<UserId, Vec<AchievementRow>> = HashMap::new();
    for (user, name, earned_at) in rows {
        reached.entry(UserId(user)).or_default().push(AchievementRow { name, earned_at });
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};

    #[sqlx::test(migrations = "../migrations")]
    async fn achievements_are_listed_in_the_order_of_time(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.earn(1, "notes10");
        story.earn(1, "notes1");
        story.project().await;
        let reached = of_people(&pool, &[user(1), user(2)]).await.unwrap();
        let names: Vec<&str> = reached[&user(1)].iter().map(|row| row.name.as_str()).collect();
        assert_eq!((reached.len(), names), (1, vec!["notes10", "notes1"]));
    }
}
