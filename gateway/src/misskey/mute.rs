//! Muting: of people (`mute/*`), of their renotes (`renote-mute/*`) and of threads (`notes/thread-muting/*`).

use chrono::DateTime;
use commands::{Failed, Receipt};
use domain::mute::{CannotMute, NoThread, NotMuting};
use domain::{MuteId, RenoteMuteId};
use projections::mute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::user::with_people;
use crate::api::param::{Id, Limit, NoteId, Page, UserId};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::Time;
use crate::json::user::UserDetailedNotMe;

/// Whom it is about.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Whom {
    user_id: UserId,
}

/// Which page of a list.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
struct Which {
    #[serde(default)]
    limit: Limit<100, 30>,
    #[serde(flatten)]
    page: Page,
}

/// Mute somebody, perhaps for a time.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    user_id: UserId,
    /// Milliseconds since 1970; for ever when it isn't said.
    expires_at: Option<i64>,
}

/// Of oneself, of nobody, of somebody who is muted already.
const CREATE: [ErrorDef; 3] = [
    ErrorDef::new("MUTEE_IS_YOURSELF", "Mutee is yourself.", "a4619cb2-5f23-484b-9301-94c903074e10"),
    ErrorDef::new("NO_SUCH_USER", "No such user.", "6fef56f3-e765-4957-88e5-c6f65329b8a5"),
    ErrorDef::new(
        "ALREADY_MUTING",
        "You are already muting that user.",
        "7e7359cb-160c-4956-b08f-4d1c653cd007",
    ),
];

impl Endpoint for Create {
    const META: Meta =
        Meta::new("mute/create").kind("write:mutes").limit(20, per::HOUR).not_moved().errors(&CREATE);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        // What is beyond any date there is never comes; what is before 1970 is over all the same.
        let expires_at = self.expires_at.and_then(|millis| DateTime::from_timestamp_millis(millis.max(0)));
        let muted = app.commands.mute(app.by(&me), me.id(), self.user_id.0, expires_at).await;
        done(app, muted, cannot_mute(CREATE)).await
    }
}

/// Mute somebody no more.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Delete(Whom);

/// Of oneself, of nobody, of somebody who isn't muted.
const DELETE: [ErrorDef; 3] = [
    ErrorDef::new("MUTEE_IS_YOURSELF", "Mutee is yourself.", "f428b029-6b39-4d48-a1d2-cc1ae6dd5cf9"),
    ErrorDef::new("NO_SUCH_USER", "No such user.", "b851d00b-8ab1-4a56-8b1b-e24187cb48ef"),
    ErrorDef::new("NOT_MUTING", "You are not muting that user.", "5467d020-daa9-4553-81e1-135c0c35a96d"),
];

impl Endpoint for Delete {
    const META: Meta = Meta::new("mute/delete").kind("write:mutes").errors(&DELETE);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let ended = app.commands.unmute(app.by(&me), me.id(), self.0.user_id.0).await;
        done(app, ended, not_muting(DELETE)).await
    }
}

/// List whom the caller mutes.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct List(Which);

/// A mute; pages go by its id.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Muting {
    id: Id<MuteId>,
    created_at: Time,
    expires_at: Option<Time>,
    mutee_id: UserId,
    mutee: UserDetailedNotMe,
}

impl Endpoint for List {
    const META: Meta = Meta::new("mute/list").kind("read:mutes");
    type Caller = SignedIn;
    type Reply = Vec<Muting>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Muting>, ApiError> {
        let rows = mute::of(&app.pool, me.id(), app.now(), &self.0.page.limited(self.0.limit)).await?;
        let show = |row: mute::MuteRow, mutee| Muting {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            expires_at: row.expires_at.map(Time),
            mutee_id: Id(row.mutee),
            mutee,
        };
        with_people(app, me.id(), rows, |row| row.mutee, show).await
    }
}

/// Mute somebody's renotes.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CreateOfRenotes(Whom);

const CREATE_OF_RENOTES: [ErrorDef; 3] = [
    ErrorDef::new("MUTEE_IS_YOURSELF", "Mutee is yourself.", "37285718-52f7-4aef-b7de-c38b8e8a8420"),
    ErrorDef::new("NO_SUCH_USER", "No such user.", "5e0a5dff-1e94-4202-87ae-4d9c89eb2271"),
    ErrorDef::new(
        "ALREADY_MUTING",
        "You are already muting that user.",
        "ccfecbe4-1f1c-4fc2-8a3d-c3ffee61cb7b",
    ),
];

