//! `flash/*`, `users/flashs`: plays.

use domain::ids;
use domain::work::{
    Changes, Content, Kind, MAX_PERMISSION_CHARS, MAX_PERMISSIONS, MAX_SCRIPT_CHARS, MAX_SUMMARY_CHARS,
    MAX_TITLE_CHARS, Play,
};
use projections::work;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LikeRefusals, Refusals, WorkId, change, create, delete, like, liked, one, show, unlike};
use crate::api::param::{Given, Id, Limit, Page, Text, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::work::{Flash, flash as present};

/// The longest words that are looked for, in characters.
const MAX_SEARCH_CHARS: usize = 100;

type Title = Text<0, MAX_TITLE_CHARS>;
type Summary = Text<0, MAX_SUMMARY_CHARS>;
type Script = Text<0, MAX_SCRIPT_CHARS>;
type Permission = Text<0, MAX_PERMISSION_CHARS>;
type Words = Text<1, MAX_SEARCH_CHARS>;

/// Who sees a play.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Visibility {
    #[default]
    Public,
    Private,
}

const SHOW_NO_SUCH_FLASH: ErrorDef =
    ErrorDef::new("NO_SUCH_FLASH", "No such flash.", "f0d34a1a-d29a-401d-90ba-1982122b5630");
const UPDATE_NO_SUCH_FLASH: ErrorDef =
    ErrorDef::new("NO_SUCH_FLASH", "No such flash.", "611e13d2-309e-419a-a5e4-e0422da39b02");
const UPDATE_ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "08e60c88-5948-478e-a132-02ec701d67b2");
const DELETE_NO_SUCH_FLASH: ErrorDef =
    ErrorDef::new("NO_SUCH_FLASH", "No such flash.", "de1623ef-bbb3-4289-a71e-14cfa83d9740");
const DELETE_ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "1036ad7b-9f92-4fff-89c3-0e50dc941704");
const LIKE_NO_SUCH_FLASH: ErrorDef =
    ErrorDef::new("NO_SUCH_FLASH", "No such flash.", "c07c1491-9161-4c5c-9d75-01906f911f73");
const YOUR_FLASH: ErrorDef =
    ErrorDef::new("YOUR_FLASH", "You cannot like your flash.", "3fd8a0e7-5955-4ba9-85bb-bf3e0c30e13b");
const ALREADY_LIKED: ErrorDef = ErrorDef::new(
    "ALREADY_LIKED",
    "The flash has already been liked.",
    "010065cf-ad43-40df-8067-abff9f4686e3",
);
const UNLIKE_NO_SUCH_FLASH: ErrorDef =
    ErrorDef::new("NO_SUCH_FLASH", "No such flash.", "afe8424a-a69e-432d-a5f2-2f0740c62410");
const NOT_LIKED: ErrorDef =
    ErrorDef::new("NOT_LIKED", "You have not liked that flash.", "755f25a7-9871-4f65-9f34-51eaad9ae0ac");

/// A play has neither a name nor files.
const OF_UPDATE: Refusals = Refusals {
    nothing: UPDATE_NO_SUCH_FLASH,
    foreign: UPDATE_ACCESS_DENIED,
    name_taken: UPDATE_NO_SUCH_FLASH,
    no_file: UPDATE_NO_SUCH_FLASH,
};
const OF_DELETE: Refusals =
    Refusals { nothing: DELETE_NO_SUCH_FLASH, foreign: DELETE_ACCESS_DENIED, ..OF_UPDATE };
const OF_LIKE: LikeRefusals =
    LikeRefusals { nothing: LIKE_NO_SUCH_FLASH, own: YOUR_FLASH, already: ALREADY_LIKED };

/// Make a play.
#[derive(Deserialize, JsonSchema)]
pub struct Create {
    title: Title,
    summary: Summary,
    script: Script,
    permissions: Vec<Permission>,
    #[serde(default)]
    visibility: Visibility,
}

impl Endpoint for Create {
    const META: Meta = Meta::new("flash/create")
        .kind("write:flash")
        .limit(20, per::HOUR)
        .not_moved()
        .errors(&[super::TOO_MANY_WORKS]);
    type Caller = SignedIn;
    type Reply = Flash;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Flash, ApiError> {
        let content = Content::Play(Play {
            title: self.title.0,
            summary: self.summary.0,
            script: self.script.0,
            permissions: permissions(self.permissions)?,
            private: self.visibility == Visibility::Private,
        });
        create(app, &me, &content, &OF_UPDATE, present).await
    }
}

/// Change a play; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    flash_id: WorkId,
    #[serde(default)]
    title: Given<Title>,
    #[serde(default)]
    summary: Given<Summary>,
    #[serde(default)]
    script: Given<Script>,
    #[serde(default)]
    permissions: Given<Vec<Permission>>,
    #[serde(default)]
    visibility: Given<Visibility>,
}

