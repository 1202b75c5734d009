//! Everybody's files, for those who moderate: `admin/drive/files`, `show-file`, `cleanup`, `clean-remote-files`,
//! `delete-all-files-of-a-user`; and pictures of people, `admin/unset-user-avatar`, `unset-user-banner`.

use domain::user::ProfileChanges;
use domain::{FileId, ids};
use futures_util::future::try_join_all;
use projections::Wanted;
use projections::drive::{Filter, folders_by_ids};
use projections::world::FileRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::drive::{delete_file, meant};
use super::moderation::ById;
use crate::api::param::{Given, Id, Limit, Page, Text, UserId};
use crate::api::{Administrator, ApiError, Endpoint, ErrorDef, Meta, Moderator};
use crate::app::App;
use crate::drive::stray;
use crate::json::drive::{DriveFile, Properties, detailed_file, file_url, folder};
use crate::json::{Look, Time};

/// The longest name of a server, in characters.
const MAX_HOST_CHARS: usize = 512;
/// Files deleted at the same time.
const DELETED_AT_ONCE: usize = 8;

/// A type such as `image/png` or `image/*`.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct TypeFilter(#[schemars(regex(pattern = r"^[a-zA-Z0-9\/\-*]+$"))] String);

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum Origin {
    Combined,
    #[default]
    Local,
    Remote,
}

/// List files of everybody.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    /// Only of this person.
    user_id: Option<UserId>,
    #[serde(rename = "type")]
    media_type: Option<TypeFilter>,
    #[serde(default)]
    origin: Origin,
    /// Only from this server; null: from this one.
    hostname: Option<Text<0, MAX_HOST_CHARS>>,
}

impl Endpoint for Files {
    const META: Meta = Meta::new("admin/drive/files").kind("read:admin:drive");
    type Caller = Moderator;
    type Reply = Vec<DriveFile>;

    async fn handle(self, app: &App, me: Moderator) -> Result<Vec<DriveFile>, ApiError> {
        // Files of other servers aren't kept here.
        if self.origin == Origin::Remote || self.hostname.is_some() {
            return Ok(Vec::new());
        }
        let filter = Filter {
            owner: self.user_id.map(|user| user.0),
            media_type: self.media_type.as_ref().map(|wanted| wanted.0.as_str()),
            ..Filter::default()
        };
        let rows = projections::drive::files(&app.pool, &filter, &self.page.limited(self.limit)).await?;
        let folders: Vec<_> = rows.iter().filter_map(|row| row.folder).collect();
        let folders = folders_by_ids(&app.pool, &folders).await?;
        let world = app.hydrate(Wanted::users(rows.iter().map(|row| row.owner)), Some(me.0.id())).await?;
        let look = Look::of(app);
        let present = |row: &FileRow| DriveFile {
            folder: row.folder.and_then(|id| folders.get(&id)).map(folder),
            ..detailed_file(&look, &world, row, &[])
        };
        Ok(rows.iter().map(present).collect())
    }
}

/// Show all that is known of a file, by its id or its address.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShowFile {
    #[serde(default)]
    file_id: Given<Id<FileId>>,
    #[serde(default)]
    url: Given<String>,
}

/// All that is known of a file. What isn't kept of any is null.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct KnownFile {
    id: Id<FileId>,
    created_at: Time,
    user_id: UserId,
    user_host: Option<String>,
    md5: String,
    name: String,
    #[serde(rename = "type")]
    media_type: String,
    size: u64,
    comment: Option<String>,
    blurhash: Option<String>,
    properties: Properties,
    /// On the disk of the server.
    stored_internal: bool,
    url: String,
    thumbnail_url: Option<String>,
    webpublic_url: Option<String>,
    webpublic_type: Option<String>,
    access_key: String,
    thumbnail_access_key: Option<String>,
    webpublic_access_key: Option<String>,
    uri: Option<String>,
    src: Option<String>,
    folder_id: Option<Id<ids::FolderId>>,
    is_sensitive: bool,
    is_link: bool,
    maybe_sensitive: bool,
    maybe_porn: bool,
    request_ip: Option<String>,
    request_headers: Option<String>,
}

const NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "caf3ca38-c6e5-472e-a30c-b05377dcc240");

impl Endpoint for ShowFile {
    const META: Meta = Meta::new("admin/drive/show-file").kind("read:admin:drive").errors(&[NO_SUCH_FILE]);
    type Caller = Moderator;
    type Reply = KnownFile;

