//! What has been read.

use std::convert::Infallible;

use domain::UserId;
use domain::log::By;
use domain::notification::Read;

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Marks all notifications there are as read.
    pub async fn read_notifications(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, Read { user }.into()).await
    }
}
