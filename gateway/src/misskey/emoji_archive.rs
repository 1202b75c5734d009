//! All custom emoji as one archive, and out of one: `export-custom-emojis`, `admin/emoji/import-zip`. Both are
//! promised, and done by [`crate::jobs`].

use domain::drive::CannotAddFile;
use domain::emoji::{self, Definition};
use domain::export::Entity;
use domain::{CommandId, EmojiId, FileId, RoleId};
use futures_util::TryStreamExt;
use projections::Page;
use projections::emoji::EmojiRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::emoji::{KEEPER, delete, settled};
use super::export::from_the_beginning;
use crate::api::param::Id;
use crate::api::{ApiError, Endpoint, Meta, SignedIn, per};
use crate::app::App;
use crate::drive::archive::{About, META, META_VERSION, Packer, may_have, unpacked};
use crate::drive::emoji::made;
use crate::drive::incoming::{MAX_FILE_BYTES, NotReceived, Received};
use crate::jobs::{ask, reached};
use crate::json::emoji::picture_url;
use crate::json::{Look, Time};
use crate::ops::jobs::{Job, Work};

/// What archives are.
pub const MEDIA_TYPE: &str = "application/zip";

/// Export all custom emoji of this server.
#[derive(Deserialize, JsonSchema)]
pub struct Export {}

impl Endpoint for Export {
    const META: Meta = Meta::new("export-custom-emojis").secure().limit(1, per::HOUR);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        ask(app, &me, Work::export(Entity::CustomEmoji)).await
    }
}

/// Take over the custom emoji of an archive; one that has the name of one here takes its place.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    file_id: Id<FileId>,
}

impl Endpoint for Import {
    const META: Meta = Meta::new("admin/emoji/import-zip").secure().role(KEEPER);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let row = projections::drive::by_ids(&app.pool, &[self.file_id.0]).await?.remove(&self.file_id.0);
        let row = row.filter(|row| row.owner == me.id() && row.media_type == MEDIA_TYPE);
        let row = row.ok_or_else(|| {
            ApiError::invalid_param("#/properties/fileId", "must be that of an archive of one's own")
        })?;
        ask(app, &me, Work::Emoji { file: row.id }).await
    }
}

/// An emoji in the list of an archive.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    file_name: String,
    downloaded: bool,
    emoji: Listed<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    id: Id<EmojiId>,
    updated_at: Time,
    name: &'a str,
    host: Option<&'a str>,
    category: Option<&'a str>,
    original_url: String,
    public_url: String,
    uri: Option<&'a str>,
    #[serde(rename = "type")]
    media_type: &'a str,
    aliases: &'a [String],
    license: Option<&'a str>,
    local_only: bool,
    is_sensitive: bool,
    role_ids_that_can_be_used_this_emoji_as_reaction: Vec<Id<RoleId>>,
}

/// All emoji and their pictures, if that isn't more than so many bytes.
pub async fn packed(app: &App, name: String, most: u64) -> Result<Received, ApiError> {
    let packer = app.drive.pack();
    let mut left = most;
    list(app, &packer, &mut left).await?;
    let mut page = from_the_beginning();
    while let Some(rows) = next(app, &mut page).await? {
        for row in rows.into_iter().filter(|row| may_have(&file_name(row))) {
            let key = &row.definition.picture.key;
            let found = app.drive.store.get(None, key, None).await.map_err(ApiError::internal)?;
            let Some(mut pieces) = found.map(|found| found.bytes) else { continue };
            packer.file(&file_name(&row)).await;
            while let Some(piece) = pieces.try_next().await.map_err(ApiError::internal)? {
                spend(&mut left, piece.len())?;
                packer.write(piece).await;
            }
        }
    }
    let archive = packer.end().await.map_err(ApiError::internal)?;
    app.drive.receive_file(Some(name), most, &archive).await.map_err(|failed| match failed {
        NotReceived::TooLarge => CannotAddFile::TooLarge.into(),
        failed => ApiError::internal(failed),
    })
}

/// Writes the list of all emoji.
async fn list(app: &App, packer: &Packer, left: &mut u64) -> Result<(), ApiError> {
    let (host, now) = (Look::of(app).host().to_owned(), Time(app.now()));
    let head = json!({ "metaVersion": META_VERSION, "host": host, "exportedAt": now }).to_string();
    packer.file(META).await;
    packer.write(format!("{},\"emojis\":[", head.strip_suffix('}').unwrap_or(&head))).await;
    let (mut between, mut page) = ("", from_the_beginning());
    while let Some(rows) = next(app, &mut page).await? {
        for row in rows {
            let (key, file_name) = (&row.definition.picture.key, file_name(&row));
            let size = app.drive.store.size(None, key).await.map_err(ApiError::internal)?;
            let downloaded = size.is_some() && may_have(&file_name);
            let url = picture_url(&app.config.url, &row.definition.picture);
            let record = Record { file_name, downloaded, emoji: listed(&row, url) };
            let record = serde_json::to_string(&record).map_err(ApiError::internal)?;
            spend(left, record.len())?;
            packer.write(format!("{between}{record}")).await;
            between = ",\n";
        }
    }
    packer.write("]}").await;
    Ok(())
}

