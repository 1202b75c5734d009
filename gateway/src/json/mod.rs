//! What is shown: the entities of the Misskey API, and the presenters that make them.
//!
//! Presenters are pure: they take a [`World`](projections::World), which was loaded before, and what is
//! common to all of a server ([`Look`]). They aren't async, so they can't ask for more; the content of a note
//! reaches them only through the policy inside the world.

pub mod announcement;
pub mod draft;
pub mod drive;
pub mod emoji;
pub mod note;
pub mod notification;
mod ready;
pub mod role;
pub mod user;
pub mod work;

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::app::App;
use crate::config::host_of;
use crate::presence::Presence;

/// What presenters need besides the world.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The public origin of this server, such as `https://social.example`.
    pub origin: &'a str,
    /// Who is here now.
    pub presence: &'a Presence,
    pub now: DateTime<Utc>,
}

impl<'a> Look<'a> {
    /// At this server, now.
    pub fn of(app: &'a App) -> Self {
        Self { origin: &app.config.url, presence: &app.presence, now: app.now() }
    }

    /// Host and port of this server, as in `@name@host`.
    pub fn host(&self) -> &'a str {
        host_of(self.origin)
    }
}

/// An instant as it travels: RFC 3339 in UTC, with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub DateTime<Utc>);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// For flags that are left out when they are false.
fn is_false(value: &bool) -> bool {
    !value
}
