//! Custom emoji: `emojis`, `emoji`; and for those who look after them `admin/emoji/*` and `v2/admin/emoji/list`.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate};
use commands::{Failed, Receipt};
use domain::emoji::{
    AliasChange, CannotEmoji, Changes, Definition, MAX_ALIAS_CHARS, MAX_ALIASES, MAX_CATEGORY_CHARS,
    MAX_LICENSE_CHARS, MAX_MEMO_CHARS, MAX_NAME_BYTES, MAX_ROLES, Picture,
};
use domain::log::By;
use domain::{FileId, RoleId, ids};
use futures_util::future::join_all;
use projections::emoji::{EmojiRow, Filter, Search, SortKey};
use projections::world::FileRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Given, Id, Limit, Page, Text};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::drive::emoji::copied;
use crate::drive::kind::is_safe;
use crate::json::emoji::{
    EmojiDetailed, EmojiDetailedAdmin, EmojiSimple, detailed, looked_after, searched, simple,
};

/// How long answers to anonymous GETs may be kept, in seconds.
const EMOJIS_SECONDS: u32 = 3_600;
/// The most emoji that are changed at once.
const MAX_AT_ONCE: usize = 1_000;
/// Emoji changed at the same time.
const CHANGED_AT_ONCE: usize = 16;
/// The longest text that is looked for, in characters.
const MAX_SEARCH_CHARS: usize = 256;
/// The most keys by which a list is sorted.
const MAX_SORT_KEYS: usize = 13;
/// The policy of those who look after emoji.
pub(super) const KEEPER: &str = "canManageCustomEmojis";

type EmojiId = Id<ids::EmojiId>;

/// The name of an emoji.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct EmojiName(#[schemars(regex(pattern = r"^[a-zA-Z0-9_]+$"), length(max = MAX_NAME_BYTES))] String);

/// Other words by which an emoji is found.
type Aliases = Vec<Text<0, MAX_ALIAS_CHARS>>;

/// The custom emoji of this server.
#[derive(Deserialize, JsonSchema)]
pub struct All {}

/// The custom emoji of this server.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct AllReply {
    emojis: Vec<EmojiSimple>,
}

impl Endpoint for All {
    const META: Meta = Meta::new("emojis").get().cache(EMOJIS_SECONDS);
    type Caller = Anyone;
    type Reply = AllReply;

    async fn handle(self, app: &App, _: Anyone) -> Result<AllReply, ApiError> {
        let rows = projections::emoji::all(&app.pool).await?;
        Ok(AllReply { emojis: rows.into_iter().map(|row| simple(&app.config.url, row)).collect() })
    }
}

/// One custom emoji of this server.
#[derive(Deserialize, JsonSchema)]
pub struct Show {
    name: String,
}

const NO_SUCH_EMOJI: ErrorDef =
    ErrorDef::new("NO_SUCH_EMOJI", "No such emoji.", "5f9b4c3e-6f8d-4d0b-9d5c-0a6f1b8e2c47");

impl Endpoint for Show {
    const META: Meta = Meta::new("emoji").get().cache(EMOJIS_SECONDS).errors(&[NO_SUCH_EMOJI]);
    type Caller = Anyone;
    type Reply = EmojiDetailed;

    async fn handle(self, app: &App, _: Anyone) -> Result<EmojiDetailed, ApiError> {
        let row = projections::emoji::by_name(&app.pool, &self.name).await?.ok_or(NO_SUCH_EMOJI)?;
        Ok(detailed(&app.config.url, row.id, &row.definition))
    }
}

/// Add an emoji, with a copy of a file as its picture.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    name: EmojiName,
    file_id: Id<FileId>,
    category: Option<Text<0, MAX_CATEGORY_CHARS>>,
    #[serde(default)]
    #[schemars(length(max = MAX_ALIASES))]
    aliases: Aliases,
    license: Option<Text<0, MAX_LICENSE_CHARS>>,
    #[serde(default)]
    is_sensitive: bool,
    #[serde(default)]
    local_only: bool,
    memo: Option<Text<0, MAX_MEMO_CHARS>>,
    #[serde(default)]
    #[schemars(length(max = MAX_ROLES))]
    role_ids_that_can_be_used_this_emoji_as_reaction: Vec<Id<RoleId>>,
}

