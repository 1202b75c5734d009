//! What a page needs, loaded in a fixed number of rounds: the input of every presenter.
//!
//! A [`World`] hands out the content of a note only through [`domain::policy`]: as `Visible`, or as
//! a [`Shell`] that has nothing the author wrote.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::decoration::Worn;
use domain::drive::Properties;
use domain::emoji::Reaction;
use domain::follow::Notify;
use domain::log::{Position, Recorded};
use domain::mute::Mute;
use domain::note::{Parent, ReactionAcceptance, Visibility};
use domain::policy::{
    self, AuthorRules, Between, Company, Facts, Guarded, Place, Sight, Stance, Viewer, Visible,
};
use domain::poll::Poll;
use domain::user::Profile;
use domain::{ChannelId, FileId, FolderId, FollowId, NoteId, RoleId, UserId, WorkId};

use crate::reaction::Reactions;
use crate::role::RoleRow;
use crate::shown::Shown;
use crate::work::WorkRow;

/// A note with its counts, as the read tables have it.
#[derive(Debug, Clone)]
pub struct NoteRow {
    pub written: Shown<Written>,
    pub replies: i64,
    pub renotes: i64,
    /// Clips that it is in.
    pub clipped: i64,
    pub reactions: Reactions,
    /// Votes per choice, as long as the choices of the poll.
    pub votes: Vec<i64>,
    pub rules: AuthorRules,
    /// Whether the viewer mutes the thread.
    pub in_muted_thread: bool,
    /// Whether the viewer mutes the channel that it is in, or that what it passes on is in.
    pub in_muted_channel: bool,
}

/// What stays as it was when a note was written. It is shared: a world takes none of it along.
#[derive(Debug, Clone)]
pub struct Written {
    pub id: NoteId,
    pub author: UserId,
    pub text: Option<String>,
    pub cw: Option<String>,
    pub visibility: Visibility,
    pub local_only: bool,
    pub reaction_acceptance: Option<ReactionAcceptance>,
    pub reply: Option<Parent>,
    pub renote: Option<Parent>,
    pub mentions: Vec<UserId>,
    pub visible_to: Vec<UserId>,
    pub tags: Vec<String>,
    pub emojis: Vec<String>,
    pub poll: Option<Poll>,
    /// Some may be gone.
    pub files: Vec<FileId>,
    pub uri: Option<String>,
    /// A renote that adds nothing of its own.
    pub pure: bool,
    /// The note at the top of the thread.
    pub thread: NoteId,
    /// Where it was written, if in a channel.
    pub channel: Option<ChannelId>,
    /// Where what it passes on was written.
    pub renote_channel: Option<ChannelId>,
}

impl Deref for NoteRow {
    type Target = Written;

    fn deref(&self) -> &Written {
        &self.written
    }
}

impl DerefMut for NoteRow {
    /// Where it is shared, a copy of it is changed.
    fn deref_mut(&mut self) -> &mut Written {
        &mut self.written
    }
}

/// A channel with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRow {
    pub id: ChannelId,
    pub owner: UserId,
    pub name: String,
    pub description: Option<String>,
    pub color: String,
    pub is_archived: bool,
    pub is_sensitive: bool,
    /// Whether its notes may be passed on outside of it.
    pub allow_renote_to_external: bool,
    pub pinned: Vec<NoteId>,
    pub notes: i64,
    /// People who wrote in it.
    pub users: i64,
    pub last_noted_at: Option<DateTime<Utc>>,
    /// A picture that is there, and its key.
    pub banner: Option<(FileId, String)>,
}

impl NoteRow {
    /// Around whom the note is.
    pub fn company(&self) -> Company {
        Company {
            author: self.author,
            answered: self.reply.map(|reply| reply.author),
            passed_on: self.renote.map(|renote| renote.author),
            is_pure_renote: self.pure,
            in_muted_thread: self.in_muted_thread,
            in_muted_channel: self.in_muted_channel,
        }
    }
}

