//! Lists of notes in the order of time: `notes/timeline`, `notes/local-timeline`, `notes/hybrid-timeline`,
//! `notes/global-timeline`, `notes/user-list-timeline`, `notes/mentions`, `users/notes`.

use std::future::Future;

use domain::NoteId;
use domain::note::Visibility;
use domain::policy::{Place, Viewer};
use projections::Wanted;
use projections::note::{self, Filter, Timeline};
use projections::page::MAX_ITEMS;
use projections::timeline::List;
use projections::world::{NoteRow, World};
use schemars::JsonSchema;
use serde::Deserialize;

use super::list::ListId;
use crate::api::param::{Limit, Page, UserId, yes};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::Look;
use crate::json::note::{Note, note as present};

/// How many parts from memory a page is made of at most; where so little of them belongs to it, the tables find it
/// sooner.
const MAX_PARTS: usize = 8;
/// How often more is fetched for a page that the policy has shortened, and for one that it left nothing of: an
/// empty page tells a client that there is no more.
const MAX_ROUNDS: usize = 3;
const MAX_ROUNDS_FOR_NOTHING: usize = 10;

/// Notes of the caller and of those they follow.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Home {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(flatten)]
    renotes: Renotes,
    #[serde(default)]
    with_files: bool,
    #[serde(default = "yes")]
    with_renotes: bool,
}

impl Endpoint for Home {
    const META: Meta = Meta::new("notes/timeline").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        let Self { limit, page, renotes, with_files, with_renotes } = self;
        let filter = Filter { with_replies: false, with_renotes, with_files };
        timeline(app, Timeline::Home, Some(me.id()), filter, (page, limit), renotes).await
    }
}

/// Public notes of this server.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    #[serde(default)]
    with_files: bool,
    #[serde(default = "yes")]
    with_renotes: bool,
    #[serde(default)]
    with_replies: bool,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

const LTL_DISABLED: ErrorDef = ErrorDef::new(
    "LTL_DISABLED",
    "Local timeline has been disabled.",
    "45a6eb02-7695-4393-b023-dd3be9aaaefd",
);

impl Endpoint for Local {
    const META: Meta = Meta::new("notes/local-timeline").errors(&[LTL_DISABLED]);
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        if !has(app, &me, "ltlAvailable").await? {
            return Err(LTL_DISABLED.into());
        }
        let Self { limit, page, with_files, with_renotes, with_replies } = self;
        let filter = Filter { with_replies, with_renotes, with_files };
        timeline(app, Timeline::Local, me.id(), filter, (page, limit), Renotes::ALL).await
    }
}

/// The home and the local timeline in one.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hybrid {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(flatten)]
    renotes: Renotes,
    #[serde(default)]
    with_files: bool,
    #[serde(default = "yes")]
    with_renotes: bool,
    #[serde(default)]
    with_replies: bool,
}

const STL_DISABLED: ErrorDef = ErrorDef::new(
    "STL_DISABLED",
    "Hybrid timeline has been disabled.",
    "620763f4-f621-4533-ab33-0577a1a3c342",
);

impl Endpoint for Hybrid {
    const META: Meta = Meta::new("notes/hybrid-timeline").kind("read:account").errors(&[STL_DISABLED]);
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        if !me.account.may("ltlAvailable") {
            return Err(STL_DISABLED.into());
        }
        let Self { limit, page, renotes, with_files, with_renotes, with_replies } = self;
        let filter = Filter { with_replies, with_renotes, with_files };
        timeline(app, Timeline::Hybrid, Some(me.id()), filter, (page, limit), renotes).await
    }
}

/// Public notes of all servers that are known here.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Global {
    #[serde(default)]
    with_files: bool,
    #[serde(default = "yes")]
    with_renotes: bool,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

const GTL_DISABLED: ErrorDef = ErrorDef::new(
    "GTL_DISABLED",
    "Global timeline has been disabled.",
    "0332fc13-6ab2-4427-ae80-a9fadffd1a6b",
);

impl Endpoint for Global {
    const META: Meta = Meta::new("notes/global-timeline").errors(&[GTL_DISABLED]);
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        if !has(app, &me, "gtlAvailable").await? {
            return Err(GTL_DISABLED.into());
        }
        let Self { limit, page, with_files, with_renotes } = self;
        let filter = Filter { with_replies: true, with_renotes, with_files };
        timeline(app, Timeline::Global, me.id(), filter, (page, limit), Renotes::ALL).await
    }
}

/// Notes of the people in a list of the caller.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfList {
    list_id: ListId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(flatten)]
    renotes: Renotes,
    #[serde(default = "yes")]
    with_renotes: bool,
    #[serde(default)]
    with_files: bool,
}

const NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_LIST", "No such list.", "8fb1fbd5-e476-4c37-9fb0-43d55b63a2ff");

