//! Files that people keep and show, and the folders they put them in. A file has the stream `file-{id}`; all
//! folders of a person are in `folders-{person}`, so that two moves can't make a circle of them.
//!
//! The bytes are elsewhere, under the person and a key: events hold what is known of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{FileId, FolderId, UserId};
use crate::log::StreamId;
use crate::user::present;
use crate::{Event, Fold};

/// The longest name of a file or a folder, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The longest description of a file, in characters.
pub const MAX_COMMENT_CHARS: usize = 512;
/// The most folders of one person.
pub const MAX_FOLDERS: usize = 10_000;
/// How deep folders may be in each other.
pub const MAX_DEPTH: usize = 64;
/// What the policies call a megabyte, in bytes.
const MEGABYTE: f64 = 1024.0 * 1024.0;

/// The stream of one file.
pub fn stream(file: FileId) -> StreamId {
    StreamId::new("file", file)
}

/// The stream of all folders of a person.
pub fn folders_stream(owner: UserId) -> StreamId {
    StreamId::new("folders", owner)
}

/// How large a picture is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// In pixels, as it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// How it has to be turned, 2 to 8, as EXIF numbers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<u8>,
}

/// `drive.file_added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAdded {
    pub id: FileId,
    pub owner: UserId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// As found in the bytes, such as `image/png`.
    pub media_type: String,
    /// Of the bytes as they came, in hex.
    pub md5: String,
    /// In bytes.
    pub size: u64,
    #[serde(default)]
    pub sensitive: bool,
    #[serde(default)]
    pub properties: Properties,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blurhash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderId>,
    /// Under which the bytes are kept and served: nobody can guess it.
    pub key: String,
    /// The same of a small picture of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

/// `drive.file_changed`: only what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChanged {
    pub id: FileId,
    pub owner: UserId,
    pub changes: FileChanges,
}

/// `drive.file_deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDeleted {
    pub id: FileId,
    pub owner: UserId,
}

/// `drive.folder_added`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderAdded {
    pub id: FolderId,
    pub owner: UserId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<FolderId>,
}

/// `drive.folder_changed`: only what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderChanged {
    pub id: FolderId,
    pub owner: UserId,
    pub changes: FolderChanges,
}

/// `drive.folder_deleted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderDeleted {
    pub id: FolderId,
    pub owner: UserId,
}

/// `drive.file_fetched`: somebody asked for a file from elsewhere, and it is there, perhaps since before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFetched {
    pub file: FileId,
    pub owner: UserId,
    /// By which whoever asked knows it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
}

macro_rules! of_the_owner {
    ($($payload:ty),*) => {$(
        impl Payload for $payload {
            fn subject(&self) -> Option<UserId> {
                Some(self.owner)
            }
        }
    )*};
}
of_the_owner!(FileAdded, FileChanged, FileDeleted, FileFetched, FolderAdded, FolderChanged, FolderDeleted);

/// A change of a file: only the fields that change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileChanges {
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub comment: Option<Option<String>>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub folder: Option<Option<FolderId>>,
}

impl FileChanges {
    fn against(self, file: &FileAdded) -> Self {
        Self {
            name: self.name.filter(|new| *new != file.name),
            comment: self.comment.filter(|new| *new != file.comment),
            sensitive: self.sensitive.filter(|new| *new != file.sensitive),
            folder: self.folder.filter(|new| *new != file.folder),
        }
    }

    fn apply_to(&self, file: &mut FileAdded) {
        if let Some(name) = &self.name {
            file.name.clone_from(name);
        }
        if let Some(comment) = &self.comment {
            file.comment.clone_from(comment);
        }
        if let Some(sensitive) = self.sensitive {
            file.sensitive = sensitive;
        }
        if let Some(folder) = self.folder {
            file.folder = folder;
        }
    }
}

/// A change of a folder: only the fields that change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FolderChanges {
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub parent: Option<Option<FolderId>>,
}

/// One file, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// As it is now; none before it is added, and when its owner's data has been erased.
    pub current: Option<FileAdded>,
    pub deleted: bool,
}

impl File {
    /// The file, if it is there.
    pub fn existing(&self) -> Option<&FileAdded> {
        self.current.as_ref().filter(|_| !self.deleted)
    }

