//! What a person has, as files in their own drive: `i/export-…`. They are promised, and made by [`crate::jobs`].

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use domain::drive::CannotAddFile;
use domain::export::Entity;
use domain::note::{ReactionAcceptance, Visibility};
use domain::policy::Sight;
use domain::{FileId, NoteId, UserId};
use projections::note::Filter;
use projections::page::MAX_ITEMS;
use projections::world::NoteRow;
use projections::{Page, Wanted, World};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::param::Id;
use crate::api::{ApiError, Endpoint, Meta, SignedIn, per};
use crate::app::App;
use crate::drive::incoming::Writer;
use crate::drive::keep::{Asked, allowed, keep};
use crate::drive::kind::Kind;
use crate::jobs::ask;
use crate::json::drive::{DriveFile, file};
use crate::json::note::{Poll, poll};
use crate::json::{Look, Time};
use crate::ops::jobs::{Job, Work};

/// Whoever wrote nothing for so long may be left out of an export.
const INACTIVE_AFTER: TimeDelta = TimeDelta::days(90);

/// Whom an export of those one follows leaves out.
#[derive(Debug, Clone, Copy)]
pub struct LeaveOut {
    /// Whom one mutes.
    pub muted: bool,
    /// Who wrote nothing for long.
    pub inactive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    /// One list.
    Json,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Json => "json",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv",
            Format::Json => "application/json",
        }
    }
}

/// What the name of the file begins with, and what is in it.
fn kept_as(entity: Entity) -> (&'static str, Format) {
    match entity {
        Entity::Note => ("notes", Format::Json),
        Entity::Following => ("following", Format::Csv),
        Entity::Muting => ("mute", Format::Csv),
        Entity::Blocking => ("blocking", Format::Csv),
        Entity::UserList => ("user-lists", Format::Csv),
        Entity::Antenna => ("antennas", Format::Json),
        Entity::Clip => ("clips", Format::Json),
        Entity::Favorite => ("favorites", Format::Json),
    }
}

macro_rules! exports {
    ($($(#[$doc:meta])* $endpoint:ident $path:literal per $interval:expr, $entity:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Deserialize, JsonSchema)]
        pub struct $endpoint {}

        impl Endpoint for $endpoint {
            const META: Meta = Meta::new($path).secure().limit(1, $interval);
            type Caller = SignedIn;
            type Reply = ();

            async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
                ask(app, &me, Work::export(Entity::$entity)).await
            }
        }
    )*};
}

exports! {
    /// Export one's notes.
    Notes "i/export-notes" per 24 * per::HOUR, Note;
    /// Export whom one mutes for good.
    Mute "i/export-mute" per per::HOUR, Muting;
    /// Export whom one blocks.
    Blocking "i/export-blocking" per per::HOUR, Blocking;
    /// Export one's lists of people.
    UserLists "i/export-user-lists" per per::MINUTE, UserList;
    /// Export one's antennas.
    Antennas "i/export-antennas" per per::HOUR, Antenna;
    /// Export one's clips, with the notes in them that one sees.
    Clips "i/export-clips" per 24 * per::HOUR, Clip;
    /// Export the notes that one keeps and sees.
    Favorites "i/export-favorites" per 24 * per::HOUR, Favorite;
}

/// Export whom one follows.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Following {
    /// Without those whom the caller mutes.
    #[serde(default)]
    exclude_muting: bool,
    /// Without those who wrote nothing for long.
    #[serde(default)]
    exclude_inactive: bool,
}

impl Endpoint for Following {
    const META: Meta = Meta::new("i/export-following").secure().limit(1, per::HOUR);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (without_muted, without_inactive) = (self.exclude_muting, self.exclude_inactive);
        ask(app, &me, Work::Export { entity: Entity::Following, without_muted, without_inactive }).await
    }
}