impl Guarded for NoteRow {
    fn facts(&self) -> Facts<'_> {
        Facts {
            id: self.id,
            author: self.author,
            visibility: self.visibility,
            visible_to: &self.visible_to,
            mentions: &self.mentions,
            reply_author: self.reply.map(|reply| reply.author),
            local_only: self.local_only,
            rules: self.rules,
        }
    }
}

/// What is shown of a note that its viewer may not see: where it stands, and nothing that was written.
#[derive(Debug, Clone, Copy)]
pub struct Shell<'w> {
    pub id: NoteId,
    pub author: UserId,
    pub visibility: Visibility,
    pub local_only: bool,
    pub reaction_acceptance: Option<ReactionAcceptance>,
    pub reply: Option<Parent>,
    pub renote: Option<Parent>,
    pub channel: Option<ChannelId>,
    pub mentions: &'w [UserId],
    pub replies: i64,
    pub renotes: i64,
    pub clipped: i64,
}

/// A file of somebody's drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    pub id: FileId,
    pub owner: UserId,
    pub name: String,
    pub comment: Option<String>,
    pub media_type: String,
    pub md5: String,
    /// In bytes.
    pub size: u64,
    pub sensitive: bool,
    pub properties: Properties,
    pub blurhash: Option<String>,
    pub folder: Option<FolderId>,
    /// Under which the bytes are served.
    pub key: String,
    /// The same of a small picture of it.
    pub thumbnail: Option<String>,
}

/// A person with their counts.
#[derive(Debug, Clone)]
pub struct UserRow {
    pub id: UserId,
    pub username: String,
    /// None for people of this server.
    pub host: Option<String>,
    pub uri: Option<String>,
    pub profile: Shown<Profile>,
    pub is_root: bool,
    pub followers: i64,
    pub following: i64,
    pub notes: i64,
    /// When a note of theirs was last written or deleted.
    pub updated_at: Option<DateTime<Utc>>,
    /// Up to where in the log their notes are counted.
    pub counted_to: Position,
    /// Days (UTC) on which they used the server.
    pub active_days: i64,
    /// What they have now: assigned, then by condition.
    pub roles: Vec<Arc<RoleRow>>,
    /// Whether they may write no public notes.
    pub is_silenced: bool,
    pub is_suspended: bool,
    /// What their avatar wears, each with the address of its picture.
    pub decorations: Vec<(Worn, String)>,
    /// What moderators note about them.
    pub moderation_note: String,
}

impl From<&UserRow> for AuthorRules {
    fn from(author: &UserRow) -> Self {
        Self { suspended: author.is_suspended, ..Self::from(&*author.profile) }
    }
}

impl UserRow {
    /// Takes in that they wrote a note, unless it is counted already.
    pub(crate) fn wrote(&mut self, note: &Recorded) {
        if note.position > self.counted_to {
            self.notes += 1;
            self.updated_at = self.updated_at.max(Some(note.at));
            self.counted_to = note.position;
        }
    }

    pub fn administers(&self) -> bool {
        self.is_root || self.roles.iter().any(|role| role.definition.is_administrator)
    }

    pub fn moderates(&self) -> bool {
        self.administers() || self.roles.iter().any(|role| role.definition.is_moderator)
    }
}

/// What the viewer and another person are to each other.
#[derive(Debug, Clone, Default)]
pub struct RelationRow {
    /// The viewer follows them.
    pub following: Option<FollowingRow>,
    pub followed: bool,
    pub request_from_me: bool,
    pub request_to_me: bool,
    /// The viewer blocks them.
    pub blocks: bool,
    pub is_blocked: bool,
    /// The viewer's mute of them; it may be over.
    pub mute: Option<Mute>,
    pub mutes_renotes: bool,
    /// What the viewer noted down about them.
    pub memo: Option<String>,
}

impl RelationRow {
    /// Whether the viewer mutes them at this instant.
    pub fn mutes(&self, now: DateTime<Utc>) -> bool {
        self.mute.is_some_and(|mute| mute.stands(now))
    }
}