    /// Whether its bytes are those under this key, or were until it was deleted.
    pub fn has_key(&self, key: &str) -> bool {
        self.current.as_ref().is_some_and(|file| file.key == key)
    }

    /// The file, if it is there and belongs to this person.
    pub fn of(&self, owner: UserId) -> Option<&FileAdded> {
        self.existing().filter(|file| file.owner == owner)
    }
}

impl Fold for File {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::FileAdded(e) => self.current = Some(e.clone()),
            Event::FileChanged(e) => {
                if let Some(file) = &mut self.current {
                    e.changes.apply_to(file);
                }
            }
            Event::FileDeleted(_) => self.deleted = true,
            _ => (),
        }
    }
}

/// All folders of one person, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    folders: BTreeMap<FolderId, Folder>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub name: String,
    pub parent: Option<FolderId>,
}

impl Folders {
    pub fn get(&self, folder: FolderId) -> Option<&Folder> {
        self.folders.get(&folder)
    }

    /// Where a file may be: in no folder, or in one that is there.
    fn has_place(&self, folder: Option<FolderId>) -> bool {
        folder.is_none_or(|folder| self.folders.contains_key(&folder))
    }

    /// This folder and those around it, from the inside out.
    fn around(&self, folder: Option<FolderId>) -> impl Iterator<Item = FolderId> {
        std::iter::successors(folder, |inner| self.folders.get(inner)?.parent).take(MAX_DEPTH + 1)
    }

    /// How many folders are one in the other below this one, itself included.
    fn height(&self, folder: FolderId) -> usize {
        let depths = self.folders.keys().filter_map(|inner| {
            self.around(Some(*inner)).position(|outer| outer == folder).map(|steps| steps + 1)
        });
        depths.max().unwrap_or(1)
    }
}

impl Fold for Folders {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::FolderAdded(e) => {
                self.folders.insert(e.id, Folder { name: e.name.clone(), parent: e.parent });
            }
            Event::FolderChanged(e) => {
                if let Some(folder) = self.folders.get_mut(&e.id) {
                    if let Some(name) = &e.changes.name {
                        folder.name.clone_from(name);
                    }
                    if let Some(parent) = e.changes.parent {
                        folder.parent = parent;
                    }
                }
            }
            Event::FolderDeleted(e) => {
                self.folders.remove(&e.id);
            }
            _ => (),
        }
    }
}

/// What somebody may keep, from the policies in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    /// Of all their files together, in bytes.
    pub capacity: u64,
    /// Of one file, in bytes.
    pub file_size: u64,
    /// Types such as `image/png`, `image/*` and `*/*`.
    pub types: Vec<String>,
}

impl Allowed {
    /// From what the policies `driveCapacityMb`, `maxFileSizeMb` and `uploadableFileTypes` say.
    pub fn of(capacity_mb: f64, file_size_mb: f64, types: Vec<String>) -> Self {
        // What is out of range ends at the range's end.
        let bytes = |megabytes: f64| (megabytes * MEGABYTE) as u64;
        Self { capacity: bytes(capacity_mb), file_size: bytes(file_size_mb), types }
    }

    fn takes(&self, media_type: &str) -> bool {
        self.types.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some("*/") => true,
            Some(prefix) => prefix.ends_with('/') && media_type.starts_with(prefix),
            None => allowed == media_type,
        })
    }
}

/// Why a file is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotAddFile {
    #[error("the name is not one for a file")]
    InvalidName,
    #[error("no such folder")]
    NoSuchFolder,
    #[error("no space is left")]
    NoFreeSpace,
    #[error("the file is too large")]
    TooLarge,
    #[error("files of this type are not taken")]
    TypeNotAllowed,
}

/// Why a file is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotChangeFile {
    #[error("no such file")]
    NoSuchFile,
    #[error("somebody else's file")]
    NotYours,
    #[error("the name is not one for a file")]
    InvalidName,
    #[error("no such folder")]
    NoSuchFolder,
}

/// Why a file is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotDeleteFile {
    #[error("no such file")]
    NoSuchFile,
    #[error("somebody else's file")]
    NotYours,
}

/// Why a folder is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotAddFolder {
    #[error("no such folder to put it in")]
    NoSuchParent,
    #[error("the folders are too deep in each other")]
    TooDeep,
    #[error("there are too many folders")]
    TooMany,
}

