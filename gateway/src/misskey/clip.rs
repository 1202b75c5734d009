//! Collections of notes: `clips/…`, `notes/clips`, `users/clips`.

use domain::clip::{
    About, CannotClip, CannotFavoriteClip, CannotUnclip, CannotUnfavoriteClip, Changes,
    MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, NoSuchClip, TooManyClips,
};
use domain::ids;
use projections::Wanted;
use projections::clip::ClipRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::note::is_there;
use super::timeline::seen_page;
use crate::api::param::{Given, Id, Limit, NoteId, Page, Text, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::note::Note;
use crate::json::user::{UserLite, user_lite};
use crate::json::{Look, Time};

/// The longest words that are looked for in a clip, in characters.
const MAX_SEARCH_CHARS: usize = 100;

type ClipId = Id<ids::ClipId>;
type Name = Text<1, MAX_NAME_CHARS>;
type Description = Text<0, MAX_DESCRIPTION_CHARS>;

/// A collection of notes.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Clip {
    id: ClipId,
    created_at: Time,
    /// When a note was last put in.
    last_clipped_at: Option<Time>,
    user_id: UserId,
    user: UserLite,
    name: String,
    description: Option<String>,
    is_public: bool,
    favorited_count: i64,
    /// By the viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_favorited: Option<bool>,
    /// For the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    notes_count: Option<i64>,
}

/// Clips with their owners.
async fn present(app: &App, viewer: Option<ids::UserId>, rows: Vec<ClipRow>) -> Result<Vec<Clip>, ApiError> {
    let world = app.hydrate(Wanted::users(rows.iter().map(|row| row.user)), viewer).await?;
    let look = Look::of(app);
    let show = |row: ClipRow| {
        let user = user_lite(&look, world.user(row.user)?);
        Some(Clip {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            last_clipped_at: row.clipped_at.map(Time),
            user_id: Id(row.user),
            user,
            name: row.about.name,
            description: row.about.description,
            is_public: row.about.public,
            favorited_count: row.favorites,
            is_favorited: viewer.map(|_| row.is_favorited),
            notes_count: (viewer == Some(row.user)).then_some(row.notes),
        })
    };
    Ok(rows.into_iter().filter_map(show).collect())
}

/// One clip that is there for the caller.
async fn one(app: &App, viewer: Option<ids::UserId>, id: ids::ClipId) -> Result<Option<Clip>, ApiError> {
    let Some(row) = projections::clip::by_id(&app.pool, viewer, id).await? else { return Ok(None) };
    Ok(present(app, viewer, vec![row]).await?.pop())
}

/// A clip that was just written is in the read tables, unless they are late.
fn written(clip: Option<Clip>) -> Result<Clip, ApiError> {
    clip.ok_or_else(|| ApiError::internal("a clip that was written is not in the read tables"))
}

/// Make a clip.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    name: Name,
    #[serde(default)]
    is_public: bool,
    description: Option<Description>,
}

const TOO_MANY_CLIPS: ErrorDef = ErrorDef::new(
    "TOO_MANY_CLIPS",
    "You cannot create clip any more.",
    "920f7c2d-6208-4b76-8082-e632020f5883",
);

impl Endpoint for Create {
    const META: Meta = Meta::new("clips/create").kind("write:account").not_moved().errors(&[TOO_MANY_CLIPS]);
    type Caller = SignedIn;
    type Reply = Clip;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Clip, ApiError> {
        let by = app.by(&me);
        let id = ids::ClipId(app.ids.at(by.now));
        let description = self.description.map(|text| text.0).filter(|text| !text.is_empty());
        let about = About { name: self.name.0, description, public: self.is_public };
        let limit = me.account.limit("clipLimit");
        let receipt = app.commands.create_clip(by, me.id(), id, about, limit).await?;
        app.shown(receipt).await;
        written(one(app, Some(me.id()), id).await?)
    }
}

