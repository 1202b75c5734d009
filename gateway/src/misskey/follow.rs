//! Following: `following/create`, `following/delete`, `following/update`, `following/update-all`,
//! `following/invalidate`, and the requests of those who want to follow: `following/requests/*`.

use commands::{Failed, Receipt};
use domain::follow::{CannotFollow, NoRequest, NotFollowing, Notify, RequestEnd};
use domain::log::Position;
use domain::{FollowRequestId, ids};
use futures_util::future::join_all;
use projections::Wanted;
use projections::follow::{self, RequestRow};
use projections::page::MAX_ITEMS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::user::in_few_words;
use crate::api::param::{Given, Id, Limit, Page, UserId};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::Look;
use crate::json::user::{UserLite, user_lite};

/// Commands of one call that are on their way at the same time.
const AT_ONCE: usize = 16;

/// Follow somebody, or ask to.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    user_id: UserId,
    /// Whether their replies to others are wanted in the home timeline.
    #[serde(default)]
    with_replies: bool,
}

const CREATE_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "fcd2eef9-a9b2-4c4f-8624-038099e90aa5");
const FOLLOWEE_IS_YOURSELF: ErrorDef =
    ErrorDef::new("FOLLOWEE_IS_YOURSELF", "Followee is yourself.", "26fbe7bb-a331-4857-af17-205b426669a9");
const ALREADY_FOLLOWING: ErrorDef = ErrorDef::new(
    "ALREADY_FOLLOWING",
    "You are already following that user.",
    "35387507-38c7-4cb9-9197-300b93783fa0",
);
const BLOCKING: ErrorDef =
    ErrorDef::new("BLOCKING", "You are blocking that user.", "4e2206ec-aa4f-4960-b865-6c23ac38e2d9");
const BLOCKED: ErrorDef =
    ErrorDef::new("BLOCKED", "You are blocked by that user.", "c4ab57cc-4e41-45e9-bfd9-584f61e35ce0");

impl Endpoint for Create {
    const META: Meta = Meta::new("following/create")
        .kind("write:following")
        .limit(100, per::HOUR)
        .not_moved()
        .errors(&[CREATE_NO_SUCH_USER, FOLLOWEE_IS_YOURSELF, ALREADY_FOLLOWING, BLOCKING, BLOCKED]);
    type Caller = SignedIn;
    type Reply = UserLite;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserLite, ApiError> {
        let followee = self.user_id.0;
        let followed = app.commands.follow(app.by(&me), me.id(), followee, self.with_replies).await;
        let receipt = followed.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotFollow::Yourself => FOLLOWEE_IS_YOURSELF,
                CannotFollow::NoSuchUser => CREATE_NO_SUCH_USER,
                CannotFollow::AlreadyFollowing => ALREADY_FOLLOWING,
                CannotFollow::Blocking => BLOCKING,
                CannotFollow::Blocked => BLOCKED,
            })
        })?;
        app.shown(receipt).await;
        in_few_words(app, followee).await
    }
}

/// Follow somebody no more.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    user_id: UserId,
}

const DELETE_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "5b12c78d-2b28-4dca-99d2-f56139b42ff8");
const DELETE_YOURSELF: ErrorDef =
    ErrorDef::new("FOLLOWEE_IS_YOURSELF", "Followee is yourself.", "d9e400b9-36b0-4808-b1d8-79e707f1296c");
const DELETE_NOT_FOLLOWING: ErrorDef = ErrorDef::new(
    "NOT_FOLLOWING",
    "You are not following that user.",
    "5dbf82f5-c92b-40b1-87d1-6c8c0741fd09",
);

impl Endpoint for Delete {
    const META: Meta = Meta::new("following/delete").kind("write:following").limit(100, per::HOUR).errors(&[
        DELETE_NO_SUCH_USER,
        DELETE_YOURSELF,
        DELETE_NOT_FOLLOWING,
    ]);
    type Caller = SignedIn;
    type Reply = UserLite;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserLite, ApiError> {
        let followee = self.user_id.0;
        let ended = app.commands.unfollow(app.by(&me), me.id(), followee, false).await;
        let receipt = ended.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                NotFollowing::Yourself => DELETE_YOURSELF,
                NotFollowing::NoSuchUser => DELETE_NO_SUCH_USER,
                NotFollowing::NotFollowing => DELETE_NOT_FOLLOWING,
            })
        })?;
        app.shown(receipt).await;
        in_few_words(app, followee).await
    }
}

/// Drop a follower.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invalidate {
    user_id: UserId,
}

const INVALIDATE_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "b77e6ae6-a3e5-40da-9cc8-c240115479cc");
const FOLLOWER_IS_YOURSELF: ErrorDef =
    ErrorDef::new("FOLLOWER_IS_YOURSELF", "Follower is yourself.", "07dc03b9-03da-422d-885b-438313707662");
const NOT_FOLLOWED: ErrorDef = ErrorDef::new(
    "NOT_FOLLOWING",
    "The other use is not following you.",
    "918faac3-074f-41ae-9c43-ed5d2946770d",
);

