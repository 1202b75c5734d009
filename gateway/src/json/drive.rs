//! Files and folders as clients see them.

use projections::World;
use projections::drive::{FilledFolder, FolderRow};
use projections::world::FileRow;
use schemars::JsonSchema;
use serde::Serialize;

use super::user::{UserLite, user_lite};
use super::{Look, Time};
use crate::api::param::{Id, UserId};

/// A file.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriveFile {
    pub id: Id<domain::FileId>,
    pub created_at: Time,
    pub name: String,
    #[serde(rename = "type")]
    pub media_type: String,
    pub md5: String,
    /// In bytes.
    pub size: u64,
    pub is_sensitive: bool,
    /// Where a file is shown in detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_sensitive_by_moderator: Option<bool>,
    pub blurhash: Option<String>,
    pub properties: Properties,
    pub url: String,
    pub thumbnail_url: Option<String>,
    pub comment: Option<String>,
    pub folder_id: Option<Id<domain::FolderId>>,
    /// Where a file is shown in detail.
    pub folder: Option<DriveFolder>,
    /// Null where somebody sees their own file.
    pub user_id: Option<UserId>,
    /// Where a file is shown in detail.
    pub user: Option<UserLite>,
}

/// What is known of a picture.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// A folder.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriveFolder {
    pub id: Id<domain::FolderId>,
    pub created_at: Time,
    pub name: String,
    pub parent_id: Option<Id<domain::FolderId>>,
    /// Where a folder is shown in detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folders_count: Option<i64>,
    /// As above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_count: Option<i64>,
    /// As above, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<DriveFolder>>,
}

/// Where a file is served.
pub fn file_url(look: &Look<'_>, key: &str) -> String {
    format!("{}/files/{key}", look.origin)
}

/// A file as others see it, and its owner in lists.
pub fn file(look: &Look<'_>, row: &FileRow) -> DriveFile {
    DriveFile {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        name: row.name.clone(),
        media_type: row.media_type.clone(),
        md5: row.md5.clone(),
        size: row.size,
        is_sensitive: row.sensitive,
        is_sensitive_by_moderator: None,
        blurhash: row.blurhash.clone(),
        properties: Properties { width: row.properties.width, height: row.properties.height },
        url: file_url(look, &row.key),
        thumbnail_url: row.thumbnail.as_ref().map(|key| file_url(look, key)),
        comment: row.comment.clone(),
        folder_id: row.folder.map(Id),
        folder: None,
        user_id: Some(Id(row.owner)),
        user: None,
    }
}

/// A file as its owner sees it who has just done something to it.
pub fn own_file(look: &Look<'_>, row: &FileRow) -> DriveFile {
    DriveFile { user_id: None, ..file(look, row) }
}

/// A file with its owner and the folders around it.
pub fn detailed_file(look: &Look<'_>, world: &World, row: &FileRow, around: &[FilledFolder]) -> DriveFile {
    DriveFile {
        is_sensitive_by_moderator: Some(false),
        folder: filled_folder(around),
        user: world.user(row.owner).map(|user| user_lite(look, user)),
        ..file(look, row)
    }
}

/// A folder in few words.
pub fn folder(row: &FolderRow) -> DriveFolder {
    DriveFolder {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        name: row.name.clone(),
        parent_id: row.parent.map(Id),
        folders_count: None,
        files_count: None,
        parent: None,
    }
}

/// A folder in detail, with those around it, from the inside out.
pub fn filled_folder(around: &[FilledFolder]) -> Option<DriveFolder> {
    around.iter().rev().fold(None, |parent, filled| {
        Some(DriveFolder {
            folders_count: Some(filled.folders),
            files_count: Some(filled.files),
            parent: parent.map(Box::new),
            ..folder(&filled.folder)
        })
    })
}
