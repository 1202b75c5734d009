//! Blocking: who is blocked neither follows nor answers, passes on, reacts or votes. It is part of what one
//! person is to another ([`Relation`]).

use serde::{Deserialize, Serialize};

use crate::Event;
use crate::event::Payload;
use crate::follow::{self, Relation, RequestEnd};
use crate::ids::{BlockId, UserId};
use crate::user::User;

/// `block.started`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub id: BlockId,
    pub blocker: UserId,
    pub blockee: UserId,
}

/// `block.ended`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub blocker: UserId,
    pub blockee: UserId,
}

impl Payload for Started {
    fn subject(&self) -> Option<UserId> {
        Some(self.blocker)
    }
}

impl Payload for Ended {
    fn subject(&self) -> Option<UserId> {
        Some(self.blocker)
    }
}

/// Why somebody isn't blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotBlock {
    #[error("one can't block oneself")]
    Yourself,
    #[error("no such user")]
    NoSuchUser,
    #[error("already blocking")]
    AlreadyBlocking,
}

/// Why a block doesn't end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBlocking {
    #[error("one can't block oneself")]
    Yourself,
    #[error("no such user")]
    NoSuchUser,
    #[error("not blocking")]
    NotBlocking,
}

/// Decides a block. Following and asking to follow end with it; on the other side by [`let_go`].
pub fn block(
    current: &Relation,
    blocker: UserId,
    blockee: (UserId, &User),
    id: BlockId,
) -> Result<Vec<Event>, CannotBlock> {
    let (blockee, them) = blockee;
    if blocker == blockee {
        return Err(CannotBlock::Yourself);
    }
    if !them.exists() {
        return Err(CannotBlock::NoSuchUser);
    }
    if current.blocks {
        return Err(CannotBlock::AlreadyBlocking);
    }
    let mut events = part(current, blocker, blockee, false);
    events.push(Started { id, blocker, blockee }.into());
    Ok(events)
}

/// Decides the end of what a blocked person's relation to the one who blocks them has of following.
pub fn let_go(theirs: &Relation, blockee: UserId, blocker: UserId) -> Vec<Event> {
    part(theirs, blockee, blocker, true)
}

fn part(relation: &Relation, follower: UserId, followee: UserId, by_followee: bool) -> Vec<Event> {
    let how = if by_followee { RequestEnd::Rejected } else { RequestEnd::Cancelled };
    let request =
        relation.requested.as_ref().map(|_| follow::RequestEnded { follower, followee, how }.into());
    let following =
        relation.following.as_ref().map(|_| follow::Ended { follower, followee, by_followee }.into());
    request.into_iter().chain(following).collect()
}

/// Decides the end of a block.
pub fn unblock(current: &Relation, blocker: UserId, blockee: UserId) -> Result<Vec<Event>, NotBlocking> {
    if blocker == blockee {
        return Err(NotBlocking::Yourself);
    }
    if !current.blocks {
        return Err(NotBlocking::NotBlocking);
    }
    Ok(vec![Ended { blocker, blockee }.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fold;
    use crate::follow::{Following, Requested};
    use crate::ids::{FollowId, FollowRequestId};
    use crate::note::tests::{id, person, user};

    fn try_block(current: &Relation, them: &User) -> Result<Relation, CannotBlock> {
        let events = block(current, user(1), (user(2), them), BlockId(id(9)))?;
        let mut after = current.clone();
        events.iter().for_each(|event| after.apply(event));
        Ok(after)
    }

    fn follows() -> Relation {
        let following = Following { id: FollowId(id(5)), notify: follow::Notify::None, with_replies: false };
        Relation { following: Some(following), ..Relation::default() }
    }

    #[test]
    fn a_block_ends_following_and_asking_on_both_sides() {
        let bob = person(2, |_| ());
        let blocking = Relation { blocks: true, ..Relation::default() };
        assert_eq!(try_block(&follows(), &bob), Ok(blocking.clone()));
        let requested = Some(Requested {
            id: FollowRequestId(id(6)),
            follower: user(1),
            followee: user(2),
            with_replies: false,
        });
        assert_eq!(try_block(&Relation { requested, ..Relation::default() }, &bob), Ok(blocking));
        let mut theirs = follows();
        let events = let_go(&theirs, user(2), user(1));
        events.iter().for_each(|event| theirs.apply(event));
        assert_eq!((events.len(), theirs), (1, Relation::default()));
        assert_eq!(let_go(&Relation::default(), user(2), user(1)), []);
    }

    #[test]
    fn one_blocks_once_and_never_oneself_or_nobody() {
        let bob = person(2, |_| ());
        let blocking = try_block(&Relation::default(), &bob).unwrap();
        assert_eq!(try_block(&blocking, &bob), Err(CannotBlock::AlreadyBlocking));
        assert_eq!(try_block(&Relation::default(), &User::default()), Err(CannotBlock::NoSuchUser));
        let me = block(&Relation::default(), user(1), (user(1), &bob), BlockId(id(9)));
        assert_eq!(me, Err(CannotBlock::Yourself));
        let mut after = blocking.clone();
        unblock(&blocking, user(1), user(2)).unwrap().iter().for_each(|event| after.apply(event));
        assert_eq!(unblock(&after, user(1), user(2)), Err(NotBlocking::NotBlocking));
        assert_eq!(unblock(&after, user(1), user(1)), Err(NotBlocking::Yourself));
    }
}
