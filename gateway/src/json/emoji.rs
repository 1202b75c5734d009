//! Custom emoji as clients see them.

use std::collections::HashMap;

use domain::emoji::{Definition, Picture};
use domain::ids;
use projections::emoji::EmojiRow;
use schemars::JsonSchema;
use serde::Serialize;

use super::Time;
use crate::api::param::Id;

type EmojiId = Id<ids::EmojiId>;
type RoleIds = Vec<Id<ids::RoleId>>;

/// A custom emoji in few words.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmojiSimple {
    pub aliases: Vec<String>,
    pub name: String,
    pub category: Option<String>,
    pub url: String,
    /// Only where it is so, as everything below.
    #[serde(skip_serializing_if = "super::is_false")]
    pub local_only: bool,
    #[serde(skip_serializing_if = "super::is_false")]
    pub is_sensitive: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub role_ids_that_can_be_used_this_emoji_as_reaction: RoleIds,
}

/// A custom emoji.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmojiDetailed {
    pub id: EmojiId,
    /// For those who look after emoji, as the next, and the remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
    pub aliases: Vec<String>,
    pub name: String,
    pub category: Option<String>,
    /// Null: of this server.
    pub host: Option<String>,
    pub url: String,
    pub license: Option<String>,
    pub is_sensitive: bool,
    pub local_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
    pub role_ids_that_can_be_used_this_emoji_as_reaction: RoleIds,
}

/// A custom emoji as those who look after emoji search for it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmojiDetailedAdmin {
    pub id: EmojiId,
    pub updated_at: Option<Time>,
    pub name: String,
    /// Null: of this server.
    pub host: Option<String>,
    pub public_url: String,
    pub original_url: String,
    pub uri: Option<String>,
    #[serde(rename = "type")]
    pub media_type: Option<String>,
    pub aliases: Vec<String>,
    pub category: Option<String>,
    pub license: Option<String>,
    pub local_only: bool,
    pub is_sensitive: bool,
    pub role_ids_that_can_be_used_this_emoji_as_reaction: Vec<MayReact>,
}

/// A role whose people may react with an emoji.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct MayReact {
    pub id: Id<ids::RoleId>,
    pub name: String,
}

/// Where the picture of an emoji is served.
pub fn picture_url(origin: &str, picture: &Picture) -> String {
    format!("{origin}/files/{}", picture.key)
}

/// An emoji in few words.
pub fn simple(origin: &str, row: EmojiRow) -> EmojiSimple {
    let emoji = row.definition;
    EmojiSimple {
        url: picture_url(origin, &emoji.picture),
        aliases: emoji.aliases,
        name: emoji.name,
        category: emoji.category,
        local_only: emoji.local_only,
        is_sensitive: emoji.sensitive,
        role_ids_that_can_be_used_this_emoji_as_reaction: emoji.roles.into_iter().map(Id).collect(),
    }
}

/// An emoji as everybody sees it.
pub fn detailed(origin: &str, id: ids::EmojiId, emoji: &Definition) -> EmojiDetailed {
    EmojiDetailed {
        id: Id(id),
        created_at: None,
        updated_at: None,
        aliases: emoji.aliases.clone(),
        name: emoji.name.clone(),
        category: emoji.category.clone(),
        host: None,
        url: picture_url(origin, &emoji.picture),
        license: emoji.license.clone(),
        is_sensitive: emoji.sensitive,
        local_only: emoji.local_only,
        memo: None,
        role_ids_that_can_be_used_this_emoji_as_reaction: emoji.roles.iter().copied().map(Id).collect(),
    }
}

/// An emoji as those who look after emoji see it.
pub fn looked_after(origin: &str, row: &EmojiRow) -> EmojiDetailed {
    EmojiDetailed {
        created_at: Some(Time(row.id.time())),
        updated_at: Some(Time(row.updated_at)),
        memo: Some(row.definition.memo.clone()),
        ..detailed(origin, row.id, &row.definition)
    }
}

/// An emoji as those who look after emoji search for it, with the names of roles that are there.
pub fn searched(origin: &str, row: EmojiRow, roles: &HashMap<ids::RoleId, String>) -> EmojiDetailedAdmin {
    let (emoji, url) = (row.definition, |picture| picture_url(origin, picture));
    let role = |id: ids::RoleId| Some(MayReact { id: Id(id), name: roles.get(&id)?.clone() });
    EmojiDetailedAdmin {
        id: Id(row.id),
        updated_at: Some(Time(row.updated_at)),
        name: emoji.name,
        host: None,
        public_url: url(&emoji.picture),
        original_url: url(&emoji.picture),
        uri: None,
        media_type: Some(emoji.picture.media_type),
        aliases: emoji.aliases,
        category: emoji.category,
        license: emoji.license,
        local_only: emoji.local_only,
        is_sensitive: emoji.sensitive,
        role_ids_that_can_be_used_this_emoji_as_reaction: emoji.roles.into_iter().filter_map(role).collect(),
    }
}
