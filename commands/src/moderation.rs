//! What moderators do about people.

use std::convert::Infallible;

use domain::UserId;
use domain::log::By;
use domain::moderation::{CannotModerate, Note, PasswordReset, note, stream, suspend, unsuspend};
use domain::user::{self, User};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Suspends somebody, unless they moderate.
    pub async fn suspend(
        &self,
        by: By,
        user: UserId,
        moderates: bool,
    ) -> Result<Receipt, Failed<CannotModerate>> {
        self.execute(&user::stream(user), &by, |current: &User| suspend(current, user, moderates)).await
    }

    /// Ends a suspension.
    pub async fn unsuspend(&self, by: By, user: UserId) -> Result<Receipt, Failed<CannotModerate>> {
        self.execute(&user::stream(user), &by, |current: &User| unsuspend(current, user)).await
    }

    /// Notes what moderators should know about somebody.
    pub async fn note_about(
        &self,
        by: By,
        user: UserId,
        text: &str,
    ) -> Result<Receipt, Failed<CannotModerate>> {
        let about = self.user(user).await?;
        self.execute(&stream(user), &by, |current: &Note| note(current, &about, user, text)).await
    }

    /// Notes that somebody was given another password.
    pub async fn password_was_reset(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, PasswordReset { user }.into()).await
    }
}
