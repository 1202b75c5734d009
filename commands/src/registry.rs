//! What apps keep on the server for a person.

use std::convert::Infallible;

use domain::log::By;
use domain::registry::{CannotSet, Place, Removed, set};
use domain::{RegistryItemId, UserId};
use serde_json::Value;

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Sets a value, of somebody who was seen to have so many others.
    pub async fn set_registry(
        &self,
        by: By,
        user: UserId,
        place: Place,
        value: Value,
        others: u64,
    ) -> Result<Receipt, Failed<CannotSet>> {
        let id = RegistryItemId(self.ids.at(by.now));
        let fact = set(user, id, place, value, others).map_err(Failed::Refused)?;
        self.record(&by, fact).await.map_err(|failed| failed.map_refusal(|never| match never {}))
    }

    /// Removes a value; there need be none.
    pub async fn remove_registry(
        &self,
        by: By,
        user: UserId,
        place: Place,
    ) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, Removed { user, place }.into()).await
    }
}
