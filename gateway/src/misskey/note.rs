//! `notes`, `notes/create`, `notes/show`, `notes/show-partial-bulk`, `notes/translate`, `notes/delete`,
//! `notes/unrenote`, and what hangs together with one note:
//! `notes/children`, `notes/replies`, `notes/renotes`, `notes/conversation`, `notes/state`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use commands::{Failed, NewNote};
use domain::draft::{Content, DraftPoll};
use domain::emoji::Reaction;
use domain::ids;
use domain::note::{
    Allowed, CannotDelete, CannotWrite, MAX_CW_CHARS, MAX_FILES, MAX_TEXT_CHARS, MAX_VISIBLE_USERS,
    ReactionAcceptance, Visibility,
};
use domain::policy::{Sight, Viewer};
use domain::poll::{MAX_CHOICE_CHARS, MAX_CHOICES, MIN_CHOICES};
use projections::note::PublicFilter;
use projections::{Wanted, mute};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::channel::ChannelId;
use super::draft;
use super::timeline::seen_page;
use crate::api::param::{Given, Id, Limit, NoteId, Page, Text, Unique, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::{self, Look};

/// The most notes whose changes are asked for at once.
const MAX_PARTIAL: usize = 100;

/// Write a note, a reply, a renote or a quote.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend(
    "if" = {
        "properties": {
            "renoteId": { "type": "null" },
            "fileIds": { "type": "null" },
            "mediaIds": { "type": "null" },
            "poll": { "type": "null" },
        },
    },
    "then" = {
        "properties": {
            "text": { "type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARS, "pattern": "[^\\s]+" },
        },
        "required": ["text"],
    },
))]
pub struct Create {
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["public", "home", "followers", "specified"]))]
    visibility: Visibility,
    #[serde(default)]
    visible_user_ids: Unique<UserId, 0, MAX_VISIBLE_USERS>,
    cw: Option<Text<1, MAX_CW_CHARS>>,
    #[serde(default)]
    local_only: bool,
    #[schemars(
        with = "Option<String>",
        extend("enum" = [
            null,
            "likeOnly",
            "likeOnlyForRemote",
            "nonSensitiveOnly",
            "nonSensitiveOnlyForLocalLikeOnlyForRemote",
        ]),
    )]
    reaction_acceptance: Option<ReactionAcceptance>,
    #[serde(default)]
    no_extract_mentions: bool,
    #[serde(default)]
    no_extract_hashtags: bool,
    #[serde(default)]
    no_extract_emojis: bool,
    reply_id: Option<NoteId>,
    renote_id: Option<NoteId>,
    channel_id: Option<ChannelId>,
    text: Option<Text<1, MAX_TEXT_CHARS>>,
    #[serde(default)]
    #[schemars(with = "Unique<Id<ids::FileId>, 1, MAX_FILES>")]
    file_ids: Option<Unique<Id<ids::FileId>, 1, MAX_FILES>>,
    #[serde(default)]
    /// The old name of `fileIds`.
    #[schemars(with = "Unique<Id<ids::FileId>, 1, MAX_FILES>")]
    media_ids: Option<Unique<Id<ids::FileId>, 1, MAX_FILES>>,
    poll: Option<NewPoll>,
    /// Milliseconds since 1970: posted then, to the second, and nothing is answered now.
    scheduled_at: Option<i64>,
    /// Answer nothing.
    #[serde(default)]
    no_created_note: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewPoll {
    choices: Unique<Text<1, MAX_CHOICE_CHARS>, MIN_CHOICES, MAX_CHOICES>,
    #[serde(default)]
    multiple: bool,
    /// Milliseconds since 1970.
    expires_at: Option<i64>,
    /// Milliseconds from now.
    #[schemars(range(min = 1))]
    expired_after: Option<i64>,
}

/// The note that was written.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    created_note: json::note::Note,
}

pub const NO_SUCH_RENOTE_TARGET: ErrorDef =
    ErrorDef::new("NO_SUCH_RENOTE_TARGET", "No such renote target.", "b5c90186-4ab0-49c8-9bba-a1f76c282ba4");
