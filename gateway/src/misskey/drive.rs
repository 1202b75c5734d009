//! Files and folders of the caller: `drive`, `drive/stream`, `drive/files/*`, `drive/folders/*`.

use commands::Failed;
use domain::drive::{
    CannotAddFile, CannotAddFolder, CannotChangeFile, CannotChangeFolder, CannotDeleteFile,
    CannotDeleteFolder, FileChanges, FolderAdded, FolderChanges, MAX_COMMENT_CHARS, MAX_NAME_CHARS,
    is_file_name,
};
use domain::{FileId, FolderId, UserId};
use futures_util::future::join_all;
use projections::Wanted;
use projections::drive::{Filter, SortKey};
use projections::world::FileRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::timeline::seen_page;
use crate::api::form::MAX_FILE_SIZE_EXCEEDED;
use crate::api::param::{Given, Id, Limit, Page, Text, Unique, Upload};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::drive::incoming::Received;
use crate::drive::keep::{Asked, allowed, keep};
use crate::json::Look;
use crate::json::drive::{DriveFile, DriveFolder, detailed_file, file, filled_folder, folder, own_file};
use crate::json::note::Note;

/// The most files that are moved at once.
const MAX_MOVED: usize = 100;
/// Files moved at the same time.
const MOVED_AT_ONCE: usize = 16;
/// The longest marker, in characters.
const MAX_MARKER_CHARS: usize = 256;
/// What a folder without a name is called.
const UNTITLED: &str = "Untitled";

/// How much room there is, and how much is used.
#[derive(Deserialize, JsonSchema)]
pub struct Show {}

/// Bytes of the caller's drive.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Room {
    capacity: u64,
    usage: u64,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("drive").kind("read:drive");
    type Caller = SignedIn;
    type Reply = Room;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Room, ApiError> {
        let usage = projections::drive::usage(&app.pool, me.id()).await?;
        Ok(Room { capacity: allowed(&me.account).capacity, usage })
    }
}

/// A type such as `image/png` or `image/*`.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct TypeFilter(#[schemars(regex(pattern = r"^[a-zA-Z\/\-*]+$"))] String);

/// List the caller's files in a folder.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    /// None: those in no folder.
    folder_id: Option<Id<FolderId>>,
    #[serde(rename = "type")]
    media_type: Option<TypeFilter>,
    #[schemars(
        with = "Option<String>",
        extend("enum" = ["+createdAt", "-createdAt", "+name", "-name", "+size", "-size", null]),
    )]
    sort: Option<String>,
}

impl Endpoint for Files {
    const META: Meta = Meta::new("drive/files").kind("read:drive");
    type Caller = SignedIn;
    type Reply = Vec<DriveFile>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<DriveFile>, ApiError> {
        let filter = Filter {
            owner: Some(me.id()),
            folder: Some(self.folder_id.map(|id| id.0)),
            media_type: self.media_type.as_ref().map(|wanted| wanted.0.as_str()),
            sort: self.sort.as_deref().and_then(sort_key),
            ..Filter::default()
        };
        let rows = projections::drive::files(&app.pool, &filter, &self.page.limited(self.limit)).await?;
        Ok(listed(app, &rows))
    }
}

/// Plus is from the greatest down, as on Misskey.
fn sort_key(sort: &str) -> Option<(SortKey, bool)> {
    let key = match sort.get(1..)? {
        "createdAt" => SortKey::Id,
        "name" => SortKey::Name,
        "size" => SortKey::Size,
        _ => return None,
    };
    Some((key, sort.starts_with('+')))
}

fn listed(app: &App, rows: &[FileRow]) -> Vec<DriveFile> {
    let look = Look::of(app);
    rows.iter().map(|row| file(&look, row)).collect()
}

/// List the caller's files wherever they are.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stream {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(rename = "type", default)]
    media_type: Given<TypeFilter>,
}

impl Endpoint for Stream {
    const META: Meta = Meta::new("drive/stream").kind("read:drive");
    type Caller = SignedIn;
    type Reply = Vec<DriveFile>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<DriveFile>, ApiError> {
        let media_type = self.media_type.0.as_ref().map(|wanted| wanted.0.as_str());
        let filter = Filter { owner: Some(me.id()), media_type, ..Filter::default() };
        let rows = projections::drive::files(&app.pool, &filter, &self.page.limited(self.limit)).await?;
        Ok(listed(app, &rows))
    }
}