const NO_SUCH_FILE_TO_ADD: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "fc46b5a4-6b92-4c33-ac66-b806659bb5cf");
const UNSUPPORTED_FILE_TYPE: ErrorDef =
    ErrorDef::new("UNSUPPORTED_FILE_TYPE", "Unsupported file type.", "f7599d96-8750-af68-1633-9575d625c1a7");
const DUPLICATE_NAME: ErrorDef =
    ErrorDef::new("DUPLICATE_NAME", "Duplicate name.", "f7a3462c-4e6e-4069-8421-b9bd4f4c3975");

impl Endpoint for Add {
    const META: Meta = Meta::new("admin/emoji/add").kind("write:admin:emoji").role(KEEPER).errors(&[
        NO_SUCH_FILE_TO_ADD,
        UNSUPPORTED_FILE_TYPE,
        DUPLICATE_NAME,
    ]);
    type Caller = SignedIn;
    type Reply = EmojiDetailed;

    async fn handle(self, app: &App, me: SignedIn) -> Result<EmojiDetailed, ApiError> {
        let row = file(app, self.file_id.0).await?.ok_or(NO_SUCH_FILE_TO_ADD)?;
        if !is_picture(&row) {
            return Err(UNSUPPORTED_FILE_TYPE.into());
        }
        // So that nothing is copied in vain.
        if app.commands.emoji_named(&self.name.0).await.map_err(ApiError::internal)?.is_some() {
            return Err(DUPLICATE_NAME.into());
        }
        let by = app.by(&me);
        let id = ids::EmojiId(app.ids.at(by.now));
        let picture = copied(app, id, &row).await?.ok_or(NO_SUCH_FILE_TO_ADD)?;
        let definition = Definition {
            name: self.name.0,
            aliases: texts(self.aliases),
            category: self.category.map(|text| text.0),
            license: self.license.map(|text| text.0),
            sensitive: self.is_sensitive,
            local_only: self.local_only,
            roles: roles(self.role_ids_that_can_be_used_this_emoji_as_reaction),
            memo: self.memo.map(|text| text.0).unwrap_or_default(),
            picture,
        };
        let added = app.commands.add_emoji(by, id, definition.clone()).await;
        let receipt = settled(app, added, &definition.picture).await?.map_err(|cannot| match cannot {
            CannotEmoji::NameTaken => DUPLICATE_NAME.into(),
            other => invalid(other),
        })?;
        app.shown(receipt).await;
        Ok(detailed(&app.config.url, id, &definition))
    }
}

async fn file(app: &App, id: FileId) -> Result<Option<FileRow>, ApiError> {
    Ok(projections::drive::by_ids(&app.pool, &[id]).await?.remove(&id))
}

/// Whether browsers show it as it is.
fn is_picture(file: &FileRow) -> bool {
    file.media_type.starts_with("image/") && is_safe(&file.media_type)
}

/// What became of an emoji with a new picture: of that nothing is left when the emoji was refused. When
/// nobody knows, it is found out later.
pub(super) async fn settled(
    app: &App,
    outcome: Result<Receipt, Failed<CannotEmoji>>,
    picture: &Picture,
) -> Result<Result<Receipt, CannotEmoji>, ApiError> {
    match outcome {
        Ok(receipt) => {
            app.drive.settled_picture(&app.pool, picture).await?;
            Ok(Ok(receipt))
        }
        Err(Failed::Refused(cannot)) => {
            app.drive.discard_picture(&app.pool, picture).await;
            Ok(Err(cannot))
        }
        Err(failed) => Err(ApiError::internal(failed)),
    }
}

/// What a well-formed request can't be refused for, but by the bounds of the rules.
fn invalid(cannot: CannotEmoji) -> ApiError {
    ApiError::invalid_param("#/properties", cannot.to_string())
}

fn texts<const MAX: usize>(texts: Vec<Text<0, MAX>>) -> Vec<String> {
    texts.into_iter().map(|text| text.0).collect()
}

