//! What people take along: files with what they have here.

use serde::{Deserialize, Serialize};

use crate::Event;
use crate::drive::{Allowed, CannotAddFile, File, FileAdded, Folders, add_file};
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

/// Decides that a file with what its owner has is in their drive, and that they are told. Whoever made the same
/// export before, whatever became of its file since, has done so: then nothing happens.
pub fn complete(
    current: &File,
    new: &FileAdded,
    entity: Entity,
    used: u64,
    allowed: &Allowed,
) -> Result<Vec<Event>, CannotAddFile> {
    // It is in no folder.
    let mut events = add_file(current, new, &Folders::default(), used, allowed)?;
    if !events.is_empty() {
        events.push(Completed { user: new.owner, entity, file: new.id }.into());
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fold;
    use crate::drive::tests::a_file;
    use crate::note::tests::id;

    #[test]
    fn an_export_is_made_and_told_of_once() {
        let allowed = Allowed::of(1.0, 1.0, vec!["image/png".to_owned()]);
        let (mut known, file) = (File::default(), a_file(|_| ()));
        let events = complete(&known, &file, Entity::Clip, 0, &allowed).unwrap();
        let told = Completed { user: file.owner, entity: Entity::Clip, file: file.id };
        assert_eq!(events, [file.clone().into(), told.into()]);
        known.apply(&events[0]);
        let another = a_file(|file| file.key = "another".to_owned());
        assert_eq!(complete(&known, &another, Entity::Clip, 0, &allowed), Ok(Vec::new()));
        assert!(known.has_key(&file.key) && !known.has_key("another"));
        known.deleted = true;
        assert_eq!(complete(&known, &another, Entity::Clip, 0, &allowed), Ok(Vec::new()));
        let large = a_file(|file| (file.id, file.size) = (FileId(id(9)), 1 << 30));
        let refused = complete(&File::default(), &large, Entity::Clip, 0, &allowed);
        assert_eq!(refused, Err(CannotAddFile::TooLarge));
    }
}
