//! Custom emoji.

use std::sync::Arc;

use domain::emoji::{
    CannotEmoji, Changes, Definition, Emoji, Held, Name, add, change, claim, delete, is_name, let_go,
    name_stream, stream,
};
use domain::log::{By, LogError};
use domain::{CommandId, EmojiId};

use crate::{Commands, Failed, Receipt};

/// Steps of the appends that give a name to an emoji.
const STEP_LET_GO: u8 = 1;
const STEP_CLAIM: u8 = 2;

impl Commands {
    /// Adds an emoji.
    pub async fn add_emoji(
        &self,
        by: By,
        emoji: EmojiId,
        definition: Definition,
    ) -> Result<Receipt, Failed<CannotEmoji>> {
        let claim = self.claim_name(by, emoji, &definition.name).await?;
        self.execute(&stream(emoji), &by, |current: &Emoji| add(current, emoji, definition.clone(), claim))
            .await
    }

    /// Changes an emoji.
    pub async fn change_emoji(
        &self,
        by: By,
        emoji: EmojiId,
        changes: Changes,
    ) -> Result<Receipt, Failed<CannotEmoji>> {
        let known = self.emoji(emoji).await?;
        let before = known.definition.as_ref().ok_or(Failed::Refused(CannotEmoji::NoSuchEmoji))?;
        let claim = match &changes.name {
            Some(name) if *name != before.name => self.claim_name(by, emoji, name).await?,
            _ => by.command,
        };
        self.execute(&stream(emoji), &by, |current: &Emoji| change(current, emoji, changes.clone(), claim))
            .await
    }

    /// Deletes an emoji. What people reacted with stays.
    pub async fn delete_emoji(&self, by: By, emoji: EmojiId) -> Result<Receipt, Failed<CannotEmoji>> {
        self.execute(&stream(emoji), &by, |current: &Emoji| delete(current, emoji)).await
    }

    /// One emoji, folded.
    pub async fn emoji(&self, emoji: EmojiId) -> Result<Arc<Emoji>, LogError> {
        self.load(&stream(emoji)).await
    }

    /// The emoji that has this name now.
    pub async fn emoji_named(&self, name: &str) -> Result<Option<(EmojiId, Definition)>, LogError> {
        let Some(Held { emoji, .. }) = self.load::<Name>(&self.emoji_name(name)).await?.held else {
            return Ok(None);
        };
        let definition = self.emoji(emoji).await?.definition.clone();
        Ok(definition.filter(|definition| definition.name == name).map(|definition| (emoji, definition)))
    }

    /// Claims a name for an emoji, which takes it afterwards.
    async fn claim_name(&self, by: By, emoji: EmojiId, name: &str) -> Result<CommandId, Failed<CannotEmoji>> {
        if !is_name(name) {
            return Err(Failed::Refused(CannotEmoji::InvalidName));
        }
        let (names, wanted) = (self.emoji_name(name), Held { emoji, claim: by.command });
        let held = self.load::<Name>(&names).await?.held;
        if let Some(held) = held.filter(|held| *held != wanted) {
            let decide = |current: &Emoji| let_go(current, name, held);
            self.execute(&stream(held.emoji), &by.step(STEP_LET_GO), decide).await?;
        }
        self.execute(&names, &by.step(STEP_CLAIM), |current: &Name| claim(current, held, name, wanted))
            .await?;
        Ok(wanted.claim)
    }

    fn emoji_name(&self, name: &str) -> domain::log::StreamId {
        name_stream(&self.keyring.hash("emoji", name))
    }
}