/// Exports, and tells the person: once, however often it is tried.
pub async fn run(
    app: &App,
    me: &SignedIn,
    job: &Job,
    entity: Entity,
    leave_out: LeaveOut,
) -> Result<(), ApiError> {
    let id = FileId(job.id);
    if app.commands.file(id).await.map_err(ApiError::internal)?.current.is_some() {
        return Ok(());
    }
    let (name, format) = kept_as(entity);
    let most = allowed(&me.account).file_size;
    let writer = app.drive.begin().await.map_err(ApiError::internal)?;
    let mut sheet = Sheet { writer, format, most, items: 0 };
    sheet.open().await?;
    match entity {
        Entity::Note => notes(app, me, &mut sheet).await?,
        Entity::Following => following(app, me, &mut sheet, leave_out).await?,
        Entity::Muting => mutes(app, me, &mut sheet).await?,
        Entity::Blocking => blocks(app, me, &mut sheet).await?,
        Entity::UserList => lists(app, me, &mut sheet).await?,
        Entity::Antenna => antennas(app, me, &mut sheet).await?,
        Entity::Clip => clips(app, me, &mut sheet).await?,
        Entity::Favorite => favorites(app, me, &mut sheet).await?,
    }
    sheet.close().await?;
    let extension = format.extension();
    let name = format!("{name}-{}.{extension}", app.now().format("%Y-%m-%d-%H-%M-%S"));
    let received = sheet.writer.end(Some(name.clone())).await.map_err(ApiError::internal)?;
    let (media_type, extension) = (format.media_type().to_owned(), Some(extension.to_owned()));
    let kind = Some(Kind { media_type, extension });
    let export = Some((id, entity));
    keep(
        app,
        &me.account,
        received,
        Asked { name: Some(name), force: true, kind, export, ..Asked::default() },
    )
    .await?;
    Ok(())
}

/// A file that is being written, as long as it isn't larger than its owner's may be.
struct Sheet {
    writer: Writer,
    format: Format,
    /// In bytes.
    most: u64,
    items: u64,
}

impl Sheet {
    async fn write(&mut self, text: &str) -> Result<(), ApiError> {
        if self.writer.size() + text.len() as u64 > self.most {
            return Err(CannotAddFile::TooLarge.into());
        }
        self.writer.write(text.as_bytes()).await.map_err(ApiError::internal)
    }

    async fn open(&mut self) -> Result<(), ApiError> {
        if self.format == Format::Json { self.write("[").await } else { Ok(()) }
    }

    async fn close(&mut self) -> Result<(), ApiError> {
        if self.format == Format::Json { self.write("]").await } else { Ok(()) }
    }

    async fn item(&mut self, item: &impl Serialize) -> Result<(), ApiError> {
        self.raw_item(&serde_json::to_string(item).map_err(ApiError::internal)?).await
    }

    /// An item that is JSON already, or its beginning.
    async fn raw_item(&mut self, text: &str) -> Result<(), ApiError> {
        if self.items > 0 {
            self.write(",").await?;
        }
        self.items += 1;
        self.write(text).await
    }

    async fn line(&mut self, fields: &[&str]) -> Result<(), ApiError> {
        let mut line = String::new();
        for (n, field) in fields.iter().enumerate() {
            if n > 0 {
                line.push(',');
            }
            let field = &field.replace(['\n', '\r'], " ");
            if field.contains(['"', ',']) {
                // It can't fail: it writes to memory.
                _ = write!(line, "\"{}\"", field.replace('"', "\"\""));
            } else {
                line.push_str(field);
            }
        }
        line.push('\n');
        self.write(&line).await
    }
}

/// Everything of a list, oldest first.
fn from_the_beginning() -> Page {
    Page { since: None, until: None, oldest_first: true, limit: MAX_ITEMS }
}

/// `name@host`, of people here as well.
fn account(look: &Look<'_>, world: &World, user: UserId) -> Option<String> {
    let user = world.user(user)?;
    Some(format!("{}@{}", user.username, user.host.as_deref().unwrap_or(look.host())))
}

/// A line for each of these people.
async fn people(app: &App, me: &SignedIn, sheet: &mut Sheet, people: &[UserId]) -> Result<(), ApiError> {
    let world = app.hydrate(Wanted::users(people.iter().copied()), Some(me.id())).await?;
    for user in people {
        if let Some(account) = account(&Look::of(app), &world, *user) {
            sheet.line(&[&account]).await?;
        }
    }
    Ok(())
}

