//! Achievements.

use domain::UserId;
use domain::achievement::{Achievements, NoSuchAchievement, earn, stream};
use domain::log::By;

use crate::{Commands, Failed, Receipt};

impl Commands {
    /// Notes that a person has reached something.
    pub async fn earn(&self, by: By, user: UserId, name: &str) -> Result<Receipt, Failed<NoSuchAchievement>> {
        self.execute(&stream(user), &by, |current: &Achievements| earn(current, user, name)).await
    }
}
