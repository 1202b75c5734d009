//! Announcements as clients see them.

use domain::announcement::{Display, Icon};
use domain::ids;
use projections::announcement::AnnouncementRow;
use schemars::JsonSchema;
use serde::Serialize;

use super::Time;
use crate::api::param::Id;

/// An announcement.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    pub id: Id<ids::AnnouncementId>,
    pub created_at: Time,
    pub updated_at: Option<Time>,
    pub title: String,
    pub text: String,
    pub image_url: Option<String>,
    #[schemars(with = "String")]
    pub icon: Icon,
    #[schemars(with = "String")]
    pub display: Display,
    pub for_you: bool,
    pub need_confirmation_to_read: bool,
    pub need_enrollment_tutorial_to_read: bool,
    pub close_duration: i32,
    pub display_order: i32,
    pub silence: bool,
    /// For those who are signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_read: Option<bool>,
}

/// An announcement in front of a viewer, or of nobody in particular.
pub fn announcement(row: &AnnouncementRow, viewer: Option<ids::UserId>) -> Announcement {
    let definition = row.definition.clone();
    Announcement {
        id: Id(row.id),
        created_at: Time(row.id.time()),
        updated_at: row.updated_at.map(Time),
        title: definition.title,
        text: definition.text,
        image_url: definition.image_url,
        icon: definition.icon,
        display: definition.display,
        for_you: viewer.is_some() && definition.user == viewer,
        need_confirmation_to_read: definition.need_confirmation_to_read,
        need_enrollment_tutorial_to_read: definition.need_enrollment_tutorial_to_read,
        close_duration: definition.close_duration,
        display_order: definition.display_order,
        silence: definition.silence,
        is_read: viewer.map(|_| row.is_read),
    }
}
