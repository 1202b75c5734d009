//! `gallery/*`, `i/gallery/*`, `users/gallery/posts`.

use chrono::TimeDelta;
use domain::ids;
use domain::work::{Changes, Content, Kind, MAX_FILES, MAX_SUMMARY_CHARS, MAX_TITLE_CHARS, Post};
use projections::work;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LikeRefusals, Refusals, WorkId, change, create, delete, like, liked, one, show, unlike};
use crate::api::param::{Given, Id, Limit, Page, Text, Unique, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::work::{GalleryPost, gallery_post as present};

/// Likes of so long a time count for what is featured.
const FEATURED_FOR: TimeDelta = TimeDelta::days(3);
/// Posts that are featured at once, and that are popular.
const MAX_FEATURED: u16 = 100;
const MAX_POPULAR: u16 = 10;

type Title = Text<1, MAX_TITLE_CHARS>;
type Description = Text<0, MAX_SUMMARY_CHARS>;
type Files = Unique<Id<ids::FileId>, 1, MAX_FILES>;

const NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "0c1f7a0e-7f0a-4d53-8b8e-3b4d1c7a9e52");
const SHOW_NO_SUCH_POST: ErrorDef =
    ErrorDef::new("NO_SUCH_POST", "No such post.", "1137bf14-c5b0-4604-85bb-5b5371b1cd45");
const UPDATE_NO_SUCH_POST: ErrorDef =
    ErrorDef::new("NO_SUCH_POST", "No such post.", "2d3c9b5e-6f0e-4d0e-9d8c-7e1a5f4b3c60");
const UPDATE_ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "8e7d6c5b-4a39-4281-9c70-1f2e3d4c5b6a");
const DELETE_NO_SUCH_POST: ErrorDef =
    ErrorDef::new("NO_SUCH_POST", "No such post.", "ae52f367-4bd7-4ecd-afc6-5672fff427f5");
const DELETE_ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "c86e09de-1c48-43ac-a435-1c7e42ed4496");
const LIKE_NO_SUCH_POST: ErrorDef =
    ErrorDef::new("NO_SUCH_POST", "No such post.", "56c06af3-1287-442f-9701-c93f7c4a62ff");
const YOUR_POST: ErrorDef =
    ErrorDef::new("YOUR_POST", "You cannot like your post.", "f78f1511-5ebc-4478-a888-1198d752da68");
const ALREADY_LIKED: ErrorDef = ErrorDef::new(
    "ALREADY_LIKED",
    "The post has already been liked.",
    "40e9ed56-a59c-473a-bf3f-f289c54fb5a7",
);
const UNLIKE_NO_SUCH_POST: ErrorDef =
    ErrorDef::new("NO_SUCH_POST", "No such post.", "c32e6dd0-b555-4413-925e-b3757d19ed84");
const NOT_LIKED: ErrorDef =
    ErrorDef::new("NOT_LIKED", "You have not liked that post.", "e3e8e06e-be37-41f7-a5b4-87a8250288f0");

/// A post has no name.
const OF_UPDATE: Refusals = Refusals {
    nothing: UPDATE_NO_SUCH_POST,
    foreign: UPDATE_ACCESS_DENIED,
    name_taken: UPDATE_NO_SUCH_POST,
    no_file: NO_SUCH_FILE,
};
const OF_DELETE: Refusals =
    Refusals { nothing: DELETE_NO_SUCH_POST, foreign: DELETE_ACCESS_DENIED, ..OF_UPDATE };
const OF_LIKE: LikeRefusals =
    LikeRefusals { nothing: LIKE_NO_SUCH_POST, own: YOUR_POST, already: ALREADY_LIKED };

/// Show pictures in the gallery.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    title: Title,
    description: Option<Description>,
    file_ids: Files,
    #[serde(default)]
    is_sensitive: bool,
}

impl Endpoint for Create {
    const META: Meta = Meta::new("gallery/posts/create")
        .kind("write:gallery")
        .limit(20, per::HOUR)
        .not_moved()
        .errors(&[super::TOO_MANY_WORKS, NO_SUCH_FILE]);
    type Caller = SignedIn;
    type Reply = GalleryPost;

    async fn handle(self, app: &App, me: SignedIn) -> Result<GalleryPost, ApiError> {
        let content = Content::Post(Post {
            title: self.title.0,
            description: self.description.map(|text| text.0),
            files: self.file_ids.0.into_iter().map(|file| file.0).collect(),
            sensitive: self.is_sensitive,
        });
        create(app, &me, &content, &OF_UPDATE, present).await
    }
}

/// Change a post; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    post_id: WorkId,
    #[serde(default)]
    title: Given<Title>,
    #[serde(default)]
    description: Given<Option<Description>>,
    #[serde(default)]
    file_ids: Given<Files>,
    #[serde(default)]
    is_sensitive: Given<bool>,
}

impl Endpoint for Update {
    const META: Meta = Meta::new("gallery/posts/update")
        .kind("write:gallery")
        .limit(300, per::HOUR)
        .not_moved()
        .errors(&[UPDATE_NO_SUCH_POST, UPDATE_ACCESS_DENIED, NO_SUCH_FILE]);
    type Caller = SignedIn;
    type Reply = GalleryPost;