fn roles(roles: Vec<Id<RoleId>>) -> Vec<RoleId> {
    roles.into_iter().map(|role| role.0).collect()
}

/// Change an emoji, by its id or its name; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    #[serde(default)]
    id: Given<EmojiId>,
    /// With an id: the name it has from now on.
    #[serde(default)]
    name: Given<EmojiName>,
    /// Whose copy is its picture from now on.
    #[serde(default)]
    file_id: Given<Id<FileId>>,
    #[serde(default)]
    category: Given<Option<Text<0, MAX_CATEGORY_CHARS>>>,
    #[serde(default)]
    #[schemars(length(max = MAX_ALIASES))]
    aliases: Given<Aliases>,
    #[serde(default)]
    license: Given<Option<Text<0, MAX_LICENSE_CHARS>>>,
    #[serde(default)]
    is_sensitive: Given<bool>,
    #[serde(default)]
    local_only: Given<bool>,
    #[serde(default)]
    memo: Given<Option<Text<0, MAX_MEMO_CHARS>>>,
    #[serde(default)]
    #[schemars(length(max = MAX_ROLES))]
    role_ids_that_can_be_used_this_emoji_as_reaction: Given<Vec<Id<RoleId>>>,
}

const NO_SUCH_EMOJI_TO_UPDATE: ErrorDef =
    ErrorDef::new("NO_SUCH_EMOJI", "No such emoji.", "684dec9d-a8c2-4364-9aa8-456c49cb1dc8");
const NO_SUCH_FILE_TO_UPDATE_WITH: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "14fb9fd9-0731-4e2f-aeb9-f09e4740333d");
const SAME_NAME_EMOJI_EXISTS: ErrorDef = ErrorDef::new(
    "SAME_NAME_EMOJI_EXISTS",
    "Emoji that have same name already exists.",
    "7180fe9d-1ee3-bff9-647d-fe9896d2ffb8",
);

