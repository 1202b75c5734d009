//! Notes that are not written yet: `notes/drafts/…`, and those that `notes/create` posts later:
//! `notes/scheduled/…`.

use chrono::{DateTime, Utc};
use commands::Failed;
use domain::draft::{
    CannotSchedule, Content, DraftPoll, MAX_HASHTAG_CHARS, NoSuchDraft, Schedule, TooManyDrafts,
};
use domain::ids;
use domain::note::{
    MAX_CW_CHARS, MAX_FILES, MAX_TEXT_CHARS, MAX_VISIBLE_USERS, ReactionAcceptance, Visibility,
};
use domain::poll::{MAX_CHOICE_CHARS, MAX_CHOICES};
use projections::draft::{self, DraftRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::channel::ChannelId;
use super::note;
use crate::api::param::{Given, Id, Limit, NoteId, Page, Text, Unique, UserId};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::Look;
use crate::json::draft::{NoteDraft, ScheduledNote, draft as present, scheduled, wanted};

type DraftId = Id<ids::DraftId>;

/// What a draft says; what isn't named stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
#[derive(Default)]
struct Fields {
    #[schemars(with = "String", extend("enum" = ["public", "home", "followers", "specified"]))]
    visibility: Given<Visibility>,
    visible_user_ids: Given<Unique<UserId, 0, MAX_VISIBLE_USERS>>,
    cw: Given<Option<Text<1, MAX_CW_CHARS>>>,
    hashtag: Given<Option<Text<0, MAX_HASHTAG_CHARS>>>,
    local_only: Given<bool>,
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
    reaction_acceptance: Given<Option<ReactionAcceptance>>,
    reply_id: Given<Option<NoteId>>,
    renote_id: Given<Option<NoteId>>,
    channel_id: Given<Option<ChannelId>>,
    text: Given<Option<Text<0, MAX_TEXT_CHARS>>>,
    file_ids: Given<Unique<Id<ids::FileId>, 0, MAX_FILES>>,
    poll: Given<Option<NewPoll>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct NewPoll {
    choices: Unique<Text<1, MAX_CHOICE_CHARS>, 0, MAX_CHOICES>,
    #[serde(default)]
    multiple: bool,
    /// Milliseconds since 1970.
    expires_at: Option<i64>,
    /// Milliseconds from when it is asked.
    #[schemars(range(min = 1))]
    expired_after: Option<i64>,
}

impl From<NewPoll> for DraftPoll {
    fn from(poll: NewPoll) -> Self {
        Self {
            choices: poll.choices.0.into_iter().map(|choice| choice.0).collect(),
            multiple: poll.multiple,
            expires_at: poll.expires_at.and_then(instant),
            expired_after: poll.expired_after,
        }
    }
}

impl Fields {
    fn applied_to(self, content: Content) -> Content {
        fn or<T>(given: Given<T>, before: T) -> T {
            given.0.unwrap_or(before)
        }
        Content {
            visibility: or(self.visibility, content.visibility),
            visible_to: match self.visible_user_ids.0 {
                Some(people) => people.0.into_iter().map(|user| user.0).collect(),
                None => content.visible_to,
            },
            cw: self.cw.0.map_or(content.cw, |cw| cw.map(|cw| cw.0)),
            hashtag: self.hashtag.0.map_or(content.hashtag, |tag| tag.map(|tag| tag.0)),
            local_only: or(self.local_only, content.local_only),
            reaction_acceptance: or(self.reaction_acceptance, content.reaction_acceptance),
            reply: self.reply_id.0.map_or(content.reply, |id| id.map(|id| id.0)),
            renote: self.renote_id.0.map_or(content.renote, |id| id.map(|id| id.0)),
            channel: self.channel_id.0.map_or(content.channel, |id| id.map(|id| id.0)),
            text: self.text.0.map_or(content.text, |text| text.map(|text| text.0)),
            files: match self.file_ids.0 {
                Some(files) => files.0.into_iter().map(|file| file.0).collect(),
                None => content.files,
            },
            poll: self.poll.0.map_or(content.poll, |poll| poll.map(DraftPoll::from)),
            ignore_mentions: content.ignore_mentions,
            ignore_hashtags: content.ignore_hashtags,
            ignore_emojis: content.ignore_emojis,
        }
    }
}

/// Keep a draft.
#[derive(Deserialize, JsonSchema)]
pub struct Create {
    #[serde(flatten)]
    fields: Fields,
}

/// The draft that is kept.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedDraft {
    created_draft: NoteDraft,
}

const TOO_MANY_DRAFTS: ErrorDef = ErrorDef::new(
    "TOO_MANY_DRAFTS",
    "You cannot create drafts any more.",
    "9ee33bbe-fde3-4c71-9b51-e50492c6b9c8",
);

const ERRORS_OF_CREATE: &[ErrorDef] = &and_of_its_content(TOO_MANY_DRAFTS);

impl Endpoint for Create {
    const META: Meta = Meta::new("notes/drafts/create")
        .kind("write:account")
        .limit(300, per::HOUR)
        .not_moved()
        .errors(ERRORS_OF_CREATE);
    type Caller = SignedIn;
    type Reply = CreatedDraft;

    async fn handle(self, app: &App, me: SignedIn) -> Result<CreatedDraft, ApiError> {
        let by = app.by(&me);
        let (id, content) = (ids::DraftId(app.ids.at(by.now)), self.fields.applied_to(Content::default()));
        app.commands.check_draft(by, me.id(), content.clone(), me.account.notes()).await?;
        let limit = me.account.limit("noteDraftLimit");
        let receipt = app.commands.save_draft(by, me.id(), id, content, limit).await?;
        app.shown(receipt).await;
        Ok(CreatedDraft { created_draft: written(app, &me, id).await? })
    }
}

impl From<TooManyDrafts> for ApiError {
    fn from(TooManyDrafts: TooManyDrafts) -> Self {
        TOO_MANY_DRAFTS.into()
    }
}

/// Change a draft.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    draft_id: DraftId,
    #[serde(flatten)]
    fields: Fields,
}