/// A following that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowingRow {
    pub id: FollowId,
    pub notify: Notify,
    pub with_replies: bool,
}

/// What is a viewer's own about some notes.
#[derive(Debug, Clone, Default)]
pub struct Theirs {
    /// Authors they follow.
    pub follows: HashMap<UserId, FollowingRow>,
    pub reactions: HashMap<NoteId, Reaction>,
    pub votes: HashMap<NoteId, Vec<u32>>,
}

/// Everything a page shows, for one viewer at one instant.
#[derive(Debug)]
pub struct World {
    pub viewer: Viewer,
    pub now: DateTime<Utc>,
    pub(crate) notes: HashMap<NoteId, NoteRow>,
    pub(crate) users: HashMap<UserId, UserRow>,
    pub(crate) files: HashMap<FileId, FileRow>,
    /// Those in which the notes are.
    pub(crate) channels: HashMap<ChannelId, ChannelRow>,
    pub(crate) relations: HashMap<UserId, RelationRow>,
    pub(crate) my_reactions: HashMap<NoteId, Reaction>,
    pub(crate) my_votes: HashMap<NoteId, Arc<[u32]>>,
    /// Those that were asked for, with how many people are assigned to each.
    pub(crate) roles: HashMap<RoleId, (RoleRow, i64)>,
    /// Servers whose people the viewer mutes, in lower case.
    pub(crate) muted_hosts: HashSet<String>,
    pub(crate) pins: HashMap<UserId, Vec<NoteId>>,
    /// Pages that people have pinned.
    pub(crate) pages: HashMap<WorkId, WorkRow>,
}

impl World {
    /// A world of these rows, to whose viewer nobody is anything.
    pub fn of(
        viewer: Viewer,
        now: DateTime<Utc>,
        notes: impl IntoIterator<Item = NoteRow>,
        users: impl IntoIterator<Item = UserRow>,
    ) -> Self {
        Self {
            viewer,
            now,
            notes: notes.into_iter().map(|note| (note.id, note)).collect(),
            users: users.into_iter().map(|user| (user.id, user)).collect(),
            files: HashMap::new(),
            channels: HashMap::new(),
            relations: HashMap::new(),
            my_reactions: HashMap::new(),
            my_votes: HashMap::new(),
            roles: HashMap::new(),
            muted_hosts: HashSet::new(),
            pins: HashMap::new(),
            pages: HashMap::new(),
        }
    }