/// Why a folder is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotChangeFolder {
    #[error("no such folder")]
    NoSuchFolder,
    #[error("no such folder to put it in")]
    NoSuchParent,
    #[error("a folder can't be in itself")]
    Recursive,
}

/// Why a folder is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotDeleteFolder {
    #[error("no such folder")]
    NoSuchFolder,
    #[error("something is in it")]
    NotEmpty,
}

/// A picture can't be shown beside a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPicture {
    #[error("no such file")]
    NoSuchFile,
    #[error("not a picture")]
    NotAnImage,
}

/// Whether a file may have this name: no path, and not too long.
pub fn is_file_name(name: &str) -> bool {
    let chars = name.chars().count();
    (1..=MAX_NAME_CHARS).contains(&chars)
        && !name.trim().is_empty()
        && !name.contains(['\\', '/'])
        && !name.contains("..")
}

/// Decides that a file is kept, beside others of its owner with so many bytes.
pub fn add_file(
    current: &File,
    new: &FileAdded,
    folders: &Folders,
    used: u64,
    allowed: &Allowed,
) -> Result<Vec<Event>, CannotAddFile> {
    if current.current.is_some() {
        return Ok(Vec::new());
    }
    if new.size > allowed.file_size {
        return Err(CannotAddFile::TooLarge);
    }
    if !allowed.takes(&new.media_type) {
        return Err(CannotAddFile::TypeNotAllowed);
    }
    if !is_file_name(&new.name) {
        return Err(CannotAddFile::InvalidName);
    }
    if !folders.has_place(new.folder) {
        return Err(CannotAddFile::NoSuchFolder);
    }
    if used.saturating_add(new.size) > allowed.capacity {
        return Err(CannotAddFile::NoFreeSpace);
    }
    Ok(vec![new.clone().into()])
}

/// Decides a change, by the owner or by somebody who moderates; what is already so is left out. The folders
/// are the owner's.
pub fn change_file(
    current: &File,
    changes: FileChanges,
    by: UserId,
    moderates: bool,
    folders: &Folders,
) -> Result<Vec<Event>, CannotChangeFile> {
    let file = current.existing().ok_or(CannotChangeFile::NoSuchFile)?;
    if file.owner != by && !moderates {
        return Err(CannotChangeFile::NotYours);
    }
    if changes.name.as_deref().is_some_and(|name| !is_file_name(name)) {
        return Err(CannotChangeFile::InvalidName);
    }
    if !folders.has_place(changes.folder.flatten()) {
        return Err(CannotChangeFile::NoSuchFolder);
    }
    let changes = changes.against(file);
    if changes == FileChanges::default() {
        return Ok(Vec::new());
    }
    Ok(vec![FileChanged { id: file.id, owner: file.owner, changes }.into()])
}

/// Decides the end of a file, by the owner or by somebody who moderates.
pub fn delete_file(current: &File, by: UserId, moderates: bool) -> Result<Vec<Event>, CannotDeleteFile> {
    let file = current.existing().ok_or(CannotDeleteFile::NoSuchFile)?;
    if file.owner != by && !moderates {
        return Err(CannotDeleteFile::NotYours);
    }
    Ok(vec![FileDeleted { id: file.id, owner: file.owner }.into()])
}

/// Decides a new folder.
pub fn add_folder(current: &Folders, new: &FolderAdded) -> Result<Vec<Event>, CannotAddFolder> {
    if current.get(new.id).is_some() {
        return Ok(Vec::new());
    }
    if !current.has_place(new.parent) {
        return Err(CannotAddFolder::NoSuchParent);
    }
    if current.around(new.parent).count() >= MAX_DEPTH {
        return Err(CannotAddFolder::TooDeep);
    }
    if current.folders.len() >= MAX_FOLDERS {
        return Err(CannotAddFolder::TooMany);
    }
    Ok(vec![new.clone().into()])
}

