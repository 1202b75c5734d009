//! Works that people show: posts of a gallery, pages and plays.

use domain::ids::{self, UserId};
use domain::work;
use projections::World;
use projections::work::{WorkRow, files_of};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::drive::{DriveFile, file};
use super::user::{UserLite, user_lite};
use super::{Look, Time};
use crate::api::param::Id;

/// What every work shows.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Work {
    id: Id<ids::WorkId>,
    created_at: Time,
    updated_at: Time,
    user_id: Id<UserId>,
    user: UserLite,
    liked_count: i64,
    /// By the viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_liked: Option<bool>,
}

/// Pictures in a gallery.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GalleryPost {
    #[serde(flatten)]
    work: Work,
    title: String,
    description: Option<String>,
    file_ids: Vec<Id<ids::FileId>>,
    /// Those that are there.
    files: Vec<DriveFile>,
    is_sensitive: bool,
}

/// A page.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    #[serde(flatten)]
    work: Work,
    title: String,
    name: String,
    summary: Option<String>,
    /// As clients write and read it.
    content: Value,
    variables: Value,
    script: String,
    font: &'static str,
    align_center: bool,
    hide_title_when_pinned: bool,
    visibility: &'static str,
    eye_catching_image_id: Option<Id<ids::FileId>>,
    eye_catching_image: Option<DriveFile>,
    /// The files of its owner that the content names.
    attached_files: Vec<DriveFile>,
}

impl Page {
    pub fn id(&self) -> Id<ids::WorkId> {
        self.work.id
    }
}

/// A script that clients run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flash {
    #[serde(flatten)]
    work: Work,
    title: String,
    summary: String,
    script: String,
    visibility: &'static str,
}

/// The post, if that is what it is.
pub fn gallery_post(look: &Look<'_>, world: &World, row: &WorkRow) -> Option<GalleryPost> {
    let work::Content::Post(post) = &row.content else { return None };
    Some(GalleryPost {
        work: common(look, world, row)?,
        title: post.title.clone(),
        description: post.description.clone(),
        file_ids: post.files.iter().copied().map(Id).collect(),
        files: theirs(look, world, row, &post.files),
        is_sensitive: post.sensitive,
    })
}

/// The page, if that is what it is.
pub fn page(look: &Look<'_>, world: &World, row: &WorkRow) -> Option<Page> {
    let work::Content::Page(page) = &row.content else { return None };
    Some(Page {
        work: common(look, world, row)?,
        title: page.title.clone(),
        name: page.name.clone(),
        summary: page.summary.clone(),
        content: page.content.clone(),
        variables: page.variables.clone(),
        script: page.script.clone(),
        font: match page.font {
            work::Font::Serif => "serif",
            work::Font::SansSerif => "sans-serif",
        },
        align_center: page.centered,
        hide_title_when_pinned: page.hides_title,
        visibility: visibility(page.private),
        eye_catching_image_id: page.image.map(Id),
        eye_catching_image: theirs(look, world, row, page.image.as_slice()).pop(),
        attached_files: theirs(look, world, row, &files_of(&page.content)),
    })
}

/// The play, if that is what it is.
pub fn flash(look: &Look<'_>, world: &World, row: &WorkRow) -> Option<Flash> {
    let work::Content::Play(play) = &row.content else { return None };
    Some(Flash {
        work: common(look, world, row)?,
        title: play.title.clone(),
        summary: play.summary.clone(),
        script: play.script.clone(),
        visibility: visibility(play.private),
    })
}

fn common(look: &Look<'_>, world: &World, row: &WorkRow) -> Option<Work> {
    Some(Work {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        updated_at: Time(row.updated_at),
        user_id: Id(row.user),
        user: user_lite(look, world.user(row.user)?),
        liked_count: row.likes,
        is_liked: world.viewer.map(|_| row.is_liked),
    })
}

fn visibility(private: bool) -> &'static str {
    if private { "private" } else { "public" }
}

/// Those of these files that are there, and the owner's: a page may name anybody's.
fn theirs(look: &Look<'_>, world: &World, row: &WorkRow, files: &[ids::FileId]) -> Vec<DriveFile> {
    let own = files.iter().filter_map(|id| world.file(*id)).filter(|file| file.owner == row.user);
    own.map(|row| file(look, row)).collect()
}