/// List the notes to which a file of the caller's is attached.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachedNotes {
    file_id: Id<FileId>,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

const NO_SUCH_ATTACHED_FILE: ErrorDef = no_such_file("c118ece3-2e4b-4296-99d1-51756e32d232");

impl Endpoint for AttachedNotes {
    const META: Meta =
        Meta::new("drive/files/attached-notes").kind("read:drive").errors(&[NO_SUCH_ATTACHED_FILE]);
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        let (id, file) = (me.id(), self.file_id.0);
        let row = row(app, file).await?.filter(|row| row.owner == id || me.account.moderates());
        if row.is_none() {
            return Err(NO_SUCH_ATTACHED_FILE.into());
        }
        seen_page(app, Some(id), self.page, self.limit, |page| async move {
            projections::note::with_file(&app.pool, file, id, &page).await
        })
        .await
    }
}

const fn no_such_file(id: &'static str) -> ErrorDef {
    ErrorDef::new("NO_SUCH_FILE", "No such file.", id)
}

const fn no_such_folder(id: &'static str) -> ErrorDef {
    ErrorDef::new("NO_SUCH_FOLDER", "No such folder.", id)
}

const fn access_denied(id: &'static str) -> ErrorDef {
    ErrorDef::new("ACCESS_DENIED", "Access denied.", id)
}

async fn row(app: &App, id: FileId) -> sqlx::Result<Option<FileRow>> {
    Ok(projections::drive::by_ids(&app.pool, &[id]).await?.remove(&id))
}

/// Whether the caller has a file with this content.
#[derive(Deserialize, JsonSchema)]
pub struct CheckExistence {
    md5: String,
}

impl Endpoint for CheckExistence {
    const META: Meta = Meta::new("drive/files/check-existence").kind("read:drive");
    type Caller = SignedIn;
    type Reply = bool;

    async fn handle(self, app: &App, me: SignedIn) -> Result<bool, ApiError> {
        Ok(!projections::drive::alike(&app.pool, me.id(), &self.md5).await?.is_empty())
    }
}

/// Upload a file.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateFile {
    folder_id: Option<Id<FolderId>>,
    /// Instead of the name that it comes with.
    name: Option<String>,
    comment: Option<Text<0, MAX_COMMENT_CHARS>>,
    #[serde(default)]
    is_sensitive: bool,
    /// Also when there is one with the same content.
    #[serde(default)]
    force: bool,
    file: Upload,
}

const INVALID_NEW_NAME: ErrorDef =
    ErrorDef::new("INVALID_FILE_NAME", "Invalid file name.", "f449b209-0c60-4e51-84d5-29486263bfd4");
const NO_FREE_SPACE: ErrorDef = ErrorDef::new(
    "NO_FREE_SPACE",
    "Cannot upload the file because you have no free space of drive.",
    "d08dbc37-a6a9-463a-8c47-96c32ab5f064",
);
const UNALLOWED_FILE_TYPE: ErrorDef = ErrorDef::new(
    "UNALLOWED_FILE_TYPE",
    "Cannot upload the file because it is an unallowed file type.",
    "4becd248-7f2c-48c4-a9f0-75edc4f9a1ea",
);
const FAILED_TO_CREATE_DRIVE_FILE: ErrorDef = ErrorDef::new(
    "FAILED_TO_CREATE_DRIVE_FILE",
    "Failed to create drive file.",
    "6708863c-6791-4487-aa01-2d682c6e7db0",
);

impl Endpoint for CreateFile {
    const META: Meta = Meta::new("drive/files/create")
        .kind("write:drive")
        .limit(120, per::HOUR)
        .not_moved()
        .multipart()
        .errors(&[
            INVALID_NEW_NAME,
            NO_FREE_SPACE,
            MAX_FILE_SIZE_EXCEEDED,
            UNALLOWED_FILE_TYPE,
            FAILED_TO_CREATE_DRIVE_FILE,
        ]);
    type Caller = SignedIn;
    type Reply = DriveFile;

