//! Votes on polls, and their end.

use domain::log::{By, StreamId};
use domain::poll::{Ballot, CannotEnd, CannotVote, Closing, closing_stream, end, vote};
use domain::{NoteId, UserId, VoteId};

use crate::{Commands, Failed, Receipt};

/// The stream of one person's votes on one poll.
fn stream(note: NoteId, voter: UserId) -> StreamId {
    StreamId::new("vote", format_args!("{note}-{voter}"))
}

impl Commands {
    /// Votes for one choice (index from 0).
    pub async fn vote(
        &self,
        by: By,
        voter: UserId,
        note: NoteId,
        choice: u32,
    ) -> Result<Receipt, Failed<CannotVote>> {
        let state = self.note(note).await?;
        let Some(created) = state.existing() else {
            return Err(Failed::Refused(CannotVote::NoSuchNote));
        };
        if !self.sees(voter, created, &by).await? {
            return Err(Failed::Refused(CannotVote::NoSuchNote));
        }
        let blocked = self.is_blocked(voter, created.author).await?;
        let id = VoteId(self.ids.at(by.now));
        self.execute(&stream(note, voter), &by, |ballot: &Ballot| {
            vote(ballot, &state, voter, blocked, id, choice, by.now)
        })
        .await
    }

    /// Ends a poll whose time has come; whoever notices it too changes nothing.
    pub async fn end_poll(&self, by: By, note: NoteId) -> Result<Receipt, Failed<CannotEnd>> {
        let state = self.note(note).await?;
        self.execute(&closing_stream(note), &by, |current: &Closing| end(current, &state, by.now)).await
    }
}