async fn following(app: &App, me: &SignedIn, sheet: &mut Sheet, leave_out: LeaveOut) -> Result<(), ApiError> {
    let mut page = from_the_beginning();
    loop {
        let rows = projections::follow::following(&app.pool, me.id(), &page).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        page.since = Some(last.id.0);
        let world = app.hydrate(Wanted::users(rows.iter().map(|row| row.followee)), Some(me.id())).await?;
        let active_since = app.now() - INACTIVE_AFTER;
        let is_wanted = |user: &UserId| {
            let is_muted = world.relation(*user).mutes(app.now());
            let updated_at = world.user(*user).and_then(|user| user.updated_at);
            let is_inactive = updated_at.is_none_or(|updated_at| updated_at < active_since);
            (!leave_out.muted || !is_muted) && (!leave_out.inactive || !is_inactive)
        };
        for user in rows.iter().map(|row| row.followee).filter(is_wanted) {
            if let Some(account) = account(&Look::of(app), &world, user) {
                sheet.line(&[&account]).await?;
            }
        }
    }
}

async fn mutes(app: &App, me: &SignedIn, sheet: &mut Sheet) -> Result<(), ApiError> {
    let mut page = from_the_beginning();
    loop {
        let rows = projections::mute::of(&app.pool, me.id(), app.now(), &page).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        page.since = Some(last.id.0);
        let for_good = rows.iter().filter(|row| row.expires_at.is_none()).map(|row| row.mutee);
        people(app, me, sheet, &for_good.collect::<Vec<_>>()).await?;
    }
}

async fn blocks(app: &App, me: &SignedIn, sheet: &mut Sheet) -> Result<(), ApiError> {
    let mut page = from_the_beginning();
    loop {
        let rows = projections::block::of(&app.pool, me.id(), &page).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        page.since = Some(last.id.0);
        people(app, me, sheet, &rows.iter().map(|row| row.blockee).collect::<Vec<_>>()).await?;
    }
}

async fn lists(app: &App, me: &SignedIn, sheet: &mut Sheet) -> Result<(), ApiError> {
    for list in projections::list::of_owner(&app.pool, me.id(), false).await? {
        let mut page = from_the_beginning();
        loop {
            let rows = projections::list::members(&app.pool, list.id, &page).await?;
            let Some(last) = rows.last() else { break };
            page.since = Some(last.id.0);
            let world = app.hydrate(Wanted::users(rows.iter().map(|row| row.user)), Some(me.id())).await?;
            for row in &rows {
                if let Some(account) = account(&Look::of(app), &world, row.user) {
                    let with_replies = format!("withReplies={}", row.with_replies);
                    sheet.line(&[&list.name, &account, &with_replies]).await?;
                }
            }
        }
    }
    Ok(())
}

async fn antennas(app: &App, me: &SignedIn, sheet: &mut Sheet) -> Result<(), ApiError> {
    for antenna in projections::antenna::of_owner(&app.pool, me.id()).await? {
        let settings = antenna.settings;
        let members: Vec<UserId> = match settings.list {
            Some(list) => projections::list::all_members(&app.pool, list)
                .await?
                .into_iter()
                .map(|(user, _)| user)
                .collect(),
            None => Vec::new(),
        };
        let world = app.hydrate(Wanted::users(members.iter().copied()), Some(me.id())).await?;
        let look = Look::of(app);
        let accounts: Vec<String> = members.iter().filter_map(|user| account(&look, &world, *user)).collect();
        let item = json!({
            "name": settings.name,
            "src": settings.source,
            "keywords": settings.keywords,
            "excludeKeywords": settings.exclude_keywords,
            "users": settings.users,
            "userListAccts": settings.list.map(|_| accounts),
            "caseSensitive": settings.case_sensitive,
            "localOnly": settings.local_only,
            "excludeBots": settings.exclude_bots,
            "withReplies": settings.with_replies,
            "withFile": settings.with_file,
        });
        sheet.item(&item).await?;
    }
    Ok(())
}

/// A note in a file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    id: Id<NoteId>,
    created_at: Time,
    text: Option<String>,
    cw: Option<String>,
    file_ids: Vec<Id<FileId>>,
    files: Vec<DriveFile>,
    reply_id: Option<Id<NoteId>>,
    renote_id: Option<Id<NoteId>>,
    poll: Option<Poll>,
    visibility: Visibility,
    visible_user_ids: Vec<Id<UserId>>,
    local_only: bool,
    reaction_acceptance: Option<ReactionAcceptance>,
    /// Of notes of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Value>,
}