    async fn handle(self, app: &App, me: SignedIn) -> Result<DriveFile, ApiError> {
        let received = app.drive.take(self.file.0);
        let received =
            received.ok_or_else(|| ApiError::invalid_param("#/properties/file", "is not there"))?;
        let name = self.name.as_deref().or(received.name.as_deref()).map(|name| name.trim().to_owned());
        // What has no name gets one.
        if name.as_deref().is_some_and(|name| !name.is_empty() && !is_file_name(name)) {
            return Err(INVALID_NEW_NAME.into());
        }
        let asked = Asked {
            name,
            comment: self.comment.map(|comment| comment.0),
            folder: self.folder_id.map(|id| id.0),
            sensitive: self.is_sensitive,
            force: self.force,
            kind: None,
            export: None,
        };
        let row = keep(app, &me.account, received, asked).await?;
        Ok(own_file(&Look::of(app), &row))
    }
}

impl From<CannotAddFile> for ApiError {
    fn from(refusal: CannotAddFile) -> Self {
        match refusal {
            CannotAddFile::InvalidName => INVALID_NEW_NAME.into(),
            CannotAddFile::NoFreeSpace => NO_FREE_SPACE.into(),
            CannotAddFile::TooLarge => MAX_FILE_SIZE_EXCEEDED.into(),
            CannotAddFile::TypeNotAllowed => UNALLOWED_FILE_TYPE.into(),
            CannotAddFile::NoSuchFolder => {
                let info = json!({ "message": "folder-not-found", "code": "Error" });
                ApiError::from(FAILED_TO_CREATE_DRIVE_FILE).info(info)
            }
        }
    }
}

/// Delete a file.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFile {
    file_id: Id<FileId>,
}

const NO_SUCH_FILE_TO_DELETE: ErrorDef = no_such_file("908939ec-e52b-4458-b395-1025195cea58");
const DELETE_DENIED: ErrorDef = access_denied("5eb8d909-2540-4970-90b8-dd6f86088121");

impl Endpoint for DeleteFile {
    const META: Meta =
        Meta::new("drive/files/delete").kind("write:drive").errors(&[NO_SUCH_FILE_TO_DELETE, DELETE_DENIED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        delete_file(app, me.id(), me.account.moderates(), self.file_id.0).await
    }
}

impl From<CannotDeleteFile> for ApiError {
    fn from(refusal: CannotDeleteFile) -> Self {
        match refusal {
            CannotDeleteFile::NoSuchFile => NO_SUCH_FILE_TO_DELETE.into(),
            CannotDeleteFile::NotYours => DELETE_DENIED.into(),
        }
    }
}

/// Deletes a file, and its bytes.
pub async fn delete_file(app: &App, by: UserId, moderates: bool, id: FileId) -> Result<(), ApiError> {
    let known = app.commands.file(id).await.map_err(ApiError::internal)?;
    if let Some(file) = known.existing().filter(|file| file.owner == by || moderates) {
        // So that the bytes go also when the server stops in between.
        app.drive.note(&app.pool, file, app.now()).await?;
    }
    let (receipt, was) = app.commands.delete_file(app.by_user(Some(by)), by, moderates, id).await?;
    if let Some(was) = was {
        app.drive.discard(&app.pool, &was).await;
    }
    app.shown(receipt).await;
    Ok(())
}

/// Find files of the caller by name.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindFiles {
    name: String,
    folder_id: Option<Id<FolderId>>,
}

impl Endpoint for FindFiles {
    const META: Meta = Meta::new("drive/files/find").kind("read:drive");
    type Caller = SignedIn;
    type Reply = Vec<DriveFile>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<DriveFile>, ApiError> {
        let filter = Filter {
            owner: Some(me.id()),
            folder: Some(self.folder_id.map(|id| id.0)),
            name: Some(&self.name),
            sort: Some((SortKey::Id, false)),
            ..Filter::default()
        };
        let page = projections::Page::newest(projections::page::MAX_ITEMS);
        Ok(listed(app, &projections::drive::files(&app.pool, &filter, &page).await?))
    }
}

/// Find files of the caller by their content.
#[derive(Deserialize, JsonSchema)]
pub struct FindByHash {
    md5: String,
}

impl Endpoint for FindByHash {
    const META: Meta = Meta::new("drive/files/find-by-hash").kind("read:drive");
    type Caller = SignedIn;
    type Reply = Vec<DriveFile>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<DriveFile>, ApiError> {
        Ok(listed(app, &projections::drive::alike(&app.pool, me.id(), &self.md5).await?))
    }
}

