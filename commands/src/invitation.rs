//! Invitations.

use std::convert::Infallible;

use chrono::{DateTime, Utc};
use domain::invitation::{
    CannotDeleteInvitation, Created, Invitation, NotInvited, admit, create, delete, stream,
};
use domain::log::{By, LogError, StreamId};
use domain::user::CannotSignUp;
use domain::{InvitationId, UserId};

use crate::{Commands, Failed, Receipt};

/// The step of the append that uses a code up.
pub(crate) const STEP_INVITATION: u8 = 5;

impl Commands {
    /// Makes a code with which somebody can make an account.
    pub async fn invite(
        &self,
        by: By,
        user: UserId,
        code: &str,
        expires_at: Option<DateTime<Utc>>,
        as_moderator: bool,
    ) -> Result<(InvitationId, Receipt), Failed<Infallible>> {
        let invitation = InvitationId(self.ids.at(by.now));
        let new = Created { invitation, code: code.to_owned(), by: user, expires_at, as_moderator };
        let made = self
            .execute_first(&self.code(code), &by, |current: &Invitation| Ok(create(current, &new)))
            .await?;
        Ok((invitation, made))
    }

    /// Takes a code back.
    pub async fn delete_invitation(
        &self,
        by: By,
        user: UserId,
        code: &str,
        moderates: bool,
    ) -> Result<Receipt, Failed<CannotDeleteInvitation>> {
        self.execute(&self.code(code), &by, |current: &Invitation| delete(current, user, moderates)).await
    }

    /// Whether a code would let somebody in.
    pub(crate) async fn is_invited(&self, by: &By, user: UserId, code: &str) -> Result<bool, LogError> {
        let invitation = self.load::<Invitation>(&self.code(code)).await?;
        Ok(admit(&invitation, user, by.now).is_ok())
    }

    /// Uses a code up.
    pub(crate) async fn use_invitation(
        &self,
        by: By,
        user: UserId,
        code: &str,
    ) -> Result<(), Failed<CannotSignUp>> {
        let by = by.step(STEP_INVITATION);
        let used =
            self.execute(&self.code(code), &by, |current: &Invitation| admit(current, user, by.now)).await;
        used.map(|_| ()).map_err(|failed| failed.map_refusal(|NotInvited| CannotSignUp::Closed))
    }

    fn code(&self, code: &str) -> StreamId {
        stream(&self.keyring.hash("invitation", code))
    }
}