pub const CANNOT_RENOTE_TO_A_PURE_RENOTE: ErrorDef = ErrorDef::new(
    "CANNOT_RENOTE_TO_A_PURE_RENOTE",
    "You can not Renote a pure Renote.",
    "fd4cc33e-2a37-48dd-99cc-9b806eb2031a",
);
pub const CANNOT_RENOTE_DUE_TO_VISIBILITY: ErrorDef = ErrorDef::new(
    "CANNOT_RENOTE_DUE_TO_VISIBILITY",
    "You can not Renote due to target visibility.",
    "be9529e9-fe72-4de0-ae43-0b363c4938af",
);
pub const NO_SUCH_REPLY_TARGET: ErrorDef =
    ErrorDef::new("NO_SUCH_REPLY_TARGET", "No such reply target.", "749ee0f6-d3da-459a-bf02-282e2da4292c");
pub const CANNOT_REPLY_TO_AN_INVISIBLE_NOTE: ErrorDef = ErrorDef::new(
    "CANNOT_REPLY_TO_AN_INVISIBLE_NOTE",
    "You cannot reply to an invisible Note.",
    "b98980fa-3780-406c-a935-b6d0eeee10d1",
);
pub const CANNOT_REPLY_TO_A_PURE_RENOTE: ErrorDef = ErrorDef::new(
    "CANNOT_REPLY_TO_A_PURE_RENOTE",
    "You can not reply to a pure Renote.",
    "3ac74a84-8fd5-4bb0-870f-01804f82ce15",
);
pub const CANNOT_REPLY_WIDER: ErrorDef = ErrorDef::new(
    "CANNOT_REPLY_TO_SPECIFIED_VISIBILITY_NOTE_WITH_EXTENDED_VISIBILITY",
    "You cannot reply to a specified visibility note with extended visibility.",
    "ed940410-535c-4d5e-bfa3-af798671e93c",
);
pub const BLOCKED: ErrorDef = ErrorDef::new(
    "YOU_HAVE_BEEN_BLOCKED",
    "You have been blocked by this user.",
    "b390d7e1-8a5e-46ed-b625-06271cafd3d3",
);
pub const CANNOT_CREATE_ALREADY_EXPIRED_POLL: ErrorDef = ErrorDef::new(
    "CANNOT_CREATE_ALREADY_EXPIRED_POLL",
    "Poll is already expired.",
    "04da457d-b083-4055-9082-955525eda5a5",
);
pub const CANNOT_RENOTE_OUTSIDE_OF_CHANNEL: ErrorDef = ErrorDef::new(
    "CANNOT_RENOTE_OUTSIDE_OF_CHANNEL",
    "Cannot renote outside of channel.",
    "33510210-8452-094c-6227-4a6c05d99f00",
);
pub const NO_SUCH_CHANNEL: ErrorDef =
    ErrorDef::new("NO_SUCH_CHANNEL", "No such channel.", "b1653923-5453-4edc-b786-7c4f39bb0bbb");
pub const NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "Some files are not found.", "b6992544-63e7-67f0-fa7f-32444b1b5306");
pub const CONTAINS_TOO_MANY_MENTIONS: ErrorDef = ErrorDef::new(
    "CONTAINS_TOO_MANY_MENTIONS",
    "Cannot post because it exceeds the allowed number of mentions.",
    "4de0363a-3046-481b-9b0f-feff3e211025",
);
pub const CONTAINS_PROHIBITED_WORDS: ErrorDef = ErrorDef::new(
    "CONTAINS_PROHIBITED_WORDS",
    "Cannot post because it contains prohibited words.",
    "aa6e01d3-a85c-669d-758a-76aab43af334",
);

