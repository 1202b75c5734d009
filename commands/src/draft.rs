//! Drafts, and notes that are posted at a time.

use std::convert::Infallible;

use domain::draft::{
    CannotSchedule, Content, Drafts, NoSuchDraft, Schedule, TooManyDrafts, cancel, change, delete, end, save,
    schedule, stream, take,
};
use domain::log::{By, LogError};
use domain::note::{self, Allowed, CannotWrite, Note};
use domain::{DraftId, NoteId, UserId};

use crate::{Commands, Failed, NewNote, Receipt};

/// Further appends of one posting: the note, and that it was posted.
const STEP_NOTE: u8 = 1;
const STEP_END: u8 = 2;
/// Why something isn't posted whose author may not write any more.
const AUTHOR_MAY_NOT: &str = "the account can't write notes";

impl Commands {
    /// Keeps a draft with this id; a person may have so many.
    pub async fn save_draft(
        &self,
        by: By,
        user: UserId,
        id: DraftId,
        content: Content,
        limit: usize,
    ) -> Result<Receipt, Failed<TooManyDrafts>> {
        let decide = |current: &Drafts| save(current, user, id, content.clone(), limit);
        self.execute(&stream(user), &by, decide).await
    }

    /// Changes a draft of one's own: this is all that it says.
    pub async fn change_draft(
        &self,
        by: By,
        user: UserId,
        id: DraftId,
        content: Content,
    ) -> Result<Receipt, Failed<NoSuchDraft>> {
        let decide = |current: &Drafts| change(current, user, id, content.clone());
        self.execute(&stream(user), &by, decide).await
    }

    /// What a draft of one's own says.
    pub async fn draft_of(&self, user: UserId, id: DraftId) -> Result<Option<Content>, LogError> {
        Ok(self.load::<Drafts>(&stream(user)).await?.draft(id).map(|draft| draft.content.clone()))
    }

    /// Throws a draft of one's own away.
    pub async fn delete_draft(
        &self,
        by: By,
        user: UserId,
        id: DraftId,
    ) -> Result<Receipt, Failed<NoSuchDraft>> {
        self.execute(&stream(user), &by, |current: &Drafts| delete(current, user, id)).await
    }

    /// Has a note posted later.
    pub async fn schedule_note(
        &self,
        by: By,
        user: UserId,
        id: DraftId,
        content: Content,
        asked: Schedule,
    ) -> Result<Receipt, Failed<CannotSchedule>> {
        let decide = |current: &Drafts| schedule(current, user, id, content.clone(), asked, by.now);
        self.execute(&stream(user), &by, decide).await
    }

    /// Has a note not posted later.
    pub async fn cancel_scheduled(
        &self,
        by: By,
        user: UserId,
        id: DraftId,
    ) -> Result<Receipt, Failed<NoSuchDraft>> {
        self.execute(&stream(user), &by, |current: &Drafts| cancel(current, user, id)).await
    }

    /// Posts what is due, or goes on with it; whoever is later changes nothing. None is allowed to an author
    /// who may not write any more.
    pub async fn post_scheduled(
        &self,
        by: By,
        user: UserId,
        id: DraftId,
        allowed: Option<Allowed>,
    ) -> Result<Receipt, Failed<Infallible>> {
        let (stream, fresh) = (stream(user), NoteId(self.ids.at(by.now)));
        let taken =
            self.execute(&stream, &by, |current: &Drafts| Ok(take(current, user, id, fresh, by.now))).await?;
        let drafts = self.load::<Drafts>(&stream).await?;
        let Some((draft, note)) = drafts.standing.get(&id).and_then(|draft| Some((draft, draft.taken?)))
        else {
            return Ok(taken);
        };
        let failed = self.post(by.step(STEP_NOTE), user, note, &draft.content, allowed).await?;
        self.execute(&stream, &by.step(STEP_END), |current: &Drafts| {
            Ok(end(current, user, id, note, failed.as_deref()))
        })
        .await
    }

    /// Why it can't be posted, if it can't.
    async fn post(
        &self,
        by: By,
        user: UserId,
        note: NoteId,
        content: &Content,
        allowed: Option<Allowed>,
    ) -> Result<Option<String>, Failed<Infallible>> {
        if self.load::<Note>(&note::stream(note)).await?.created.is_some() {
            return Ok(None);
        }
        let Some(allowed) = allowed else { return Ok(Some(AUTHOR_MAY_NOT.to_owned())) };
        match self.write_note(by, user, NewNote::of(note, content.clone(), by.now, allowed)).await {
            Ok(_) => Ok(None),
            Err(Failed::Refused(refusal)) => Ok(Some(refusal.to_string())),
            Err(Failed::Contended) => Err(Failed::Contended),
            Err(Failed::Log(error)) => Err(Failed::Log(error)),
            Err(Failed::Append(error)) => Err(Failed::Append(error)),
        }
    }

    /// Whether this could be written now.
    pub async fn check_scheduled(
        &self,
        by: By,
        author: UserId,
        content: Content,
        allowed: Allowed,
    ) -> Result<(), Failed<CannotWrite>> {
        let note = NoteId(self.ids.at(by.now));
        self.check_note(by, author, NewNote::of(note, content, by.now, allowed)).await
    }

    /// The same of a draft, which may have nothing to say yet.
    pub async fn check_draft(
        &self,
        by: By,
        author: UserId,
        content: Content,
        allowed: Allowed,
    ) -> Result<(), Failed<CannotWrite>> {
        match self.check_scheduled(by, author, content, allowed).await {
            Err(Failed::Refused(CannotWrite::Empty)) => Ok(()),
            checked => checked,
        }
    }
}