impl Endpoint for CreateOfRenotes {
    const META: Meta = Meta::new("renote-mute/create")
        .kind("write:mutes")
        .limit(20, per::HOUR)
        .not_moved()
        .errors(&CREATE_OF_RENOTES);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let muted = app.commands.mute_renotes(app.by(&me), me.id(), self.0.user_id.0).await;
        done(app, muted, cannot_mute(CREATE_OF_RENOTES)).await
    }
}

/// Mute somebody's renotes no more.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeleteOfRenotes(Whom);

const DELETE_OF_RENOTES: [ErrorDef; 3] = [
    ErrorDef::new("MUTEE_IS_YOURSELF", "Mutee is yourself.", "619b1314-0850-4597-a242-e245f3da42af"),
    ErrorDef::new("NO_SUCH_USER", "No such user.", "9b6728cf-638c-4aa1-bedb-e07d8101474d"),
    ErrorDef::new("NOT_MUTING", "You are not muting that user.", "2e4ef874-8bf0-4b4b-b069-4598f6d05817"),
];

impl Endpoint for DeleteOfRenotes {
    const META: Meta = Meta::new("renote-mute/delete").kind("write:mutes").errors(&DELETE_OF_RENOTES);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let ended = app.commands.unmute_renotes(app.by(&me), me.id(), self.0.user_id.0).await;
        done(app, ended, not_muting(DELETE_OF_RENOTES)).await
    }
}

/// List whose renotes the caller mutes.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ListOfRenotes(Which);

/// A mute of renotes; pages go by its id.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenoteMuting {
    id: Id<RenoteMuteId>,
    created_at: Time,
    mutee_id: UserId,
    mutee: UserDetailedNotMe,
}

impl Endpoint for ListOfRenotes {
    const META: Meta = Meta::new("renote-mute/list").kind("read:mutes");
    type Caller = SignedIn;
    type Reply = Vec<RenoteMuting>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<RenoteMuting>, ApiError> {
        let rows = mute::renotes_of(&app.pool, me.id(), &self.0.page.limited(self.0.limit)).await?;
        let show = |row: mute::RenoteMuteRow, mutee| RenoteMuting {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            mutee_id: Id(row.mutee),
            mutee,
        };
        with_people(app, me.id(), rows, |row| row.mutee, show).await
    }
}

/// Which note is meant.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct OfNote {
    note_id: NoteId,
}

/// Mute the thread that a note is in: being named and answered there is of no interest any more.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CreateOfThread(OfNote);

const THREAD_NO_SUCH_NOTE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "5ff67ada-ed3b-2e71-8e87-a1a421e177d2");

impl Endpoint for CreateOfThread {
    const META: Meta = Meta::new("notes/thread-muting/create")
        .kind("write:account")
        .limit(10, per::HOUR)
        .errors(&[THREAD_NO_SUCH_NOTE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let muted = app.commands.mute_thread(app.by(&me), me.id(), self.0.note_id.0).await;
        done(app, muted, |NoThread::NoSuchNote| THREAD_NO_SUCH_NOTE).await
    }
}

/// Hear of a thread again.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeleteOfThread(OfNote);

const THREAD_DELETE_NO_SUCH_NOTE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "bddd57ac-ceb3-b29d-4334-86ea5fae481a");

impl Endpoint for DeleteOfThread {
    const META: Meta =
        Meta::new("notes/thread-muting/delete").kind("write:account").errors(&[THREAD_DELETE_NO_SUCH_NOTE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let ended = app.commands.unmute_thread(app.by(&me), me.id(), self.0.note_id.0).await;
        done(app, ended, |NoThread::NoSuchNote| THREAD_DELETE_NO_SUCH_NOTE).await
    }
}

fn cannot_mute([yourself, no_such_user, already]: [ErrorDef; 3]) -> impl FnOnce(CannotMute) -> ErrorDef {
    move |refusal| match refusal {
        CannotMute::Yourself => yourself,
        CannotMute::NoSuchUser => no_such_user,
        CannotMute::AlreadyMuting => already,
    }
}

fn not_muting([yourself, no_such_user, not_at_all]: [ErrorDef; 3]) -> impl FnOnce(NotMuting) -> ErrorDef {
    move |refusal| match refusal {
        NotMuting::Yourself => yourself,
        NotMuting::NoSuchUser => no_such_user,
        NotMuting::NotMuting => not_at_all,
    }
}

/// Waits until what was done is shown, or tells why it wasn't.
async fn done<R>(
    app: &App,
    outcome: Result<Receipt, Failed<R>>,
    told: impl FnOnce(R) -> ErrorDef,
) -> Result<(), ApiError> {
    app.shown(outcome.map_err(|failed| failed.map_refusal(told))?).await;
    Ok(())
}
