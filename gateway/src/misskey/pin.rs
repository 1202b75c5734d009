//! What a profile shows first: `i/pin`, `i/unpin`, and the people whom the server shows first: `pinned-users`.

use domain::pin::{CannotPin, CannotUnpin};
use schemars::JsonSchema;
use serde::Deserialize;

use super::user::{Person, myself, named, people};
use crate::api::param::NoteId;
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::user::MeDetailed;

/// The most people whom the server shows first.
const MAX_PINNED_USERS: usize = 100;

/// Pin a note of one's own to the profile.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    note_id: NoteId,
}

const NO_SUCH_NOTE_TO_PIN: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "56734f8b-3928-431e-bf80-6ff87df40cb3");
const PIN_LIMIT_EXCEEDED: ErrorDef = ErrorDef::new(
    "PIN_LIMIT_EXCEEDED",
    "You can not pin notes any more.",
    "72dab508-c64d-498f-8740-a8eec1ba385a",
);
const ALREADY_PINNED: ErrorDef = ErrorDef::new(
    "ALREADY_PINNED",
    "That note has already been pinned.",
    "8b18c2b7-68fe-4edb-9892-c0cbaeb6c913",
);

impl Endpoint for Pin {
    const META: Meta = Meta::new("i/pin").kind("write:account").not_moved().errors(&[
        NO_SUCH_NOTE_TO_PIN,
        PIN_LIMIT_EXCEEDED,
        ALREADY_PINNED,
    ]);
    type Caller = SignedIn;
    type Reply = MeDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<MeDetailed, ApiError> {
        let limit = me.account.limit("pinLimit");
        let receipt = app.commands.pin(app.by(&me), me.id(), self.note_id.0, limit).await?;
        app.shown(receipt).await;
        myself(app, &me.account, me.app.is_none()).await
    }
}

impl From<CannotPin> for ApiError {
    fn from(refusal: CannotPin) -> Self {
        match refusal {
            CannotPin::NoSuchNote => NO_SUCH_NOTE_TO_PIN.into(),
            CannotPin::LimitExceeded => PIN_LIMIT_EXCEEDED.into(),
            CannotPin::AlreadyPinned => ALREADY_PINNED.into(),
        }
    }
}

/// Unpin a note of one's own.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unpin {
    note_id: NoteId,
}

const NO_SUCH_NOTE_TO_UNPIN: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "454170ce-9d63-4a43-9da1-ea10afe81e21");

impl Endpoint for Unpin {
    const META: Meta = Meta::new("i/unpin").kind("write:account").errors(&[NO_SUCH_NOTE_TO_UNPIN]);
    type Caller = SignedIn;
    type Reply = MeDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<MeDetailed, ApiError> {
        let receipt = app.commands.unpin(app.by(&me), me.id(), self.note_id.0).await?;
        app.shown(receipt).await;
        myself(app, &me.account, me.app.is_none()).await
    }
}

impl From<CannotUnpin> for ApiError {
    fn from(refusal: CannotUnpin) -> Self {
        match refusal {
            CannotUnpin::NoSuchNote => NO_SUCH_NOTE_TO_UNPIN.into(),
        }
    }
}

/// The people whom the server shows first, as its administrator named them.
#[derive(Deserialize, JsonSchema)]
pub struct PinnedUsers {}

impl Endpoint for PinnedUsers {
    const META: Meta = Meta::new("pinned-users");
    type Caller = Anyone;
    type Reply = Vec<Person>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Person>, ApiError> {
        let instance = projections::instance::load(&app.pool).await?;
        let names: Vec<&str> = instance.settings.list("pinnedUsers").take(MAX_PINNED_USERS).collect();
        let ids = named(app, &names).await?;
        people(app, &me, &ids, true).await
    }
}