    /// The note as the viewer may see it; none when there is no such note.
    pub fn see(&self, id: NoteId) -> Option<Sight<'_, NoteRow>> {
        let note = self.notes.get(&id)?;
        let follows = self.relations.get(&note.author).is_some_and(|relation| relation.following.is_some());
        Some(policy::see(self.viewer, note, Between { viewer_follows_author: follows }, self.now))
    }

    /// The note, if the viewer may see it and, looking there, wants to.
    pub fn pick(&self, id: NoteId, place: Place) -> Option<Visible<'_, NoteRow>> {
        let visible = self.see(id)?.seen()?;
        let company = visible.note().company();
        policy::wants(self.viewer, &company, place, |user| self.stance(user)).then_some(visible)
    }

    /// What the viewer is to somebody, as far as it decides what they want to see.
    pub fn stance(&self, user: UserId) -> Stance {
        let relation = self.relations.get(&user);
        let host = self.users.get(&user).and_then(|user| user.host.as_ref());
        Stance {
            mutes: relation.is_some_and(|relation| relation.mutes(self.now))
                || host.is_some_and(|host| self.muted_hosts.contains(host)),
            mutes_renotes: relation.is_some_and(|relation| relation.mutes_renotes),
            blocks: relation.is_some_and(|relation| relation.blocks),
            is_blocked: relation.is_some_and(|relation| relation.is_blocked),
        }
    }

    /// What may be shown of a note to anybody.
    pub fn shell(&self, id: NoteId) -> Option<Shell<'_>> {
        self.notes.get(&id).map(|note| Shell {
            id: note.id,
            author: note.author,
            visibility: note.visibility,
            local_only: note.local_only,
            reaction_acceptance: note.reaction_acceptance,
            reply: note.reply,
            renote: note.renote,
            channel: note.channel,
            mentions: &note.mentions,
            replies: note.replies,
            renotes: note.renotes,
            clipped: note.clipped,
        })
    }

    /// What the policy asks of a note.
    pub fn facts(&self, id: NoteId) -> Option<Facts<'_>> {
        self.notes.get(&id).map(Guarded::facts)
    }

    /// Around whom a note is.
    pub fn company(&self, id: NoteId) -> Option<Company> {
        self.notes.get(&id).map(NoteRow::company)
    }

    /// These notes and their authors in front of somebody else, to whom only the given things are known:
    /// for streams, where what was loaded once is shown to many.
    pub fn in_front_of(&self, viewer: Viewer, notes: &[NoteId], theirs: Theirs) -> World {
        let notes: HashMap<NoteId, NoteRow> =
            notes.iter().filter_map(|id| Some((*id, self.notes.get(id)?.clone()))).collect();
        let users =
            notes.values().filter_map(|note| Some((note.author, self.users.get(&note.author)?.clone())));
        let files = notes.values().flat_map(|note| &note.files);
        let files = files.filter_map(|id| Some((*id, self.files.get(id)?.clone()))).collect();
        let relation = |(author, following)| {
            (author, RelationRow { following: Some(following), ..RelationRow::default() })
        };
        let channels =
            notes.values().filter_map(|note| Some((note.channel?, self.channel(note.channel?)?.clone())));
        World {
            viewer,
            now: self.now,
            users: users.collect(),
            files,
            channels: channels.collect(),
            notes,
            relations: theirs.follows.into_iter().map(relation).collect(),
            my_reactions: theirs.reactions,
            my_votes: theirs.votes.into_iter().map(|(note, votes)| (note, votes.into())).collect(),
            roles: HashMap::new(),
            muted_hosts: HashSet::new(),
            pins: HashMap::new(),
            pages: HashMap::new(),
        }
    }

    /// With these files as well.
    pub fn with_files(mut self, files: impl IntoIterator<Item = FileRow>) -> Self {
        self.files.extend(files.into_iter().map(|file| (file.id, file)));
        self
    }

    pub fn file(&self, id: FileId) -> Option<&FileRow> {
        self.files.get(&id)
    }

    pub fn user(&self, id: UserId) -> Option<&UserRow> {
        self.users.get(&id)
    }

    pub fn channel(&self, id: ChannelId) -> Option<&ChannelRow> {
        self.channels.get(&id)
    }

    /// A role, and how many people are assigned to it.
    pub fn role(&self, id: RoleId) -> Option<&(RoleRow, i64)> {
        self.roles.get(&id)
    }

    /// The notes that somebody pinned, when they were [wanted](crate::Wanted::pins); the latest first.
    pub fn pins(&self, id: UserId) -> &[NoteId] {
        self.pins.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The page that somebody pinned, if it is still there for the viewer.
    pub fn pinned_page(&self, user: &UserRow) -> Option<&WorkRow> {
        self.pages.get(&user.profile.pinned_page?).filter(|page| page.user == user.id)
    }

    /// What the viewer and this person are to each other.
    pub fn relation(&self, id: UserId) -> RelationRow {
        self.relations.get(&id).cloned().unwrap_or_default()
    }

    pub fn my_reaction(&self, id: NoteId) -> Option<&Reaction> {
        self.my_reactions.get(&id)
    }

    /// The choices of a poll that the viewer voted for.
    pub fn my_votes(&self, id: NoteId) -> &[u32] {
        self.my_votes.get(&id).map_or(&[], |votes| votes)
    }
}
