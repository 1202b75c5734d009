//! What people noted down about others.

use std::sync::Arc;

use async_trait::async_trait;
use domain::Event;
use domain::log::Recorded;
use serde::Serialize;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::pairs::{Changes, Pairs};
use crate::runtime::{ProjectError, Projector, events};
use crate::{erased, sql};

/// Fills `read.memos`; what pages show of it is in [`crate::relation`].
pub struct Projection;

const MEMOS: Pairs = Pairs { table: "memos", from: "user_id", to: "about" };

#[derive(Serialize)]
struct Row {
    user_id: Uuid,
    about: Uuid,
    memo: String,
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "memos"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["memos"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["memo.changed", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            let mut changes = Changes::new();
            for (_, event) in events(part) {
                if let Event::MemoChanged(e) = event {
                    let (user_id, about) = (e.user.0, e.about.0);
                    let row = |memo: &String| Row { user_id, about, memo: sql::clean(memo).into_owned() };
                    changes.insert((user_id, about), e.memo.as_ref().map(row));
                }
            }
            MEMOS.replace(tx, changes).await?;
            if let Some(user) = erased {
                MEMOS.purge(tx, user).await?;
            }
        }
        Ok(())
    }
}