impl Endpoint for Update {
    const META: Meta = Meta::new("admin/emoji/update").kind("write:admin:emoji").role(KEEPER).errors(&[
        NO_SUCH_EMOJI_TO_UPDATE,
        NO_SUCH_FILE_TO_UPDATE_WITH,
        SAME_NAME_EMOJI_EXISTS,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let row = match (self.id.0, &self.name.0) {
            (Some(id), _) => projections::emoji::by_id(&app.pool, id.0).await?,
            (None, Some(name)) => projections::emoji::by_name(&app.pool, &name.0).await?,
            (None, None) => {
                let reason = "must have required property 'id'";
                return Err(ApiError::invalid_param("#/allOf/0/anyOf/0/required", reason));
            }
        };
        let row = row.ok_or(NO_SUCH_EMOJI_TO_UPDATE)?;
        let picture = match self.file_id.0 {
            None => None,
            Some(id) => {
                let file = file(app, id.0).await?.filter(is_picture).ok_or(NO_SUCH_FILE_TO_UPDATE_WITH)?;
                let copy = copied(app, row.id, &file).await?;
                Some(copy.ok_or(NO_SUCH_FILE_TO_UPDATE_WITH)?)
            }
        };
        let changes = Changes {
            name: self.name.0.map(|name| name.0),
            aliases: self.aliases.0.map(|aliases| AliasChange::Set(texts(aliases))),
            category: self.category.0.map(|category| category.map(|text| text.0)),
            license: self.license.0.map(|license| license.map(|text| text.0)),
            sensitive: self.is_sensitive.0,
            local_only: self.local_only.0,
            roles: self.role_ids_that_can_be_used_this_emoji_as_reaction.0.map(roles),
            memo: self.memo.0.map(|memo| memo.map(|text| text.0).unwrap_or_default()),
            picture: picture.clone(),
        };
        let by = app.by(&me);
        let changed = match &picture {
            None => app.commands.change_emoji(by, row.id, changes).await.map_err(as_update)?,
            Some(picture) => {
                let old = &row.definition.picture;
                app.drive.note_picture(&app.pool, row.id, old, app.now()).await?;
                let outcome = app.commands.change_emoji(by, row.id, changes).await;
                let receipt = settled(app, outcome, picture).await?;
                let receipt = receipt.map_err(|cannot| as_update(Failed::Refused(cannot)))?;
                app.drive.discard_picture(&app.pool, old).await;
                receipt
            }
        };
        app.shown(changed).await;
        Ok(())
    }
}

fn as_update(failed: Failed<CannotEmoji>) -> ApiError {
    match failed {
        Failed::Refused(CannotEmoji::NoSuchEmoji) => NO_SUCH_EMOJI_TO_UPDATE.into(),
        Failed::Refused(CannotEmoji::NameTaken) => SAME_NAME_EMOJI_EXISTS.into(),
        Failed::Refused(other) => invalid(other),
        failed => ApiError::internal(failed),
    }
}

/// Delete an emoji.
#[derive(Deserialize, JsonSchema)]
pub struct Delete {
    id: EmojiId,
}

const NO_SUCH_EMOJI_TO_DELETE: ErrorDef =
    ErrorDef::new("NO_SUCH_EMOJI", "No such emoji.", "be83669b-773a-44b7-b1f8-e5e5170ac3c2");

impl Endpoint for Delete {
    const META: Meta = Meta::new("admin/emoji/delete")
        .kind("write:admin:emoji")
        .role(KEEPER)
        .errors(&[NO_SUCH_EMOJI_TO_DELETE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let receipt = delete(app, app.by(&me), self.id.0).await?.ok_or(NO_SUCH_EMOJI_TO_DELETE)?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Deletes an emoji and its picture; none when there was none.
pub(super) async fn delete(app: &App, by: By, id: ids::EmojiId) -> Result<Option<Receipt>, ApiError> {
    let emoji = app.commands.emoji(id).await.map_err(ApiError::internal)?;
    let Some(emoji) = &emoji.definition else { return Ok(None) };
    app.drive.note_picture(&app.pool, id, &emoji.picture, app.now()).await?;
    match app.commands.delete_emoji(by, id).await {
        Ok(receipt) => {
            app.drive.discard_picture(&app.pool, &emoji.picture).await;
            Ok(Some(receipt))
        }
        Err(Failed::Refused(_)) => Ok(None),
        Err(failed) => Err(ApiError::internal(failed)),
    }
}

/// Ids of emoji that are changed at once.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Many(#[schemars(length(max = MAX_AT_ONCE))] Vec<EmojiId>);

impl Many {
    /// Does the same with each; what is no emoji is passed over.
    async fn each<F>(self, app: &App, act: impl Fn(ids::EmojiId) -> F) -> Result<(), ApiError>
    where
        F: Future<Output = Result<Option<Receipt>, ApiError>>,
    {
        let mut last: Option<Receipt> = None;
        for ids in self.0.chunks(CHANGED_AT_ONCE) {
            for outcome in join_all(ids.iter().map(|id| act(id.0))).await {
                last = last.into_iter().chain(outcome?).max_by_key(|receipt| receipt.position);
            }
        }
        if let Some(receipt) = last {
            app.shown(receipt).await;
        }
        Ok(())
    }

    async fn change(self, app: &App, me: &SignedIn, changes: Changes) -> Result<(), ApiError> {
        let change = |id| {
            let changes = changes.clone();
            async move {
                match app.commands.change_emoji(app.by(me), id, changes).await {
                    Ok(receipt) => Ok(Some(receipt)),
                    Err(Failed::Refused(CannotEmoji::NoSuchEmoji)) => Ok(None),
                    Err(Failed::Refused(cannot)) => Err(invalid(cannot)),
                    Err(failed) => Err(ApiError::internal(failed)),
                }
            }
        };
        self.each(app, change).await
    }
}

/// Delete many emoji.
#[derive(Deserialize, JsonSchema)]
pub struct DeleteMany {
    ids: Many,
}

impl Endpoint for DeleteMany {
    const META: Meta = Meta::new("admin/emoji/delete-bulk").kind("write:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        self.ids.each(app, |id| delete(app, app.by(&me), id)).await
    }
}

/// Other words for many emoji.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
struct ManyAliases {
    ids: Many,
    #[schemars(length(max = MAX_ALIASES))]
    aliases: Aliases,
}

impl ManyAliases {
    async fn change(
        self,
        app: &App,
        me: &SignedIn,
        change: fn(Vec<String>) -> AliasChange,
    ) -> Result<(), ApiError> {
        let aliases = Some(change(texts(self.aliases)));
        self.ids.change(app, me, Changes { aliases, ..Changes::default() }).await
    }
}

/// Give many emoji more words by which they are found.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AddAliases(ManyAliases);

impl Endpoint for AddAliases {
    const META: Meta = Meta::new("admin/emoji/add-aliases-bulk").kind("write:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        self.0.change(app, &me, AliasChange::Add).await
    }
}

/// Take words from many emoji by which they were found.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RemoveAliases(ManyAliases);

impl Endpoint for RemoveAliases {
    const META: Meta = Meta::new("admin/emoji/remove-aliases-bulk").kind("write:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        self.0.change(app, &me, AliasChange::Remove).await
    }
}

/// Say by which words many emoji are found.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SetAliases(ManyAliases);

impl Endpoint for SetAliases {
    const META: Meta = Meta::new("admin/emoji/set-aliases-bulk").kind("write:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        self.0.change(app, &me, AliasChange::Set).await
    }
}

/// Put many emoji into a category.
#[derive(Deserialize, JsonSchema)]
pub struct SetCategory {
    ids: Many,
    /// Null: into none.
    category: Option<Text<0, MAX_CATEGORY_CHARS>>,
}

impl Endpoint for SetCategory {
    const META: Meta = Meta::new("admin/emoji/set-category-bulk").kind("write:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let category = Some(self.category.map(|text| text.0));
        self.ids.change(app, &me, Changes { category, ..Changes::default() }).await
    }
}

/// Say under which license many emoji are.
#[derive(Deserialize, JsonSchema)]
pub struct SetLicense {
    ids: Many,
    /// Null: nothing is said of it.
    license: Option<Text<0, MAX_LICENSE_CHARS>>,
}

impl Endpoint for SetLicense {
    const META: Meta = Meta::new("admin/emoji/set-license-bulk").kind("write:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let license = Some(self.license.map(|text| text.0));
        self.ids.change(app, &me, Changes { license, ..Changes::default() }).await
    }
}

/// Take an emoji of another server over. Those of this server are here already.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    emoji_id: EmojiId,
}

/// The new emoji.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Copied {
    id: EmojiId,
}

const NO_SUCH_EMOJI_TO_COPY: ErrorDef =
    ErrorDef::new("NO_SUCH_EMOJI", "No such emoji.", "e2785b66-dca3-4087-9cac-b93c541cc425");

impl Endpoint for Copy {
    const META: Meta = Meta::new("admin/emoji/copy")
        .kind("write:admin:emoji")
        .role(KEEPER)
        .errors(&[NO_SUCH_EMOJI_TO_COPY, DUPLICATE_NAME]);
    type Caller = SignedIn;
    type Reply = Copied;

