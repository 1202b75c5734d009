//! Advertisements: `admin/ad/create`, `admin/ad/update`, `admin/ad/delete`, `admin/ad/list`. Those that are to be
//! shown are in `meta`.

use chrono::{DateTime, Utc};
use commands::Failed;
use domain::ad::{CannotAdvertise, Changes, Definition, MAX_MEMO_CHARS, MAX_URL_CHARS, MAX_WORD_CHARS};
use domain::ids;
use projections::ad::{self, AdRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Given, Id, Limit, Page, Text};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, Moderator};
use crate::app::App;
use crate::json::Time;

/// The last instant that is kept, in milliseconds since 1970.
const MAX_MILLIS: i64 = 253_402_300_799_000;

type AdId = Id<ids::AdId>;

/// An advertisement.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ad {
    id: AdId,
    expires_at: Time,
    starts_at: Time,
    day_of_week: i32,
    is_sensitive: bool,
    url: String,
    image_url: String,
    priority: String,
    ratio: i32,
    place: String,
    memo: String,
}

fn present(row: AdRow) -> Ad {
    let AdRow { id, definition } = row;
    Ad {
        id: Id(id),
        expires_at: Time(definition.expires_at),
        starts_at: Time(definition.starts_at),
        day_of_week: definition.day_of_week,
        is_sensitive: definition.is_sensitive,
        url: definition.url,
        image_url: definition.image_url,
        priority: definition.priority,
        ratio: definition.ratio,
        place: definition.place,
        memo: definition.memo,
    }
}

/// Milliseconds since 1970; what is beyond any date that an id could have is the first or the last of them.
fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis.clamp(0, MAX_MILLIS)).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Show an advertisement.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    url: Text<1, MAX_URL_CHARS>,
    memo: Text<0, MAX_MEMO_CHARS>,
    place: Text<0, MAX_WORD_CHARS>,
    priority: Text<0, MAX_WORD_CHARS>,
    ratio: i32,
    /// Milliseconds since 1970.
    expires_at: i64,
    /// Milliseconds since 1970.
    starts_at: i64,
    image_url: Text<1, MAX_URL_CHARS>,
    /// A bit for each day from Sunday on; 0 for all.
    day_of_week: i32,
    #[serde(default)]
    is_sensitive: bool,
}

const NO_SUCH_AD_TO_UPDATE: ErrorDef =
    ErrorDef::new("NO_SUCH_AD", "No such ad.", "b7aa1727-1354-47bc-a182-3a9c3973d300");
const NO_SUCH_AD_TO_DELETE: ErrorDef =
    ErrorDef::new("NO_SUCH_AD", "No such ad.", "ccac9863-3a03-416e-b899-8a64041118b1");

/// Why an advertisement isn't as asked, as it is told.
fn told(failed: Failed<CannotAdvertise>, missing: ErrorDef) -> Failed<ApiError> {
    failed.map_refusal(|cannot| match cannot {
        CannotAdvertise::NoSuchAd => missing.into(),
        CannotAdvertise::TooLong => ApiError::invalid_param("#/properties/memo/maxLength", "is too long"),
    })
}

impl Endpoint for Create {
    const META: Meta = Meta::new("admin/ad/create").kind("write:admin:ad").errors(&[NO_SUCH_AD_TO_UPDATE]);
    type Caller = Moderator;
    type Reply = Ad;

    async fn handle(self, app: &App, me: Moderator) -> Result<Ad, ApiError> {
        let by = app.by(&me.0);
        let id = ids::AdId(app.ids.at(by.now));
        let definition = Definition {
            url: self.url.0,
            image_url: self.image_url.0,
            place: self.place.0,
            priority: self.priority.0,
            ratio: self.ratio,
            memo: self.memo.0,
            starts_at: instant(self.starts_at),
            expires_at: instant(self.expires_at),
            day_of_week: self.day_of_week,
            is_sensitive: self.is_sensitive,
        };
        let made = app.commands.create_ad(by, id, definition.clone()).await;
        app.shown(made.map_err(|failed| told(failed, NO_SUCH_AD_TO_UPDATE))?).await;
        Ok(present(AdRow { id, definition }))
    }
}

/// Change an advertisement; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    id: AdId,
    #[serde(default)]
    memo: Given<Text<0, MAX_MEMO_CHARS>>,
    #[serde(default)]
    url: Given<Text<1, MAX_URL_CHARS>>,
    #[serde(default)]
    image_url: Given<Text<1, MAX_URL_CHARS>>,
    #[serde(default)]
    place: Given<Text<0, MAX_WORD_CHARS>>,
    #[serde(default)]
    priority: Given<Text<0, MAX_WORD_CHARS>>,
    #[serde(default)]
    ratio: Given<i32>,
    #[serde(default)]
    expires_at: Given<i64>,
    #[serde(default)]
    starts_at: Given<i64>,
    #[serde(default)]
    day_of_week: Given<i32>,
    #[serde(default)]
    is_sensitive: Given<bool>,
}

impl Endpoint for Update {
    const META: Meta = Meta::new("admin/ad/update").kind("write:admin:ad").errors(&[NO_SUCH_AD_TO_UPDATE]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let changes = Changes {
            url: self.url.0.map(|url| url.0),
            image_url: self.image_url.0.map(|url| url.0),
            place: self.place.0.map(|place| place.0),
            priority: self.priority.0.map(|priority| priority.0),
            ratio: self.ratio.0,
            memo: self.memo.0.map(|memo| memo.0),
            starts_at: self.starts_at.0.map(instant),
            expires_at: self.expires_at.0.map(instant),
            day_of_week: self.day_of_week.0,
            is_sensitive: self.is_sensitive.0,
        };
        let changed = app.commands.change_ad(app.by(&me.0), self.id.0, changes).await;
        app.shown(changed.map_err(|failed| told(failed, NO_SUCH_AD_TO_UPDATE))?).await;
        Ok(())
    }
}

/// Show an advertisement no more.
#[derive(Deserialize, JsonSchema)]
pub struct Delete {
    id: AdId,
}

impl Endpoint for Delete {
    const META: Meta = Meta::new("admin/ad/delete").kind("write:admin:ad").errors(&[NO_SUCH_AD_TO_DELETE]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let deleted = app.commands.delete_ad(app.by(&me.0), self.id.0).await;
        app.shown(deleted.map_err(|failed| told(failed, NO_SUCH_AD_TO_DELETE))?).await;
        Ok(())
    }
}

/// List advertisements.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    /// Only those whose time it is, or isn't.
    publishing: Option<bool>,
}

impl Endpoint for List {
    const META: Meta = Meta::new("admin/ad/list").kind("read:admin:ad");
    type Caller = Moderator;
    type Reply = Vec<Ad>;

    async fn handle(self, app: &App, _: Moderator) -> Result<Vec<Ad>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = ad::list(&app.pool, self.publishing, app.now(), &page).await?;
        Ok(rows.into_iter().map(present).collect())
    }
}
