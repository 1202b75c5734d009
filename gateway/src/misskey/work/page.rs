//! `pages/*`, `i/pages`, `i/page-likes`, `users/pages`.

use domain::ids;
use domain::work::{
    self as domain_work, Changes, Content, Kind, MAX_PAGE_BYTES, MAX_SCRIPT_CHARS, MAX_SUMMARY_CHARS,
    MAX_TITLE_CHARS,
};
use projections::work;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{LikeRefusals, Refusals, WorkId, change, create, delete, like, liked, one, show, unlike};
use crate::api::param::{Given, Id, Limit, Page as Paging, Text, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::work::{Page, page as present};

/// Pages that are featured.
const MAX_FEATURED: u16 = 10;

type Title = Text<0, MAX_TITLE_CHARS>;
type Summary = Text<0, MAX_SUMMARY_CHARS>;
type Script = Text<0, MAX_SCRIPT_CHARS>;
type Blocks = Vec<Map<String, Value>>;

/// By which a page is found among those of its owner.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Name(#[schemars(regex(pattern = r"^[a-zA-Z0-9_-]+$"), length(min = 1, max = 256))] String);

/// Who sees a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Visibility {
    #[default]
    Public,
    Private,
}

/// The letters of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Font {
    Serif,
    #[default]
    SansSerif,
}

impl From<Font> for domain_work::Font {
    fn from(font: Font) -> Self {
        match font {
            Font::Serif => domain_work::Font::Serif,
            Font::SansSerif => domain_work::Font::SansSerif,
        }
    }
}

const CREATE_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "b7b97489-0f66-4b12-a5ff-b21bd63f6e1c");
const CREATE_NAME_ALREADY_EXISTS: ErrorDef = ErrorDef::new(
    "NAME_ALREADY_EXISTS",
    "Specified name already exists.",
    "4650348e-301c-499a-83c9-6aa988c66bc1",
);
const SHOW_NO_SUCH_PAGE: ErrorDef =
    ErrorDef::new("NO_SUCH_PAGE", "No such page.", "222120c0-3ead-4528-811b-b96f233388d7");
const UPDATE_NO_SUCH_PAGE: ErrorDef =
    ErrorDef::new("NO_SUCH_PAGE", "No such page.", "21149b9e-3616-4778-9592-c4ce89f5a864");
const UPDATE_ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "3c15cd52-3b4b-4274-967d-6456fc4f792b");
const UPDATE_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "cfc23c7c-3887-490e-af30-0ed576703c82");
const UPDATE_NAME_ALREADY_EXISTS: ErrorDef = ErrorDef::new(
    "NAME_ALREADY_EXISTS",
    "Specified name already exists.",
    "2298a392-d4a1-44c5-9ebb-ac1aeaa5a9ab",
);
const DELETE_NO_SUCH_PAGE: ErrorDef =
    ErrorDef::new("NO_SUCH_PAGE", "No such page.", "eb0c6e1d-d519-4764-9486-52a7e1c6392a");
const DELETE_ACCESS_DENIED: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "8b741b3e-2c22-44b3-a15f-29949aa1601e");
const LIKE_NO_SUCH_PAGE: ErrorDef =
    ErrorDef::new("NO_SUCH_PAGE", "No such page.", "cc98a8a2-0dc3-4123-b198-62c71df18ed3");
const YOUR_PAGE: ErrorDef =
    ErrorDef::new("YOUR_PAGE", "You cannot like your page.", "28800466-e6db-40f2-8fae-bf9e82aa92b8");
const ALREADY_LIKED: ErrorDef = ErrorDef::new(
    "ALREADY_LIKED",
    "The page has already been liked.",
    "d4c1edbe-7da2-4eae-8714-1acfd2d63941",
);
const UNLIKE_NO_SUCH_PAGE: ErrorDef =
    ErrorDef::new("NO_SUCH_PAGE", "No such page.", "a0d41e20-1993-40bd-890e-f6e560ae648e");
const NOT_LIKED: ErrorDef =
    ErrorDef::new("NOT_LIKED", "You have not liked that page.", "f5e586b0-ce93-4050-b0e3-7f31af5259ee");

const OF_UPDATE: Refusals = Refusals {
    nothing: UPDATE_NO_SUCH_PAGE,
    foreign: UPDATE_ACCESS_DENIED,
    name_taken: UPDATE_NAME_ALREADY_EXISTS,
    no_file: UPDATE_NO_SUCH_FILE,
};
const OF_CREATE: Refusals =
    Refusals { name_taken: CREATE_NAME_ALREADY_EXISTS, no_file: CREATE_NO_SUCH_FILE, ..OF_UPDATE };
