//! Notes: writing, deleting, and whether somebody may see one.

use std::sync::Arc;

use domain::channel::{Misplaced, place};
use domain::log::{By, LogError};
use domain::note::{
    Allowed, CannotDelete, CannotWrite, Created, Draft, Note, ReactionAcceptance, Target, Visibility, delete,
    stream, write,
};
use domain::policy::{Between, Facts, may_see};
use domain::poll::Poll;
use domain::text::Named;
use domain::{ChannelId, FileId, NoteId, UserId, drive, follow};
use futures_util::future::try_join_all;

use crate::{Commands, Failed, Receipt};

/// Names looked up at one time.
const LOOKUPS_AT_ONCE: usize = 16;
/// Notes above a note that are looked at to see that it is still there; one further up is taken to be.
const MAX_ANCESTORS: usize = 64;

/// A note as a client asks for it, with the id it will have; texts are trimmed and within bounds.
#[derive(Debug, Clone)]
pub struct NewNote {
    pub id: NoteId,
    pub text: Option<String>,
    pub cw: Option<String>,
    pub visibility: Visibility,
    pub visible_to: Vec<UserId>,
    pub local_only: bool,
    pub reaction_acceptance: Option<ReactionAcceptance>,
    pub reply: Option<NoteId>,
    pub renote: Option<NoteId>,
    pub poll: Option<Poll>,
    /// In the order in which they are shown, each once.
    pub files: Vec<FileId>,
    pub channel: Option<ChannelId>,
    pub extract_mentions: bool,
    pub extract_hashtags: bool,
    pub extract_emojis: bool,
    /// What the author's policies leave to them.
    pub allowed: Allowed,
}

/// A note to be answered or passed on.
struct Found {
    note: Arc<Note>,
    visible: bool,
    blocked: bool,
}

