//! Works that people show: posts of a gallery, pages and plays.
//!
//! A work is found in the stream of its owner's works. Whoever asks for somebody else's says whose it is; that
//! there is such a work is then seen in the log.

use std::sync::Arc;

use domain::log::{By, LogError};
use domain::work::{
    CannotChangeWork, CannotCreateWork, CannotLike, CannotUnlike, Changes, Content, Kind, Like, NoSuchWork,
    Works, change, create, delete, like, like_stream, stream, unlike,
};
use domain::{FileId, UserId, WorkId, WorkLikeId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Makes a work with this id.
    pub async fn create_work(
        &self,
        by: By,
        user: UserId,
        id: WorkId,
        work: &Content,
    ) -> Result<Receipt, Failed<CannotCreateWork>> {
        let files: &[FileId] = match work {
            Content::Post(post) => &post.files,
            Content::Page(page) => page.image.as_slice(),
            Content::Play(_) => &[],
        };
        if !self.has_files(user, files).await? {
            return Err(Failed::Refused(CannotCreateWork::NoSuchFile));
        }
        self.execute(&stream(user), &by, |current: &Works| create(current, user, id, work)).await
    }

    /// Changes a work of one's own.
    pub async fn change_work(
        &self,
        by: By,
        user: UserId,
        work: (Kind, WorkId),
        changes: &Changes,
    ) -> Result<Receipt, Failed<CannotChangeWork>> {
        let files = changes.files.as_deref().unwrap_or_default();
        let image = changes.image.as_ref().map(Option::as_slice).unwrap_or_default();
        if !self.has_files(user, files).await? || !self.has_files(user, image).await? {
            return Err(Failed::Refused(CannotChangeWork::NoSuchFile));
        }
        self.execute(&stream(user), &by, |current: &Works| change(current, user, work, changes)).await
    }

    /// Deletes a work of one's own, or as a moderator one of `owner`.
    pub async fn delete_work(
        &self,
        by: By,
        owner: UserId,
        (kind, work): (Kind, WorkId),
    ) -> Result<Receipt, Failed<NoSuchWork>> {
        self.execute(&stream(owner), &by, |current: &Works| delete(current, owner, kind, work)).await
    }

    /// Likes a work of `owner`.
    pub async fn like_work(
        &self,
        by: By,
        user: UserId,
        owner: UserId,
        work: (Kind, WorkId),
    ) -> Result<Receipt, Failed<CannotLike>> {
        let works = self.works(owner).await?;
        let id = WorkLikeId(self.ids.at(by.now));
        let decide = |current: &Like| like(current, &works, owner, work, user, id);
        self.execute(&like_stream(work.1, user), &by, decide).await
    }

    /// Doesn't like a work of `owner` any more.
    pub async fn unlike_work(
        &self,
        by: By,
        user: UserId,
        owner: UserId,
        work: (Kind, WorkId),
    ) -> Result<Receipt, Failed<CannotUnlike>> {
        let works = self.works(owner).await?;
        let decide = |current: &Like| unlike(current, &works, owner, work, user);
        self.execute(&like_stream(work.1, user), &by, decide).await
    }

    /// Whether that is a page of theirs.
    pub async fn has_page(&self, user: UserId, page: WorkId) -> Result<bool, LogError> {
        Ok(self.works(user).await?.of(Kind::Page, page).is_some())
    }

    async fn works(&self, owner: UserId) -> Result<Arc<Works>, LogError> {
        self.load::<Works>(&stream(owner)).await
    }
}
