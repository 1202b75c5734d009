//! Looking for things: `notes/search`, `users/search`, `users/search-by-username-and-host`.

use domain::policy::Viewer;
use projections::search::{self, NoteFilter};
use projections::user::Origin;
use schemars::JsonSchema;
use serde::Deserialize;

use super::timeline::{has, seen_page};
use super::user::{From, Person, is_own, people};
use crate::api::param::{AnyId, Given, Id, Limit, Page, UserId, yes};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta};
use crate::app::App;
use crate::json::note::Note;

/// Look for notes.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notes {
    /// Words that are all in a note; with none of them every note is found.
    query: String,
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    limit: Limit,
    /// Kept for clients: pages go by id.
    #[serde(default)]
    #[expect(dead_code, reason = "pages go by id")]
    offset: i64,
    /// Of this server: `.`.
    #[serde(default)]
    host: Given<String>,
    #[serde(default)]
    user_id: Option<UserId>,
    #[serde(default)]
    channel_id: Option<Id<AnyId>>,
}

const UNAVAILABLE: ErrorDef =
    ErrorDef::new("UNAVAILABLE", "Search of notes unavailable.", "0b44998d-77aa-4427-80d0-d2c9b8523011");

impl Endpoint for Notes {
    const META: Meta = Meta::new("notes/search").errors(&[UNAVAILABLE]);
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        if !has(app, &me, "canSearchNotes").await? {
            return Err(UNAVAILABLE.into());
        }
        if self.channel_id.is_some() {
            return Ok(Vec::new());
        }
        let viewer: Viewer = me.id();
        let host = self.host.0.filter(|host| !host.is_empty());
        let host = host.map(|host| if host == "." || is_own(app, &host) { String::new() } else { host });
        let filter = NoteFilter { query: self.query, author: self.user_id.map(|user| user.0), host };
        seen_page(app, viewer, self.page, self.limit, |page| {
            let filter = &filter;
            async move { search::notes(&app.pool, viewer, filter, &page).await }
        })
        .await
    }
}

/// Look for people by their names and what they say of themselves.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct People {
    query: String,
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    limit: Limit,
    #[serde(default = "combined")]
    origin: From,
    #[serde(default = "yes")]
    detail: bool,
}

fn combined() -> From {
    From::Combined
}

impl Endpoint for People {
    const META: Meta = Meta::new("users/search");
    type Caller = Anyone;
    type Reply = Vec<Person>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Person>, ApiError> {
        let limit = Page::default().limited(self.limit).limit;
        let origin = Origin::from(self.origin);
        let found = search::people(&app.pool, &self.query, origin, limit, self.offset).await?;
        people(app, &me, &found, self.detail).await
    }
}

/// Look for people whose names begin so, on servers whose names begin so.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ByName {
    username: Option<String>,
    /// `.` or the name of this server mean it.
    host: Option<String>,
    #[serde(default)]
    limit: Limit,
    #[serde(default = "yes")]
    detail: bool,
}

impl Endpoint for ByName {
    const META: Meta = Meta::new("users/search-by-username-and-host");
    type Caller = Anyone;
    type Reply = Vec<Person>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Person>, ApiError> {
        if self.username.is_none() && self.host.is_none() {
            let (param, reason) = ("#/allOf/0/anyOf/0/required", "must have required property 'username'");
            return Err(ApiError::invalid_param(param, reason));
        }
        let limit = Page::default().limited(self.limit).limit;
        let username = self.username.as_deref().filter(|name| !name.is_empty());
        let host = self.host.as_deref().filter(|host| !host.is_empty());
        let host = host.map(|host| if host == "." || is_own(app, host) { "" } else { host });
        if username.is_none() && host.is_none() {
            return Ok(Vec::new());
        }
        let found = search::people_by_name(&app.pool, me.id(), username, host, app.now(), limit).await?;
        people(app, &me, &found, self.detail).await
    }
}