impl Endpoint for Create {
    const META: Meta =
        Meta::new("notes/create").kind("write:notes").limit(300, per::HOUR).not_moved().errors(&[
            NO_SUCH_RENOTE_TARGET,
            CANNOT_RENOTE_TO_A_PURE_RENOTE,
            CANNOT_RENOTE_DUE_TO_VISIBILITY,
            NO_SUCH_REPLY_TARGET,
            CANNOT_REPLY_TO_AN_INVISIBLE_NOTE,
            CANNOT_REPLY_TO_A_PURE_RENOTE,
            CANNOT_REPLY_WIDER,
            BLOCKED,
            CANNOT_CREATE_ALREADY_EXPIRED_POLL,
            NO_SUCH_CHANNEL,
            CANNOT_RENOTE_OUTSIDE_OF_CHANNEL,
            NO_SUCH_FILE,
            CONTAINS_TOO_MANY_MENTIONS,
            CONTAINS_PROHIBITED_WORDS,
            draft::CANNOT_SCHEDULE_TO_PAST,
            draft::CANNOT_SCHEDULE_TO_FAR_FUTURE,
            draft::CANNOT_SCHEDULE_SAME_TIME,
            draft::TOO_MANY_SCHEDULED_NOTES,
            draft::MAY_NOT_SCHEDULE,
        ]);
    type Caller = SignedIn;
    type Reply = Option<Created>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Option<Created>, ApiError> {
        if let Some(at) = self.scheduled_at {
            draft::schedule(app, &me, self.content(), at).await?;
            return Ok(None);
        }
        let by = app.by(&me);
        let (now, viewer) = (by.now, Some(me.id()));
        let id = ids::NoteId(app.ids.at(now));
        let (reply, renote) = (self.reply_id.map(|id| id.0), self.renote_id.map(|id| id.0));
        let wants_note = !self.no_created_note;
        // The targets are told as they stood when they were answered or passed on (recorded behaviour).
        let targets: Vec<ids::NoteId> = reply.into_iter().chain(renote).filter(|_| wants_note).collect();
        let before = app.hydrate(Wanted::notes(targets), viewer).await?;
        let receipt =
            app.commands.write_note(by, me.id(), self.new_note(id, now, me.account.notes())).await?;
        app.shown(receipt).await;
        if !wants_note {
            return Ok(None);
        }
        let world = app.hydrate(Wanted::notes(vec![id]), viewer).await?;
        // A read model that is late beyond the deadline has no note to show, but it is written.
        Ok(json::note::new(&Look::of(app), &world, &before, id).map(|created_note| Created { created_note }))
    }
}

impl Create {
    fn new_note(self, id: ids::NoteId, now: DateTime<Utc>, allowed: Allowed) -> NewNote {
        NewNote::of(id, self.content(), now, allowed)
    }

    fn content(self) -> Content {
        let files = self.file_ids.or(self.media_ids);
        Content {
            text: self.text.map(|text| text.0),
            cw: self.cw.map(|cw| cw.0),
            visibility: self.visibility,
            visible_to: self.visible_user_ids.0.into_iter().map(|user| user.0).collect(),
            local_only: self.local_only,
            reaction_acceptance: self.reaction_acceptance,
            reply: self.reply_id.map(|id| id.0),
            renote: self.renote_id.map(|id| id.0),
            poll: self.poll.map(DraftPoll::from),
            files: files.map(|files| files.0.into_iter().map(|file| file.0).collect()).unwrap_or_default(),
            channel: self.channel_id.map(|id| id.0),
            hashtag: None,
            ignore_mentions: self.no_extract_mentions,
            ignore_hashtags: self.no_extract_hashtags,
            ignore_emojis: self.no_extract_emojis,
        }
    }
}

impl From<NewPoll> for DraftPoll {
    fn from(poll: NewPoll) -> Self {
        Self {
            choices: poll.choices.0.into_iter().map(|choice| choice.0).collect(),
            multiple: poll.multiple,
            expires_at: poll.expires_at.and_then(draft::instant),
            expired_after: poll.expired_after,
        }
    }
}

impl From<CannotWrite> for ApiError {
    fn from(refusal: CannotWrite) -> Self {
        match refusal {
            CannotWrite::NoSuchReplyTarget => NO_SUCH_REPLY_TARGET.into(),
            CannotWrite::NoSuchRenoteTarget => NO_SUCH_RENOTE_TARGET.into(),
            CannotWrite::RenoteOfPureRenote => CANNOT_RENOTE_TO_A_PURE_RENOTE.into(),
            CannotWrite::ReplyToPureRenote => CANNOT_REPLY_TO_A_PURE_RENOTE.into(),
            CannotWrite::ReplyToInvisible => CANNOT_REPLY_TO_AN_INVISIBLE_NOTE.into(),
            CannotWrite::ReplyWiderThanSpecified => CANNOT_REPLY_WIDER.into(),
            CannotWrite::Blocked => BLOCKED.into(),
            CannotWrite::NoSuchChannel => NO_SUCH_CHANNEL.into(),
            CannotWrite::RenoteOutsideOfChannel => CANNOT_RENOTE_OUTSIDE_OF_CHANNEL.into(),
            CannotWrite::RenoteDueToVisibility => CANNOT_RENOTE_DUE_TO_VISIBILITY.into(),
            CannotWrite::NoSuchFile => NO_SUCH_FILE.into(),
            CannotWrite::PollExpired => CANNOT_CREATE_ALREADY_EXPIRED_POLL.into(),
            CannotWrite::Prohibited => CONTAINS_PROHIBITED_WORDS.into(),
            CannotWrite::TooManyMentions => CONTAINS_TOO_MANY_MENTIONS.into(),
            // Blank by more kinds of space than the pattern knows.
            CannotWrite::Empty => {
                ApiError::invalid_param("#/then/properties/text/pattern", "must match pattern \"[^\\s]+\"")
            }
        }
    }
}

