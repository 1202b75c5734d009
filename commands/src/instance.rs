//! The server itself: its address, settings and default policies.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use domain::instance::{
    AddressDiffers, CannotSet, Instance, change_policies, change_settings, claim, stream,
};
use domain::log::{By, LogError};
use serde_json::Value;

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// The server, folded.
    pub async fn instance(&self) -> Result<Arc<Instance>, LogError> {
        self.load(&stream()).await
    }

    /// Whether there is a first account, which decides about the others.
    pub async fn has_root(&self) -> Result<bool, LogError> {
        match self.instance().await?.root {
            Some(root) => self.was_made(root).await,
            None => Ok(false),
        }
    }

    /// Claims the log for an address, at every start: the first address stays for ever.
    pub async fn claim(&self, by: By, url: &str) -> Result<Receipt, Failed<AddressDiffers>> {
        self.execute(&stream(), &by, |current: &Instance| claim(current, url)).await
    }

    /// Changes settings, by Misskey's names.
    pub async fn change_settings(
        &self,
        by: By,
        asked: BTreeMap<String, Value>,
    ) -> Result<Receipt, Failed<CannotSet>> {
        self.execute(&stream(), &by, |current: &Instance| change_settings(current, asked.clone())).await
    }

    /// Changes the policies of everybody without a role.
    pub async fn change_policies(
        &self,
        by: By,
        asked: BTreeMap<String, Value>,
    ) -> Result<Receipt, Failed<Infallible>> {
        self.execute(&stream(), &by, |current: &Instance| Ok(change_policies(current, asked.clone()))).await
    }
}