    async fn handle(self, app: &App, _: Moderator) -> Result<KnownFile, ApiError> {
        let row = meant(app, self.file_id.0.map(|id| id.0), self.url.0.as_deref()).await?;
        let row = row.ok_or(NO_SUCH_FILE)?;
        let look = Look::of(app);
        Ok(KnownFile {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            user_id: Id(row.owner),
            user_host: None,
            url: file_url(&look, &row.key),
            thumbnail_url: row.thumbnail.as_ref().map(|key| file_url(&look, key)),
            md5: row.md5,
            name: row.name,
            media_type: row.media_type,
            size: row.size,
            comment: row.comment,
            blurhash: row.blurhash,
            properties: Properties { width: row.properties.width, height: row.properties.height },
            stored_internal: app.drive.store.is_on_disk(),
            webpublic_url: None,
            webpublic_type: None,
            access_key: row.key,
            thumbnail_access_key: row.thumbnail,
            webpublic_access_key: None,
            uri: None,
            src: None,
            folder_id: row.folder.map(Id),
            is_sensitive: row.sensitive,
            is_link: false,
            maybe_sensitive: false,
            maybe_porn: false,
            request_ip: None,
            request_headers: None,
        })
    }
}

/// Remove bytes that belong to no file any more.
#[derive(Deserialize, JsonSchema)]
pub struct CleanUp {}

impl Endpoint for CleanUp {
    const META: Meta = Meta::new("admin/drive/cleanup").kind("write:admin:drive");
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, _: Moderator) -> Result<(), ApiError> {
        stray::sweep(app).await.map_err(ApiError::internal)
    }
}

/// Remove files of other servers. None are kept, so there is nothing to do.
#[derive(Deserialize, JsonSchema)]
pub struct CleanRemoteFiles {}

impl Endpoint for CleanRemoteFiles {
    const META: Meta = Meta::new("admin/drive/clean-remote-files").kind("write:admin:drive");
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, _: &App, _: Moderator) -> Result<(), ApiError> {
        Ok(())
    }
}

/// Delete all files of somebody.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeleteAll(ById);

impl Endpoint for DeleteAll {
    const META: Meta = Meta::new("admin/drive/delete-all-files-of-a-user").kind("write:admin:drive");
    type Caller = Administrator;
    type Reply = ();

    async fn handle(self, app: &App, me: Administrator) -> Result<(), ApiError> {
        let filter = Filter { owner: Some(self.0.user_id.0), ..Filter::default() };
        let mut page = projections::Page::newest(projections::page::MAX_ITEMS);
        loop {
            let rows = projections::drive::files(&app.pool, &filter, &page).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            page.until = Some(last.id.0);
            for files in rows.chunks(DELETED_AT_ONCE) {
                try_join_all(files.iter().map(|file| delete(app, me.0.id(), file.id))).await?;
            }
        }
    }
}

/// Deletes a file that may have gone meanwhile.
async fn delete(app: &App, by: ids::UserId, file: FileId) -> Result<(), ApiError> {
    let is_there = app.commands.file(file).await.map_err(ApiError::internal)?.existing().is_some();
    if is_there { delete_file(app, by, true, file).await } else { Ok(()) }
}

/// Take down somebody's avatar.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct UnsetAvatar(ById);

const NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "user not found", "0b7f3b8d-0f0e-4a55-9a38-7f6e6f0a4a9e");

impl Endpoint for UnsetAvatar {
    const META: Meta =
        Meta::new("admin/unset-user-avatar").kind("write:admin:user-avatar").errors(&[NO_SUCH_USER]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let changes = ProfileChanges { avatar: Some(None), ..ProfileChanges::default() };
        take_down(app, &me, self.0.user_id.0, changes).await
    }
}

/// Take down somebody's banner.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct UnsetBanner(ById);

impl Endpoint for UnsetBanner {
    const META: Meta =
        Meta::new("admin/unset-user-banner").kind("write:admin:user-banner").errors(&[NO_SUCH_USER]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let changes = ProfileChanges { banner: Some(None), ..ProfileChanges::default() };
        take_down(app, &me, self.0.user_id.0, changes).await
    }
}

async fn take_down(
    app: &App,
    me: &Moderator,
    user: ids::UserId,
    changes: ProfileChanges,
) -> Result<(), ApiError> {
    app.core.accounts.account(user).await?.ok_or(NO_SUCH_USER)?;
    let receipt = app.commands.change_profile(app.by(&me.0), user, changes).await?;
    app.shown(receipt).await;
    Ok(())
}