/// Move files into a folder; those that aren't the caller's stay where they are.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoveFiles {
    file_ids: Unique<Id<FileId>, 1, MAX_MOVED>,
    /// None: out of all folders.
    folder_id: Option<Id<FolderId>>,
}

const NO_SUCH_FOLDER_TO_MOVE_TO: ErrorDef = no_such_folder("a4f5bcbe-8d0e-4a5b-9b35-1d4d9e6a7f51");

impl Endpoint for MoveFiles {
    const META: Meta =
        Meta::new("drive/files/move-bulk").kind("write:drive").errors(&[NO_SUCH_FOLDER_TO_MOVE_TO]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let changes = FileChanges { folder: Some(self.folder_id.map(|id| id.0)), ..FileChanges::default() };
        for files in self.file_ids.0.chunks(MOVED_AT_ONCE) {
            let moves = files
                .iter()
                .map(|file| app.commands.change_file(app.by(&me), me.id(), false, file.0, changes.clone()));
            for moved in join_all(moves).await {
                match moved {
                    Ok(receipt) => app.shown(receipt).await,
                    Err(Failed::Refused(CannotChangeFile::NoSuchFolder)) => {
                        return Err(NO_SUCH_FOLDER_TO_MOVE_TO.into());
                    }
                    Err(Failed::Refused(_)) => (),
                    Err(failed) => return Err(failed.into()),
                }
            }
        }
        Ok(())
    }
}

/// Show a file in detail, by its id or its address.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShowFile {
    #[serde(default)]
    file_id: Given<Id<FileId>>,
    #[serde(default)]
    url: Given<String>,
}

const NO_SUCH_FILE_TO_SHOW: ErrorDef = no_such_file("067bc436-2718-4795-b0fb-ecbe43949e31");
const SHOW_DENIED: ErrorDef = access_denied("25b73c73-68b1-41d0-bad1-381cfdf6579f");

impl Endpoint for ShowFile {
    const META: Meta =
        Meta::new("drive/files/show").kind("read:drive").errors(&[NO_SUCH_FILE_TO_SHOW, SHOW_DENIED]);
    type Caller = SignedIn;
    type Reply = DriveFile;

    async fn handle(self, app: &App, me: SignedIn) -> Result<DriveFile, ApiError> {
        let row = meant(app, self.file_id.0.map(|id| id.0), self.url.0.as_deref()).await?;
        let row = row.ok_or(NO_SUCH_FILE_TO_SHOW)?;
        if row.owner != me.id() && !me.account.moderates() {
            return Err(SHOW_DENIED.into());
        }
        detailed(app, &me, &row).await
    }
}

/// The file of an id or an address.
pub async fn meant(app: &App, id: Option<FileId>, url: Option<&str>) -> Result<Option<FileRow>, ApiError> {
    match (id, url) {
        (Some(id), _) => Ok(row(app, id).await?),
        (None, Some(url)) => match own_key(app, url) {
            Some(key) => Ok(projections::drive::by_key(&app.pool, key).await?),
            None => Ok(None),
        },
        (None, None) => {
            Err(ApiError::invalid_param("#/anyOf/0/required", "must have required property 'fileId'"))
        }
    }
}

/// A file with its owner and the folders around it.
pub async fn detailed(app: &App, me: &SignedIn, row: &FileRow) -> Result<DriveFile, ApiError> {
    let world = app.hydrate(Wanted::users([row.owner]), Some(me.id())).await?;
    let around = match row.folder {
        Some(folder) => projections::drive::folder(&app.pool, row.owner, folder).await?,
        None => Vec::new(),
    };
    Ok(detailed_file(&Look::of(app), &world, row, &around))
}

/// Change what is said of a file, and where it is.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateFile {
    file_id: Id<FileId>,
    #[serde(default)]
    folder_id: Given<Option<Id<FolderId>>>,
    #[serde(default)]
    name: Given<String>,
    #[serde(default)]
    is_sensitive: Given<bool>,
    #[serde(default)]
    comment: Given<Option<Text<0, MAX_COMMENT_CHARS>>>,
}

