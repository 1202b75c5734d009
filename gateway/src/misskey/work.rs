//! Works that people show: `gallery/*`, `pages/*`, `flash/*`, and who likes them.

pub mod flash;
pub mod gallery;
pub mod page;

use commands::{Failed, Receipt};
use domain::ids;
use domain::work::{CannotChangeWork, CannotCreateWork, CannotLike, CannotUnlike, Changes, Content, Kind};
use projections::work::{self, WorkRow};
use projections::{Page, Wanted, World};

use crate::api::param::Id;
use crate::api::{ApiError, ErrorDef, SignedIn};
use crate::app::App;
use crate::json::Look;

type WorkId = Id<ids::WorkId>;

/// How a kind of work is shown.
type Present<T> = fn(&Look<'_>, &World, &WorkRow) -> Option<T>;

const TOO_MANY_WORKS: ErrorDef = ErrorDef::new(
    "TOO_MANY_WORKS",
    "You cannot create any more of these.",
    "5a0b0f1e-9a0c-4a4e-8c55-0f5d6f3d7c1b",
);

/// What the endpoints of one kind say when something can't be; each where it says that.
struct Refusals {
    nothing: ErrorDef,
    /// It is somebody else's.
    foreign: ErrorDef,
    name_taken: ErrorDef,
    no_file: ErrorDef,
}

/// What they say when something isn't liked.
struct LikeRefusals {
    nothing: ErrorDef,
    own: ErrorDef,
    already: ErrorDef,
}

/// Works with all that they show.
async fn show<T>(
    app: &App,
    viewer: Option<ids::UserId>,
    rows: &[WorkRow],
    present: Present<T>,
) -> Result<Vec<T>, ApiError> {
    Ok(show_each(app, viewer, rows, present).await?.into_iter().flatten().collect())
}

/// What the caller likes, after the id of the like; with words, what has them in its title or summary.
async fn liked<T>(
    app: &App,
    me: &SignedIn,
    kind: Kind,
    words: Option<&str>,
    page: &Page,
    present: Present<T>,
) -> Result<impl Iterator<Item = (Id<ids::WorkLikeId>, T)>, ApiError> {
    let rows = work::liked_by(&app.pool, me.id(), kind, words, page).await?;
    let (likes, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let works = show_each(app, Some(me.id()), &rows, present).await?;
    Ok(likes.into_iter().zip(works).filter_map(|(like, work)| Some((Id(like), work?))))
}

/// The same, each at its place; none where its owner has gone meanwhile.
async fn show_each<T>(
    app: &App,
    viewer: Option<ids::UserId>,
    rows: &[WorkRow],
    present: Present<T>,
) -> Result<Vec<Option<T>>, ApiError> {
    let wanted = Wanted {
        users: rows.iter().map(|row| row.user).collect(),
        files: rows.iter().flat_map(WorkRow::files).collect(),
        ..Wanted::default()
    };
    let world = app.hydrate(wanted, viewer).await?;
    let look = Look::of(app);
    Ok(rows.iter().map(|row| present(&look, &world, row)).collect())
}

/// One work, if it is there for the viewer.
async fn one<T>(
    app: &App,
    viewer: Option<ids::UserId>,
    (kind, id): (Kind, ids::WorkId),
    present: Present<T>,
) -> Result<Option<T>, ApiError> {
    let row = work::by_id(&app.pool, viewer, kind, id).await?;
    Ok(show(app, viewer, row.as_slice(), present).await?.pop())
}

/// Makes a work, and shows it.
async fn create<T>(
    app: &App,
    me: &SignedIn,
    content: &Content,
    refusals: &Refusals,
    present: Present<T>,
) -> Result<T, ApiError> {
    let by = app.by(me);
    let id = ids::WorkId(app.ids.at(by.now));
    let made = app.commands.create_work(by, me.id(), id, content).await;
    let refused = |cannot| match cannot {
        CannotCreateWork::TooMany => TOO_MANY_WORKS,
        CannotCreateWork::NameTaken => refusals.name_taken,
        CannotCreateWork::NoSuchFile => refusals.no_file,
    };
    done(app, made, refused).await?;
    let shown = one(app, Some(me.id()), (content.kind(), id), present).await?;
    shown.ok_or_else(|| ApiError::internal("a work that was written is not in the read tables"))
}

/// Changes a work of the caller's.
async fn change(
    app: &App,
    me: &SignedIn,
    work: (Kind, ids::WorkId),
    changes: &Changes,
    refusals: &Refusals,
) -> Result<(), ApiError> {
    check_own(app, me, work, refusals).await?;
    let changed = app.commands.change_work(app.by(me), me.id(), work, changes).await;
    let refused = |cannot| match cannot {
        CannotChangeWork::NoSuchWork => refusals.nothing,
        CannotChangeWork::NameTaken => refusals.name_taken,
        CannotChangeWork::NoSuchFile => refusals.no_file,
    };
    done(app, changed, refused).await
}

/// Deletes a work of the caller's, or as a moderator anybody's.
async fn delete(
    app: &App,
    me: &SignedIn,
    work: (Kind, ids::WorkId),
    refusals: &Refusals,
) -> Result<(), ApiError> {
    let owner = owner(app, me, work, refusals.nothing).await?;
    if owner != me.id() && !me.account.moderates() {
        return Err(refusals.foreign.into());
    }
    let deleted = app.commands.delete_work(app.by(me), owner, work).await;
    done(app, deleted, |_| refusals.nothing).await
}

async fn like(
    app: &App,
    me: &SignedIn,
    work: (Kind, ids::WorkId),
    refusals: &LikeRefusals,
) -> Result<(), ApiError> {
    let owner = owner(app, me, work, refusals.nothing).await?;
    let liked = app.commands.like_work(app.by(me), me.id(), owner, work).await;
    let refused = |cannot| match cannot {
        CannotLike::NoSuchWork => refusals.nothing,
        CannotLike::Own => refusals.own,
        CannotLike::AlreadyLiked => refusals.already,
    };
    done(app, liked, refused).await
}

/// Takes a like back; also of a work that has become private since.
async fn unlike(
    app: &App,
    me: &SignedIn,
    work: (Kind, ids::WorkId),
    nothing: ErrorDef,
    not_liked: ErrorDef,
) -> Result<(), ApiError> {
    let owner = work::owner(&app.pool, work.1).await?.ok_or(nothing)?;
    let unliked = app.commands.unlike_work(app.by(me), me.id(), owner, work).await;
    let refused = |cannot| match cannot {
        CannotUnlike::NoSuchWork => nothing,
        CannotUnlike::NotLiked => not_liked,
    };
    done(app, unliked, refused).await
}

/// Waits until what was done is shown, or says why it was not done.
async fn done<R>(
    app: &App,
    outcome: Result<Receipt, Failed<R>>,
    refused: impl FnOnce(R) -> ErrorDef,
) -> Result<(), ApiError> {
    let receipt = outcome.map_err(|failed| failed.map_refusal(refused))?;
    app.shown(receipt).await;
    Ok(())
}

/// Whose work it is, if the caller sees it.
async fn owner(
    app: &App,
    me: &SignedIn,
    (kind, id): (Kind, ids::WorkId),
    nothing: ErrorDef,
) -> Result<ids::UserId, ApiError> {
    let row = work::by_id(&app.pool, Some(me.id()), kind, id).await?;
    Ok(row.ok_or(nothing)?.user)
}

async fn check_own(
    app: &App,
    me: &SignedIn,
    work: (Kind, ids::WorkId),
    refusals: &Refusals,
) -> Result<(), ApiError> {
    let owner = owner(app, me, work, refusals.nothing).await?;
    if owner == me.id() { Ok(()) } else { Err(refusals.foreign.into()) }
}