/// Show a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    note_id: NoteId,
}

const AUTHOR_IS_SUSPENDED: ErrorDef =
    ErrorDef::new("INTERNAL_ERROR", "The author has been suspended.", "85ab9bd7-3a41-4530-959d-f07073900109");
const NO_SUCH_NOTE_TO_SHOW: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "24fcbfc6-2e37-42b6-8388-c29b3861a08d");

impl Endpoint for Show {
    const META: Meta = Meta::new("notes/show").errors(&[NO_SUCH_NOTE_TO_SHOW, AUTHOR_IS_SUSPENDED]);
    type Caller = Anyone;
    type Reply = json::note::Note;

    async fn handle(self, app: &App, me: Anyone) -> Result<json::note::Note, ApiError> {
        let id = self.note_id.0;
        let world = app.hydrate(Wanted::notes(vec![id]), me.id()).await?;
        let rules = world.facts(id).map(|facts| facts.rules);
        if rules.is_some_and(|rules| rules.suspended) && !matches!(world.see(id), Some(Sight::Seen(_))) {
            return Err(ApiError::from_within(AUTHOR_IS_SUSPENDED));
        }
        json::note::note(&Look::of(app), &world, id).ok_or_else(|| NO_SUCH_NOTE_TO_SHOW.into())
    }
}

/// Public notes of all servers that are known here, of some kinds.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// Of this server.
    #[serde(default)]
    local: bool,
    #[serde(default)]
    reply: Given<bool>,
    #[serde(default)]
    renote: Given<bool>,
    #[serde(default)]
    with_files: Given<bool>,
    #[serde(default)]
    poll: Given<bool>,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for List {
    const META: Meta = Meta::new("notes");
    type Caller = Anyone;
    type Reply = Vec<json::note::Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<json::note::Note>, ApiError> {
        let (reply, renote, poll) = (self.reply.0, self.renote.0, self.poll.0);
        let filter = PublicFilter { local: self.local, reply, renote, poll, files: self.with_files.0 };
        seen_page(app, me.id(), self.page, self.limit, |page| async move {
            projections::note::public(&app.pool, filter, &page).await
        })
        .await
    }
}

/// What changes of some notes: their reactions.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShowPartialBulk {
    #[schemars(length(min = 1, max = MAX_PARTIAL))]
    note_ids: Vec<NoteId>,
}

/// What changes of a note.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PartialNote {
    id: NoteId,
    #[serde(serialize_with = "json::note::by_reaction")]
    #[schemars(with = "BTreeMap<String, i64>")]
    reactions: Arc<[(Reaction, i64)]>,
    reaction_emojis: BTreeMap<String, String>,
}

impl Endpoint for ShowPartialBulk {
    const META: Meta = Meta::new("notes/show-partial-bulk");
    type Caller = Anyone;
    type Reply = Vec<PartialNote>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<PartialNote>, ApiError> {
        let mut ids: Vec<ids::NoteId> = self.note_ids.iter().map(|id| id.0).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        let world = app.hydrate(Wanted::notes(ids.clone()), me.id()).await?;
        let partial = |id: &ids::NoteId| {
            let reactions = Arc::clone(&world.see(*id)?.seen()?.note().reactions.counts);
            Some(PartialNote { id: Id(*id), reactions, reaction_emojis: BTreeMap::new() })
        };
        Ok(ids.iter().filter_map(partial).collect())
    }
}

