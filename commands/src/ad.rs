//! Advertisements.

use domain::AdId;
use domain::ad::{Ad, CannotAdvertise, Changes, Definition, change, create, delete, stream};
use domain::log::By;

use crate::{Commands, Failed, Receipt};

impl Commands {
    pub async fn create_ad(
        &self,
        by: By,
        ad: AdId,
        definition: Definition,
    ) -> Result<Receipt, Failed<CannotAdvertise>> {
        self.execute_first(&stream(ad), &by, |current: &Ad| create(current, ad, definition.clone())).await
    }

    pub async fn change_ad(
        &self,
        by: By,
        ad: AdId,
        changes: Changes,
    ) -> Result<Receipt, Failed<CannotAdvertise>> {
        self.execute(&stream(ad), &by, |current: &Ad| change(current, ad, changes.clone())).await
    }

    pub async fn delete_ad(&self, by: By, ad: AdId) -> Result<Receipt, Failed<CannotAdvertise>> {
        self.execute(&stream(ad), &by, |current: &Ad| delete(current, ad)).await
    }
}
