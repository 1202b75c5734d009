//! Blocking.

use domain::block::{CannotBlock, NotBlocking, block, let_go, unblock};
use domain::follow::{Relation, stream};
use domain::log::{By, LogError};
use domain::{BlockId, UserId};

use crate::{Commands, Failed, Receipt};

/// Steps of the appends that block somebody.
const STEP_BEFORE: u8 = 1;
const STEP_AFTER: u8 = 2;

impl Commands {
    /// Blocks somebody, and ends following and asking on both sides. What the other is to the blocker is
    /// another stream: it is ended before, so that a block that is cut off in the middle can be made again, and
    /// after, for who followed in between.
    pub async fn block(
        &self,
        by: By,
        blocker: UserId,
        blockee: UserId,
    ) -> Result<Receipt, Failed<CannotBlock>> {
        if blocker == blockee {
            return Err(Failed::Refused(CannotBlock::Yourself));
        }
        let them = self.user(blockee).await?;
        if !them.exists() {
            return Err(Failed::Refused(CannotBlock::NoSuchUser));
        }
        let let_go = async |step| {
            self.execute(&stream(blockee, blocker), &by.step(step), |theirs: &Relation| {
                Ok(let_go(theirs, blockee, blocker))
            })
            .await
        };
        let_go(STEP_BEFORE).await?;
        let id = BlockId(self.ids.at(by.now));
        let blocked = self
            .execute(&stream(blocker, blockee), &by, |current: &Relation| {
                block(current, blocker, (blockee, &them), id)
            })
            .await?;
        let after = let_go(STEP_AFTER).await?;
        Ok(Receipt { position: blocked.position.max(after.position) })
    }

    /// Ends a block.
    pub async fn unblock(
        &self,
        by: By,
        blocker: UserId,
        blockee: UserId,
    ) -> Result<Receipt, Failed<NotBlocking>> {
        if blocker != blockee && !self.user(blockee).await?.exists() {
            return Err(Failed::Refused(NotBlocking::NoSuchUser));
        }
        self.execute(&stream(blocker, blockee), &by, |current: &Relation| unblock(current, blocker, blockee))
            .await
    }

    /// Whether somebody is blocked by another.
    pub(crate) async fn is_blocked(&self, user: UserId, by: UserId) -> Result<bool, LogError> {
        Ok(user != by && self.load::<Relation>(&stream(by, user)).await?.blocks)
    }
}