/// The draft as it is now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdatedDraft {
    updated_draft: NoteDraft,
}

const NO_SUCH_NOTE_DRAFT: ErrorDef =
    ErrorDef::new("NO_SUCH_NOTE_DRAFT", "No such note draft.", "49cd6b9d-848e-41ee-b0b9-adaca711a6b1");

const ERRORS_OF_UPDATE: &[ErrorDef] = &and_of_its_content(NO_SUCH_NOTE_DRAFT);

impl Endpoint for Update {
    const META: Meta = Meta::new("notes/drafts/update")
        .kind("write:account")
        .limit(300, per::HOUR)
        .not_moved()
        .errors(ERRORS_OF_UPDATE);
    type Caller = SignedIn;
    type Reply = UpdatedDraft;

    async fn handle(self, app: &App, me: SignedIn) -> Result<UpdatedDraft, ApiError> {
        let (by, id) = (app.by(&me), self.draft_id.0);
        let standing = app.commands.draft_of(me.id(), id).await.map_err(ApiError::internal)?;
        let standing = standing.ok_or(NO_SUCH_NOTE_DRAFT)?;
        let content = self.fields.applied_to(standing);
        app.commands.check_draft(by, me.id(), content.clone(), me.account.notes()).await?;
        let receipt = app.commands.change_draft(by, me.id(), id, content).await?;
        app.shown(receipt).await;
        Ok(UpdatedDraft { updated_draft: written(app, &me, id).await? })
    }
}

impl From<NoSuchDraft> for ApiError {
    fn from(NoSuchDraft: NoSuchDraft) -> Self {
        NO_SUCH_NOTE_DRAFT.into()
    }
}

/// Throw a draft away.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    draft_id: DraftId,
}