impl From<TooManyClips> for ApiError {
    fn from(TooManyClips: TooManyClips) -> Self {
        TOO_MANY_CLIPS.into()
    }
}

/// Change what a clip says of itself; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    clip_id: ClipId,
    #[serde(default)]
    name: Given<Name>,
    #[serde(default)]
    is_public: Given<bool>,
    #[serde(default)]
    description: Given<Option<Description>>,
}

const NO_SUCH_CLIP_TO_UPDATE: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "b4d92d70-b216-46fa-9a3f-a8c811699257");

impl Endpoint for Update {
    const META: Meta = Meta::new("clips/update").kind("write:account").errors(&[NO_SUCH_CLIP_TO_UPDATE]);
    type Caller = SignedIn;
    type Reply = Clip;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Clip, ApiError> {
        let described = |text: Option<Description>| text.map(|text| text.0).filter(|text| !text.is_empty());
        let changes = Changes {
            name: self.name.0.map(|name| name.0),
            description: self.description.0.map(described),
            public: self.is_public.0,
        };
        let changed = app.commands.change_clip(app.by(&me), me.id(), self.clip_id.0, changes).await;
        let receipt = changed
            .map_err(|failed| failed.map_refusal(|NoSuchClip| ApiError::from(NO_SUCH_CLIP_TO_UPDATE)))?;
        app.shown(receipt).await;
        written(one(app, Some(me.id()), self.clip_id.0).await?)
    }
}

/// Delete a clip.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    clip_id: ClipId,
}

const NO_SUCH_CLIP_TO_DELETE: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "70ca08ba-6865-4630-b6fb-8494759aa754");

impl Endpoint for Delete {
    const META: Meta = Meta::new("clips/delete").kind("write:account").errors(&[NO_SUCH_CLIP_TO_DELETE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let deleted = app.commands.delete_clip(app.by(&me), me.id(), self.clip_id.0).await;
        let receipt = deleted
            .map_err(|failed| failed.map_refusal(|NoSuchClip| ApiError::from(NO_SUCH_CLIP_TO_DELETE)))?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// List the caller's clips.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for List {
    const META: Meta = Meta::new("clips/list").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<Clip>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Clip>, ApiError> {
        let (id, page) = (me.id(), self.page.limited(self.limit));
        let rows = projections::clip::of_user(&app.pool, Some(id), id, false, &page).await?;
        present(app, Some(id), rows).await
    }
}

/// Show a clip.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    clip_id: ClipId,
}

const NO_SUCH_CLIP_TO_SHOW: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "c3c5fe33-d62c-44d2-9ea5-d997703f5c20");

impl Endpoint for Show {
    const META: Meta = Meta::new("clips/show").kind("read:account").errors(&[NO_SUCH_CLIP_TO_SHOW]);
    type Caller = Anyone;
    type Reply = Clip;

    async fn handle(self, app: &App, me: Anyone) -> Result<Clip, ApiError> {
        one(app, me.id(), self.clip_id.0).await?.ok_or_else(|| NO_SUCH_CLIP_TO_SHOW.into())
    }
}

/// Put a note into a clip.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddNote {
    clip_id: ClipId,
    note_id: NoteId,
}

const NO_SUCH_CLIP_TO_ADD_TO: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "d6e76cc0-a1b5-4c7c-a287-73fa9c716dcf");
const NO_SUCH_NOTE_TO_ADD: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "fc8c0b49-c7a3-4664-a0a6-b418d386bb8b");
const ALREADY_CLIPPED: ErrorDef = ErrorDef::new(
    "ALREADY_CLIPPED",
    "The note has already been clipped.",
    "734806c4-542c-463a-9311-15c512803965",
);
const TOO_MANY_CLIP_NOTES: ErrorDef = ErrorDef::new(
    "TOO_MANY_CLIP_NOTES",
    "You cannot add notes to the clip any more.",
    "f0dba960-ff73-4615-8df4-d6ac5d9dc118",
);

