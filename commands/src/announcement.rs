//! Announcements, and who has read them.

use std::convert::Infallible;
use std::sync::Arc;

use domain::announcement::{
    Announcement, CannotAnnounce, Changes, Definition, Reading, change, create, delete, read, read_own,
    reading_stream, stream,
};
use domain::log::By;
use domain::{AnnouncementId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Announces something to everybody, or to one person.
    pub async fn announce(
        &self,
        by: By,
        announcement: AnnouncementId,
        definition: Definition,
    ) -> Result<Receipt, Failed<CannotAnnounce>> {
        let to = match definition.user {
            Some(user) => Some(self.user(user).await?),
            None => None,
        };
        self.execute_first(&stream(announcement), &by, |current: &Announcement| {
            create(current, announcement, definition.clone(), to.as_deref())
        })
        .await
    }

    /// Changes an announcement.
    pub async fn change_announcement(
        &self,
        by: By,
        announcement: AnnouncementId,
        changes: Changes,
    ) -> Result<Receipt, Failed<CannotAnnounce>> {
        self.execute(&stream(announcement), &by, |current: &Announcement| {
            change(current, announcement, changes.clone())
        })
        .await
    }

    /// Takes an announcement back.
    pub async fn delete_announcement(
        &self,
        by: By,
        announcement: AnnouncementId,
    ) -> Result<Receipt, Failed<CannotAnnounce>> {
        self.execute(&stream(announcement), &by, |current: &Announcement| delete(current, announcement)).await
    }

    /// Notes that somebody has read an announcement. None when there is none for them.
    pub async fn read_announcement(
        &self,
        by: By,
        announcement: AnnouncementId,
        user: UserId,
    ) -> Result<Option<Receipt>, Failed<Infallible>> {
        let state: Arc<Announcement> = self.load(&stream(announcement)).await?;
        let Some(definition) = &state.definition else { return Ok(None) };
        let receipt = match definition.user {
            None => {
                self.execute(&reading_stream(announcement, user), &by, |current: &Reading| {
                    Ok(read(current, announcement, user))
                })
                .await?
            }
            Some(whose) if whose == user => {
                self.execute(&stream(announcement), &by, |current: &Announcement| {
                    Ok(read_own(current, announcement, user))
                })
                .await?
            }
            Some(_) => return Ok(None),
        };
        Ok(Some(receipt))
    }
}
