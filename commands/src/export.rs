//! What people take along.

use std::convert::Infallible;

use domain::export::{Completed, Entity};
use domain::log::By;
use domain::{FileId, UserId};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Tells a person that a file with what they have is in their drive.
    pub async fn tell_exported(
        &self,
        by: By,
        user: UserId,
        entity: Entity,
        file: FileId,
    ) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, Completed { user, entity, file }.into()).await
    }
}