impl Endpoint for OfList {
    const META: Meta = Meta::new("notes/user-list-timeline").kind("read:account").errors(&[NO_SUCH_LIST]);
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        let (id, list) = (me.id(), self.list_id.0);
        let row = projections::list::by_id(&app.pool, list).await?;
        row.filter(|row| row.owner == id).ok_or(NO_SUCH_LIST)?;
        let Self { limit, page, renotes, with_renotes, with_files, .. } = self;
        let filter = Filter { with_replies: false, with_renotes, with_files };
        let keep = |world: &World, note: &NoteRow| renotes.want(world, note);
        let at = Looking::memory(List::Members(list), filter);
        kept_page(app, Some(id), at, page, limit, keep, |page| async move {
            note::of_list(&app.pool, list, id, filter, &page).await
        })
        .await
    }
}

/// Notes that name the caller, answer them, or are addressed to them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mentions {
    /// Only by those whom the caller follows.
    #[serde(default)]
    following: bool,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[schemars(with = "Option<String>")]
    visibility: Option<Visibility>,
}

impl Endpoint for Mentions {
    const META: Meta = Meta::new("notes/mentions").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        let (id, visibility, following) = (me.id(), self.visibility, self.following);
        page_of(app, Some(id), Place::Mentions, self.page, self.limit, |page| async move {
            note::mentions(&app.pool, id, visibility, following, &page).await
        })
        .await
    }
}

/// Notes of one person.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfUser {
    user_id: UserId,
    /// Replies to others.
    #[serde(default)]
    with_replies: bool,
    #[serde(default = "yes")]
    with_renotes: bool,
    /// What they said in channels, too.
    #[serde(default)]
    with_channel_notes: bool,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    with_files: bool,
}

impl Endpoint for OfUser {
    const META: Meta = Meta::new("users/notes");
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        let (viewer, user, in_channels) = (me.id(), self.user_id.0, self.with_channel_notes);
        let filter = Filter {
            with_replies: self.with_replies,
            with_renotes: self.with_renotes,
            with_files: self.with_files,
        };
        let at =
            Looking { place: Place::OfAuthor, ..Looking::memory(List::User { user, in_channels }, filter) };
        let keep = |_: &World, _: &NoteRow| true;
        kept_page(app, viewer, at, self.page, self.limit, keep, |page| async move {
            note::of_user(&app.pool, user, viewer, filter, in_channels, &page).await
        })
        .await
    }
}

/// Which pure renotes are wanted.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Renotes {
    /// The caller's own.
    #[serde(default = "yes")]
    include_my_renotes: bool,
    /// Of the caller's notes.
    #[serde(default = "yes")]
    include_renoted_my_notes: bool,
    /// Of notes of this server.
    #[serde(default = "yes")]
    include_local_renotes: bool,
}

impl Renotes {
    const ALL: Self =
        Self { include_my_renotes: true, include_renoted_my_notes: true, include_local_renotes: true };

    fn want(self, world: &World, note: &NoteRow) -> bool {
        let Some(renoted) = note.renote.filter(|_| note.pure) else { return true };
        let is_mine = |author| world.viewer == Some(author);
        let is_local = world.user(renoted.author).is_some_and(|author| author.host.is_none());
        (self.include_my_renotes || !is_mine(note.author))
            && (self.include_renoted_my_notes || !is_mine(renoted.author))
            && (self.include_local_renotes || !is_local)
    }
}

/// A page of one of the timelines.
async fn timeline(
    app: &App,
    which: Timeline,
    viewer: Viewer,
    filter: Filter,
    (page, limit): (Page, Limit),
    renotes: Renotes,
) -> Result<Vec<Note>, ApiError> {
    let keep = |world: &World, note: &NoteRow| renotes.want(world, note);
    let at = Looking::memory(List::Of(which), filter);
    kept_page(app, viewer, at, page, limit, keep, |page| async move {
        note::timeline(&app.pool, which, viewer, filter, &page).await
    })
    .await
}

/// A page of the notes that the viewer may see and wants to see. Where the policy leaves fewer than were asked
/// for, the query is asked for more.
pub async fn seen_page<F, Q>(
    app: &App,
    viewer: Viewer,
    page: Page,
    limit: Limit,
    query: F,
) -> Result<Vec<Note>, ApiError>
where
    F: Fn(projections::Page) -> Q,
    Q: Future<Output = sqlx::Result<Vec<NoteId>>> + Send,
{
    page_of(app, viewer, Place::Anywhere, page, limit, query).await
}

/// The same, where it matters where the viewer looks.
pub async fn page_of<F, Q>(
    app: &App,
    viewer: Viewer,
    place: Place,
    page: Page,
    limit: Limit,
    query: F,
) -> Result<Vec<Note>, ApiError>
where
    F: Fn(projections::Page) -> Q,
    Q: Future<Output = sqlx::Result<Vec<NoteId>>> + Send,
{
    let at = Looking { place, memory: None };
    kept_page(app, viewer, at, page, limit, |_: &World, _: &NoteRow| true, query).await
}