    async fn handle(self, app: &App, me: SignedIn) -> Result<GalleryPost, ApiError> {
        let changes = Changes {
            title: self.title.0.map(|text| text.0),
            description: self.description.0.map(|text| text.map(|text| text.0)),
            files: self.file_ids.0.map(|files| files.0.into_iter().map(|file| file.0).collect()),
            sensitive: self.is_sensitive.0,
            ..Changes::default()
        };
        let post = (Kind::Post, self.post_id.0);
        change(app, &me, post, &changes, &OF_UPDATE).await?;
        Ok(one(app, Some(me.id()), post, present).await?.ok_or(UPDATE_NO_SUCH_POST)?)
    }
}

/// Delete a post.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    post_id: WorkId,
}

impl Endpoint for Delete {
    const META: Meta = Meta::new("gallery/posts/delete")
        .kind("write:gallery")
        .errors(&[DELETE_NO_SUCH_POST, DELETE_ACCESS_DENIED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        delete(app, &me, (Kind::Post, self.post_id.0), &OF_DELETE).await
    }
}

/// Show a post.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    post_id: WorkId,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("gallery/posts/show").errors(&[SHOW_NO_SUCH_POST]);
    type Caller = Anyone;
    type Reply = GalleryPost;

    async fn handle(self, app: &App, me: Anyone) -> Result<GalleryPost, ApiError> {
        let shown = one(app, me.id(), (Kind::Post, self.post_id.0), present).await?;
        Ok(shown.ok_or(SHOW_NO_SUCH_POST)?)
    }
}

/// Like a post.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Like {
    post_id: WorkId,
}

impl Endpoint for Like {
    const META: Meta = Meta::new("gallery/posts/like").kind("write:gallery-likes").not_moved().errors(&[
        LIKE_NO_SUCH_POST,
        YOUR_POST,
        ALREADY_LIKED,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        like(app, &me, (Kind::Post, self.post_id.0), &OF_LIKE).await
    }
}

/// Take a like of a post back.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unlike {
    post_id: WorkId,
}

impl Endpoint for Unlike {
    const META: Meta = Meta::new("gallery/posts/unlike")
        .kind("write:gallery-likes")
        .not_moved()
        .errors(&[UNLIKE_NO_SUCH_POST, NOT_LIKED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        unlike(app, &me, (Kind::Post, self.post_id.0), UNLIKE_NO_SUCH_POST, NOT_LIKED).await
    }
}

/// List all posts.
#[derive(Deserialize, JsonSchema)]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for List {
    const META: Meta = Meta::new("gallery/posts");
    type Caller = Anyone;
    type Reply = Vec<GalleryPost>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<GalleryPost>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::public(&app.pool, me.id(), Kind::Post, None, &page).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List posts that are liked these days.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Featured {
    #[serde(default)]
    limit: Limit,
    until_id: Option<WorkId>,
}

impl Endpoint for Featured {
    const META: Meta = Meta::new("gallery/featured");
    type Caller = Anyone;
    type Reply = Vec<GalleryPost>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<GalleryPost>, ApiError> {
        let until = self.until_id.map(|until| until.0.0);
        let page = projections::Page { until, ..Page::default().limited(self.limit) };
        let since = app.now() - FEATURED_FOR;
        let rows = work::lately_liked(&app.pool, me.id(), Kind::Post, since, MAX_FEATURED, &page).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List the posts that are liked most.
#[derive(Deserialize, JsonSchema)]
pub struct Popular {}

impl Endpoint for Popular {
    const META: Meta = Meta::new("gallery/popular");
    type Caller = Anyone;
    type Reply = Vec<GalleryPost>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<GalleryPost>, ApiError> {
        let rows = work::most_liked(&app.pool, me.id(), Kind::Post, MAX_POPULAR, 0).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List the posts of the caller.
#[derive(Deserialize, JsonSchema)]
pub struct Own {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for Own {
    const META: Meta = Meta::new("i/gallery/posts").kind("read:gallery");
    type Caller = SignedIn;
    type Reply = Vec<GalleryPost>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<GalleryPost>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::of_person(&app.pool, Some(me.id()), Kind::Post, me.id(), &page).await?;
        show(app, Some(me.id()), &rows, present).await
    }
}

/// List the posts of a person.
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
    const META: Meta = Meta::new("users/gallery/posts");
    type Caller = Anyone;
    type Reply = Vec<GalleryPost>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<GalleryPost>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::of_person(&app.pool, me.id(), Kind::Post, self.user_id.0, &page).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List the posts that the caller likes.
#[derive(Deserialize, JsonSchema)]
pub struct Liked {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// A post that somebody likes; pages go by the id of the like.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct LikedPost {
    id: Id<ids::WorkLikeId>,
    post: GalleryPost,
}

impl Endpoint for Liked {
    const META: Meta = Meta::new("i/gallery/likes").kind("read:gallery-likes");
    type Caller = SignedIn;
    type Reply = Vec<LikedPost>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<LikedPost>, ApiError> {
        let page = self.page.limited(self.limit);
        let liked = liked(app, &me, Kind::Post, None, &page, present).await?;
        Ok(liked.map(|(id, post)| LikedPost { id, post }).collect())
    }
}
