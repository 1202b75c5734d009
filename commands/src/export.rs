//! What people take along.

use domain::drive::{CannotAddFile, File, stream};
use domain::export::{Entity, complete};
use domain::log::By;

use crate::{Commands, Failed, NewFile, Receipt};

impl Commands {
    /// Keeps a file with what its owner has, and tells them; of those with the same id the first.
    pub async fn complete_export(
        &self,
        by: By,
        new: NewFile,
        entity: Entity,
    ) -> Result<Receipt, Failed<CannotAddFile>> {
        self.execute_first(&stream(new.file.id), &by, |current: &File| {
            complete(current, &new.file, entity, new.used, &new.allowed)
        })
        .await
    }
}