impl Endpoint for Delete {
    const META: Meta = Meta::new("notes/drafts/delete").kind("write:account").errors(&[NO_SUCH_NOTE_DRAFT]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let receipt = app.commands.delete_draft(app.by(&me), me.id(), self.draft_id.0).await?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// List the caller's drafts.
#[derive(Deserialize, JsonSchema)]
pub struct List {
    #[serde(default)]
    limit: Limit<100, 30>,
    #[serde(flatten)]
    page: Page,
}

impl Endpoint for List {
    const META: Meta = Meta::new("notes/drafts/list").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<NoteDraft>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<NoteDraft>, ApiError> {
        let rows = draft::of_user(&app.pool, me.id(), &self.page.limited(self.limit)).await?;
        let world = app.hydrate(wanted(&rows), Some(me.id())).await?;
        let look = Look::of(app);
        Ok(rows.into_iter().filter_map(|row| present(&look, &world, row)).collect())
    }
}

/// Count the caller's drafts.
#[derive(Deserialize, JsonSchema)]
pub struct Count {}

impl Endpoint for Count {
    const META: Meta = Meta::new("notes/drafts/count").kind("read:account");
    type Caller = SignedIn;
    type Reply = i64;

    async fn handle(self, app: &App, me: SignedIn) -> Result<i64, ApiError> {
        Ok(draft::count(&app.pool, me.id()).await?)
    }
}

/// That error, and those of what a draft says.
const fn and_of_its_content(error: ErrorDef) -> [ErrorDef; 15] {
    [
        error,
        note::NO_SUCH_RENOTE_TARGET,
        note::CANNOT_RENOTE_TO_A_PURE_RENOTE,
        note::CANNOT_RENOTE_DUE_TO_VISIBILITY,
        note::NO_SUCH_REPLY_TARGET,
        note::CANNOT_REPLY_TO_AN_INVISIBLE_NOTE,
        note::CANNOT_REPLY_TO_A_PURE_RENOTE,
        note::CANNOT_REPLY_WIDER,
        note::BLOCKED,
        note::CANNOT_CREATE_ALREADY_EXPIRED_POLL,
        note::NO_SUCH_CHANNEL,
        note::CANNOT_RENOTE_OUTSIDE_OF_CHANNEL,
        note::NO_SUCH_FILE,
        note::CONTAINS_TOO_MANY_MENTIONS,
        note::CONTAINS_PROHIBITED_WORDS,
    ]
}

/// A draft that was just written is in the read tables, unless they are late.
async fn written(app: &App, me: &SignedIn, id: ids::DraftId) -> Result<NoteDraft, ApiError> {
    let rows: Vec<DraftRow> = draft::by_id(&app.pool, me.id(), id).await?.into_iter().collect();
    let world = app.hydrate(wanted(&rows), Some(me.id())).await?;
    let shown = rows.into_iter().next().and_then(|row| present(&Look::of(app), &world, row));
    shown.ok_or_else(|| ApiError::internal("a draft that was written is not in the read tables"))
}

/// List what the caller has posted later, by its time.
#[derive(Deserialize, JsonSchema)]
pub struct Scheduled {
    #[serde(default)]
    limit: Limit,
    #[serde(default)]
    offset: u32,
}

impl Endpoint for Scheduled {
    const META: Meta = Meta::new("notes/scheduled/list").kind("write:notes");
    type Caller = SignedIn;
    type Reply = Vec<ScheduledNote>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<ScheduledNote>, ApiError> {
        let limit = Page::default().limited(self.limit).limit;
        let rows = draft::scheduled(&app.pool, me.id(), limit, self.offset).await?;
        let world = app.hydrate(wanted(&rows), Some(me.id())).await?;
        let look = Look::of(app);
        Ok(rows.into_iter().map(|row| scheduled(&look, &world, row)).collect())
    }
}

/// Have a note not posted later.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    draft_id: DraftId,
}

const NO_SUCH_SCHEDULED: ErrorDef =
    ErrorDef::new("NO_SUCH_DRAFT", "No such draft", "91c2ad21-fb45-4f2a-ba4c-ea749b262947");

impl Endpoint for Cancel {
    const META: Meta = Meta::new("notes/scheduled/cancel")
        .kind("write:notes")
        .limit(300, per::HOUR)
        .not_moved()
        .errors(&[NO_SUCH_SCHEDULED]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let cancelled = app.commands.cancel_scheduled(app.by(&me), me.id(), self.draft_id.0).await;
        let receipt = cancelled.map_err(|failed| match failed {
            Failed::Refused(NoSuchDraft) => NO_SUCH_SCHEDULED.into(),
            failed => ApiError::from(failed),
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}

pub const CANNOT_SCHEDULE_TO_PAST: ErrorDef = ErrorDef::new(
    "CANNOT_SCHEDULE_TO_PAST",
    "Cannot schedule to the past.",
    "e577d185-8179-4a17-b47f-6093985558e6",
);
pub const CANNOT_SCHEDULE_TO_FAR_FUTURE: ErrorDef = ErrorDef::new(
    "CANNOT_SCHEDULE_TO_FAR_FUTURE",
    "Cannot schedule to the far future.",
    "ea102856-e8da-4ae9-a98a-0326821bd177",
)
.permission();
pub const CANNOT_SCHEDULE_SAME_TIME: ErrorDef = ErrorDef::new(
    "CANNOT_SCHEDULE_SAME_TIME",
    "Cannot schedule multiple notes at the same time.",
    "187a8fab-fd83-4ae6-a46c-0f6f07784634",
);
pub const TOO_MANY_SCHEDULED_NOTES: ErrorDef = ErrorDef::new(
    "TOO_MANY_SCHEDULED_NOTES",
    "You cannot schedule notes any more.",
    "9e33041f-f6fb-414d-98c1-591466e55287",
)
.permission();
pub const MAY_NOT_SCHEDULE: ErrorDef = ErrorDef::new(
    "ROLE_PERMISSION_DENIED",
    "You are not assigned to a required role.",
    "12f1d5d2-f7ec-4d7c-b608-e873f4b20327",
)
.permission();

/// Has a note posted at a time, for `notes/create`.
pub async fn schedule(app: &App, me: &SignedIn, content: Content, at: i64) -> Result<(), ApiError> {
    if !me.account.may("canScheduleNote") {
        return Err(MAY_NOT_SCHEDULE.into());
    }
    let by = app.by(me);
    let id = ids::DraftId(app.ids.at(by.now));
    let max_days = i64::try_from(me.account.limit("scheduleNoteMaxDays")).unwrap_or(i64::MAX);
    let limit = me.account.limit("scheduleNoteLimit");
    let at = instant(at).unwrap_or(DateTime::<Utc>::MAX_UTC);
    app.commands.check_scheduled(by, me.id(), content.clone(), me.account.notes()).await?;
    let asked = Schedule { at, limit, max_days };
    let receipt = app.commands.schedule_note(by, me.id(), id, content, asked).await?;
    app.shown(receipt).await;
    Ok(())
}

impl From<CannotSchedule> for ApiError {
    fn from(refusal: CannotSchedule) -> Self {
        match refusal {
            CannotSchedule::Past => CANNOT_SCHEDULE_TO_PAST.into(),
            CannotSchedule::TooFar => CANNOT_SCHEDULE_TO_FAR_FUTURE.into(),
            CannotSchedule::SameTime => CANNOT_SCHEDULE_SAME_TIME.into(),
            CannotSchedule::TooMany => TOO_MANY_SCHEDULED_NOTES.into(),
        }
    }
}

/// An instant in milliseconds since 1970. What is beyond any date there is never comes; what is before 1970 is
/// over all the same.
pub fn instant(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis.max(0))
}