impl Endpoint for AddNote {
    const META: Meta = Meta::new("clips/add-note")
        .kind("write:account")
        .limit(20, per::HOUR)
        .not_moved()
        .errors(&[NO_SUCH_CLIP_TO_ADD_TO, NO_SUCH_NOTE_TO_ADD, ALREADY_CLIPPED, TOO_MANY_CLIP_NOTES]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let limit = me.account.limit("noteEachClipsLimit");
        let (clip, note) = (self.clip_id.0, self.note_id.0);
        let receipt = app.commands.clip_note(app.by(&me), me.id(), clip, note, limit).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotClip> for ApiError {
    fn from(refusal: CannotClip) -> Self {
        match refusal {
            CannotClip::NoSuchClip => NO_SUCH_CLIP_TO_ADD_TO.into(),
            CannotClip::NoSuchNote => NO_SUCH_NOTE_TO_ADD.into(),
            CannotClip::AlreadyClipped => ALREADY_CLIPPED.into(),
            CannotClip::TooManyNotes => TOO_MANY_CLIP_NOTES.into(),
        }
    }
}

/// Take a note out of a clip.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoveNote {
    clip_id: ClipId,
    note_id: NoteId,
}

const NO_SUCH_CLIP_TO_REMOVE_FROM: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "b80525c6-97f7-49d7-a42d-ebccd49cfd52");
const NO_SUCH_NOTE_TO_REMOVE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "aff017de-190e-434b-893e-33a9ff5049d8");

impl Endpoint for RemoveNote {
    const META: Meta = Meta::new("clips/remove-note")
        .kind("write:account")
        .errors(&[NO_SUCH_CLIP_TO_REMOVE_FROM, NO_SUCH_NOTE_TO_REMOVE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (clip, note) = (self.clip_id.0, self.note_id.0);
        let receipt = app.commands.unclip_note(app.by(&me), me.id(), clip, note).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotUnclip> for ApiError {
    fn from(refusal: CannotUnclip) -> Self {
        match refusal {
            CannotUnclip::NoSuchClip => NO_SUCH_CLIP_TO_REMOVE_FROM.into(),
            CannotUnclip::NoSuchNote => NO_SUCH_NOTE_TO_REMOVE.into(),
        }
    }
}

/// List the notes of a clip.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notes {
    clip_id: ClipId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    /// Only those with these words.
    search: Option<Text<1, MAX_SEARCH_CHARS>>,
}

const NO_SUCH_CLIP_WITH_NOTES: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "1d7645e6-2b6d-4635-b0fe-fe22b0e72e00");

impl Endpoint for Notes {
    const META: Meta = Meta::new("clips/notes").kind("read:account").errors(&[NO_SUCH_CLIP_WITH_NOTES]);
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        let (viewer, clip) = (me.id(), self.clip_id.0);
        if projections::clip::by_id(&app.pool, viewer, clip).await?.is_none() {
            return Err(NO_SUCH_CLIP_WITH_NOTES.into());
        }
        let words = self.search.as_ref().map(|words| words.0.as_str());
        seen_page(app, viewer, self.page, self.limit, |page| async move {
            projections::clip::notes(&app.pool, clip, words, &page).await
        })
        .await
    }
}

/// Keep a clip.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Favorite {
    clip_id: ClipId,
}

const NO_SUCH_CLIP_TO_FAVORITE: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "4c2aaeae-80d8-4250-9606-26cb1fdb77a5");
const ALREADY_FAVORITED: ErrorDef = ErrorDef::new(
    "ALREADY_FAVORITED",
    "The clip has already been favorited.",
    "92658936-c625-4273-8326-2d790129256e",
);

