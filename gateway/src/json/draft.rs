//! Drafts, and notes that are posted later, as clients see them.

use domain::draft::{Content, DraftPoll};
use domain::ids;
use domain::note::{ReactionAcceptance, Visibility};
use domain::policy::Sight;
use projections::draft::DraftRow;
use projections::{Wanted, World};
use schemars::JsonSchema;
use serde::Serialize;

use super::drive::{DriveFile, file};
use super::note::{InChannel, Note, note};
use super::user::{UserLite, user_lite};
use super::{Look, Time};
use crate::api::param::{Id, NoteId, UserId};

/// A draft of a note.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteDraft {
    id: Id<ids::DraftId>,
    created_at: Time,
    /// Why it could not be posted at its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    user_id: UserId,
    user: UserLite,
    text: Option<String>,
    cw: Option<String>,
    #[schemars(with = "String")]
    visibility: Visibility,
    local_only: bool,
    #[schemars(with = "Option<String>")]
    reaction_acceptance: Option<ReactionAcceptance>,
    visible_user_ids: Vec<UserId>,
    hashtag: Option<String>,
    file_ids: Vec<Id<ids::FileId>>,
    /// Those that are there.
    files: Vec<DriveFile>,
    reply_id: Option<NoteId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Note>,
    renote_id: Option<NoteId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renote: Option<Note>,
    channel_id: Option<Id<ids::ChannelId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<InChannel>,
    poll: Option<PollToBe>,
}

/// A poll that will be asked.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PollToBe {
    choices: Vec<String>,
    multiple: bool,
    expires_at: Option<Time>,
    /// Milliseconds from when it is asked.
    expired_after: Option<i64>,
}

impl From<DraftPoll> for PollToBe {
    fn from(poll: DraftPoll) -> Self {
        let DraftPoll { choices, multiple, expires_at, expired_after } = poll;
        Self { choices, multiple, expires_at: expires_at.map(Time), expired_after }
    }
}

/// A note that is posted later.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledNote {
    id: Id<ids::DraftId>,
    created_at: Time,
    /// Milliseconds since 1970.
    scheduled_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renote: Option<Briefly>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Briefly>,
    data: ScheduledContent,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct ChannelName {
    id: Id<ids::ChannelId>,
    name: String,
}

/// Another note in few words.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Briefly {
    id: NoteId,
    text: Option<String>,
    user: UserLite,
}

/// What it will say.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct ScheduledContent {
    text: Option<String>,
    use_cw: bool,
    cw: Option<String>,
    #[schemars(with = "String")]
    visibility: Visibility,
    /// Of a direct note.
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_user_ids: Option<Vec<UserId>>,
    local_only: bool,
    lang: Option<String>,
    dimension: Option<u32>,
    files: Vec<DriveFile>,
    poll: Option<ScheduledPoll>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct ScheduledPoll {
    choices: Vec<String>,
    multiple: bool,
    /// Milliseconds since 1970.
    expires_at: Option<i64>,
    /// Milliseconds from when it is asked.
    expired_after: Option<i64>,
}

/// What has to be in the world for these to be shown.
pub fn wanted(rows: &[DraftRow]) -> Wanted {
    let contents = || rows.iter().map(|row| &row.content);
    Wanted {
        notes: contents().flat_map(|content| content.reply.into_iter().chain(content.renote)).collect(),
        users: rows.iter().map(|row| row.user).collect(),
        files: contents().flat_map(|content| content.files.iter().copied()).collect(),
        channels: contents().filter_map(|content| content.channel).collect(),
        ..Wanted::default()
    }
}

/// A draft; none when its author isn't there.
pub fn draft(look: &Look<'_>, world: &World, row: DraftRow) -> Option<NoteDraft> {
    let user = user_lite(look, world.user(row.user)?);
    let files = files(look, world, &row);
    let Content { text, cw, visibility, visible_to, local_only, reaction_acceptance, .. } = row.content;
    let shown = |id: ids::NoteId| note(look, world, id);
    Some(NoteDraft {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        reason: row.reason,
        user_id: Id(row.user),
        user,
        text,
        cw,
        visibility,
        local_only,
        reaction_acceptance,
        visible_user_ids: visible_to.into_iter().map(Id).collect(),
        hashtag: row.content.hashtag,
        file_ids: row.content.files.into_iter().map(Id).collect(),
        files,
        reply_id: row.content.reply.map(Id),
        reply: row.content.reply.and_then(shown),
        renote_id: row.content.renote.map(Id),
        renote: row.content.renote.and_then(shown),
        channel_id: row.content.channel.map(Id),
        channel: row.content.channel.and_then(|id| world.channel(id)).map(InChannel::from),
        poll: row.content.poll.map(PollToBe::from),
    })
}

/// What is posted later.
pub fn scheduled(look: &Look<'_>, world: &World, row: DraftRow) -> ScheduledNote {
    let files = files(look, world, &row);
    let Content { text, cw, visibility, visible_to, local_only, .. } = row.content;
    let channel = row.content.channel.and_then(|id| world.channel(id));
    let poll = row.content.poll.map(|poll| ScheduledPoll {
        choices: poll.choices,
        multiple: poll.multiple,
        expires_at: poll.expires_at.map(|at| at.timestamp_millis()),
        expired_after: poll.expired_after,
    });
    let is_direct = visibility == Visibility::Specified;
    ScheduledNote {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        scheduled_at: row.scheduled_at.map(|at| at.timestamp_millis()),
        channel: channel.map(|channel| ChannelName { id: Id(channel.id), name: channel.name.clone() }),
        renote: row.content.renote.and_then(|id| briefly(look, world, id)),
        reply: row.content.reply.and_then(|id| briefly(look, world, id)),
        data: ScheduledContent {
            text,
            use_cw: cw.is_some(),
            cw,
            visibility,
            visible_user_ids: is_direct.then(|| visible_to.into_iter().map(Id).collect()),
            local_only,
            lang: None,
            dimension: None,
            files,
            poll,
        },
    }
}

fn files(look: &Look<'_>, world: &World, row: &DraftRow) -> Vec<DriveFile> {
    let theirs = row.content.files.iter().filter_map(|id| world.file(*id));
    theirs.map(|row| file(look, row)).collect()
}

fn briefly(look: &Look<'_>, world: &World, id: ids::NoteId) -> Option<Briefly> {
    let visible = world.see(id).and_then(Sight::seen)?;
    let row = visible.note();
    Some(Briefly { id: Id(id), text: row.text.clone(), user: user_lite(look, world.user(row.author)?) })
}