    async fn handle(self, app: &App, _: SignedIn) -> Result<Copied, ApiError> {
        match projections::emoji::by_id(&app.pool, self.emoji_id.0).await? {
            Some(_) => Err(DUPLICATE_NAME.into()),
            None => Err(NO_SUCH_EMOJI_TO_COPY.into()),
        }
    }
}

/// List the emoji of this server, for those who look after them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// A part of a name, of another word for it, or of a category; or names, each as `:name:`.
    query: Option<Text<0, MAX_SEARCH_CHARS>>,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for List {
    const META: Meta = Meta::new("admin/emoji/list").kind("read:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = Vec<EmojiDetailed>;

    async fn handle(self, app: &App, _: SignedIn) -> Result<Vec<EmojiDetailed>, ApiError> {
        let page = self.page.limited(self.limit);
        let query = self.query.as_ref().map(|query| query.0.as_str()).filter(|query| !query.is_empty());
        let names: Vec<&str> = query.into_iter().flat_map(named).collect();
        let search = match query {
            None => None,
            Some(query) if names.is_empty() => Some(Search::Part(query)),
            Some(_) => Some(Search::Named(&names)),
        };
        let rows = projections::emoji::page(&app.pool, search, &page).await?;
        Ok(rows.iter().map(|row| looked_after(&app.config.url, row)).collect())
    }
}

/// The names in `:one: :two:`.
fn named(query: &str) -> impl Iterator<Item = &str> {
    query.split_whitespace().filter_map(|word| {
        let name = word.strip_prefix(':')?.strip_suffix(':')?;
        domain::emoji::is_name(name).then_some(name)
    })
}

/// List emoji of other servers. None are known before there is federation.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListRemote {
    #[expect(dead_code, reason = "there is nothing to look in")]
    query: Option<Text<0, MAX_SEARCH_CHARS>>,
    #[expect(dead_code, reason = "there is nothing to look in")]
    host: Option<Text<0, MAX_SEARCH_CHARS>>,
    #[expect(dead_code, reason = "there is nothing to look in")]
    #[serde(default)]
    limit: Limit,
    #[expect(dead_code, reason = "there is nothing to look in")]
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for ListRemote {
    const META: Meta = Meta::new("admin/emoji/list-remote").kind("read:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = Vec<EmojiDetailed>;

    async fn handle(self, _: &App, _: SignedIn) -> Result<Vec<EmojiDetailed>, ApiError> {
        Ok(Vec::new())
    }
}

/// Search for emoji in many ways.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Find {
    query: Option<Query>,
    #[serde(flatten)]
    paging: Page,
    #[serde(default)]
    limit: Limit,
    /// Which of the pages there are, from 1.
    #[serde(default)]
    page: Given<u32>,
    #[serde(default = "newest_first")]
    #[schemars(length(max = MAX_SORT_KEYS))]
    sort_keys: Vec<Sort>,
}

/// Of each field some words, of which one is a part of it.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
struct Query {
    updated_at_from: Given<Word>,
    updated_at_to: Given<Word>,
    name: Given<Word>,
    host: Given<Word>,
    uri: Given<Word>,
    public_url: Given<Word>,
    original_url: Given<Word>,
    #[serde(rename = "type")]
    media_type: Given<Word>,
    aliases: Given<Word>,
    category: Given<Word>,
    license: Given<Word>,
    is_sensitive: Given<bool>,
    local_only: Given<bool>,
    host_type: HostType,
    #[schemars(length(max = MAX_ROLES))]
    role_ids: Vec<Id<RoleId>>,
}

type Word = Text<0, MAX_SEARCH_CHARS>;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum HostType {
    Local,
    Remote,
    #[default]
    All,
}

#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("enum" = [
    "+id", "-id", "+updatedAt", "-updatedAt", "+name", "-name", "+host", "-host", "+uri", "-uri", "+publicUrl",
    "-publicUrl", "+type", "-type", "+aliases", "-aliases", "+category", "-category", "+license", "-license",
    "+isSensitive", "-isSensitive", "+localOnly", "-localOnly", "+roleIdsThatCanBeUsedThisEmojiAsReaction",
    "-roleIdsThatCanBeUsedThisEmojiAsReaction",
]))]
struct Sort(String);