const INVALID_FILE_NAME: ErrorDef =
    ErrorDef::new("INVALID_FILE_NAME", "Invalid file name.", "395e7156-f9f0-475e-af89-53c3c23080c2");
const NO_SUCH_FILE_TO_UPDATE: ErrorDef = no_such_file("e7778c7e-3af9-49cd-9690-6dbc3e6c972d");
const UPDATE_DENIED: ErrorDef = access_denied("01a53b27-82fc-445b-a0c1-b558465a8ed2");
const NO_SUCH_FOLDER_FOR_FILE: ErrorDef = no_such_folder("ea8fb7a5-af77-4a08-b608-c0218176cd73");

impl Endpoint for UpdateFile {
    const META: Meta = Meta::new("drive/files/update").kind("write:drive").errors(&[
        INVALID_FILE_NAME,
        NO_SUCH_FILE_TO_UPDATE,
        UPDATE_DENIED,
        NO_SUCH_FOLDER_FOR_FILE,
    ]);
    type Caller = SignedIn;
    type Reply = DriveFile;

    async fn handle(self, app: &App, me: SignedIn) -> Result<DriveFile, ApiError> {
        let id = self.file_id.0;
        let changes = FileChanges {
            name: self.name.0,
            comment: self.comment.0.map(|text| text.map(|text| text.0).filter(|text| !text.is_empty())),
            sensitive: self.is_sensitive.0,
            folder: self.folder_id.0.map(|folder| folder.map(|id| id.0)),
        };
        let moderates = me.account.moderates();
        let receipt = app.commands.change_file(app.by(&me), me.id(), moderates, id, changes).await?;
        app.shown(receipt).await;
        let row = row(app, id).await?.ok_or(NO_SUCH_FILE_TO_UPDATE)?;
        Ok(own_file(&Look::of(app), &row))
    }
}

impl From<CannotChangeFile> for ApiError {
    fn from(refusal: CannotChangeFile) -> Self {
        match refusal {
            CannotChangeFile::NoSuchFile => NO_SUCH_FILE_TO_UPDATE.into(),
            CannotChangeFile::NotYours => UPDATE_DENIED.into(),
            CannotChangeFile::InvalidName => INVALID_FILE_NAME.into(),
            CannotChangeFile::NoSuchFolder => NO_SUCH_FOLDER_FOR_FILE.into(),
        }
    }
}

/// Take a file from elsewhere into the caller's drive. It is fetched after the answer.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadFromUrl {
    url: String,
    folder_id: Option<Id<FolderId>>,
    #[serde(default)]
    is_sensitive: bool,
    comment: Option<Text<0, MAX_COMMENT_CHARS>>,
    /// By which the caller knows it again, on the stream.
    marker: Option<Text<0, MAX_MARKER_CHARS>>,
    /// Also when there is one with the same content.
    #[serde(default)]
    force: bool,
}

impl Endpoint for UploadFromUrl {
    const META: Meta =
        Meta::new("drive/files/upload-from-url").kind("write:drive").limit(60, per::HOUR).not_moved();
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let app = app.clone();
        tokio::spawn(async move {
            if let Err(cause) = self.fetch(&app, &me).await {
                tracing::debug!(?cause, "a file could not be taken from elsewhere");
            }
        });
        Ok(())
    }
}

impl UploadFromUrl {
    async fn fetch(self, app: &App, me: &SignedIn) -> Result<(), ApiError> {
        let _slot = app.drive.slot().await;
        let most = allowed(&me.account).file_size;
        let received = match own_key(app, &self.url) {
            Some(key) => copied(app, key, most).await?,
            None => {
                let fetched = app.fetcher.get(&self.url, "*/*").await.map_err(ApiError::internal)?;
                let name = fetched.file_name();
                app.drive.receive(name, most, fetched.pieces()).await.map_err(ApiError::internal)?
            }
        };
        let asked = Asked {
            name: received.name.clone().filter(|name| is_file_name(name)),
            comment: self.comment.map(|comment| comment.0),
            folder: self.folder_id.map(|id| id.0),
            sensitive: self.is_sensitive,
            force: self.force,
            kind: None,
            export: None,
        };
        let row = keep(app, &me.account, received, asked).await?;
        let marker = self.marker.map(|marker| marker.0);
        app.commands.file_fetched(app.by(me), me.id(), row.id, marker).await?;
        Ok(())
    }
}

