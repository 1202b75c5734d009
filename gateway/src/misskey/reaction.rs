//! `notes/reactions`, `notes/reactions/create`, `notes/reactions/delete`, `users/reactions`.

use domain::policy::Sight;
use domain::reaction::{CannotReact, CannotUnreact};
use projections::Wanted;
use projections::reaction::ReactionRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Id, Limit, NoteId, Page, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::note::{Note, note};
use crate::json::user::{UserLite, user_lite};
use crate::json::{Look, Time};

/// How long others may keep who reacted, in seconds.
const REACTIONS_CACHE_SECONDS: u32 = 60;

/// React to a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    note_id: NoteId,
    /// What is no known emoji becomes a heart.
    reaction: String,
}

const NO_SUCH_NOTE_TO_REACT_TO: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "033d0620-5bfe-4027-965d-980b0c85a3ea");
const ALREADY_REACTED: ErrorDef = ErrorDef::new(
    "ALREADY_REACTED",
    "You are already reacting to that note.",
    "71efcf98-86d6-4e2b-b2ad-9d032369366b",
);
const CANNOT_REACT_TO_RENOTE: ErrorDef = ErrorDef::new(
    "CANNOT_REACT_TO_RENOTE",
    "You cannot react to Renote.",
    "eaccdc08-ddef-43fe-908f-d108faad57f5",
);
const BLOCKED: ErrorDef = ErrorDef::new(
    "YOU_HAVE_BEEN_BLOCKED",
    "You cannot react this note because you have been blocked by this user.",
    "20ef5475-9f38-4e4c-bd33-de6d979498ec",
);
const NOTE_NOT_ACCESSIBLE: ErrorDef =
    ErrorDef::new("INTERNAL_ERROR", "Note not accessible for you.", "68e9d2d1-48bf-42c2-b90a-b20e09fd3d48");

impl Endpoint for Create {
    const META: Meta = Meta::new("notes/reactions/create").kind("write:reactions").not_moved().errors(&[
        NO_SUCH_NOTE_TO_REACT_TO,
        ALREADY_REACTED,
        CANNOT_REACT_TO_RENOTE,
        BLOCKED,
        NOTE_NOT_ACCESSIBLE,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let receipt = app.commands.react(app.by(&me), me.id(), self.note_id.0, &self.reaction).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotReact> for ApiError {
    fn from(refusal: CannotReact) -> Self {
        match refusal {
            CannotReact::NoSuchNote => NO_SUCH_NOTE_TO_REACT_TO.into(),
            CannotReact::ToRenote => CANNOT_REACT_TO_RENOTE.into(),
            CannotReact::AlreadyReacted => ALREADY_REACTED.into(),
            CannotReact::Blocked => BLOCKED.into(),
            CannotReact::NotVisible => ApiError::from_within(NOTE_NOT_ACCESSIBLE),
        }
    }
}

/// Take a reaction back.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    note_id: NoteId,
}

const NO_SUCH_NOTE_TO_UNREACT: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "764d9fce-f9f2-4a0e-92b1-6ceac9a7ad37");
const NOT_REACTED: ErrorDef = ErrorDef::new(
    "NOT_REACTED",
    "You are not reacting to that note.",
    "92f4426d-4196-4125-aa5b-02943e2ec8fc",
);

impl Endpoint for Delete {
    const META: Meta = Meta::new("notes/reactions/delete")
        .kind("write:reactions")
        .limit(60, per::HOUR)
        .interval(3 * per::SECOND)
        .not_moved()
        .errors(&[NO_SUCH_NOTE_TO_UNREACT, NOT_REACTED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let receipt = app.commands.unreact(app.by(&me), me.id(), self.note_id.0).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotUnreact> for ApiError {
    fn from(refusal: CannotUnreact) -> Self {
        match refusal {
            CannotUnreact::NoSuchNote => NO_SUCH_NOTE_TO_UNREACT.into(),
            CannotUnreact::NotReacted => NOT_REACTED.into(),
        }
    }
}

/// List who reacted to a note, and how.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    note_id: NoteId,
    /// Only this reaction.
    #[serde(rename = "type")]
    reaction: Option<String>,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// A reaction.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteReaction {
    id: Id<domain::ReactionId>,
    created_at: Time,
    user: UserLite,
    #[serde(rename = "type")]
    reaction: String,
}

impl Endpoint for List {
    const META: Meta = Meta::new("notes/reactions").get().cache(REACTIONS_CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Vec<NoteReaction>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<NoteReaction>, ApiError> {
        let note = self.note_id.0;
        let page = self.page.limited(self.limit);
        let rows = projections::reaction::of_note(&app.pool, note, self.reaction.as_deref(), &page).await?;
        let mut wanted = Wanted::notes([note]);
        wanted.users = rows.iter().map(|row| row.user).collect();
        let world = app.hydrate(wanted, me.id()).await?;
        if !matches!(world.see(note), Some(Sight::Seen(_))) {
            return Ok(Vec::new());
        }
        let look = Look::of(app);
        let present = |row: &ReactionRow| {
            Some(NoteReaction {
                id: Id(row.id),
                created_at: Time(row.id.time()),
                user: user_lite(&look, world.user(row.user)?),
                reaction: row.reaction.as_str().to_owned(),
            })
        };
        Ok(rows.iter().filter_map(present).collect())
    }
}

/// List how a person reacted.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfUser {
    user_id: UserId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// A reaction with its note.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteReactionWithNote {
    #[serde(flatten)]
    reaction: NoteReaction,
    note: Note,
}

const REACTIONS_NOT_PUBLIC: ErrorDef = ErrorDef::new(
    "REACTIONS_NOT_PUBLIC",
    "Reactions of the user is not public.",
    "673a7dd2-6924-1093-e0c0-e68456ceae5c",
);
const IS_REMOTE_USER: ErrorDef = ErrorDef::new(
    "IS_REMOTE_USER",
    "Currently unavailable to display reactions of remote users. See https://github.com/misskey-dev/misskey/issues/12964",
    "6b95fa98-8cf9-2350-e284-f0ffdb54a805",
);

impl Endpoint for OfUser {
    const META: Meta = Meta::new("users/reactions").errors(&[REACTIONS_NOT_PUBLIC, IS_REMOTE_USER]);
    type Caller = Anyone;
    type Reply = Vec<NoteReactionWithNote>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<NoteReactionWithNote>, ApiError> {
        let (user, viewer) = (self.user_id.0, me.id());
        let Some(row) = projections::user::by_ids(&app.pool, &[user]).await?.remove(&user) else {
            return Ok(Vec::new());
        };
        if row.host.is_some() {
            return Err(IS_REMOTE_USER.into());
        }
        if !row.profile.public_reactions && viewer != Some(user) {
            return Err(REACTIONS_NOT_PUBLIC.into());
        }
        let page = self.page.limited(self.limit);
        let rows = projections::reaction::of_user(&app.pool, user, viewer, &page).await?;
        let mut wanted = Wanted::notes(rows.iter().map(|(_, note)| *note));
        wanted.users = vec![user];
        let world = app.hydrate(wanted, viewer).await?;
        let look = Look::of(app);
        let present = |(row, id): &(ReactionRow, domain::NoteId)| {
            world.see(*id).and_then(Sight::seen)?;
            let reaction = NoteReaction {
                id: Id(row.id),
                created_at: Time(row.id.time()),
                user: user_lite(&look, world.user(row.user)?),
                reaction: row.reaction.as_str().to_owned(),
            };
            Some(NoteReactionWithNote { reaction, note: note(&look, &world, *id)? })
        };
        Ok(rows.iter().filter_map(present).collect())
    }
}
