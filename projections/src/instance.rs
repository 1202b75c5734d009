//! The server itself: its address, first administrator, settings and default policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::instance::{Instance, Policies, Settings};
use domain::log::Recorded;
use domain::{Event, UserId};
use serde_json::{Map, Value};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::types::Json;
use uuid::Uuid;

use crate::runtime::{ProjectError, Projector, events};
use crate::sql;

/// Fills `read.instance`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "instance"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["instance"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["instance.claimed", "instance.rooted", "instance.settings_changed", "instance.policies_changed"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        let mut url = None;
        let mut root = None;
        let mut settings: Map<String, Value> = Map::new();
        let mut policies: Map<String, Value> = Map::new();
        for (_, event) in events(batch) {
            match event {
                Event::InstanceClaimed(e) => url = Some(sql::clean(&e.url)),
                Event::InstanceRooted(e) => root = Some(e.root.0),
                Event::SettingsChanged(e) => settings.extend(sql::fields(&e.changes)?),
                Event::PoliciesChanged(e) => policies.extend(sql::fields(&e.changes)?),
                _ => (),
            }
        }
        sqlx::query(
            "insert into instance as i (url, root, settings, policies) values ($1, $2, $3, $4)
             on conflict (one) do update
                set url = coalesce(excluded.url, i.url),
                    root = coalesce(excluded.root, i.root),
                    settings = i.settings || excluded.settings,
                    policies = i.policies || excluded.policies",
        )
        .bind(url)
        .bind(root)
        .bind(Json(settings))
        .bind(Json(policies))
        .execute(tx)
        .await?;
        Ok(())
    }
}

type Changes = Json<BTreeMap<String, Value>>;

/// The server as it stands: defaults with all changes laid over.
pub async fn load(pool: &PgPool) -> sqlx::Result<Instance> {
    let row: Option<(Option<String>, Option<Uuid>, Changes, Changes)> =
        sqlx::query_as("select url, root, settings, policies from read.instance")
            .fetch_optional(pool)
            .await?;
    Ok(row.map_or_else(Instance::default, |(url, root, settings, policies)| Instance {
        url,
        root: root.map(UserId),
        settings: Settings::with(settings.0),
        policies: Policies::with(policies.0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::instance::{Claimed, PoliciesChanged, Rooted, SettingsChanged};
    use serde_json::json;

    fn changes(fields: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(fields).unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_last_change_of_each_setting_stands(pool: PgPool) {
        assert_eq!(load(&pool).await.unwrap(), Instance::default());
        let mut story = Story::new(&pool);
        story.says(Claimed { url: "https://kiroku.example".to_owned() });
        story.says(Rooted { root: user(1) });
        story.says(SettingsChanged { changes: changes(json!({ "name": "a\0", "description": "d" })) });
        story.project().await;
        story.says(SettingsChanged { changes: changes(json!({ "name": null, "langs": ["en"] })) });
        story.says(PoliciesChanged { changes: changes(json!({ "pinLimit": 7 })) });
        story.project().await;

        let instance = load(&pool).await.unwrap();
        assert_eq!(instance.url.as_deref(), Some("https://kiroku.example"));
        assert_eq!(instance.root, Some(user(1)));
        assert_eq!(instance.settings.get("name"), &Value::Null);
        assert_eq!(instance.settings.text("description"), Some("d"));
        assert_eq!(instance.settings.list("langs").collect::<Vec<_>>(), ["en"]);
        assert!(instance.settings.registration_is_closed(), "a default");
        assert_eq!(instance.policies.all().get("pinLimit"), Some(&json!(7)));
    }
}