/// A file of this server, as if it came from elsewhere.
async fn copied(app: &App, key: &str, most: u64) -> Result<Received, ApiError> {
    let row = projections::drive::by_key(&app.pool, key).await?.ok_or(NO_SUCH_FILE_TO_SHOW)?;
    let bytes = app.drive.store.get(row.owner, key, None).await.map_err(ApiError::internal)?;
    let bytes = bytes.ok_or(NO_SUCH_FILE_TO_SHOW)?.bytes;
    app.drive.receive(Some(row.name), most, bytes).await.map_err(ApiError::internal)
}

/// The key of a file of this server.
fn own_key<'a>(app: &App, url: &'a str) -> Option<&'a str> {
    url.strip_prefix(app.config.url.as_str())?.strip_prefix("/files/")
}

/// List the caller's folders in a folder.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Folders {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    /// None: those in no other.
    folder_id: Option<Id<FolderId>>,
}

impl Endpoint for Folders {
    const META: Meta = Meta::new("drive/folders").kind("read:drive");
    type Caller = SignedIn;
    type Reply = Vec<DriveFolder>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<DriveFolder>, ApiError> {
        let (parent, page) = (self.folder_id.map(|id| id.0), self.page.limited(self.limit));
        let rows = projections::drive::folders(&app.pool, me.id(), parent, None, &page).await?;
        Ok(rows.iter().map(folder).collect())
    }
}

/// Make a folder.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateFolder {
    #[serde(default)]
    name: Given<Text<0, MAX_NAME_CHARS>>,
    parent_id: Option<Id<FolderId>>,
}

const NO_SUCH_FOLDER_FOR_NEW: ErrorDef = no_such_folder("53326628-a00d-40a6-a3cd-8975105c0f95");

impl Endpoint for CreateFolder {
    const META: Meta = Meta::new("drive/folders/create")
        .kind("write:drive")
        .limit(10, per::HOUR)
        .errors(&[NO_SUCH_FOLDER_FOR_NEW]);
    type Caller = SignedIn;
    type Reply = DriveFolder;

    async fn handle(self, app: &App, me: SignedIn) -> Result<DriveFolder, ApiError> {
        let by = app.by(&me);
        let new = FolderAdded {
            id: FolderId(app.ids.at(by.now)),
            owner: me.id(),
            name: self.name.0.map_or_else(|| UNTITLED.to_owned(), |name| name.0),
            parent: self.parent_id.map(|id| id.0),
        };
        let receipt = app.commands.add_folder(by, new.clone()).await?;
        app.shown(receipt).await;
        let FolderAdded { id, owner, name, parent } = new;
        Ok(folder(&projections::drive::FolderRow { id, owner, name, parent }))
    }
}

impl From<CannotAddFolder> for ApiError {
    fn from(refusal: CannotAddFolder) -> Self {
        match refusal {
            CannotAddFolder::NoSuchParent => NO_SUCH_FOLDER_FOR_NEW.into(),
            CannotAddFolder::TooDeep | CannotAddFolder::TooMany => {
                ApiError::invalid_param("#/properties/parentId", refusal.to_string())
            }
        }
    }
}

/// Delete a folder in which nothing is.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteFolder {
    folder_id: Id<FolderId>,
}

const NO_SUCH_FOLDER_TO_DELETE: ErrorDef = no_such_folder("1069098f-c281-440f-b085-f9932edbe091");
const HAS_CHILD_FILES_OR_FOLDERS: ErrorDef = ErrorDef::new(
    "HAS_CHILD_FILES_OR_FOLDERS",
    "This folder has child files or folders.",
    "b0fc8a17-963c-405d-bfbc-859a487295e1",
);