const OF_DELETE: Refusals =
    Refusals { nothing: DELETE_NO_SUCH_PAGE, foreign: DELETE_ACCESS_DENIED, ..OF_UPDATE };
const OF_LIKE: LikeRefusals =
    LikeRefusals { nothing: LIKE_NO_SUCH_PAGE, own: YOUR_PAGE, already: ALREADY_LIKED };

/// Make a page.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    title: Title,
    name: Name,
    summary: Option<Summary>,
    content: Blocks,
    variables: Blocks,
    script: Script,
    eye_catching_image_id: Option<Id<ids::FileId>>,
    #[serde(default)]
    font: Font,
    #[serde(default)]
    align_center: bool,
    #[serde(default)]
    hide_title_when_pinned: bool,
    #[serde(default)]
    visibility: Visibility,
}

impl Endpoint for Create {
    const META: Meta = Meta::new("pages/create")
        .kind("write:pages")
        .limit(10, per::HOUR)
        .not_moved()
        .errors(&[super::TOO_MANY_WORKS, CREATE_NO_SUCH_FILE, CREATE_NAME_ALREADY_EXISTS]);
    type Caller = SignedIn;
    type Reply = Page;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Page, ApiError> {
        let content = Content::Page(domain_work::Page {
            title: self.title.0,
            name: self.name.0,
            summary: self.summary.map(|text| text.0),
            content: blocks(self.content, "content")?,
            variables: blocks(self.variables, "variables")?,
            script: self.script.0,
            image: self.eye_catching_image_id.map(|file| file.0),
            font: self.font.into(),
            centered: self.align_center,
            hides_title: self.hide_title_when_pinned,
            private: self.visibility == Visibility::Private,
        });
        create(app, &me, &content, &OF_CREATE, present).await
    }
}

/// What a page says, if it isn't too much.
fn blocks(blocks: Blocks, param: &str) -> Result<Value, ApiError> {
    let value = Value::Array(blocks.into_iter().map(Value::Object).collect());
    let size = serde_json::to_vec(&value).map_err(ApiError::internal)?.len();
    if size > MAX_PAGE_BYTES {
        return Err(ApiError::invalid_param(format!("#/properties/{param}"), "is too large"));
    }
    Ok(value)
}

/// Change a page; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    page_id: WorkId,
    #[serde(default)]
    title: Given<Title>,
    #[serde(default)]
    name: Given<Name>,
    #[serde(default)]
    summary: Given<Option<Summary>>,
    #[serde(default)]
    content: Given<Blocks>,
    #[serde(default)]
    variables: Given<Blocks>,
    #[serde(default)]
    script: Given<Script>,
    #[serde(default)]
    eye_catching_image_id: Given<Option<Id<ids::FileId>>>,
    #[serde(default)]
    font: Given<Font>,
    #[serde(default)]
    align_center: Given<bool>,
    #[serde(default)]
    hide_title_when_pinned: Given<bool>,
    #[serde(default)]
    visibility: Given<Visibility>,
}

impl Endpoint for Update {
    const META: Meta =
        Meta::new("pages/update").kind("write:pages").limit(300, per::HOUR).not_moved().errors(&[
            UPDATE_NO_SUCH_PAGE,
            UPDATE_ACCESS_DENIED,
            UPDATE_NO_SUCH_FILE,
            UPDATE_NAME_ALREADY_EXISTS,
        ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let changes = Changes {
            title: self.title.0.map(|text| text.0),
            name: self.name.0.map(|name| name.0),
            summary: self.summary.0.map(|text| text.map(|text| text.0)),
            content: self.content.0.map(|content| blocks(content, "content")).transpose()?,
            variables: self.variables.0.map(|variables| blocks(variables, "variables")).transpose()?,
            script: self.script.0.map(|text| text.0),
            image: self.eye_catching_image_id.0.map(|file| file.map(|file| file.0)),
            font: self.font.0.map(domain_work::Font::from),
            centered: self.align_center.0,
            hides_title: self.hide_title_when_pinned.0,
            private: self.visibility.0.map(|visibility| visibility == Visibility::Private),
            ..Changes::default()
        };
        change(app, &me, (Kind::Page, self.page_id.0), &changes, &OF_UPDATE).await
    }
}

/// Delete a page.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    page_id: WorkId,
}