impl Endpoint for Favorite {
    const META: Meta = Meta::new("clips/favorite")
        .kind("write:clip-favorite")
        .not_moved()
        .errors(&[NO_SUCH_CLIP_TO_FAVORITE, ALREADY_FAVORITED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let clip = self.clip_id.0;
        let owner = projections::clip::owner(&app.pool, clip).await?.ok_or(NO_SUCH_CLIP_TO_FAVORITE)?;
        let receipt = app.commands.favorite_clip(app.by(&me), me.id(), owner, clip).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotFavoriteClip> for ApiError {
    fn from(refusal: CannotFavoriteClip) -> Self {
        match refusal {
            CannotFavoriteClip::NoSuchClip => NO_SUCH_CLIP_TO_FAVORITE.into(),
            CannotFavoriteClip::AlreadyFavorited => ALREADY_FAVORITED.into(),
        }
    }
}

/// Let a clip go that was kept.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unfavorite {
    clip_id: ClipId,
}

const NO_SUCH_CLIP_TO_UNFAVORITE: ErrorDef =
    ErrorDef::new("NO_SUCH_CLIP", "No such clip.", "2603966e-b865-426c-94a7-af4a01241dc1");
const NOT_FAVORITED: ErrorDef = ErrorDef::new(
    "NOT_FAVORITED",
    "You have not favorited the clip.",
    "90c3a9e8-b321-4dae-bf57-2bf79bbcc187",
);

impl Endpoint for Unfavorite {
    const META: Meta = Meta::new("clips/unfavorite")
        .kind("write:clip-favorite")
        .errors(&[NO_SUCH_CLIP_TO_UNFAVORITE, NOT_FAVORITED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let clip = self.clip_id.0;
        let owner = projections::clip::owner(&app.pool, clip).await?.ok_or(NO_SUCH_CLIP_TO_UNFAVORITE)?;
        let receipt = app.commands.unfavorite_clip(app.by(&me), me.id(), owner, clip).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotUnfavoriteClip> for ApiError {
    fn from(refusal: CannotUnfavoriteClip) -> Self {
        match refusal {
            CannotUnfavoriteClip::NoSuchClip => NO_SUCH_CLIP_TO_UNFAVORITE.into(),
            CannotUnfavoriteClip::NotFavorited => NOT_FAVORITED.into(),
        }
    }
}

/// List the clips that the caller keeps.
#[derive(Deserialize, JsonSchema)]
pub struct MyFavorites {}

impl Endpoint for MyFavorites {
    const META: Meta = Meta::new("clips/my-favorites").kind("read:clip-favorite");
    type Caller = SignedIn;
    type Reply = Vec<Clip>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Clip>, ApiError> {
        let rows = projections::clip::favorites(&app.pool, me.id()).await?;
        present(app, Some(me.id()), rows).await
    }
}

/// List the public clips that have a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfNote {
    note_id: NoteId,
}

const NO_SUCH_NOTE_IN_CLIPS: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "47db1a1c-b0af-458d-8fb4-986e4efafe1e");

impl Endpoint for OfNote {
    const META: Meta = Meta::new("notes/clips").errors(&[NO_SUCH_NOTE_IN_CLIPS]);
    type Caller = Anyone;
    type Reply = Vec<Clip>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Clip>, ApiError> {
        let (note, viewer) = (self.note_id.0, me.id());
        if !is_there(app, note, viewer).await? {
            return Err(NO_SUCH_NOTE_IN_CLIPS.into());
        }
        let rows = projections::clip::with_note(&app.pool, viewer, note).await?;
        present(app, viewer, rows).await
    }
}

/// List the public clips of a person.
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
    const META: Meta = Meta::new("users/clips");
    type Caller = Anyone;
    type Reply = Vec<Clip>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Clip>, ApiError> {
        let (user, page) = (self.user_id.0, self.page.limited(self.limit));
        let rows = projections::clip::of_user(&app.pool, me.id(), user, true, &page).await?;
        present(app, me.id(), rows).await
    }
}