/// A note, if the viewer may see it.
fn exported(look: &Look<'_>, world: &World, id: NoteId, with_author: bool) -> Option<Exported> {
    let visible = world.see(id).and_then(Sight::seen)?;
    let row: &NoteRow = visible.note();
    let user = match with_author {
        true => {
            let user = world.user(row.author)?;
            let (name, host) = (&user.profile.name, &user.host);
            Some(
                json!({ "id": user.id, "name": name, "username": user.username, "host": host, "uri": user.uri }),
            )
        }
        false => None,
    };
    Some(Exported {
        id: Id(id),
        created_at: Time(id.time()),
        text: row.text.clone(),
        cw: row.cw.clone(),
        file_ids: row.files.iter().copied().map(Id).collect(),
        files: row.files.iter().filter_map(|id| world.file(*id)).map(|row| file(look, row)).collect(),
        reply_id: row.reply.map(|reply| Id(reply.id)),
        renote_id: row.renote.map(|renote| Id(renote.id)),
        poll: poll(world, visible),
        visibility: row.visibility,
        visible_user_ids: row.visible_to.iter().copied().map(Id).collect(),
        local_only: row.local_only,
        reaction_acceptance: row.reaction_acceptance,
        user,
    })
}

async fn notes(app: &App, me: &SignedIn, sheet: &mut Sheet) -> Result<(), ApiError> {
    let filter = Filter { with_replies: true, with_renotes: true, with_files: false };
    let (mut page, viewer) = (from_the_beginning(), Some(me.id()));
    loop {
        let ids = projections::note::of_user(&app.pool, me.id(), viewer, filter, true, &page).await?;
        let Some(last) = ids.last() else { return Ok(()) };
        page.since = Some(last.0);
        let world = app.hydrate(Wanted::notes(ids.iter().copied()), viewer).await?;
        for id in ids {
            if let Some(note) = exported(&Look::of(app), &world, id, false) {
                sheet.item(&note).await?;
            }
        }
    }
}

/// Something that holds a note of somebody.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Holding {
    id: String,
    created_at: Time,
    note: Exported,
}

async fn favorites(app: &App, me: &SignedIn, sheet: &mut Sheet) -> Result<(), ApiError> {
    let mut page = from_the_beginning();
    loop {
        let rows = projections::favorite::of_user(&app.pool, me.id(), &page).await?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        page.since = Some(last.0);
        let world = app.hydrate(Wanted::notes(rows.iter().map(|(_, note)| *note)), Some(me.id())).await?;
        for (id, note) in rows {
            if let Some(note) = exported(&Look::of(app), &world, note, true) {
                sheet.item(&Holding { id: id.to_string(), created_at: Time(id.time()), note }).await?;
            }
        }
    }
}

async fn clips(app: &App, me: &SignedIn, sheet: &mut Sheet) -> Result<(), ApiError> {
    let (mut page, viewer) = (from_the_beginning(), Some(me.id()));
    loop {
        let rows = projections::clip::of_user(&app.pool, viewer, me.id(), false, &page).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        page.since = Some(last.id.0);
        for row in rows {
            let clipped_at: Option<DateTime<Utc>> = row.clipped_at;
            let about = json!({
                "id": row.id,
                "name": row.about.name,
                "description": row.about.description,
                "lastClippedAt": clipped_at.map(Time),
            });
            let about = about.to_string();
            // A clip may be larger than what should be in memory: its notes are written as they come.
            sheet.raw_item(about.strip_suffix('}').unwrap_or(&about)).await?;
            sheet.write(",\"clipNotes\":[").await?;
            let (mut of_clip, mut first) = (from_the_beginning(), true);
            loop {
                let ids = projections::clip::notes(&app.pool, row.id, None, &of_clip).await?;
                let Some(last) = ids.last() else { break };
                of_clip.since = Some(last.0);
                let world = app.hydrate(Wanted::notes(ids.iter().copied()), viewer).await?;
                for id in ids {
                    let Some(note) = exported(&Look::of(app), &world, id, true) else { continue };
                    let held = Holding { id: id.to_string(), created_at: Time(id.time()), note };
                    let text = serde_json::to_string(&held).map_err(ApiError::internal)?;
                    if !first {
                        sheet.write(",").await?;
                    }
                    first = false;
                    sheet.write(&text).await?;
                }
            }
            sheet.write("]}").await?;
        }
    }
}
