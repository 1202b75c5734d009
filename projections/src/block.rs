//! Who blocks whom.

use std::sync::Arc;

use async_trait::async_trait;
use domain::log::Recorded;
use domain::{BlockId, Event, UserId};
use serde::Serialize;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use crate::erased;
use crate::page::Page;
use crate::pairs::{Changes, Pairs};
use crate::runtime::{ProjectError, Projector, events};

/// Fills `read.blocks`.
pub struct Projection;

const BLOCKS: Pairs = Pairs { table: "blocks", from: "blocker", to: "blockee" };

#[derive(Serialize)]
struct Row {
    id: Uuid,
    blocker: Uuid,
    blockee: Uuid,
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "blocks"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["blocks"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["block.started", "block.ended", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            let mut changes = Changes::new();
            for (_, event) in events(part) {
                match event {
                    Event::BlockStarted(e) => {
                        let (id, blocker, blockee) = (e.id.0, e.blocker.0, e.blockee.0);
                        changes.insert((blocker, blockee), Some(Row { id, blocker, blockee }));
                    }
                    Event::BlockEnded(e) => {
                        changes.insert((e.blocker.0, e.blockee.0), None);
                    }
                    _ => (),
                }
            }
            BLOCKS.replace(tx, changes).await?;
            if let Some(user) = erased {
                BLOCKS.purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

/// One block; pages go by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRow {
    pub id: BlockId,
    pub blockee: UserId,
}

/// Whom a person blocks.
pub async fn of(pool: &PgPool, blocker: UserId, page: &Page) -> sqlx::Result<Vec<BlockRow>> {
    let rows = BLOCKS.page(pool, blocker, page).await?;
    Ok(rows.into_iter().map(|(id, blockee)| BlockRow { id: BlockId(id), blockee }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, user};
    use domain::block::{Ended, Started};

    #[sqlx::test(migrations = "../migrations")]
    async fn blocks_are_listed_until_they_end(pool: PgPool) {
        for at_once in [true, false] {
            let mut story = Story::new(&pool);
            for n in [2, 3] {
                let id = BlockId(story.id());
                story.says(Started { id, blocker: user(1), blockee: user(n) });
            }
            if !at_once {
                story.project().await;
            }
            story.says(Ended { blocker: user(1), blockee: user(2) });
            let id = BlockId(story.id());
            story.says(Started { id, blocker: user(1), blockee: user(4) });
            story.project().await;
            let blocks = of(&pool, user(1), &Page::newest(10)).await.unwrap();
            assert_eq!(blocks.iter().map(|row| row.blockee).collect::<Vec<_>>(), [user(4), user(3)]);
            let older = Page { until: Some(blocks[0].id.0), ..Page::newest(10) };
            assert_eq!(of(&pool, user(1), &older).await.unwrap(), blocks[1..]);
            assert_eq!(of(&pool, user(2), &Page::newest(10)).await.unwrap(), []);
            story.empty().await;
        }
    }
}