fn newest_first() -> Vec<Sort> {
    vec![Sort("-id".to_owned())]
}

impl Sort {
    /// By what, and whether the greatest comes first. All are of this server, and each picture has an address of
    /// its own that says nothing, so by those nothing is sorted.
    fn key(&self) -> Option<(SortKey, bool)> {
        let key = match self.0.get(1..)? {
            "id" => SortKey::Id,
            "updatedAt" => SortKey::UpdatedAt,
            "name" => SortKey::Name,
            "type" => SortKey::MediaType,
            "aliases" => SortKey::Aliases,
            "category" => SortKey::Category,
            "license" => SortKey::License,
            "isSensitive" => SortKey::Sensitive,
            "localOnly" => SortKey::LocalOnly,
            "roleIdsThatCanBeUsedThisEmojiAsReaction" => SortKey::Roles,
            _ => return None,
        };
        Some((key, self.0.starts_with('-')))
    }
}

/// A page of emoji.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Found {
    emojis: Vec<EmojiDetailedAdmin>,
    /// On this page.
    count: usize,
    all_count: i64,
    all_pages: i64,
}

impl Endpoint for Find {
    const META: Meta = Meta::new("v2/admin/emoji/list").kind("read:admin:emoji").role(KEEPER);
    type Caller = SignedIn;
    type Reply = Found;