impl Endpoint for Update {
    const META: Meta = Meta::new("flash/update")
        .kind("write:flash")
        .limit(300, per::HOUR)
        .not_moved()
        .errors(&[UPDATE_NO_SUCH_FLASH, UPDATE_ACCESS_DENIED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let changes = Changes {
            title: self.title.0.map(|text| text.0),
            summary: self.summary.0.map(|text| Some(text.0)),
            script: self.script.0.map(|text| text.0),
            permissions: self.permissions.0.map(permissions).transpose()?,
            private: self.visibility.0.map(|visibility| visibility == Visibility::Private),
            ..Changes::default()
        };
        change(app, &me, (Kind::Play, self.flash_id.0), &changes, &OF_UPDATE).await
    }
}

fn permissions(asked: Vec<Permission>) -> Result<Vec<String>, ApiError> {
    if asked.len() > MAX_PERMISSIONS {
        let rule = format!("must NOT have more than {MAX_PERMISSIONS} items");
        return Err(ApiError::invalid_param("#/properties/permissions/maxItems", rule));
    }
    Ok(asked.into_iter().map(|kind| kind.0).collect())
}

/// Delete a play.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    flash_id: WorkId,
}

impl Endpoint for Delete {
    const META: Meta =
        Meta::new("flash/delete").kind("write:flash").errors(&[DELETE_NO_SUCH_FLASH, DELETE_ACCESS_DENIED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        delete(app, &me, (Kind::Play, self.flash_id.0), &OF_DELETE).await
    }
}

/// Show a play.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    flash_id: WorkId,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("flash/show").errors(&[SHOW_NO_SUCH_FLASH]);
    type Caller = Anyone;
    type Reply = Flash;

    async fn handle(self, app: &App, me: Anyone) -> Result<Flash, ApiError> {
        let shown = one(app, me.id(), (Kind::Play, self.flash_id.0), present).await?;
        Ok(shown.ok_or(SHOW_NO_SUCH_FLASH)?)
    }
}

/// Like a play.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Like {
    flash_id: WorkId,
}

impl Endpoint for Like {
    const META: Meta = Meta::new("flash/like").kind("write:flash-likes").not_moved().errors(&[
        LIKE_NO_SUCH_FLASH,
        YOUR_FLASH,
        ALREADY_LIKED,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        like(app, &me, (Kind::Play, self.flash_id.0), &OF_LIKE).await
    }
}

/// Take a like of a play back.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unlike {
    flash_id: WorkId,
}

impl Endpoint for Unlike {
    const META: Meta = Meta::new("flash/unlike")
        .kind("write:flash-likes")
        .not_moved()
        .errors(&[UNLIKE_NO_SUCH_FLASH, NOT_LIKED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        unlike(app, &me, (Kind::Play, self.flash_id.0), UNLIKE_NO_SUCH_FLASH, NOT_LIKED).await
    }
}

/// List the plays that are liked most.
#[derive(Deserialize, JsonSchema)]
pub struct Featured {
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    limit: Limit,
}

impl Endpoint for Featured {
    const META: Meta = Meta::new("flash/featured");
    type Caller = Anyone;
    type Reply = Vec<Flash>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Flash>, ApiError> {
        let limit = Page::default().limited(self.limit).limit;
        let rows = work::most_liked(&app.pool, me.id(), Kind::Play, limit, self.offset).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// Find plays by words in their title or summary.
#[derive(Deserialize, JsonSchema)]
pub struct Search {
    query: Words,
    #[serde(default)]
    limit: Limit<100, 5>,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for Search {
    const META: Meta = Meta::new("flash/search");
    type Caller = Anyone;
    type Reply = Vec<Flash>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Flash>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::public(&app.pool, me.id(), Kind::Play, Some(&self.query.0), &page).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List the plays of the caller.
#[derive(Deserialize, JsonSchema)]
pub struct Own {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for Own {
    const META: Meta = Meta::new("flash/my").kind("read:flash");
    type Caller = SignedIn;
    type Reply = Vec<Flash>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Flash>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::of_person(&app.pool, Some(me.id()), Kind::Play, me.id(), &page).await?;
        show(app, Some(me.id()), &rows, present).await
    }
}

/// List the plays of a person.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfUser {
    user_id: UserId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for OfUser {
    const META: Meta = Meta::new("users/flashs");
    type Caller = Anyone;
    type Reply = Vec<Flash>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Flash>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::of_person(&app.pool, me.id(), Kind::Play, self.user_id.0, &page).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List the plays that the caller likes: all, or those with words in their title or summary.
#[derive(Deserialize, JsonSchema)]
pub struct Liked {
    search: Option<Words>,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// A play that somebody likes; pages go by the id of the like.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct LikedFlash {
    id: Id<ids::WorkLikeId>,
    flash: Flash,
}

impl Endpoint for Liked {
    const META: Meta = Meta::new("flash/my-likes").kind("read:flash-likes");
    type Caller = SignedIn;
    type Reply = Vec<LikedFlash>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<LikedFlash>, ApiError> {
        let page = self.page.limited(self.limit);
        let words = self.search.as_ref().map(|words| words.0.as_str());
        let liked = liked(app, &me, Kind::Play, words, &page, present).await?;
        Ok(liked.map(|(id, flash)| LikedFlash { id, flash }).collect())
    }
}
