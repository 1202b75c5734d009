//! Roles as clients see them.

use std::collections::BTreeMap;

use domain::instance::POLICIES;
use domain::role::Target;
use projections::role::RoleRow;
use projections::world::UserRow;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Time;
use crate::api::param::Id;

/// A role.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    pub id: Id<domain::RoleId>,
    pub created_at: Time,
    pub updated_at: Time,
    pub name: String,
    pub description: String,
    pub color: Option<String>,
    pub icon_url: Option<String>,
    /// `manual` or `conditional`.
    pub target: &'static str,
    pub cond_formula: Value,
    pub is_public: bool,
    pub is_administrator: bool,
    pub is_moderator: bool,
    pub is_explorable: bool,
    pub as_badge: bool,
    pub badge_behavior: Option<String>,
    pub preserve_assignment_on_move_account: bool,
    pub can_edit_members_by_moderator: bool,
    pub display_order: i32,
    /// Every policy; those of which the role says nothing are as usual.
    pub policies: BTreeMap<String, RolePolicy>,
    /// How many people are assigned to it.
    pub users_count: i64,
}

/// What a role says of a policy.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RolePolicy {
    use_default: bool,
    priority: u8,
    value: Value,
}

/// A role in few words, as with a person in detail.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleLite {
    pub id: Id<domain::RoleId>,
    pub name: String,
    pub color: Option<String>,
    pub icon_url: Option<String>,
    pub description: String,
    pub is_moderator: bool,
    pub is_administrator: bool,
    pub display_order: i32,
}

/// A role beside a name.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct BadgeRole {
    pub name: String,
    pub icon_url: Option<String>,
    pub display_order: i32,
}

/// A role, to which so many people are assigned.
pub fn role(row: &RoleRow, people: i64) -> Role {
    let definition = row.definition.clone();
    Role {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        updated_at: Time(row.updated_at),
        name: definition.name,
        description: definition.description,
        color: definition.color,
        icon_url: definition.icon_url,
        target: match definition.target {
            Target::Manual => "manual",
            Target::Conditional => "conditional",
        },
        cond_formula: definition.condition,
        is_public: definition.is_public,
        is_administrator: definition.is_administrator,
        is_moderator: definition.is_moderator,
        is_explorable: definition.is_explorable,
        as_badge: definition.as_badge,
        badge_behavior: definition.badge_behavior,
        preserve_assignment_on_move_account: definition.preserve_assignment_on_move_account,
        can_edit_members_by_moderator: definition.can_edit_members_by_moderator,
        display_order: definition.display_order,
        policies: policies(&definition.policies),
        users_count: people,
    }
}

fn policies(said: &BTreeMap<String, domain::role::RolePolicy>) -> BTreeMap<String, RolePolicy> {
    let policy = |name: &str, default: &str| match said.get(name).cloned() {
        Some(domain::role::RolePolicy { use_default, priority, value }) => {
            RolePolicy { use_default, priority, value }
        }
        None => {
            let value = serde_json::from_str(default).unwrap_or(Value::Null);
            RolePolicy { use_default: true, priority: 0, value }
        }
    };
    POLICIES.iter().map(|(name, default)| ((*name).to_owned(), policy(name, default))).collect()
}

/// The roles that are shown with a person: moderators see all, others those that are public.
pub fn shown(user: &UserRow, moderates: bool) -> Vec<RoleLite> {
    let lite = |row: &RoleRow| RoleLite {
        id: Id(row.id),
        name: row.definition.name.clone(),
        color: row.definition.color.clone(),
        icon_url: row.definition.icon_url.clone(),
        description: row.definition.description.clone(),
        is_moderator: row.definition.is_moderator,
        is_administrator: row.definition.is_administrator,
        display_order: row.definition.display_order,
    };
    in_order(user, |row| moderates || row.definition.is_public).into_iter().map(lite).collect()
}

/// The roles that are shown beside a person's name.
pub fn badges(user: &UserRow) -> Vec<BadgeRole> {
    let badge = |row: &RoleRow| BadgeRole {
        name: row.definition.name.clone(),
        icon_url: row.definition.icon_url.clone(),
        display_order: row.definition.display_order,
    };
    let is_badge = |row: &RoleRow| row.definition.is_public && row.definition.as_badge;
    in_order(user, is_badge).into_iter().map(badge).collect()
}

fn in_order(user: &UserRow, wanted: impl Fn(&RoleRow) -> bool) -> Vec<&RoleRow> {
    let mut roles: Vec<&RoleRow> = user.roles.iter().map(|role| &**role).filter(|row| wanted(row)).collect();
    roles.sort_by_key(|row| std::cmp::Reverse(row.definition.display_order));
    roles
}