/// The same, of the notes that are to be kept besides.
pub async fn wanted_page<F, Q>(
    app: &App,
    viewer: Viewer,
    page: Page,
    limit: Limit,
    keep: impl Fn(&World, &NoteRow) -> bool,
    query: F,
) -> Result<Vec<Note>, ApiError>
where
    F: Fn(projections::Page) -> Q,
    Q: Future<Output = sqlx::Result<Vec<NoteId>>> + Send,
{
    let at = Looking { place: Place::Anywhere, memory: None };
    kept_page(app, viewer, at, page, limit, keep, query).await
}

/// Where the viewer of a page looks, and at which list, if that is in memory.
#[derive(Clone, Copy)]
struct Looking {
    place: Place,
    memory: Option<(List, Filter)>,
}

impl Looking {
    fn memory(list: List, filter: Filter) -> Self {
        Self { place: Place::Anywhere, memory: Some((list, filter)) }
    }
}

/// Takes what there is from memory, and asks the query for the rest.
async fn kept_page<F, Q>(
    app: &App,
    viewer: Viewer,
    at: Looking,
    page: Page,
    limit: Limit,
    keep: impl Fn(&World, &NoteRow) -> bool,
    query: F,
) -> Result<Vec<Note>, ApiError>
where
    F: Fn(projections::Page) -> Q,
    Q: Future<Output = sqlx::Result<Vec<NoteId>>> + Send,
{
    let mut page = page.limited(limit);
    let limit = limit.get();
    let mut notes = Vec::with_capacity(limit);
    let place = at.place;
    if let Some((list, filter)) = at.memory {
        for _ in 0..MAX_PARTS {
            let Some(part) = app.cache.part(list, viewer, filter, &page).await? else { break };
            let world = app.hydrate(Wanted::notes(part.ids.clone()), viewer).await?;
            let kept = part.ids.iter().filter(|id| {
                let note = world.pick(**id, place);
                note.is_some_and(|note| part.has(&world, note.note()) && keep(&world, note.note()))
            });
            let missing = limit - notes.len();
            notes.extend(kept.filter_map(|id| present(&Look::of(app), &world, *id)).take(missing));
            let missing = limit - notes.len();
            match part.rest.filter(|_| missing > 0) {
                Some(rest) => page = rest.at_most(missing),
                None => return Ok(notes),
            }
        }
    }
    for round in 1..=MAX_ROUNDS_FOR_NOTHING {
        let ids = query(page).await?;
        let world = app.hydrate(Wanted::notes(ids.clone()), viewer).await?;
        let kept =
            ids.iter().filter(|id| world.pick(**id, place).is_some_and(|note| keep(&world, note.note())));
        let missing = limit - notes.len();
        notes.extend(kept.filter_map(|id| present(&Look::of(app), &world, *id)).take(missing));
        let is_full = ids.len() >= usize::from(page.limit);
        let Some(last) = ids.last().filter(|_| is_full && notes.len() < limit) else { break };
        if round >= MAX_ROUNDS && !notes.is_empty() {
            break;
        }
        // Few are asked for only once.
        page.limit = MAX_ITEMS;
        if page.oldest_first {
            page.since = Some(last.0);
        } else {
            page.until = Some(last.0);
        }
    }
    Ok(notes)
}

/// Whether a policy lets the caller in: their own, or that of everybody.
pub async fn has(app: &App, me: &Anyone, policy: &str) -> Result<bool, ApiError> {
    match &me.0 {
        Some(me) => Ok(me.account.may(policy)),
        None => Ok(projections::instance::load(&app.pool).await?.policies.allows(policy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::note::tests::{note_of, now, person, to_parent, user_id};
    use serde_json::{Value, from_value, json};

    /// Whether person 1 gets a note of `author` that renotes one of `renoted`, where person 3 is elsewhere.
    fn gets(params: Value, author: u8, renoted: u8, text: Option<&str>) -> bool {
        let mut elsewhere = person(3);
        elsewhere.host = Some("b.example".to_owned());
        let world = World::of(Some(user_id(1)), now(), [], [person(1), person(2), elsewhere]);
        let note = note_of(5, author, |note| {
            note.renote = to_parent(6, renoted);
            note.text = text.map(str::to_owned);
        });
        from_value::<Renotes>(params).unwrap().want(&world, &note)
    }

    #[test]
    fn some_pure_renotes_may_be_unwanted_but_no_quotes() {
        let mine = json!({ "includeMyRenotes": false });
        assert!(!gets(mine.clone(), 1, 2, None) && gets(mine.clone(), 2, 1, None));
        assert!(gets(mine, 1, 2, Some("quote")));
        let of_mine = json!({ "includeRenotedMyNotes": false });
        assert!(!gets(of_mine.clone(), 2, 1, None) && gets(of_mine, 1, 2, None));
        let local = json!({ "includeLocalRenotes": false });
        assert!(!gets(local.clone(), 2, 2, None) && gets(local, 2, 3, None));
        assert!(gets(json!({}), 1, 1, None));
    }
}
