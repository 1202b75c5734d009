//! Favourites: notes that people keep for themselves.

use domain::achievement::MY_NOTE_FAVORITED;
use domain::favorite::{CannotFavorite, CannotUnfavorite, Favorite, favorite, stream, unfavorite};
use domain::log::By;
use domain::{FavoriteId, NoteId, UserId};

use crate::{Commands, Failed, Receipt};

/// The step in which the author earns something by it.
const STEP_EARN: u8 = 1;

impl Commands {
    /// Keeps a note that the person sees.
    pub async fn favorite(
        &self,
        by: By,
        user: UserId,
        note: NoteId,
    ) -> Result<Receipt, Failed<CannotFavorite>> {
        let state = self.note(note).await?;
        let Some(created) = state.existing() else {
            return Err(Failed::Refused(CannotFavorite::NoSuchNote));
        };
        if !self.sees(user, created, &by).await? {
            return Err(Failed::Refused(CannotFavorite::NoSuchNote));
        }
        let id = FavoriteId(self.ids.at(by.now));
        let kept = self
            .execute(&stream(note, user), &by, |current: &Favorite| favorite(current, &state, user, id))
            .await?;
        if created.author == user || created.uri.is_some() {
            return Ok(kept);
        }
        match self.earn(by.step(STEP_EARN), created.author, MY_NOTE_FAVORITED).await {
            Ok(earned) => Ok(Receipt { position: kept.position.max(earned.position) }),
            // The note is kept all the same.
            Err(error) => {
                tracing::warn!(%error, "an achievement was not noted");
                Ok(kept)
            }
        }
    }

    /// Lets a note go that was kept.
    pub async fn unfavorite(
        &self,
        by: By,
        user: UserId,
        note: NoteId,
    ) -> Result<Receipt, Failed<CannotUnfavorite>> {
        let state = self.note(note).await?;
        self.execute(&stream(note, user), &by, |current: &Favorite| unfavorite(current, &state, user)).await
    }
}