impl Endpoint for Invalidate {
    const META: Meta = Meta::new("following/invalidate")
        .kind("write:following")
        .limit(100, per::HOUR)
        .errors(&[INVALIDATE_NO_SUCH_USER, FOLLOWER_IS_YOURSELF, NOT_FOLLOWED]);
    type Caller = SignedIn;
    type Reply = UserLite;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserLite, ApiError> {
        let follower = self.user_id.0;
        let ended = app.commands.unfollow(app.by(&me), follower, me.id(), true).await;
        let receipt = ended.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                NotFollowing::Yourself => FOLLOWER_IS_YOURSELF,
                NotFollowing::NoSuchUser => INVALIDATE_NO_SUCH_USER,
                NotFollowing::NotFollowing => NOT_FOLLOWED,
            })
        })?;
        app.shown(receipt).await;
        in_few_words(app, follower).await
    }
}

/// Change what is wanted of somebody whom one follows.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    user_id: UserId,
    #[serde(default)]
    notify: Given<Wish>,
    #[serde(default)]
    with_replies: Given<bool>,
}

/// Whether each new note gives a notification.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Wish {
    Normal,
    None,
}

impl From<Wish> for Notify {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Normal => Notify::Normal,
            Wish::None => Notify::None,
        }
    }
}

const UPDATE_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "14318698-f67e-492a-99da-5353a5ac52be");
const UPDATE_YOURSELF: ErrorDef =
    ErrorDef::new("FOLLOWEE_IS_YOURSELF", "Followee is yourself.", "4c4cbaf9-962a-463b-8418-a5e365dbf2eb");
const UPDATE_NOT_FOLLOWING: ErrorDef = ErrorDef::new(
    "NOT_FOLLOWING",
    "You are not following that user.",
    "b8dc75cf-1cb5-46c9-b14b-5f1ffbd782c9",
);

impl Endpoint for Update {
    const META: Meta = Meta::new("following/update").kind("write:following").limit(100, per::HOUR).errors(&[
        UPDATE_NO_SUCH_USER,
        UPDATE_YOURSELF,
        UPDATE_NOT_FOLLOWING,
    ]);
    type Caller = SignedIn;
    /// The follower, not the followed: as Misskey does.
    type Reply = UserLite;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserLite, ApiError> {
        let (notify, with_replies) = (self.notify.0.map(Notify::from), self.with_replies.0);
        let followee = self.user_id.0;
        let changed =
            app.commands.change_following(app.by(&me), me.id(), followee, notify, with_replies).await;
        let receipt = changed.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                NotFollowing::Yourself => UPDATE_YOURSELF,
                NotFollowing::NoSuchUser => UPDATE_NO_SUCH_USER,
                NotFollowing::NotFollowing => UPDATE_NOT_FOLLOWING,
            })
        })?;
        app.shown(receipt).await;
        in_few_words(app, me.id()).await
    }
}

/// Change what is wanted of all whom one follows.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateAll {
    #[serde(default)]
    notify: Given<Wish>,
    #[serde(default)]
    with_replies: Given<bool>,
}

impl Endpoint for UpdateAll {
    const META: Meta = Meta::new("following/update-all").kind("write:following").limit(10, per::HOUR);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (notify, with_replies) = (self.notify.0.map(Notify::from), self.with_replies.0);
        let mut page = projections::Page::newest(MAX_ITEMS);
        let mut latest = Position::START;
        loop {
            let rows = follow::following(&app.pool, me.id(), &page).await?;
            let Some(last) = rows.last() else { break };
            page.until = Some(last.id.0);
            for rows in rows.chunks(AT_ONCE) {
                let change = |row: &follow::FollowRow| {
                    let by = app.by(&me);
                    app.commands.change_following(by, me.id(), row.followee, notify, with_replies)
                };
                for outcome in join_all(rows.iter().map(change)).await {
                    latest = latest.max(done(outcome)?);
                }
            }
        }
        app.shown(Receipt { position: latest }).await;
        Ok(())
    }
}

/// Where the log stood; the start when the rules said no, because it has ended in the meantime.
fn done<R>(outcome: Result<Receipt, Failed<R>>) -> Result<Position, ApiError> {
    match outcome {
        Ok(receipt) => Ok(receipt.position),
        Err(Failed::Refused(_)) => Ok(Position::START),
        Err(failed) => Err(failed.map_refusal(|_| ApiError::internal("refused")).into()),
    }
}

/// Accepts everybody who asks to follow: for an account that asks no more.
pub async fn accept_all(app: &App, me: &SignedIn) -> Result<(), ApiError> {
    let mut page = projections::Page::newest(MAX_ITEMS);
    let mut latest = Position::START;
    loop {
        let rows = follow::requests_received(&app.pool, me.id(), &page).await?;
        let Some(last) = rows.last() else { break };
        page.until = Some(last.id.0);
        for rows in rows.chunks(AT_ONCE) {
            let accept = |row: &RequestRow| app.commands.accept_follow(app.by(me), me.id(), row.follower);
            for outcome in join_all(rows.iter().map(accept)).await {
                latest = latest.max(done(outcome)?);
            }
        }
    }
    app.shown(Receipt { position: latest }).await;
    Ok(())
}

