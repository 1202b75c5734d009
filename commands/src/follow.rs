//! Following, and being asked first.

use std::sync::Arc;

use domain::block::let_go;
use domain::follow::{
    CannotFollow, NewIds, NoRequest, NotFollowing, Notify, Relation, RequestEnd, accept, change, end_request,
    follow, stream, unfollow,
};
use domain::log::By;
use domain::{FollowId, FollowRequestId, UserId};

use crate::{Commands, Failed, Receipt};

/// Step of the append that takes a following back.
const STEP_BLOCKED: u8 = 1;

impl Commands {
    /// Follows, or asks to. A block that came meanwhile ends what it found; so it is looked for once more, and
    /// one of the two sees the other.
    pub async fn follow(
        &self,
        by: By,
        follower: UserId,
        followee: UserId,
        with_replies: bool,
    ) -> Result<Receipt, Failed<CannotFollow>> {
        if follower == followee {
            return Err(Failed::Refused(CannotFollow::Yourself));
        }
        let me = self.user(follower).await?;
        let them = self.user(followee).await?;
        let back: Arc<Relation> = self.load(&stream(followee, follower)).await?;
        let ids =
            NewIds { follow: FollowId(self.ids.at(by.now)), request: FollowRequestId(self.ids.at(by.now)) };
        let receipt = self
            .execute(&stream(follower, followee), &by, |current: &Relation| {
                follow(current, (follower, &me), (followee, &them), &back, with_replies, ids)
            })
            .await?;
        let back = self.read_versioned::<Relation>(&stream(followee, follower)).await?;
        if !back.state.blocks {
            return Ok(receipt);
        }
        self.execute(&stream(follower, followee), &by.step(STEP_BLOCKED), |current: &Relation| {
            Ok(let_go(current, follower, followee))
        })
        .await?;
        Err(Failed::Refused(CannotFollow::Blocked))
    }

    /// Ends a following; `by_followee` when the followed one drops the follower.
    pub async fn unfollow(
        &self,
        by: By,
        follower: UserId,
        followee: UserId,
        by_followee: bool,
    ) -> Result<Receipt, Failed<NotFollowing>> {
        let other = if by_followee { follower } else { followee };
        if follower != followee && !self.user(other).await?.exists() {
            return Err(Failed::Refused(NotFollowing::NoSuchUser));
        }
        self.execute(&stream(follower, followee), &by, |current: &Relation| {
            unfollow(current, follower, followee, by_followee)
        })
        .await
    }

    /// Changes the follower's preferences for one following.
    pub async fn change_following(
        &self,
        by: By,
        follower: UserId,
        followee: UserId,
        notify: Option<Notify>,
        with_replies: Option<bool>,
    ) -> Result<Receipt, Failed<NotFollowing>> {
        if follower != followee && !self.user(followee).await?.exists() {
            return Err(Failed::Refused(NotFollowing::NoSuchUser));
        }
        self.execute(&stream(follower, followee), &by, |current: &Relation| {
            change(current, follower, followee, notify, with_replies)
        })
        .await
    }

    /// Accepts a request to be followed.
    pub async fn accept_follow(
        &self,
        by: By,
        followee: UserId,
        follower: UserId,
    ) -> Result<Receipt, Failed<NoRequest>> {
        if !self.user(follower).await?.exists() {
            return Err(Failed::Refused(NoRequest::NoSuchUser));
        }
        let me = self.user(followee).await?;
        let id = FollowId(self.ids.at(by.now));
        self.execute(&stream(follower, followee), &by, |current: &Relation| accept(current, &me, id)).await
    }

    /// Rejects a request to be followed, or takes one's own back.
    pub async fn end_follow_request(
        &self,
        by: By,
        follower: UserId,
        followee: UserId,
        how: RequestEnd,
    ) -> Result<Receipt, Failed<NoRequest>> {
        let other = match how {
            RequestEnd::Cancelled => followee,
            RequestEnd::Rejected => follower,
        };
        if !self.user(other).await?.exists() {
            return Err(Failed::Refused(NoRequest::NoSuchUser));
        }
        self.execute(&stream(follower, followee), &by, |current: &Relation| end_request(current, how)).await
    }
}
