//! Decorations of avatars.

use domain::DecorationId;
use domain::decoration::{CannotDecorate, Changes, Decoration, Definition, change, create, delete, stream};
use domain::log::By;

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Offers a decoration.
    pub async fn create_decoration(
        &self,
        by: By,
        decoration: DecorationId,
        definition: Definition,
    ) -> Result<Receipt, Failed<CannotDecorate>> {
        self.execute_first(&stream(decoration), &by, |current: &Decoration| {
            create(current, decoration, definition.clone())
        })
        .await
    }

    /// Changes a decoration for all who wear it.
    pub async fn change_decoration(
        &self,
        by: By,
        decoration: DecorationId,
        changes: Changes,
    ) -> Result<Receipt, Failed<CannotDecorate>> {
        self.execute(&stream(decoration), &by, |current: &Decoration| {
            change(current, decoration, changes.clone())
        })
        .await
    }

    /// Offers a decoration no more; nobody wears it then.
    pub async fn delete_decoration(
        &self,
        by: By,
        decoration: DecorationId,
    ) -> Result<Receipt, Failed<CannotDecorate>> {
        self.execute(&stream(decoration), &by, |current: &Decoration| delete(current, decoration)).await
    }
}