/// Accept a request to be followed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptRequest {
    user_id: UserId,
}

const ACCEPT_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "66ce1645-d66c-46bb-8b79-96739af885bd");
const NO_FOLLOW_REQUEST: ErrorDef =
    ErrorDef::new("NO_FOLLOW_REQUEST", "No follow request.", "bcde4f8b-0913-4614-8881-614e522fb041");

impl Endpoint for AcceptRequest {
    const META: Meta = Meta::new("following/requests/accept")
        .kind("write:following")
        .errors(&[ACCEPT_NO_SUCH_USER, NO_FOLLOW_REQUEST]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let accepted = app.commands.accept_follow(app.by(&me), me.id(), self.user_id.0).await;
        let receipt = accepted.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                NoRequest::NoSuchUser => ACCEPT_NO_SUCH_USER,
                NoRequest::NoRequest => NO_FOLLOW_REQUEST,
            })
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Reject a request to be followed; it is no error when there is none.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectRequest {
    user_id: UserId,
}

const REJECT_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "abc2ffa6-25b2-4380-ba99-321ff3a94555");

impl Endpoint for RejectRequest {
    const META: Meta =
        Meta::new("following/requests/reject").kind("write:following").errors(&[REJECT_NO_SUCH_USER]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (follower, how) = (self.user_id.0, RequestEnd::Rejected);
        match app.commands.end_follow_request(app.by(&me), follower, me.id(), how).await {
            Ok(receipt) => app.shown(receipt).await,
            Err(Failed::Refused(NoRequest::NoRequest)) => (),
            Err(failed) => {
                let told = |refusal| match refusal {
                    NoRequest::NoSuchUser | NoRequest::NoRequest => REJECT_NO_SUCH_USER,
                };
                return Err(failed.map_refusal(told).into());
            }
        }
        Ok(())
    }
}

/// Take a request back.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelRequest {
    user_id: UserId,
}

const CANCEL_NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "4e68c551-fc4c-4e46-bb41-7d4a37bf9dab");
const FOLLOW_REQUEST_NOT_FOUND: ErrorDef = ErrorDef::new(
    "FOLLOW_REQUEST_NOT_FOUND",
    "Follow request not found.",
    "089b125b-d338-482a-9a09-e2622ac9f8d4",
);

impl Endpoint for CancelRequest {
    const META: Meta = Meta::new("following/requests/cancel")
        .kind("write:following")
        .errors(&[CANCEL_NO_SUCH_USER, FOLLOW_REQUEST_NOT_FOUND]);
    type Caller = SignedIn;
    type Reply = UserLite;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UserLite, ApiError> {
        let (followee, how) = (self.user_id.0, RequestEnd::Cancelled);
        let ended = app.commands.end_follow_request(app.by(&me), me.id(), followee, how).await;
        let receipt = ended.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                NoRequest::NoSuchUser => CANCEL_NO_SUCH_USER,
                NoRequest::NoRequest => FOLLOW_REQUEST_NOT_FOUND,
            })
        })?;
        app.shown(receipt).await;
        in_few_words(app, followee).await
    }
}

/// Those who ask to follow the caller.
#[derive(Deserialize, JsonSchema)]
pub struct ListRequests {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// Those whom the caller asks to be followed by them.
#[derive(Deserialize, JsonSchema)]
pub struct SentRequests {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

/// A request to follow; pages go by its id.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FollowRequest")]
pub struct Request {
    id: Id<FollowRequestId>,
    follower: UserLite,
    followee: UserLite,
}

impl Endpoint for ListRequests {
    const META: Meta = Meta::new("following/requests/list").kind("read:following");
    type Caller = SignedIn;
    type Reply = Vec<Request>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Request>, ApiError> {
        let page = self.page.limited(self.limit);
        show(app, &me, follow::requests_received(&app.pool, me.id(), &page).await?).await
    }
}

impl Endpoint for SentRequests {
    const META: Meta = Meta::new("following/requests/sent").kind("read:following");
    type Caller = SignedIn;
    type Reply = Vec<Request>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Request>, ApiError> {
        let page = self.page.limited(self.limit);
        show(app, &me, follow::requests_sent(&app.pool, me.id(), &page).await?).await
    }
}

async fn show(app: &App, me: &SignedIn, rows: Vec<RequestRow>) -> Result<Vec<Request>, ApiError> {
    let users: Vec<ids::UserId> = rows.iter().flat_map(|row| [row.follower, row.followee]).collect();
    let world = app.hydrate(Wanted::users(users), Some(me.id())).await?;
    let look = Look::of(app);
    let show = |row: RequestRow| {
        let follower = user_lite(&look, world.user(row.follower)?);
        let followee = user_lite(&look, world.user(row.followee)?);
        Some(Request { id: Id(row.id), follower, followee })
    };
    Ok(rows.into_iter().filter_map(show).collect())
}
