//! Channels: making and changing them, and what people are to them.

use std::convert::Infallible;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::channel::{
    CannotChange, CannotMute, CannotUnmute, Changes, Channel, Created, NoSuchChannel, Standing, Wish, change,
    mute, stand, standing_stream, stream, unmute,
};
use domain::log::{By, LogError};
use domain::{ChannelId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Makes a channel; its id is new.
    pub async fn create_channel(&self, by: By, new: Created) -> Result<Receipt, Failed<Infallible>> {
        self.execute_first(&stream(new.id), &by, |current: &Channel| {
            Ok(if current.exists() { Vec::new() } else { vec![new.clone().into()] })
        })
        .await
    }

    /// Changes a channel of one's own, or any when one moderates.
    pub async fn change_channel(
        &self,
        by: By,
        channel: ChannelId,
        user: UserId,
        moderates: bool,
        changes: Changes,
    ) -> Result<Receipt, Failed<CannotChange>> {
        self.execute(&stream(channel), &by, |current: &Channel| {
            change(current, user, moderates, changes.clone())
        })
        .await
    }

    /// Follows a channel or likes it, or no more.
    pub async fn stand_to_channel(
        &self,
        by: By,
        user: UserId,
        channel: ChannelId,
        wish: Wish,
    ) -> Result<Receipt, Failed<NoSuchChannel>> {
        let facts = self.channel(channel).await?;
        self.execute(&standing_stream(channel, user), &by, |current: &Standing| {
            stand(current, &facts, user, wish)
        })
        .await
    }

    /// Mutes a channel.
    pub async fn mute_channel(
        &self,
        by: By,
        user: UserId,
        channel: ChannelId,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<Receipt, Failed<CannotMute>> {
        let facts = self.channel(channel).await?;
        self.execute(&standing_stream(channel, user), &by, |current: &Standing| {
            mute(current, &facts, user, expires_at, by.now)
        })
        .await
    }

    /// Mutes a channel no more.
    pub async fn unmute_channel(
        &self,
        by: By,
        user: UserId,
        channel: ChannelId,
    ) -> Result<Receipt, Failed<CannotUnmute>> {
        let facts = self.channel(channel).await?;
        self.execute(&standing_stream(channel, user), &by, |current: &Standing| {
            unmute(current, &facts, user, by.now)
        })
        .await
    }

    pub(crate) async fn channel(&self, channel: ChannelId) -> Result<Arc<Channel>, LogError> {
        self.load(&stream(channel)).await
    }
}
