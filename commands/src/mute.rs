//! Muting of people, of their renotes, and of threads.

use chrono::{DateTime, Utc};
use domain::follow::{Relation, stream};
use domain::log::By;
use domain::mute::{
    CannotMute, NoThread, NotMuting, ThreadMute, mute, mute_renotes, mute_thread, thread_stream, unmute,
    unmute_renotes, unmute_thread,
};
use domain::{MuteId, NoteId, RenoteMuteId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Mutes somebody, perhaps for a time.
    pub async fn mute(
        &self,
        by: By,
        muter: UserId,
        mutee: UserId,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<Receipt, Failed<CannotMute>> {
        let them = self.user(mutee).await?;
        let id = MuteId(self.ids.at(by.now));
        self.execute(&stream(muter, mutee), &by, |current: &Relation| {
            mute(current, muter, (mutee, &them), id, expires_at, by.now)
        })
        .await
    }

    /// Ends a mute before its time.
    pub async fn unmute(&self, by: By, muter: UserId, mutee: UserId) -> Result<Receipt, Failed<NotMuting>> {
        if muter != mutee && !self.user(mutee).await?.exists() {
            return Err(Failed::Refused(NotMuting::NoSuchUser));
        }
        self.execute(&stream(muter, mutee), &by, |current: &Relation| unmute(current, muter, mutee, by.now))
            .await
    }

    /// Mutes somebody's renotes.
    pub async fn mute_renotes(
        &self,
        by: By,
        muter: UserId,
        mutee: UserId,
    ) -> Result<Receipt, Failed<CannotMute>> {
        let them = self.user(mutee).await?;
        let id = RenoteMuteId(self.ids.at(by.now));
        self.execute(&stream(muter, mutee), &by, |current: &Relation| {
            mute_renotes(current, muter, (mutee, &them), id)
        })
        .await
    }

    /// Ends a mute of renotes.
    pub async fn unmute_renotes(
        &self,
        by: By,
        muter: UserId,
        mutee: UserId,
    ) -> Result<Receipt, Failed<NotMuting>> {
        if muter != mutee && !self.user(mutee).await?.exists() {
            return Err(Failed::Refused(NotMuting::NoSuchUser));
        }
        self.execute(&stream(muter, mutee), &by, |current: &Relation| unmute_renotes(current, muter, mutee))
            .await
    }

    /// Mutes the thread that a note is in.
    pub async fn mute_thread(&self, by: By, user: UserId, note: NoteId) -> Result<Receipt, Failed<NoThread>> {
        let state = self.note(note).await?;
        let thread = state.existing().ok_or(Failed::Refused(NoThread::NoSuchNote))?.thread();
        self.execute(&thread_stream(thread, user), &by, |current: &ThreadMute| {
            mute_thread(current, user, &state)
        })
        .await
    }

    /// Ends that.
    pub async fn unmute_thread(
        &self,
        by: By,
        user: UserId,
        note: NoteId,
    ) -> Result<Receipt, Failed<NoThread>> {
        let state = self.note(note).await?;
        let thread = state.existing().ok_or(Failed::Refused(NoThread::NoSuchNote))?.thread();
        self.execute(&thread_stream(thread, user), &by, |current: &ThreadMute| {
            unmute_thread(current, user, &state)
        })
        .await
    }
}
