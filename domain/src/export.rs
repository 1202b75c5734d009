//! What people take along: files with what they have here.

use serde::{Deserialize, Serialize};

use crate::event::Payload;
use crate::ids::{FileId, UserId};

/// What is exported, by Misskey's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entity {
    Note,
    Following,
    Muting,
    Blocking,
    UserList,
    Antenna,
    Clip,
    Favorite,
}

/// `export.completed`: the file is in the person's drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    pub user: UserId,
    pub entity: Entity,
    pub file: FileId,
}

impl Payload for Completed {
    fn subject(&self) -> Option<UserId> {
        Some(self.user)
    }
}