fn listed(row: &EmojiRow, url: String) -> Listed<'_> {
    let emoji = &row.definition;
    Listed {
        id: Id(row.id),
        updated_at: Time(row.updated_at),
        name: &emoji.name,
        host: None,
        category: emoji.category.as_deref(),
        original_url: url.clone(),
        public_url: url,
        uri: None,
        media_type: &emoji.picture.media_type,
        aliases: &emoji.aliases,
        license: emoji.license.as_deref(),
        local_only: emoji.local_only,
        is_sensitive: emoji.sensitive,
        role_ids_that_can_be_used_this_emoji_as_reaction: emoji.roles.iter().copied().map(Id).collect(),
    }
}

/// What the picture of an emoji is called: the emoji, and the ending of its type.
fn file_name(row: &EmojiRow) -> String {
    let name = &row.definition.name;
    let (_, kind) = row.definition.picture.media_type.split_once('/').unwrap_or_default();
    match kind {
        "" => name.clone(),
        "jpeg" => format!("{name}.jpg"),
        kind => format!("{name}.{}", kind.split('+').next().unwrap_or(kind).trim_start_matches("x-")),
    }
}

/// The next emoji of all, oldest first.
async fn next(app: &App, page: &mut Page) -> Result<Option<Vec<EmojiRow>>, ApiError> {
    let rows = projections::emoji::page(&app.pool, None, page).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    page.since = Some(last.id.0);
    Ok(Some(rows))
}

fn spend(left: &mut u64, bytes: usize) -> Result<(), ApiError> {
    *left = left.checked_sub(bytes as u64).ok_or(CannotAddFile::TooLarge)?;
    Ok(())
}

/// Takes over the emoji of an archive, one after the other.
pub async fn import(app: &App, me: &SignedIn, job: &Job, file: FileId) -> Result<(), ApiError> {
    let row = projections::drive::by_ids(&app.pool, &[file]).await?.remove(&file);
    let found = match &row {
        Some(row) => app.drive.store.get(row.owner, &row.key, None).await.map_err(ApiError::internal)?,
        None => None,
    };
    let Some(found) = found else {
        tracing::info!(%file, "an archive of emoji is gone");
        return Ok(());
    };
    let archive = app.drive.receive(None, MAX_FILE_BYTES, found.bytes).await.map_err(ApiError::internal)?;
    let unpacked_to = match app.drive.unpack(&archive.file).await.map_err(ApiError::internal)? {
        Ok(directory) => directory,
        Err(why) => {
            tracing::warn!(%file, why = why.trim_end(), "an archive of emoji is refused");
            return Ok(());
        }
    };
    drop(archive);
    let all = unpacked(unpacked_to.path()).map_err(ApiError::internal)?;
    for (number, about, picture) in all {
        if usize::try_from(job.reached).is_ok_and(|reached| number <= reached) {
            continue;
        }
        let name = format!("{}.image", about.name);
        let picture = app.drive.receive_file(Some(name), MAX_FILE_BYTES, &picture).await;
        take_over(app, me, EmojiId(job.makes(number)), about, picture.map_err(ApiError::internal)?).await?;
        reached(app, job, number).await?;
    }
    Ok(())
}

/// Adds an emoji in the place of what has its name; nothing when that was done before, or can't be done.
async fn take_over(
    app: &App,
    me: &SignedIn,
    id: EmojiId,
    about: About,
    picture: Received,
) -> Result<(), ApiError> {
    let known = app.commands.emoji(id).await.map_err(ApiError::internal)?;
    if known.deleted || known.definition.is_some() {
        return Ok(());
    }
    let Some(picture) = made(app, id, &picture).await? else {
        tracing::info!(emoji = about.name, "an emoji of an archive has no picture that can be shown");
        return Ok(());
    };
    let definition = Definition {
        name: about.name,
        aliases: about.aliases,
        category: about.category,
        license: about.license,
        sensitive: about.is_sensitive,
        local_only: about.local_only,
        roles: Vec::new(),
        memo: String::new(),
        picture,
    };
    // So that nothing goes for what can't come.
    let by = app.by(me);
    if let Err(cannot) = emoji::add(&known, id, definition.clone(), CommandId(id.0)) {
        tracing::info!(emoji = definition.name, %cannot, "an emoji of an archive is passed over");
        app.drive.discard_picture(&app.pool, &definition.picture).await;
        return Ok(());
    }
    if let Some((old, _)) = app.commands.emoji_named(&definition.name).await.map_err(ApiError::internal)? {
        delete(app, app.by(me), old).await?;
    }
    let added = app.commands.add_emoji(by, id, definition.clone()).await;
    if let Err(cannot) = settled(app, added, &definition.picture).await? {
        tracing::info!(emoji = definition.name, %cannot, "an emoji of an archive is passed over");
    }
    Ok(())
}
