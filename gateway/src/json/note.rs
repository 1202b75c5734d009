//! Notes as clients see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::emoji::Reaction;
use domain::ids;
use domain::note::{ReactionAcceptance, Visibility};
use domain::policy::{Sight, Visible};
use projections::world::{ChannelRow, NoteRow, Shell, World};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::drive::{DriveFile, file};
use super::ready::{Ready, kept};
use super::user::{UserLite, user_lite};
use super::{Look, Time, is_false};
use crate::api::param::{Id, NoteId, UserId};

/// How deep a quote of a quote of a quote is shown, in notes below the first.
const MAX_QUOTED: usize = 4;

/// How a note is sent.
pub type Note = Ready<WholeNote>;

/// A note.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Note")]
pub struct WholeNote {
    #[serde(flatten)]
    pub words: Words,
    #[serde(flatten)]
    pub rest: Rest,
}

/// What stays as it was when the note was written.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Words {
    pub id: NoteId,
    pub created_at: Time,
    pub user_id: UserId,
    pub text: Option<String>,
    pub cw: Option<String>,
    #[schemars(with = "String")]
    pub visibility: Visibility,
    pub local_only: bool,
    #[schemars(with = "Option<String>")]
    pub reaction_acceptance: Option<ReactionAcceptance>,
    /// Of a direct note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_user_ids: Option<Vec<UserId>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    pub file_ids: Vec<Id<ids::FileId>>,
    pub reply_id: Option<NoteId>,
    pub renote_id: Option<NoteId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<Id<ids::ChannelId>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    #[serde(skip_serializing_if = "is_false")]
    pub has_poll: bool,
    /// Of a note of another server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// What has become of a note, what stands around it, and what the viewer made of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Rest {
    pub user: UserLite,
    pub renote_count: i64,
    pub replies_count: i64,
    pub reaction_count: i64,
    /// Counts by reaction.
    #[serde(serialize_with = "by_reaction")]
    #[schemars(with = "BTreeMap<String, i64>")]
    pub reactions: Arc<[(Reaction, i64)]>,
    /// Pictures of the custom emoji of other servers among the reactions, by name.
    pub reaction_emojis: BTreeMap<String, String>,
    /// Pictures of the custom emoji in a note of another server, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emojis: Option<BTreeMap<String, String>>,
    /// Those that are there.
    pub files: Vec<DriveFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<InChannel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clipped_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Note>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renote: Option<Note>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// How the viewer reacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub my_reaction: Option<String>,
    /// The viewer may not see what was written.
    #[serde(skip_serializing_if = "is_false")]
    pub is_hidden: bool,
}

/// Counts as an object, the most frequent first.
pub fn by_reaction<S: Serializer>(counts: &[(Reaction, i64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().map(|(reaction, count)| (reaction.as_str(), count)))
}

/// The channel of a note in few words.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct InChannel {
    pub id: Id<ids::ChannelId>,
    pub name: String,
    pub color: String,
    pub is_sensitive: bool,
    pub allow_renote_to_external: bool,
    pub user_id: UserId,
}

impl From<&ChannelRow> for InChannel {
    fn from(row: &ChannelRow) -> Self {
        Self {
            id: Id(row.id),
            name: row.name.clone(),
            color: row.color.clone(),
            is_sensitive: row.is_sensitive,
            allow_renote_to_external: row.allow_renote_to_external,
            user_id: Id(row.owner),
        }
    }
}

/// A poll with its counts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    pub multiple: bool,
    pub expires_at: Option<Time>,
    pub choices: Vec<Choice>,
}

/// One choice of a poll.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    pub text: String,
    pub votes: i64,
    /// By the viewer.
    pub is_voted: bool,
}

/// The note with what it answers and passes on; what the viewer may not see is shown as hidden. None when
/// the note or its author isn't there.
pub fn note(look: &Look<'_>, world: &World, id: ids::NoteId) -> Option<Note> {
    full(look, world, world, id, MAX_QUOTED)
}

/// A note that was just written; what it answers and passes on stands as it did before.
pub fn new(look: &Look<'_>, world: &World, before: &World, id: ids::NoteId) -> Option<Note> {
    full(look, world, before, id, MAX_QUOTED)
}

