//! A file that came in becomes one of somebody's drive.

use std::sync::Arc;

use commands::{Failed, NewFile};
use domain::drive::{Allowed, FileAdded, Properties};
use domain::export::Entity;
use domain::log::AppendError;
use domain::{FileId, FolderId};
use projections::world::FileRow;
use serde_json::Value;
use uuid::Uuid;

use super::incoming::{MAX_FILE_BYTES, Received};
use super::kind::{Kind, with_extension};
use super::picture::{Findings, Looked, Wanted, is_readable};
use crate::api::{Account, ApiError};
use crate::app::App;

/// What a file without a name is called.
const UNTITLED: &str = "untitled";

/// How a file is to be kept.
#[derive(Debug, Default)]
pub struct Asked {
    /// Instead of the name that it came with.
    pub name: Option<String>,
    pub comment: Option<String>,
    pub folder: Option<FolderId>,
    pub sensitive: bool,
    /// Also when there is one with the same content.
    pub force: bool,
    /// Instead of what it looks like.
    pub kind: Option<Kind>,
    /// It has what its owner has here, and this is its id, whoever makes it. They are told.
    pub export: Option<(FileId, Entity)>,
}

/// Keeps a file; or finds the one with the same content.
pub async fn keep(
    app: &App,
    owner: &Arc<Account>,
    received: Received,
    asked: Asked,
) -> Result<FileRow, ApiError> {
    let _alone = app.drive.writing(owner.id).await;
    if !asked.force
        && let Some(same) =
            projections::drive::alike(&app.pool, owner.id, &received.md5).await?.into_iter().next()
    {
        return Ok(same);
    }
    let kind = asked.kind.unwrap_or_else(|| received.kind());
    let name = asked.name.or_else(|| received.name.clone()).filter(|name| !name.is_empty() && name != "blob");
    let by = app.by_user(Some(owner.id));
    let looked = match is_readable(&kind.media_type) {
        true => Some(app.drive.look(&received.file, Wanted::Upload).await.map_err(ApiError::internal)?),
        false => None,
    };
    let findings = looked.as_ref().and_then(|looked| looked.findings.clone());
    let small = looked.as_ref().filter(|_| findings.is_some()).and_then(Looked::small);
    let clean = looked.as_ref().and_then(Looked::clean);
    let file = FileAdded {
        id: asked.export.map_or_else(|| FileId(app.ids.at(by.now)), |(id, _)| id),
        owner: owner.id,
        name: with_extension(name.as_deref().unwrap_or(UNTITLED), &kind),
        comment: asked.comment.filter(|comment| !comment.is_empty()),
        media_type: kind.media_type,
        md5: received.md5.clone(),
        size: received.size,
        sensitive: asked.sensitive,
        properties: findings.as_ref().map(properties).unwrap_or_default(),
        blurhash: findings.and_then(|findings| findings.blurhash),
        folder: asked.folder,
        key: key(),
        thumbnail: small.as_ref().map(|_| format!("{THUMBNAIL}{}", key())),
    };
    let used = projections::drive::usage(&app.pool, owner.id).await?;
    let mut allowed = allowed(owner);
    if asked.export.is_some() {
        // What the server makes is of a type that the server takes.
        allowed.types.push(file.media_type.clone());
    }
    let new = NewFile { file, used, allowed };
    app.commands.would_add_file(&new).await?;

    let (id, key) = (new.file.id, new.file.key.clone());
    app.drive.note(&app.pool, &new.file, by.now).await?;
    let bytes = clean.unwrap_or_else(|| received.file.to_path_buf());
    app.drive.store.put(owner.id, &key, bytes).await.map_err(ApiError::internal)?;
    if let (Some(small), Some(key)) = (small, &new.file.thumbnail) {
        app.drive.store.put(owner.id, key, small).await.map_err(ApiError::internal)?;
    }
    let file = new.file.clone();
    let added = match asked.export {
        Some((_, entity)) => app.commands.complete_export(by, new, entity).await,
        None => app.commands.add_file(by, new).await,
    };
    let receipt = match added {
        Ok(receipt) => receipt,
        Err(failed) => {
            // Otherwise the log may have it: that is found out later.
            if matches!(failed, Failed::Refused(_) | Failed::Append(AppendError::Erased { .. })) {
                app.drive.discard(&app.pool, &file).await;
            }
            return Err(failed.into());
        }
    };
    let is_ours = match asked.export {
        // Somebody else may have been faster.
        Some(_) => app.commands.file(id).await.map_err(ApiError::internal)?.has_key(&file.key),
        None => true,
    };
    if is_ours {
        app.drive.settled(&app.pool, id, &file.key).await?;
    } else {
        app.drive.discard(&app.pool, &file).await;
    }
    app.shown(receipt).await;
    let row = projections::drive::by_ids(&app.pool, &[id]).await?.remove(&id);
    row.ok_or_else(|| ApiError::internal(Late(id)))
}

/// The read model is late beyond its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the file {0} is kept, and can't be shown yet")]
struct Late(FileId);

/// What is kept of what was found out about a picture.
fn properties(findings: &Findings) -> Properties {
    Properties {
        width: Some(findings.width),
        height: Some(findings.height),
        orientation: Some(findings.orientation).filter(|orientation| *orientation > 1),
    }
}

/// What somebody may keep.
pub fn allowed(owner: &Account) -> Allowed {
    let number = |name: &str| owner.policies.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let types = owner.policies.get("uploadableFileTypes").and_then(Value::as_array);
    let types = types.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let allowed = Allowed::of(number("driveCapacityMb"), number("maxFileSizeMb"), types);
    Allowed { file_size: allowed.file_size.min(MAX_FILE_BYTES), ..allowed }
}

/// A new name for bytes, which nobody can guess.
pub fn key() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// Whether this can be a key, or the key of a small picture.
pub fn is_key(key: &str) -> bool {
    Uuid::try_parse(key.strip_prefix(THUMBNAIL).unwrap_or(key)).is_ok()
}

/// What the keys of small pictures begin with.
pub const THUMBNAIL: &str = "thumbnail-";