/// Decides a change of a folder; what is already so is left out.
pub fn change_folder(
    current: &Folders,
    owner: UserId,
    id: FolderId,
    changes: FolderChanges,
) -> Result<Vec<Event>, CannotChangeFolder> {
    let folder = current.get(id).ok_or(CannotChangeFolder::NoSuchFolder)?;
    let changes = FolderChanges {
        name: changes.name.filter(|new| *new != folder.name),
        parent: changes.parent.filter(|new| *new != folder.parent),
    };
    if let Some(parent) = changes.parent {
        if !current.has_place(parent) {
            return Err(CannotChangeFolder::NoSuchParent);
        }
        let around = current.around(parent).count();
        if current.around(parent).any(|outer| outer == id) || around + current.height(id) > MAX_DEPTH {
            return Err(CannotChangeFolder::Recursive);
        }
    }
    if changes == FolderChanges::default() {
        return Ok(Vec::new());
    }
    Ok(vec![FolderChanged { id, owner, changes }.into()])
}

/// Decides the end of a folder in which nothing is.
pub fn delete_folder(
    current: &Folders,
    owner: UserId,
    id: FolderId,
    has_files: bool,
) -> Result<Vec<Event>, CannotDeleteFolder> {
    current.get(id).ok_or(CannotDeleteFolder::NoSuchFolder)?;
    if has_files || current.folders.values().any(|folder| folder.parent == Some(id)) {
        return Err(CannotDeleteFolder::NotEmpty);
    }
    Ok(vec![FolderDeleted { id, owner }.into()])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::note::tests::{id, user};

    const OWNER: u8 = 1;

    fn folder(n: u8) -> FolderId {
        FolderId(id(n))
    }

    pub(crate) fn a_file(change: impl FnOnce(&mut FileAdded)) -> FileAdded {
        let mut file = FileAdded {
            id: FileId(id(100)),
            owner: user(OWNER),
            name: "a.png".to_owned(),
            comment: None,
            media_type: "image/png".to_owned(),
            md5: "00".repeat(16),
            size: 10,
            sensitive: false,
            properties: Properties::default(),
            blurhash: None,
            folder: None,
            key: "key".to_owned(),
            thumbnail: None,
        };
        change(&mut file);
        file
    }

    fn kept(change: impl FnOnce(&mut FileAdded)) -> File {
        File { current: Some(a_file(change)), deleted: false }
    }

    fn allowed() -> Allowed {
        Allowed::of(1.0, 0.5, vec!["image/*".to_owned(), "text/plain".to_owned()])
    }

    /// Folders 1 to n, each in the one before.
    fn nested(n: u8) -> Folders {
        let mut folders = Folders::default();
        for n in 1..=n {
            let parent = n.checked_sub(1).filter(|n| *n > 0).map(folder);
            let new = FolderAdded { id: folder(n), owner: user(OWNER), name: n.to_string(), parent };
            add_folder(&folders.clone(), &new).unwrap().iter().for_each(|event| folders.apply(event));
        }
        folders
    }

    fn add(change: impl FnOnce(&mut FileAdded), used: u64) -> Result<usize, CannotAddFile> {
        let events = add_file(&File::default(), &a_file(change), &nested(1), used, &allowed());
        events.map(|events| events.len())
    }

    #[test]
    fn a_file_is_kept_within_what_is_allowed() {
        assert_eq!(add(|_| (), 0), Ok(1));
        assert_eq!(add(|file| file.folder = Some(folder(1)), 0), Ok(1));
        assert_eq!(add(|file| file.folder = Some(folder(2)), 0), Err(CannotAddFile::NoSuchFolder));
        assert_eq!(add(|_| (), 1024 * 1024 - 10), Ok(1));
        assert_eq!(add(|_| (), 1024 * 1024 - 9), Err(CannotAddFile::NoFreeSpace));
        assert_eq!(add(|file| file.size = 512 * 1024 + 1, 0), Err(CannotAddFile::TooLarge));
        for (media_type, is_taken) in
            [("text/plain", true), ("text/html", false), ("imagery/png", false), ("image/webp", true)]
        {
            let added = add(|file| file.media_type = media_type.to_owned(), 0);
            assert_eq!(added.is_ok(), is_taken, "{media_type}");
        }
        let again = add_file(&kept(|_| ()), &a_file(|_| ()), &Folders::default(), 0, &allowed());
        assert_eq!(again, Ok(Vec::new()));
    }

    #[test]
    fn names_have_no_path_in_them() {
        for good in ["a", "日本 語.png", "|?*.png", &"x".repeat(MAX_NAME_CHARS)] {
            assert!(is_file_name(good), "{good}");
        }
        for bad in ["", " ", "a/b", "a\\b", "a..b", &"x".repeat(MAX_NAME_CHARS + 1)] {
            assert!(!is_file_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_file_is_changed_by_its_owner_and_by_moderators() {
        let rename = || FileChanges { name: Some("b.png".to_owned()), ..FileChanges::default() };
        let change = |by, moderates, changes| {
            change_file(&kept(|_| ()), changes, user(by), moderates, &nested(1)).map(|events| {
                let mut file = kept(|_| ());
                events.iter().for_each(|event| file.apply(event));
                (events.len(), file.current.unwrap())
            })
        };
        assert_eq!(change(OWNER, false, rename()).unwrap().1.name, "b.png");
        assert_eq!(change(2, false, rename()), Err(CannotChangeFile::NotYours));
        assert_eq!(change(2, true, rename()).unwrap().1.name, "b.png");
        let same = FileChanges { name: Some("a.png".to_owned()), ..FileChanges::default() };
        assert_eq!(change(OWNER, false, same).unwrap().0, 0);
        let moved = |to| FileChanges { folder: Some(Some(folder(to))), ..FileChanges::default() };
        assert_eq!(change(OWNER, false, moved(1)).unwrap().1.folder, Some(folder(1)));
        assert_eq!(change(OWNER, false, moved(2)), Err(CannotChangeFile::NoSuchFolder));
        let bad = FileChanges { name: Some("../a".to_owned()), ..FileChanges::default() };
        assert_eq!(change(OWNER, false, bad), Err(CannotChangeFile::InvalidName));
        let described = FileChanges { comment: Some(Some("alt".to_owned())), ..FileChanges::default() };
        assert_eq!(change(OWNER, false, described).unwrap().1.comment.as_deref(), Some("alt"));
    }

    #[test]
    fn a_deleted_file_is_gone_for_good() {
        let mut file = kept(|_| ());
        assert_eq!(delete_file(&file, user(2), false), Err(CannotDeleteFile::NotYours));
        let events = delete_file(&file, user(OWNER), false).unwrap();
        events.iter().for_each(|event| file.apply(event));
        assert_eq!(file.of(user(OWNER)), None);
        assert_eq!(delete_file(&file, user(OWNER), false), Err(CannotDeleteFile::NoSuchFile));
        let added = add_file(&file, &a_file(|_| ()), &Folders::default(), 0, &allowed());
        assert_eq!(added, Ok(Vec::new()));
    }

    #[test]
    fn folders_are_never_in_themselves_and_not_too_deep() {
        let folders = nested(3);
        let into = |id, parent: Option<u8>| {
            let changes = FolderChanges { parent: Some(parent.map(folder)), ..FolderChanges::default() };
            change_folder(&folders, user(OWNER), folder(id), changes).map(|events| events.len())
        };
        assert_eq!(into(1, Some(3)), Err(CannotChangeFolder::Recursive));
        assert_eq!(into(1, Some(1)), Err(CannotChangeFolder::Recursive));
        assert_eq!(into(3, Some(9)), Err(CannotChangeFolder::NoSuchParent));
        assert_eq!(into(9, None), Err(CannotChangeFolder::NoSuchFolder));
        assert_eq!((into(3, Some(1)), into(3, None), into(3, Some(2))), (Ok(1), Ok(1), Ok(0)));

        let deep = nested(MAX_DEPTH as u8);
        let innermost = FolderAdded {
            id: folder(200),
            owner: user(OWNER),
            name: String::new(),
            parent: Some(folder(MAX_DEPTH as u8)),
        };
        assert_eq!(add_folder(&deep, &innermost), Err(CannotAddFolder::TooDeep));
    }

    #[test]
    fn only_an_empty_folder_is_deleted() {
        let folders = nested(2);
        let delete =
            |n, has_files| delete_folder(&folders, user(OWNER), folder(n), has_files).map(|e| e.len());
        assert_eq!(delete(1, false), Err(CannotDeleteFolder::NotEmpty));
        assert_eq!(delete(2, true), Err(CannotDeleteFolder::NotEmpty));
        assert_eq!(delete(2, false), Ok(1));
        assert_eq!(delete(3, false), Err(CannotDeleteFolder::NoSuchFolder));
    }
}