impl Commands {
    /// Writes a note, a renote or a quote.
    pub async fn write_note(
        &self,
        by: By,
        author: UserId,
        new: NewNote,
    ) -> Result<Receipt, Failed<CannotWrite>> {
        if !self.has_files(author, &new.files).await? {
            return Err(Failed::Refused(CannotWrite::NoSuchFile));
        }
        let reply = self.target(new.reply, author, &by).await?;
        let renote = self.target(new.renote, author, &by).await?;
        let channel = self.place(new.channel, reply.as_ref(), renote.as_ref()).await?;
        let allowed = new.allowed;
        let named = named(&new);
        let draft = Draft {
            mentions: if new.extract_mentions { self.people(&named, author).await? } else { Vec::new() },
            visible_to: self.existing(&new.visible_to).await?,
            tags: if new.extract_hashtags { named.tags } else { Vec::new() },
            emojis: if new.extract_emojis { named.emojis } else { Vec::new() },
            text: new.text,
            cw: new.cw,
            visibility: new.visibility,
            local_only: new.local_only,
            reaction_acceptance: new.reaction_acceptance,
            poll: new.poll,
            files: new.files,
            channel,
        };
        fn seen(target: &Option<Found>) -> Option<Target<'_>> {
            let target = target.as_ref()?;
            Some(Target { note: &target.note, visible: target.visible, blocked: target.blocked })
        }
        self.execute_first(&stream(new.id), &by, |current: &Note| {
            if current.created.is_some() {
                return Ok(Vec::new());
            }
            write(new.id, author, draft.clone(), seen(&reply), seen(&renote), allowed, by.now)
        })
        .await
    }

    /// In which channel a note is written, if in any.
    async fn place(
        &self,
        asked: Option<ChannelId>,
        reply: Option<&Found>,
        renote: Option<&Found>,
    ) -> Result<Option<ChannelId>, Failed<CannotWrite>> {
        let here = match asked {
            Some(id) => Some((id, self.channel(id).await?)),
            None => None,
        };
        let renote = renote.and_then(|found| found.note.existing());
        let there = match renote.and_then(|renote| renote.channel) {
            Some(id) => self.channel(id).await?,
            None => Arc::default(),
        };
        let here = here.as_ref().map(|(id, channel)| (*id, channel.as_ref()));
        let reply = reply.and_then(|found| found.note.existing());
        place(here, reply, renote.map(|renote| (renote, there.as_ref()))).map_err(|misplaced| {
            Failed::Refused(match misplaced {
                Misplaced::NoSuchChannel => CannotWrite::NoSuchChannel,
                Misplaced::RenoteOutside => CannotWrite::RenoteOutsideOfChannel,
            })
        })
    }

    /// Deletes a note of one's own, or of anybody when one moderates.
    pub async fn delete_note(
        &self,
        by: By,
        note: NoteId,
        user: UserId,
        moderates: bool,
    ) -> Result<Receipt, Failed<CannotDelete>> {
        if self.note(note).await?.deleted {
            return Err(Failed::Refused(CannotDelete::NoSuchNote));
        }
        self.execute(&stream(note), &by, |current: &Note| delete(current, user, moderates)).await
    }

    /// One note, folded. It goes with what it answers or passes on, though its own stream doesn't say so.
    pub(crate) async fn note(&self, note: NoteId) -> Result<Arc<Note>, LogError> {
        let note: Arc<Note> = self.load(&stream(note)).await?;
        let mut above: Vec<NoteId> = note.existing().into_iter().flat_map(parents).collect();
        for _ in 0..MAX_ANCESTORS {
            let Some(parent) = above.pop() else { break };
            let parent: Arc<Note> = self.load(&stream(parent)).await?;
            let Some(created) = parent.existing() else {
                return Ok(Arc::new(Note { deleted: true, ..Note::clone(&note) }));
            };
            above.extend(parents(created));
        }
        Ok(note)
    }

    /// Those of these notes that are no more.
    pub(crate) async fn gone(&self, notes: &[NoteId]) -> Result<Vec<NoteId>, LogError> {
        let mut gone = Vec::new();
        for chunk in notes.chunks(LOOKUPS_AT_ONCE) {
            let states = try_join_all(chunk.iter().map(|note| self.note(*note))).await?;
            let missing = chunk.iter().zip(states).filter(|(_, state)| state.existing().is_none());
            gone.extend(missing.map(|(note, _)| *note));
        }
        Ok(gone)
    }

    /// Whether somebody may see a note now.
    pub(crate) async fn sees(&self, viewer: UserId, note: &Created, by: &By) -> Result<bool, LogError> {
        if viewer == note.author {
            return Ok(true);
        }
        let author = self.user(note.author).await?;
        let relation: Arc<follow::Relation> = self.load(&follow::stream(viewer, note.author)).await?;
        let between = Between { viewer_follows_author: relation.follows() };
        Ok(may_see(Some(viewer), &Facts::of(note, &*author), between, by.now))
    }

    async fn target(&self, note: Option<NoteId>, viewer: UserId, by: &By) -> Result<Option<Found>, LogError> {
        let Some(note) = note else { return Ok(None) };
        let note = self.note(note).await?;
        let (visible, blocked) = match note.existing() {
            Some(created) => {
                (self.sees(viewer, created, by).await?, self.is_blocked(viewer, created.author).await?)
            }
            None => (false, false),
        };
        Ok(Some(Found { note, visible, blocked }))
    }

    /// The local people that a text names, without its author and those who are no more.
    async fn people(&self, named: &Named, author: UserId) -> Result<Vec<UserId>, LogError> {
        let local: Vec<String> = named
            .mentions
            .iter()
            .filter(|mention| mention.host.is_none())
            .map(|mention| mention.username.to_ascii_lowercase())
            .collect();
        let mut people = Vec::new();
        for names in local.chunks(LOOKUPS_AT_ONCE) {
            for holder in
                try_join_all(names.iter().map(|name| self.holder_of(name))).await?.into_iter().flatten()
            {
                if holder != author {
                    people.push(holder);
                }
            }
        }
        self.existing(&people).await
    }

    /// Whether all these files are there and this person's.
    pub async fn has_files(&self, owner: UserId, files: &[FileId]) -> Result<bool, LogError> {
        for chunk in files.chunks(LOOKUPS_AT_ONCE) {
            let states: Vec<Arc<drive::File>> =
                try_join_all(chunk.iter().map(|file| self.file(*file))).await?;
            if states.iter().any(|state| state.of(owner).is_none()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Those of these people who exist, each once, in order.
    pub(crate) async fn existing(&self, users: &[UserId]) -> Result<Vec<UserId>, LogError> {
        let mut existing = Vec::new();
        for chunk in users.chunks(LOOKUPS_AT_ONCE) {
            let states = try_join_all(chunk.iter().map(|user| self.user(*user))).await?;
            for (user, state) in chunk.iter().zip(states) {
                if state.exists() && !existing.contains(user) {
                    existing.push(*user);
                }
            }
        }
        Ok(existing)
    }
}

/// What a note answers and what it passes on.
fn parents(note: &Created) -> impl Iterator<Item = NoteId> {
    note.renote.into_iter().chain(note.reply).map(|parent| parent.id)
}

/// What text, content warning and choices name together.
fn named(new: &NewNote) -> Named {
    let choices = new.poll.iter().flat_map(|poll| poll.choices.iter());
    let mut named = Named::default();
    for text in new.text.iter().chain(&new.cw).chain(choices) {
        named.add(text);
    }
    named
}
