//! Notes that a profile shows first.

use domain::log::By;
use domain::pin::{CannotPin, CannotUnpin, Pins, pin, stream, unpin};
use domain::{NoteId, PinId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Pins a note of one's own; so many may be pinned at a time.
    pub async fn pin(
        &self,
        by: By,
        user: UserId,
        note: NoteId,
        limit: usize,
    ) -> Result<Receipt, Failed<CannotPin>> {
        let state = self.note(note).await?;
        let pins = self.load::<Pins>(&stream(user)).await?;
        let gone = if pins.notes.len() < limit { Vec::new() } else { self.gone(&pins.notes).await? };
        let id = PinId(self.ids.at(by.now));
        self.execute(&stream(user), &by, |current: &Pins| pin(current, &state, user, id, &gone, limit)).await
    }

    /// Unpins a note of one's own.
    pub async fn unpin(&self, by: By, user: UserId, note: NoteId) -> Result<Receipt, Failed<CannotUnpin>> {
        let state = self.note(note).await?;
        self.execute(&stream(user), &by, |current: &Pins| unpin(current, &state, user)).await
    }
}
