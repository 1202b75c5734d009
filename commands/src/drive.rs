//! Files and folders.

use std::convert::Infallible;
use std::sync::Arc;

use domain::drive::{
    Allowed, CannotAddFile, CannotAddFolder, CannotChangeFile, CannotChangeFolder, CannotDeleteFile,
    CannotDeleteFolder, File, FileAdded, FileChanges, FileFetched, FolderAdded, FolderChanges, Folders,
    NoPicture, add_file, add_folder, change_file, change_folder, delete_file, delete_folder, folders_stream,
    stream,
};
use domain::log::{By, LogError};
use domain::user::{Picture, ProfileChanges};
use domain::{FileId, FolderId, UserId};

use crate::{Commands, Failed, Receipt};

/// Step of the append that takes a deleted picture from its owner's profile.
const STEP_PROFILE: u8 = 1;

/// A file whose bytes are kept already.
#[derive(Debug, Clone)]
pub struct NewFile {
    pub file: FileAdded,
    /// How many bytes its owner's other files have.
    pub used: u64,
    pub allowed: Allowed,
}

impl Commands {
    /// Keeps a file in its owner's drive.
    pub async fn add_file(&self, by: By, new: NewFile) -> Result<Receipt, Failed<CannotAddFile>> {
        let folders = self.folders(new.file.owner).await?;
        self.execute_first(&stream(new.file.id), &by, |current: &File| {
            add_file(current, &new.file, &folders, new.used, &new.allowed)
        })
        .await
    }

    /// Notes that a file which somebody asked for from elsewhere is there.
    pub async fn file_fetched(
        &self,
        by: By,
        owner: UserId,
        file: FileId,
        marker: Option<String>,
    ) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, FileFetched { file, owner, marker }.into()).await
    }

    /// Whether a file could be kept, before its bytes are.
    pub async fn would_add_file(&self, new: &NewFile) -> Result<(), Failed<CannotAddFile>> {
        let folders = self.folders(new.file.owner).await?;
        add_file(&File::default(), &new.file, &folders, new.used, &new.allowed).map_err(Failed::Refused)?;
        Ok(())
    }

    /// Changes a file of one's own, or of anybody when one moderates.
    pub async fn change_file(
        &self,
        by: By,
        user: UserId,
        moderates: bool,
        file: FileId,
        changes: FileChanges,
    ) -> Result<Receipt, Failed<CannotChangeFile>> {
        let owner = self.file(file).await?.existing().map_or(user, |file| file.owner);
        let folders = self.folders(owner).await?;
        self.execute(&stream(file), &by, |current: &File| {
            change_file(current, changes.clone(), user, moderates, &folders)
        })
        .await
    }

    /// Deletes a file of one's own, or of anybody when one moderates; says what it was. It is taken from its
    /// owner's profile as well.
    pub async fn delete_file(
        &self,
        by: By,
        user: UserId,
        moderates: bool,
        file: FileId,
    ) -> Result<(Receipt, Option<FileAdded>), Failed<CannotDeleteFile>> {
        let was = self.file(file).await?.existing().cloned();
        let receipt =
            self.execute(&stream(file), &by, |current: &File| delete_file(current, user, moderates)).await?;
        let Some(was) = was else { return Ok((receipt, None)) };
        let cleared = self.take_down(by.step(STEP_PROFILE), was.owner, file).await;
        let receipt =
            cleared.map_err(|failed| failed.map_refusal(|never| match never {}))?.unwrap_or(receipt);
        Ok((receipt, Some(was)))
    }

    /// Takes a file from a profile, if it is there.
    async fn take_down(
        &self,
        by: By,
        owner: UserId,
        file: FileId,
    ) -> Result<Option<Receipt>, Failed<Infallible>> {
        let user = self.user(owner).await?;
        let shows = |picture: &Option<Picture>| picture.as_ref().is_some_and(|picture| picture.file == file);
        let changes = ProfileChanges {
            avatar: shows(&user.profile.avatar).then_some(None),
            banner: shows(&user.profile.banner).then_some(None),
            ..ProfileChanges::default()
        };
        if changes.is_empty() {
            return Ok(None);
        }
        self.change_profile(by, owner, changes).await.map(Some)
    }

    /// A file of somebody's that can be shown beside their name.
    pub async fn picture(&self, owner: UserId, file: FileId) -> Result<Picture, Failed<NoPicture>> {
        let file = self.file(file).await?;
        let Some(file) = file.of(owner) else { return Err(Failed::Refused(NoPicture::NoSuchFile)) };
        if !file.media_type.starts_with("image/") {
            return Err(Failed::Refused(NoPicture::NotAnImage));
        }
        Ok(Picture { file: file.id, key: file.key.clone(), blurhash: file.blurhash.clone() })
    }

    /// Makes a folder.
    pub async fn add_folder(&self, by: By, new: FolderAdded) -> Result<Receipt, Failed<CannotAddFolder>> {
        self.execute(&folders_stream(new.owner), &by, |current: &Folders| add_folder(current, &new)).await
    }

    /// Changes a folder of one's own.
    pub async fn change_folder(
        &self,
        by: By,
        owner: UserId,
        folder: FolderId,
        changes: FolderChanges,
    ) -> Result<Receipt, Failed<CannotChangeFolder>> {
        self.execute(&folders_stream(owner), &by, |current: &Folders| {
            change_folder(current, owner, folder, changes.clone())
        })
        .await
    }

    /// Deletes a folder of one's own. Whether files are in it is what the caller knows; one that comes at the
    /// same moment is then in no folder.
    pub async fn delete_folder(
        &self,
        by: By,
        owner: UserId,
        folder: FolderId,
        has_files: bool,
    ) -> Result<Receipt, Failed<CannotDeleteFolder>> {
        self.execute(&folders_stream(owner), &by, |current: &Folders| {
            delete_folder(current, owner, folder, has_files)
        })
        .await
    }

    /// One file, folded.
    pub async fn file(&self, file: FileId) -> Result<Arc<File>, LogError> {
        self.load(&stream(file)).await
    }

    /// All folders of a person.
    pub async fn folders(&self, owner: UserId) -> Result<Arc<Folders>, LogError> {
        self.load(&folders_stream(owner)).await
    }
}