fn full(look: &Look<'_>, world: &World, around: &World, id: ids::NoteId, deeper: usize) -> Option<Note> {
    let shell = world.shell(id)?;
    let mut rest = rest(look, world, &shell)?;
    rest.clipped_count = Some(shell.clipped);
    rest.reply = shell.reply.and_then(|reply| plain(look, around, reply.id));
    if let Some(deeper) = deeper.checked_sub(1) {
        rest.renote = shell.renote.and_then(|renote| full(look, around, around, renote.id, deeper));
    }
    if let Some(visible) = world.see(id).and_then(Sight::seen) {
        rest.poll = poll(world, visible);
        rest.my_reaction = world.my_reaction(id).map(|reaction| reaction.as_str().to_owned());
    }
    shown(look, world, &shell, rest)
}

/// The note by itself, as it stands under a reply.
pub fn plain(look: &Look<'_>, world: &World, id: ids::NoteId) -> Option<Note> {
    let shell = world.shell(id)?;
    shown(look, world, &shell, rest(look, world, &shell)?)
}

/// What was written, for those who may see it, with the rest.
fn shown(look: &Look<'_>, world: &World, shell: &Shell<'_>, mut rest: Rest) -> Option<Note> {
    match world.see(shell.id)? {
        Sight::Seen(visible) => {
            let note = visible.note();
            rest.reaction_count = note.reactions.counts.iter().map(|(_, count)| count).sum();
            rest.reactions = Arc::clone(&note.reactions.counts);
            rest.files = note.files.iter().filter_map(|id| Some(file(look, world.file(*id)?))).collect();
            Some(Note::lay(note.written.text(|_| kept(&words(shell, visible))), &rest))
        }
        Sight::Hidden(_) => {
            rest.is_hidden = true;
            Some(Note::lay(&kept(&hidden(shell)), &rest))
        }
    }
}

/// What everybody may know of what is around a note.
fn rest(look: &Look<'_>, world: &World, shell: &Shell<'_>) -> Option<Rest> {
    let author = world.user(shell.author)?;
    Some(Rest {
        user: user_lite(look, author),
        renote_count: shell.renotes,
        replies_count: shell.replies,
        reaction_count: 0,
        reactions: Arc::default(),
        reaction_emojis: BTreeMap::new(),
        emojis: author.host.as_ref().map(|_| BTreeMap::new()),
        files: Vec::new(),
        channel: shell.channel.and_then(|channel| world.channel(channel)).map(InChannel::from),
        clipped_count: None,
        reply: None,
        renote: None,
        poll: None,
        my_reaction: None,
        is_hidden: false,
    })
}

/// What everybody may know of what was written.
fn hidden(shell: &Shell<'_>) -> Words {
    Words {
        id: Id(shell.id),
        created_at: Time(shell.id.time()),
        user_id: Id(shell.author),
        text: None,
        cw: None,
        visibility: shell.visibility,
        local_only: shell.local_only,
        reaction_acceptance: shell.reaction_acceptance,
        visible_user_ids: None,
        tags: Vec::new(),
        file_ids: Vec::new(),
        reply_id: shell.reply.map(|reply| Id(reply.id)),
        renote_id: shell.renote.map(|renote| Id(renote.id)),
        channel_id: shell.channel.map(Id),
        mentions: shell.mentions.iter().copied().map(Id).collect(),
        has_poll: false,
        uri: None,
    }
}

/// And what only those know who may see it.
fn words(shell: &Shell<'_>, visible: Visible<'_, NoteRow>) -> Words {
    let note = visible.note();
    let direct = note.visibility == Visibility::Specified;
    Words {
        text: note.text.clone(),
        cw: note.cw.clone(),
        visible_user_ids: direct.then(|| note.visible_to.iter().copied().map(Id).collect()),
        tags: note.tags.clone(),
        file_ids: note.files.iter().copied().map(Id).collect(),
        has_poll: note.poll.is_some(),
        uri: note.uri.clone(),
        ..hidden(shell)
    }
}