/// Translate a note; there is no translator yet.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Translate {
    note_id: NoteId,
    #[expect(dead_code, reason = "there is no translator yet")]
    target_lang: String,
}

/// A translated text.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Translation {
    source_lang: String,
    text: String,
}

const TRANSLATOR_UNAVAILABLE: ErrorDef =
    ErrorDef::new("UNAVAILABLE", "Translate of notes unavailable.", "50a70314-2d8a-431b-b433-efa5cc56444c");
const NO_SUCH_NOTE_TO_TRANSLATE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "bea9b03f-36e0-49c5-a4db-627a029f8971");
const CANNOT_TRANSLATE_INVISIBLE_NOTE: ErrorDef = ErrorDef::new(
    "CANNOT_TRANSLATE_INVISIBLE_NOTE",
    "Cannot translate invisible note.",
    "ea29f2ca-c368-43b3-aaf1-5ac3e74bbe5d",
);

impl Endpoint for Translate {
    const META: Meta = Meta::new("notes/translate").kind("read:account").errors(&[
        TRANSLATOR_UNAVAILABLE,
        NO_SUCH_NOTE_TO_TRANSLATE,
        CANNOT_TRANSLATE_INVISIBLE_NOTE,
    ]);
    type Caller = SignedIn;
    type Reply = Option<Translation>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Option<Translation>, ApiError> {
        let id = self.note_id.0;
        let world = app.hydrate(Wanted::notes([id]), Some(me.id())).await?;
        match world.see(id) {
            None => Err(NO_SUCH_NOTE_TO_TRANSLATE.into()),
            Some(Sight::Hidden(_)) => Err(CANNOT_TRANSLATE_INVISIBLE_NOTE.into()),
            Some(Sight::Seen(visible)) if visible.note().text.is_none() => Ok(None),
            Some(Sight::Seen(_)) => Err(TRANSLATOR_UNAVAILABLE.into()),
        }
    }
}

/// Delete a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    note_id: NoteId,
}

const NO_SUCH_NOTE_TO_DELETE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "490be23f-8c1f-4796-819f-94cb4f9d1630");
const NOT_YOURS: ErrorDef =
    ErrorDef::new("ACCESS_DENIED", "Access denied.", "fe8d7103-0ea8-4ec3-814d-f8b401dc69e9");

impl Endpoint for Delete {
    const META: Meta = Meta::new("notes/delete")
        .kind("write:notes")
        .limit(300, per::HOUR)
        .interval(per::SECOND)
        .errors(&[NO_SUCH_NOTE_TO_DELETE, NOT_YOURS]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (by, moderates) = (app.by(&me), me.account.moderates());
        let receipt = app.commands.delete_note(by, self.note_id.0, me.id(), moderates).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

impl From<CannotDelete> for ApiError {
    fn from(refusal: CannotDelete) -> Self {
        match refusal {
            CannotDelete::NoSuchNote => NO_SUCH_NOTE_TO_DELETE.into(),
            CannotDelete::NotYours => NOT_YOURS.into(),
        }
    }
}

/// Take back one's renotes and quotes of a note (recorded behaviour).
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unrenote {
    note_id: NoteId,
}

const NO_SUCH_NOTE_TO_UNRENOTE: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "efd4a259-2442-496b-8dd7-b255aa1a160f");

impl Endpoint for Unrenote {
    const META: Meta = Meta::new("notes/unrenote")
        .kind("write:notes")
        .limit(300, per::HOUR)
        .interval(per::SECOND)
        .errors(&[NO_SUCH_NOTE_TO_UNRENOTE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let note = self.note_id.0;
        if !is_there(app, note, Some(me.id())).await? {
            return Err(NO_SUCH_NOTE_TO_UNRENOTE.into());
        }
        let mut last = None;
        for renote in projections::note::my_renotes(&app.pool, me.id(), note).await? {
            match app.commands.delete_note(app.by(&me), renote, me.id(), false).await {
                Ok(receipt) => last = Some(receipt),
                // It went in the meantime.
                Err(Failed::Refused(CannotDelete::NoSuchNote | CannotDelete::NotYours)) => (),
                Err(failed) => return Err(failed.into()),
            }
        }
        if let Some(receipt) = last {
            app.shown(receipt).await;
        }
        Ok(())
    }
}

/// List the replies to a note and its quotes.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Children {
    note_id: NoteId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for Children {
    const META: Meta = Meta::new("notes/children");
    type Caller = Anyone;
    type Reply = Vec<json::note::Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<json::note::Note>, ApiError> {
        let (note, viewer) = (self.note_id.0, me.id());
        seen_page(app, viewer, self.page, self.limit, |page| async move {
            projections::note::children(&app.pool, note, viewer, &page).await
        })
        .await
    }
}

/// List the replies to a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replies {
    note_id: NoteId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for Replies {
    const META: Meta = Meta::new("notes/replies");
    type Caller = Anyone;
    type Reply = Vec<json::note::Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<json::note::Note>, ApiError> {
        let (note, viewer) = (self.note_id.0, me.id());
        seen_page(app, viewer, self.page, self.limit, |page| async move {
            projections::note::replies(&app.pool, note, viewer, &page).await
        })
        .await
    }
}

/// List the renotes and quotes of a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Renotes {
    note_id: NoteId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

const NO_SUCH_NOTE_WITH_RENOTES: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "12908022-2e21-46cd-ba6a-3edaf6093f46");

impl Endpoint for Renotes {
    const META: Meta = Meta::new("notes/renotes").errors(&[NO_SUCH_NOTE_WITH_RENOTES]);
    type Caller = Anyone;
    type Reply = Vec<json::note::Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<json::note::Note>, ApiError> {
        let (note, viewer) = (self.note_id.0, me.id());
        if !is_there(app, note, viewer).await? {
            return Err(NO_SUCH_NOTE_WITH_RENOTES.into());
        }
        seen_page(app, viewer, self.page, self.limit, |page| async move {
            projections::note::renotes(&app.pool, note, viewer, &page).await
        })
        .await
    }
}

/// List what a note answers, what that answers, and so on.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    note_id: NoteId,
    #[serde(default)]
    limit: Limit,
    /// Notes left out, nearest first.
    #[serde(default)]
    offset: u32,
}

