//! What has been read.

use std::convert::Infallible;

use domain::log::{By, StreamId};
use domain::notification::Read;
use domain::{Event, Fold, UserId};

use crate::{Commands, Failed, Receipt};

/// Reading needs no rule, so nothing is folded.
#[derive(Default)]
struct Nothing;

impl Fold for Nothing {
    fn apply(&mut self, _: &Event) {}
}

impl Commands {
    /// Marks all notifications there are as read.
    pub async fn read_notifications(&self, by: By, user: UserId) -> Result<Receipt, Failed<Infallible>> {
        let stream = StreamId::new("notifications", user);
        self.execute(&stream, &by, |_: &Nothing| Ok(vec![Read { user }.into()])).await
    }
}
