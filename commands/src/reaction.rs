//! Reactions to notes.

use domain::emoji::{Asked, Reaction as Emoji, parse};
use domain::log::By;
use domain::reaction::{CannotReact, CannotUnreact, Reaction, react, stream, unreact};
use domain::{NoteId, ReactionId, RoleId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Reacts, or replaces the reaction that stands. `asked` is what a client sent: what is no known
    /// emoji, or none for somebody with these roles, becomes the fallback.
    pub async fn react(
        &self,
        by: By,
        user: UserId,
        roles: &[RoleId],
        note: NoteId,
        asked: &str,
    ) -> Result<Receipt, Failed<CannotReact>> {
        let state = self.note(note).await?;
        let Some(created) = state.existing() else {
            return Err(Failed::Refused(CannotReact::NoSuchNote));
        };
        if self.is_blocked(user, created.author).await? {
            return Err(Failed::Refused(CannotReact::Blocked));
        }
        if !self.sees(user, created, &by).await? {
            return Err(Failed::Refused(CannotReact::NotVisible));
        }
        let emoji = match parse(asked) {
            Asked::Unicode(emoji) => emoji,
            Asked::Custom(name) => match self.emoji_named(&name).await? {
                Some((_, custom)) => custom.reaction(roles, created.reaction_acceptance),
                None => Emoji::fallback(),
            },
        };
        let id = ReactionId(self.ids.at(by.now));
        self.execute(&stream(note, user), &by, |current: &Reaction| react(current, &state, user, id, &emoji))
            .await
    }

    /// Takes a reaction back.
    pub async fn unreact(
        &self,
        by: By,
        user: UserId,
        note: NoteId,
    ) -> Result<Receipt, Failed<CannotUnreact>> {
        let state = self.note(note).await?;
        self.execute(&stream(note, user), &by, |current: &Reaction| unreact(current, &state, user)).await
    }
}
