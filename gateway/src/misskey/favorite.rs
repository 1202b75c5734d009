//! Notes that people keep for themselves: `notes/favorites/create`, `notes/favorites/delete`, `i/favorites`.

use domain::FavoriteId;
use domain::favorite::{CannotFavorite, CannotUnfavorite};
use projections::Wanted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Id, Limit, NoteId, Page};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::note::{Note, note};
use crate::json::{Look, Time};

/// Keep a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    note_id: NoteId,
}

const NO_SUCH_NOTE_TO_FAVORITE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "6dd26674-e060-4816-909a-45ba3f4da458");
const ALREADY_FAVORITED: ErrorDef = ErrorDef::new(
    "ALREADY_FAVORITED",
    "The note has already been marked as a favorite.",
    "a402c12b-34dd-41d2-97d8-4d2ffd96a1a6",
);

impl Endpoint for Create {
    const META: Meta = Meta::new("notes/favorites/create")
        .kind("write:favorites")
        .limit(20, per::HOUR)
        .not_moved()
        .errors(&[NO_SUCH_NOTE_TO_FAVORITE, ALREADY_FAVORITED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let receipt = app.commands.favorite(app.by(&me), me.id(), self.note_id.0).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotFavorite> for ApiError {
    fn from(refusal: CannotFavorite) -> Self {
        match refusal {
            CannotFavorite::NoSuchNote => NO_SUCH_NOTE_TO_FAVORITE.into(),
            CannotFavorite::AlreadyFavorited => ALREADY_FAVORITED.into(),
        }
    }
}

/// Let a note go that was kept.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    note_id: NoteId,
}

const NO_SUCH_NOTE_TO_UNFAVORITE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "80848a2c-398f-4343-baa9-df1d57696c56");
const NOT_FAVORITED: ErrorDef = ErrorDef::new(
    "NOT_FAVORITED",
    "You have not marked that note a favorite.",
    "b625fc69-635e-45e9-86f4-dbefbef35af5",
);

impl Endpoint for Delete {
    const META: Meta = Meta::new("notes/favorites/delete")
        .kind("write:favorites")
        .errors(&[NO_SUCH_NOTE_TO_UNFAVORITE, NOT_FAVORITED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let receipt = app.commands.unfavorite(app.by(&me), me.id(), self.note_id.0).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotUnfavorite> for ApiError {
    fn from(refusal: CannotUnfavorite) -> Self {
        match refusal {
            CannotUnfavorite::NoSuchNote => NO_SUCH_NOTE_TO_UNFAVORITE.into(),
            CannotUnfavorite::NotFavorited => NOT_FAVORITED.into(),
        }
    }
}

/// List what the caller keeps.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// A note that is kept.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteFavorite {
    id: Id<FavoriteId>,
    created_at: Time,
    note_id: NoteId,
    note: Note,
}

impl Endpoint for List {
    const META: Meta = Meta::new("i/favorites").kind("read:favorites");
    type Caller = SignedIn;
    type Reply = Vec<NoteFavorite>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<NoteFavorite>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = projections::favorite::of_user(&app.pool, me.id(), &page).await?;
        let wanted = Wanted::notes(rows.iter().map(|(_, note)| *note));
        let world = app.hydrate(wanted, Some(me.id())).await?;
        let look = Look::of(app);
        let present = |(id, kept): &(FavoriteId, domain::NoteId)| {
            Some(NoteFavorite {
                id: Id(*id),
                created_at: Time(id.time()),
                note_id: Id(*kept),
                note: note(&look, &world, *kept)?,
            })
        };
        Ok(rows.iter().filter_map(present).collect())
    }
}