impl Endpoint for DeleteFolder {
    const META: Meta = Meta::new("drive/folders/delete")
        .kind("write:drive")
        .errors(&[NO_SUCH_FOLDER_TO_DELETE, HAS_CHILD_FILES_OR_FOLDERS]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (owner, id) = (me.id(), self.folder_id.0);
        let has_files = projections::drive::has_files(&app.pool, owner, id).await?;
        let receipt = app.commands.delete_folder(app.by(&me), owner, id, has_files).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotDeleteFolder> for ApiError {
    fn from(refusal: CannotDeleteFolder) -> Self {
        match refusal {
            CannotDeleteFolder::NoSuchFolder => NO_SUCH_FOLDER_TO_DELETE.into(),
            CannotDeleteFolder::NotEmpty => HAS_CHILD_FILES_OR_FOLDERS.into(),
        }
    }
}

/// Find folders of the caller by name.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindFolders {
    name: String,
    parent_id: Option<Id<FolderId>>,
}

impl Endpoint for FindFolders {
    const META: Meta = Meta::new("drive/folders/find").kind("read:drive");
    type Caller = SignedIn;
    type Reply = Vec<DriveFolder>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<DriveFolder>, ApiError> {
        let page = projections::Page {
            oldest_first: true,
            ..projections::Page::newest(projections::page::MAX_ITEMS)
        };
        let parent = self.parent_id.map(|id| id.0);
        let rows = projections::drive::folders(&app.pool, me.id(), parent, Some(&self.name), &page).await?;
        Ok(rows.iter().map(folder).collect())
    }
}

/// Show a folder with those around it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShowFolder {
    folder_id: Id<FolderId>,
}

const NO_SUCH_FOLDER_TO_SHOW: ErrorDef = no_such_folder("d74ab9eb-bb09-4bba-bf24-fb58f761e1e9");

impl Endpoint for ShowFolder {
    const META: Meta = Meta::new("drive/folders/show").kind("read:drive").errors(&[NO_SUCH_FOLDER_TO_SHOW]);
    type Caller = SignedIn;
    type Reply = DriveFolder;

    async fn handle(self, app: &App, me: SignedIn) -> Result<DriveFolder, ApiError> {
        let around = projections::drive::folder(&app.pool, me.id(), self.folder_id.0).await?;
        filled_folder(&around).ok_or_else(|| NO_SUCH_FOLDER_TO_SHOW.into())
    }
}

/// Rename a folder, or put it somewhere else.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateFolder {
    folder_id: Id<FolderId>,
    #[serde(default)]
    name: Given<Text<0, MAX_NAME_CHARS>>,
    #[serde(default)]
    parent_id: Given<Option<Id<FolderId>>>,
}

const NO_SUCH_FOLDER_TO_UPDATE: ErrorDef = no_such_folder("f7974dac-2c0d-4a27-926e-23583b28e98e");
const NO_SUCH_PARENT_FOLDER: ErrorDef =
    ErrorDef::new("NO_SUCH_PARENT_FOLDER", "No such parent folder.", "ce104e3a-faaf-49d5-b459-10ff0cbbcaa1");
const RECURSIVE_NESTING: ErrorDef = ErrorDef::new(
    "RECURSIVE_NESTING",
    "It can not be structured like nesting folders recursively.",
    "dbeb024837894013aed44279f9199740",
);

impl Endpoint for UpdateFolder {
    const META: Meta = Meta::new("drive/folders/update").kind("write:drive").errors(&[
        NO_SUCH_FOLDER_TO_UPDATE,
        NO_SUCH_PARENT_FOLDER,
        RECURSIVE_NESTING,
    ]);
    type Caller = SignedIn;
    type Reply = DriveFolder;

    async fn handle(self, app: &App, me: SignedIn) -> Result<DriveFolder, ApiError> {
        let changes = FolderChanges {
            name: self.name.0.map(|name| name.0),
            parent: self.parent_id.0.map(|parent| parent.map(|id| id.0)),
        };
        let id = self.folder_id.0;
        let receipt = app.commands.change_folder(app.by(&me), me.id(), id, changes).await?;
        app.shown(receipt).await;
        let around = projections::drive::folder(&app.pool, me.id(), id).await?;
        let updated = around.first().ok_or(NO_SUCH_FOLDER_TO_UPDATE)?;
        Ok(folder(&updated.folder))
    }
}

impl From<CannotChangeFolder> for ApiError {
    fn from(refusal: CannotChangeFolder) -> Self {
        match refusal {
            CannotChangeFolder::NoSuchFolder => NO_SUCH_FOLDER_TO_UPDATE.into(),
            CannotChangeFolder::NoSuchParent => NO_SUCH_PARENT_FOLDER.into(),
            CannotChangeFolder::Recursive => RECURSIVE_NESTING.into(),
        }
    }
}
