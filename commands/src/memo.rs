//! Memos about people.

use domain::UserId;
use domain::follow::{Relation, stream};
use domain::log::By;
use domain::memo::{CannotNote, note_down};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Notes something down about somebody, or throws the memo away.
    pub async fn note_down(
        &self,
        by: By,
        user: UserId,
        about: UserId,
        memo: Option<String>,
    ) -> Result<Receipt, Failed<CannotNote>> {
        let them = self.user(about).await?;
        self.execute(&stream(user, about), &by, |current: &Relation| {
            note_down(current, user, (about, &them), memo.clone())
        })
        .await
    }
}