/// The poll of a note with its counts.
pub fn poll(world: &World, visible: Visible<'_, NoteRow>) -> Option<Poll> {
    let note = visible.note();
    let poll = note.poll.as_ref()?;
    let mine = world.my_votes(note.id);
    let choice = |(index, text): (usize, &String)| Choice {
        text: text.clone(),
        votes: note.votes.get(index).copied().unwrap_or(0),
        is_voted: mine.iter().any(|choice| *choice as usize == index),
    };
    Some(Poll {
        multiple: poll.multiple,
        expires_at: poll.expires_at.map(Time),
        choices: poll.choices.iter().enumerate().map(choice).collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::presence::Presence;
    use chrono::{DateTime, Utc};
    use domain::note::Parent;
    use domain::policy::{AuthorRules, Viewer};
    use domain::user::Profile;
    use projections::reaction::Reactions;
    use projections::world::{Theirs, UserRow, Written};
    use serde_json::{Value, json, to_value};
    use uuid::Uuid;

    const NOW: i64 = 1_700_000_000_123;

    pub(crate) fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(NOW).unwrap()
    }

    fn uuid(n: u8) -> Uuid {
        Uuid::from_u128((NOW as u128) << 80 | 0x7000_8000_0000_0000_0000 | u128::from(n))
    }

    pub(crate) fn note_id(n: u8) -> ids::NoteId {
        ids::NoteId(uuid(n))
    }

    pub(crate) fn user_id(n: u8) -> ids::UserId {
        ids::UserId(uuid(n))
    }

    pub(crate) fn person(n: u8) -> UserRow {
        UserRow {
            id: user_id(n),
            username: format!("user{n}"),
            host: None,
            uri: None,
            profile: Profile::default().into(),
            is_root: false,
            followers: 0,
            following: 0,
            notes: 0,
            updated_at: None,
            counted_to: domain::log::Position::START,
            active_days: 0,
            roles: Vec::new(),
            is_silenced: false,
            is_suspended: false,
            decorations: Vec::new(),
            moderation_note: String::new(),
        }
    }

    pub(crate) fn note_of(n: u8, author: u8, change: impl FnOnce(&mut NoteRow)) -> NoteRow {
        let written = Written {
            id: note_id(n),
            author: user_id(author),
            text: Some(format!("text {n}")),
            cw: None,
            visibility: Visibility::Public,
            local_only: false,
            reaction_acceptance: None,
            reply: None,
            renote: None,
            mentions: Vec::new(),
            visible_to: Vec::new(),
            tags: Vec::new(),
            emojis: Vec::new(),
            poll: None,
            files: Vec::new(),
            uri: None,
            pure: false,
            thread: note_id(n),
            channel: None,
            renote_channel: None,
        };
        let mut row = NoteRow {
            written: written.into(),
            replies: 0,
            renotes: 0,
            clipped: 0,
            reactions: Reactions::none(),
            votes: Vec::new(),
            rules: AuthorRules::default(),
            in_muted_thread: false,
            in_muted_channel: false,
        };
        change(&mut row);
        row.pure = row.renote.is_some() && row.text.is_none();
        row
    }

    pub(crate) fn to_parent(n: u8, author: u8) -> Option<Parent> {
        Some(Parent { id: note_id(n), author: user_id(author) })
    }

    fn shown(viewer: Option<u8>, notes: Vec<NoteRow>, theirs: Theirs) -> Value {
        let (presence, viewer): (_, Viewer) = (Presence::default(), viewer.map(user_id));
        let look = Look { origin: "https://a.example", presence: &presence, now: now() };
        let first = notes[0].id;
        let ids: Vec<_> = notes.iter().map(|note| note.id).collect();
        let world = World::of(None, now(), notes, [person(1), person(2)]).in_front_of(viewer, &ids, theirs);
        to_value(note(&look, &world, first)).unwrap()
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// The keys that every note has.
    const ALWAYS: [&str; 18] = [
        "createdAt",
        "cw",
        "fileIds",
        "files",
        "id",
        "localOnly",
        "reactionAcceptance",
        "reactionCount",
        "reactionEmojis",
        "reactions",
        "renoteCount",
        "renoteId",
        "repliesCount",
        "replyId",
        "text",
        "user",
        "userId",
        "visibility",
    ];

    fn extra(value: &Value) -> Vec<&str> {
        keys(value).into_iter().filter(|key| !ALWAYS.contains(key)).collect()
    }

    #[test]
    fn a_plain_note_has_no_keys_for_what_it_lacks() {
        let note = shown(None, vec![note_of(1, 1, |_| ())], Theirs::default());
        assert_eq!(extra(&note), ["clippedCount"]);
        assert_eq!(keys(&note).len(), ALWAYS.len() + 1);
        assert_eq!(note["createdAt"], "2023-11-14T22:13:20.123Z");
        assert_eq!(
            (&note["text"], &note["cw"], &note["fileIds"]),
            (&json!("text 1"), &json!(null), &json!([]))
        );
    }

    #[test]
    fn a_note_that_may_not_be_seen_shows_nothing_that_was_written() {
        let secret = |row: &mut NoteRow| {
            row.visibility = Visibility::Specified;
            row.visible_to = vec![user_id(2)];
            row.mentions = vec![user_id(2)];
            row.cw = Some("cw".to_owned());
            row.tags = vec!["tag".to_owned()];
            row.reactions.counts = [(Reaction::fallback(), 1)].into();
            row.poll =
                Some(domain::poll::Poll { choices: vec!["a".into()], multiple: false, expires_at: None });
            row.uri = Some("https://b.example/1".to_owned());
        };
        let hidden = shown(None, vec![note_of(1, 1, secret)], Theirs::default());
        assert_eq!(extra(&hidden), ["clippedCount", "isHidden", "mentions"]);
        assert_eq!((&hidden["text"], &hidden["cw"]), (&Value::Null, &Value::Null));
        assert_eq!((&hidden["reactionCount"], &hidden["reactions"]), (&json!(0), &json!({})));
        let seen = shown(Some(2), vec![note_of(1, 1, secret)], Theirs::default());
        assert_eq!(
            extra(&seen),
            ["clippedCount", "hasPoll", "mentions", "poll", "tags", "uri", "visibleUserIds"]
        );
        assert_eq!(seen["visibleUserIds"], json!([user_id(2)]));
    }

    #[test]
    fn what_is_kept_of_a_note_is_for_those_who_may_see_it() {
        let secret = note_of(1, 1, |row| row.visibility = Visibility::Followers);
        let texts = |viewer| shown(viewer, vec![secret.clone()], Theirs::default())["text"].take();
        assert_eq!(texts(None), Value::Null);
        assert_eq!(texts(Some(1)), "text 1");
        assert_eq!((texts(Some(2)), texts(None)), (Value::Null, Value::Null));
        assert_eq!(texts(Some(1)), "text 1");
    }

    #[test]
    fn a_reply_stands_by_itself_and_a_renote_in_full() {
        let notes = || {
            let hidden = |row: &mut NoteRow| row.visibility = Visibility::Followers;
            vec![
                note_of(1, 1, |row| (row.reply, row.renote) = (to_parent(2, 2), to_parent(3, 2))),
                note_of(2, 2, |row| row.reply = to_parent(4, 2)),
                note_of(3, 2, |row| row.renote = to_parent(4, 2)),
                note_of(4, 2, hidden),
            ]
        };
        let note = shown(Some(1), notes(), Theirs::default());
        assert_eq!(extra(&note), ["clippedCount", "renote", "reply"]);
        assert_eq!(extra(&note["reply"]), Vec::<&str>::new());
        assert_eq!(note["reply"]["replyId"], json!(note_id(4)));
        assert_eq!(extra(&note["renote"]), ["clippedCount", "renote"]);
        assert_eq!(note["renote"]["renote"]["isHidden"], json!(true));
        let as_author = shown(Some(2), notes(), Theirs::default());
        assert_eq!(as_author["renote"]["renote"]["text"], "text 4");
    }

    #[test]
    fn quotes_are_shown_to_a_depth() {
        let chain = |n| note_of(n, 1, |row| row.renote = to_parent(n + 1, 1));
        let mut note = shown(None, (1..20).map(chain).collect(), Theirs::default());
        let mut below = 0;
        while !note["renote"].is_null() {
            note = note["renote"].take();
            below += 1;
        }
        assert_eq!(below, MAX_QUOTED);
    }

    #[test]
    fn the_viewers_own_are_marked() {
        let asks = note_of(1, 1, |row| {
            let choices = vec!["a".to_owned(), "b".to_owned()];
            row.poll = Some(domain::poll::Poll { choices, multiple: true, expires_at: Some(now()) });
            row.votes = vec![2, 1];
            row.reactions.counts = [(Reaction::local("blob"), 2), (Reaction::fallback(), 1)].into();
        });
        let theirs = Theirs {
            reactions: [(note_id(1), Reaction::local("blob"))].into(),
            votes: [(note_id(1), vec![1])].into(),
            ..Theirs::default()
        };
        let note = shown(Some(2), vec![asks], theirs);
        assert_eq!(note["myReaction"], ":blob@.:");
        assert_eq!(
            (&note["reactionCount"], &note["reactions"]),
            (&json!(3), &json!({ ":blob@.:": 2, "❤": 1 }))
        );
        let choice =
            |text: &str, votes: i64, voted: bool| json!({ "text": text, "votes": votes, "isVoted": voted });
        assert_eq!(
            note["poll"],
            json!({
                "multiple": true,
                "expiresAt": "2023-11-14T22:13:20.123Z",
                "choices": [choice("a", 2, false), choice("b", 1, true)],
            })
        );
    }

    #[test]
    fn a_note_without_its_author_is_not_there() {
        let of_nobody = shown(None, vec![note_of(1, 7, |_| ())], Theirs::default());
        assert_eq!(of_nobody, Value::Null);
    }
}
