//! The most praised notes of the last days: `notes/featured`, `users/featured-notes`.

use domain::policy::Place;
use projections::featured;
use schemars::JsonSchema;
use serde::Deserialize;

use super::channel::ChannelId;
use super::timeline::page_of;
use crate::api::param::{Limit, NoteId, Page, UserId};
use crate::api::{Anyone, ApiError, Endpoint, Meta};
use crate::app::App;
use crate::json::note::Note;

/// How long visitors may keep what is featured, in seconds.
const CACHE_SECONDS: u32 = 60;

/// Notes that most people react to and renote.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Everywhere {
    #[serde(default)]
    limit: Limit,
    until_id: Option<NoteId>,
    /// Only those in a channel; without it only those in none.
    channel_id: Option<ChannelId>,
}

impl Endpoint for Everywhere {
    const META: Meta = Meta::new("notes/featured").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        let (channel, now) = (self.channel_id.map(|id| id.0), app.now());
        let place = if channel.is_some() { Place::InChannel } else { Place::Anywhere };
        page_of(app, me.id(), place, before(self.until_id), self.limit, |page| async move {
            featured::notes(&app.pool, channel, now, &page).await
        })
        .await
    }
}

/// Notes of a person that most people react to and renote.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfUser {
    #[serde(default)]
    limit: Limit,
    until_id: Option<NoteId>,
    user_id: UserId,
}

impl Endpoint for OfUser {
    const META: Meta = Meta::new("users/featured-notes").cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        let (user, now) = (self.user_id.0, app.now());
        page_of(app, me.id(), Place::OfAuthor, before(self.until_id), self.limit, |page| async move {
            featured::notes_of_user(&app.pool, user, now, &page).await
        })
        .await
    }
}

fn before(until: Option<NoteId>) -> Page {
    Page { until: until.map(|id| id.0.0), ..Page::default() }
}