const NO_SUCH_NOTE_IN_CONVERSATION: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE", "No such note.", "e1035875-9551-45ec-afa8-1ded1fcb53c8");

impl Endpoint for Conversation {
    const META: Meta = Meta::new("notes/conversation").errors(&[NO_SUCH_NOTE_IN_CONVERSATION]);
    type Caller = Anyone;
    type Reply = Vec<json::note::Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<json::note::Note>, ApiError> {
        let note = self.note_id.0;
        if !is_there(app, note, me.id()).await? {
            return Err(NO_SUCH_NOTE_IN_CONVERSATION.into());
        }
        let page = Page::default().limited(self.limit);
        let ancestors = projections::note::ancestors(&app.pool, note, page.limit, self.offset).await?;
        let world = app.hydrate(Wanted::notes(ancestors.clone()), me.id()).await?;
        Ok(ancestors.iter().filter_map(|id| json::note::note(&Look::of(app), &world, *id)).collect())
    }
}

/// Tell what the caller has done with a note.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct State {
    note_id: NoteId,
}

/// What somebody has done with a note.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteState {
    is_favorited: bool,
    is_muted_thread: bool,
}

impl Endpoint for State {
    const META: Meta = Meta::new("notes/state").kind("read:account");
    type Caller = SignedIn;
    type Reply = NoteState;

    async fn handle(self, app: &App, me: SignedIn) -> Result<NoteState, ApiError> {
        let is_muted_thread = mute::is_thread_muted(&app.pool, me.id(), self.note_id.0).await?;
        let is_favorited = projections::favorite::is_favorited(&app.pool, me.id(), self.note_id.0).await?;
        Ok(NoteState { is_favorited, is_muted_thread })
    }
}