    async fn handle(self, app: &App, _: SignedIn) -> Result<Found, ApiError> {
        let query = self.query.unwrap_or_default();
        let is_remote = |words: &Given<Word>| words.0.as_ref().is_some_and(|word| !word.0.trim().is_empty());
        if query.host_type == HostType::Remote || is_remote(&query.host) || is_remote(&query.uri) {
            return Ok(Found { emojis: Vec::new(), count: 0, all_count: 0, all_pages: 0 });
        }
        let words = |words: &'_ Given<Word>| words.0.as_ref().map(|word| word.0.clone());
        let roles: Vec<RoleId> = query.role_ids.iter().map(|role| role.0).collect();
        let key = words(&query.public_url).or(words(&query.original_url));
        let (name, media_type, aliases) =
            (words(&query.name), words(&query.media_type), words(&query.aliases));
        let (category, license) = (words(&query.category), words(&query.license));
        let filter = Filter {
            updated_from: day("updatedAtFrom", words(&query.updated_at_from))?,
            updated_to: day("updatedAtTo", words(&query.updated_at_to))?,
            name: name.as_deref(),
            media_type: media_type.as_deref(),
            aliases: aliases.as_deref(),
            category: category.as_deref(),
            license: license.as_deref(),
            key: key.as_deref().and_then(|url| url.rsplit('/').next()),
            sensitive: query.is_sensitive.0,
            local_only: query.local_only.0,
            roles: &roles,
        };
        let sort: Vec<(SortKey, bool)> = self.sort_keys.iter().filter_map(Sort::key).collect();
        let page = self.paging.limited(self.limit);
        let limit = page.limit();
        let before = i64::from(self.page.0.unwrap_or(1).saturating_sub(1));
        let (rows, all_count) =
            projections::emoji::filtered(&app.pool, &filter, &sort, &page, before * limit).await?;
        let names = role_names(app, &rows).await?;
        let emojis: Vec<EmojiDetailedAdmin> =
            rows.into_iter().map(|row| searched(&app.config.url, row, &names)).collect();
        Ok(Found { count: emojis.len(), emojis, all_count, all_pages: (all_count + limit - 1) / limit })
    }
}

/// A day, or the day of an instant.
fn day(name: &str, text: Option<String>) -> Result<Option<NaiveDate>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let instant = || DateTime::parse_from_rfc3339(&text).ok().map(|at| at.to_utc().date_naive());
    let day = text.parse().ok().or_else(instant);
    let param = || format!("#/properties/query/properties/{name}");
    day.map(Some).ok_or_else(|| ApiError::invalid_param(param(), "must be a date"))
}

async fn role_names(app: &App, rows: &[EmojiRow]) -> Result<HashMap<RoleId, String>, ApiError> {
    let mut ids: Vec<RoleId> = rows.iter().flat_map(|row| row.definition.roles.iter().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let roles = projections::role::by_ids(&app.pool, &ids, app.now()).await?;
    Ok(roles.into_iter().map(|(id, (role, _))| (id, role.definition.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_a_query() {
        assert_eq!(named(":blob: x :cat: :a-b:").collect::<Vec<_>>(), ["blob", "cat"]);
        assert_eq!(named("blob").count(), 0);
    }

    #[test]
    fn days_are_read_from_dates_and_instants() {
        let read = |text: &str| day("x", Some(text.to_owned())).ok().flatten();
        let expected = NaiveDate::from_ymd_opt(2026, 11, 29);
        assert_eq!(read("2026-11-29"), expected);
        assert_eq!(read("2026-11-29T23:30:00Z"), expected);
        assert!(day("x", Some("yesterday".to_owned())).is_err());
        assert!(day("x", None).is_ok_and(|day| day.is_none()));
    }
}