impl Endpoint for Delete {
    const META: Meta =
        Meta::new("pages/delete").kind("write:pages").errors(&[DELETE_NO_SUCH_PAGE, DELETE_ACCESS_DENIED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        delete(app, &me, (Kind::Page, self.page_id.0), &OF_DELETE).await
    }
}

/// Show a page by its id, or by its name and that of its owner.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    page_id: Option<WorkId>,
    name: Option<String>,
    username: Option<String>,
}

impl Endpoint for Show {
    const META: Meta = Meta::new("pages/show").errors(&[SHOW_NO_SUCH_PAGE]);
    type Caller = Anyone;
    type Reply = Page;

    async fn handle(self, app: &App, me: Anyone) -> Result<Page, ApiError> {
        let shown = match (self.page_id, self.name.zip(self.username)) {
            (Some(id), _) => one(app, me.id(), (Kind::Page, id.0), present).await?,
            (None, Some((name, username))) => match app.core.accounts.named(&username).await? {
                Some(owner) => {
                    let row = work::by_name(&app.pool, me.id(), owner.id, &name).await?;
                    show(app, me.id(), row.as_slice(), present).await?.pop()
                }
                None => None,
            },
            (None, None) => {
                let missing = "must have required property 'pageId'";
                return Err(ApiError::invalid_param("#/anyOf/0/required", missing));
            }
        };
        Ok(shown.ok_or(SHOW_NO_SUCH_PAGE)?)
    }
}

/// Like a page.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Like {
    page_id: WorkId,
}

impl Endpoint for Like {
    const META: Meta = Meta::new("pages/like").kind("write:page-likes").not_moved().errors(&[
        LIKE_NO_SUCH_PAGE,
        YOUR_PAGE,
        ALREADY_LIKED,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        like(app, &me, (Kind::Page, self.page_id.0), &OF_LIKE).await
    }
}

/// Take a like of a page back.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unlike {
    page_id: WorkId,
}

impl Endpoint for Unlike {
    const META: Meta = Meta::new("pages/unlike")
        .kind("write:page-likes")
        .not_moved()
        .errors(&[UNLIKE_NO_SUCH_PAGE, NOT_LIKED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        unlike(app, &me, (Kind::Page, self.page_id.0), UNLIKE_NO_SUCH_PAGE, NOT_LIKED).await
    }
}

/// List the pages that are liked most.
#[derive(Deserialize, JsonSchema)]
pub struct Featured {}

impl Endpoint for Featured {
    const META: Meta = Meta::new("pages/featured");
    type Caller = Anyone;
    type Reply = Vec<Page>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Page>, ApiError> {
        let rows = work::most_liked(&app.pool, me.id(), Kind::Page, MAX_FEATURED, 0).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List the pages of the caller.
#[derive(Deserialize, JsonSchema)]
pub struct Own {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Paging,
}

impl Endpoint for Own {
    const META: Meta = Meta::new("i/pages").kind("read:pages");
    type Caller = SignedIn;
    type Reply = Vec<Page>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Page>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::of_person(&app.pool, Some(me.id()), Kind::Page, me.id(), &page).await?;
        show(app, Some(me.id()), &rows, present).await
    }
}

/// List the pages of a person.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfUser {
    user_id: UserId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Paging,
}

impl Endpoint for OfUser {
    const META: Meta = Meta::new("users/pages");
    type Caller = Anyone;
    type Reply = Vec<Page>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Page>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = work::of_person(&app.pool, me.id(), Kind::Page, self.user_id.0, &page).await?;
        show(app, me.id(), &rows, present).await
    }
}

/// List the pages that the caller likes.
#[derive(Deserialize, JsonSchema)]
pub struct Liked {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Paging,
}

/// A page that somebody likes; pages go by the id of the like.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct LikedPage {
    id: Id<ids::WorkLikeId>,
    page: Page,
}

impl Endpoint for Liked {
    const META: Meta = Meta::new("i/page-likes").kind("read:page-likes");
    type Caller = SignedIn;
    type Reply = Vec<LikedPage>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<LikedPage>, ApiError> {
        let page = self.page.limited(self.limit);
        let liked = liked(app, &me, Kind::Page, None, &page, present).await?;
        Ok(liked.map(|(id, page)| LikedPage { id, page }).collect())
    }
}