/// Whether there is such a note, seen or not.
pub async fn is_there(app: &App, note: ids::NoteId, viewer: Viewer) -> Result<bool, ApiError> {
    let world = app.hydrate(Wanted::notes(vec![note]), viewer).await?;
    Ok(world.shell(note).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::misskey::registry;
    use serde_json::{Value, json};

    fn complaint(mut params: Value) -> Option<(String, String)> {
        let entry = registry().find("notes/create").unwrap();
        entry.shape.check(&mut params).err().map(|broken| (broken.param, broken.reason))
    }

    /// What Misskey's server said to such requests.
    #[test]
    fn what_is_no_note_is_refused_as_on_misskey() {
        let long = "x".repeat(MAX_TEXT_CHARS + 1);
        let said = [
            (json!({}), "then/required", "must have required property 'text'"),
            (
                json!({ "text": "" }),
                "then/properties/text/minLength",
                "must NOT have fewer than 1 characters",
            ),
            (json!({ "text": "   \n" }), "then/properties/text/pattern", "must match pattern \"[^\\s]+\""),
            (json!({ "text": null }), "then/properties/text/type", "must be string"),
            (json!({ "text": 5 }), "then/properties/text/type", "must be string"),
            (
                json!({ "text": long }),
                "then/properties/text/maxLength",
                "must NOT have more than 3000 characters",
            ),
            (
                json!({ "text": "x", "visibility": "everyone" }),
                "properties/visibility/enum",
                "must be equal to one of the allowed values",
            ),
            (
                json!({ "text": "x", "fileIds": [] }),
                "properties/fileIds/minItems",
                "must NOT have fewer than 1 items",
            ),
            (
                json!({ "text": "x", "poll": { "choices": ["one"] } }),
                "properties/poll/properties/choices/minItems",
                "must NOT have fewer than 2 items",
            ),
            (
                json!({ "text": "x", "poll": { "choices": ["a", "a"] } }),
                "properties/poll/properties/choices/uniqueItems",
                "must NOT have duplicate items (items ## 1 and 0 are identical)",
            ),
            (
                json!({ "text": "x", "cw": "" }),
                "properties/cw/minLength",
                "must NOT have fewer than 1 characters",
            ),
            (
                json!({ "text": "x", "cw": "c".repeat(MAX_CW_CHARS + 1) }),
                "properties/cw/maxLength",
                "must NOT have more than 100 characters",
            ),
            (
                json!({ "text": "x", "reactionAcceptance": "none" }),
                "properties/reactionAcceptance/enum",
                "must be equal to one of the allowed values",
            ),
            (
                json!({ "text": "x", "visibleUserIds": "str" }),
                "properties/visibleUserIds/type",
                "must be array",
            ),
            (json!({ "text": "x", "localOnly": "true" }), "properties/localOnly/type", "must be boolean"),
        ];
        for (params, param, reason) in said {
            assert_eq!(complaint(params), Some((format!("#/{param}"), reason.to_owned())));
        }
    }

    #[test]
    fn a_renote_and_a_poll_need_no_text() {
        for params in [
            json!({ "renoteId": "a" }),
            json!({ "renoteId": "a", "text": null, "poll": null }),
            json!({ "poll": { "choices": ["yes", "no"] } }),
        ] {
            assert_eq!(complaint(params.clone()), None);
            assert!(serde_json::from_value::<Create>(params).is_ok());
        }
    }

    #[test]
    fn texts_are_trimmed_and_blank_ones_are_none() {
        let text = |text: &str| {
            let create: Create = serde_json::from_value(json!({ "text": text })).unwrap();
            let id = ids::NoteId(ids::first_of(DateTime::UNIX_EPOCH));
            let allowed = Allowed { public_notes: true, mentions: 0 };
            create.new_note(id, DateTime::UNIX_EPOCH, allowed).text
        };
        assert_eq!(text("  spaced \n\n lines  ").as_deref(), Some("spaced \n\n lines"));
        assert_eq!(text("\u{3000}"), None);
    }

    #[test]
    fn a_poll_ends_at_a_time_or_after_one() {
        let now = DateTime::from_timestamp_millis(1_000).unwrap();
        let end = |mut times: Value| {
            times["choices"] = json!(["a", "b"]);
            let poll: NewPoll = serde_json::from_value(times).unwrap();
            DraftPoll::from(poll).asked_at(now).expires_at.map(|end| end.timestamp_millis())
        };
        assert_eq!(end(json!({})), None);
        assert_eq!(end(json!({ "expiresAt": null, "expiredAfter": 500 })), Some(1_500));
        assert_eq!(end(json!({ "expiresAt": 7_000, "expiredAfter": 500 })), Some(7_000));
        assert_eq!(end(json!({ "expiresAt": -7 })), Some(0));
        assert_eq!(end(json!({ "expiredAfter": i64::MAX })), None);
    }
}
