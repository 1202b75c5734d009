//! Collections of notes.
//!
//! A clip is found in the stream of its owner's clips. Whoever asks for somebody else's says whose it is; that
//! there is such a clip is then seen in the log.

use domain::clip::{
    About, CannotClip, CannotFavoriteClip, CannotUnclip, CannotUnfavoriteClip, Changes, Clips, Favorite,
    NoSuchClip, Notes, TooManyClips, add_note, change, create, delete, favorite, favorite_stream,
    notes_stream, remove_note, stream, unfavorite,
};
use domain::log::{By, LogError};
use domain::{ClipFavoriteId, ClipId, NoteId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Makes a clip with this id; a person may have so many.
    pub async fn create_clip(
        &self,
        by: By,
        user: UserId,
        id: ClipId,
        about: About,
        limit: usize,
    ) -> Result<Receipt, Failed<TooManyClips>> {
        let decide = |current: &Clips| create(current, user, id, about.clone(), limit);
        self.execute(&stream(user), &by, decide).await
    }

    /// Changes what a clip of one's own says of itself.
    pub async fn change_clip(
        &self,
        by: By,
        user: UserId,
        id: ClipId,
        changes: Changes,
    ) -> Result<Receipt, Failed<NoSuchClip>> {
        self.execute(&stream(user), &by, |current: &Clips| change(current, user, id, &changes)).await
    }

    /// Deletes a clip of one's own.
    pub async fn delete_clip(&self, by: By, user: UserId, id: ClipId) -> Result<Receipt, Failed<NoSuchClip>> {
        self.execute(&stream(user), &by, |current: &Clips| delete(current, user, id)).await
    }

    /// Puts a note that the person sees into a clip of theirs; so many may be in it.
    pub async fn clip_note(
        &self,
        by: By,
        user: UserId,
        clip: ClipId,
        note: NoteId,
        limit: usize,
    ) -> Result<Receipt, Failed<CannotClip>> {
        if !self.load::<Clips>(&stream(user)).await?.clips.contains_key(&clip) {
            return Err(Failed::Refused(CannotClip::NoSuchClip));
        }
        let state = self.note(note).await?;
        let sees = match state.existing() {
            Some(created) => self.sees(user, created, &by).await?,
            None => false,
        };
        if !sees {
            return Err(Failed::Refused(CannotClip::NoSuchNote));
        }
        let notes = self.load::<Notes>(&notes_stream(clip)).await?;
        let gone = if notes.notes.len() < limit {
            Vec::new()
        } else {
            self.gone(&notes.notes.iter().copied().collect::<Vec<_>>()).await?
        };
        let decide = |current: &Notes| add_note(current, clip, user, &state, &gone, limit);
        self.execute(&notes_stream(clip), &by, decide).await
    }

    /// Takes a note out of a clip of one's own.
    pub async fn unclip_note(
        &self,
        by: By,
        user: UserId,
        clip: ClipId,
        note: NoteId,
    ) -> Result<Receipt, Failed<CannotUnclip>> {
        if !self.load::<Clips>(&stream(user)).await?.clips.contains_key(&clip) {
            return Err(Failed::Refused(CannotUnclip::NoSuchClip));
        }
        let state = self.note(note).await?;
        let decide = |current: &Notes| remove_note(current, clip, user, &state);
        self.execute(&notes_stream(clip), &by, decide).await
    }

    /// Keeps a clip of one's own, or a public one of `owner`.
    pub async fn favorite_clip(
        &self,
        by: By,
        user: UserId,
        owner: UserId,
        clip: ClipId,
    ) -> Result<Receipt, Failed<CannotFavoriteClip>> {
        if !self.sees_clip(user, owner, clip).await? {
            return Err(Failed::Refused(CannotFavoriteClip::NoSuchClip));
        }
        let id = ClipFavoriteId(self.ids.at(by.now));
        let decide = |current: &Favorite| favorite(current, clip, user, id);
        self.execute(&favorite_stream(clip, user), &by, decide).await
    }

    /// Lets a clip of `owner` go that was kept.
    pub async fn unfavorite_clip(
        &self,
        by: By,
        user: UserId,
        owner: UserId,
        clip: ClipId,
    ) -> Result<Receipt, Failed<CannotUnfavoriteClip>> {
        if !self.load::<Clips>(&stream(owner)).await?.clips.contains_key(&clip) {
            return Err(Failed::Refused(CannotUnfavoriteClip::NoSuchClip));
        }
        let decide = |current: &Favorite| unfavorite(current, clip, user);
        self.execute(&favorite_stream(clip, user), &by, decide).await
    }

    async fn sees_clip(&self, user: UserId, owner: UserId, clip: ClipId) -> Result<bool, LogError> {
        let clips = self.load::<Clips>(&stream(owner)).await?;
        Ok(clips.clips.get(&clip).is_some_and(|about| about.public || owner == user))
    }
}
