//! `notes/polls/vote`, `notes/polls/recommendation`.

use domain::policy::Sight;
use domain::poll::CannotVote;
use projections::Wanted;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::param::{Limit, NoteId, Page};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::Look;
use crate::json::note::{Note, note};

/// Open polls of others that the caller hasn't answered yet.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    exclude_channels: bool,
}

impl Endpoint for Recommendation {
    const META: Meta = Meta::new("notes/polls/recommendation").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        let limit = Page::default().limited(self.limit).limit;
        let (in_channels, part) = (!self.exclude_channels, (limit, self.offset));
        let ids = projections::note::open_questions(&app.pool, me.id(), app.now(), in_channels, part).await?;
        let world = app.hydrate(Wanted::notes(ids.iter().copied()), Some(me.id())).await?;
        let look = Look::of(app);
        let seen = ids.iter().filter(|id| matches!(world.see(**id), Some(Sight::Seen(_))));
        Ok(seen.filter_map(|id| note(&look, &world, *id)).collect())
    }
}

/// Vote in a poll.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vote {
    note_id: NoteId,
    /// Index into the choices, from 0.
    choice: i64,
}

const NO_SUCH_NOTE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "ecafbd2e-c283-4d6d-aecb-1a0a33b75396");
const NO_POLL: ErrorDef =
    ErrorDef::new("NO_POLL", "The note does not attach a poll.", "5f979967-52d9-4314-a911-1c673727f92f");
const INVALID_CHOICE: ErrorDef =
    ErrorDef::new("INVALID_CHOICE", "Choice ID is invalid.", "e0cc9a04-f2e8-41e4-a5f1-4127293260cc");
const ALREADY_VOTED: ErrorDef =
    ErrorDef::new("ALREADY_VOTED", "You have already voted.", "0963fc77-efac-419b-9424-b391608dc6d8");
const ALREADY_EXPIRED: ErrorDef =
    ErrorDef::new("ALREADY_EXPIRED", "The poll is already expired.", "1022a357-b085-4054-9083-8f8de358337e");
const BLOCKED: ErrorDef = ErrorDef::new(
    "YOU_HAVE_BEEN_BLOCKED",
    "You cannot vote this poll because you have been blocked by this user.",
    "85a5377e-b1e9-4617-b0b9-5bea73331e49",
);

impl Endpoint for Vote {
    const META: Meta = Meta::new("notes/polls/vote").kind("write:votes").not_moved().errors(&[
        NO_SUCH_NOTE,
        NO_POLL,
        INVALID_CHOICE,
        ALREADY_VOTED,
        ALREADY_EXPIRED,
        BLOCKED,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        // Such a choice is in no poll; whether there is a poll at all is told first.
        let choice = u32::try_from(self.choice).unwrap_or(u32::MAX);
        let receipt = app.commands.vote(app.by(&me), me.id(), self.note_id.0, choice).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotVote> for ApiError {
    fn from(refusal: CannotVote) -> Self {
        match refusal {
            CannotVote::NoSuchNote => NO_SUCH_NOTE.into(),
            CannotVote::NoPoll => NO_POLL.into(),
            CannotVote::Blocked => BLOCKED.into(),
            CannotVote::InvalidChoice => INVALID_CHOICE.into(),
            CannotVote::AlreadyVoted => ALREADY_VOTED.into(),
            CannotVote::AlreadyExpired => ALREADY_EXPIRED.into(),
        }
    }
}
