//! What has been read and thrown away, and what people are told besides.

use std::convert::Infallible;

use domain::UserId;
use domain::log::By;
use domain::notification::{Flushed, Read, Sent, Tested};

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Marks all notifications there are as read.
    pub async fn read_notifications(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, Read { user }.into()).await
    }

    /// Throws all notifications away that there are.
    pub async fn flush_notifications(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, Flushed { user }.into()).await
    }

    /// Tells a person something for a try.
    pub async fn test_notification(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, Tested { user }.into()).await
    }

    /// Tells a person what their app has to say.
    pub async fn send_notification(&self, by: By, sent: Sent) -> Result<Receipt, Failed<Infallible>> {
        self.record(&by, sent.into()).await
    }
}
