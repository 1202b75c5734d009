//! `i/notifications`, `i/notifications-grouped`, `notifications/*`.

use commands::Receipt;
use domain::notification::{Kind, MAX_BODY_CHARS, MAX_HEADER_CHARS, MAX_ICON_CHARS, Sent};
use projections::World;
use projections::notification::{self, NotificationRow};
use projections::page::MAX_ITEMS;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::param::{Limit, Page, Text, yes};
use crate::api::{ApiError, Endpoint, Meta, SignedIn, per};
use crate::app::App;
use crate::json::Look;
use crate::json::notification::{Notification, group, grouped, notification as present, wanted};

/// How often more is fetched while none is of a wanted type.
const MAX_ROUNDS: usize = 10;

/// The types that a client may name, by their names in the API; not all of them are here yet.
#[rustfmt::skip]
const TYPES: &[&str] = &[
    "note", "follow", "mention", "reply", "renote", "quote", "reaction", "pollEnded", "scheduledNotePosted",
    "receiveFollowRequest", "followRequestAccepted", "roleAssigned", "chatRoomInvitationReceived",
    "achievementEarned", "exportCompleted", "login", "noteScheduled", "scheduledNoteError",
    "sensitiveFlagAssigned", "createToken", "app", "test", "pollVote", "groupInvited",
];

/// List the notifications of the caller.
#[derive(Deserialize, JsonSchema)]
pub struct List {
    #[serde(flatten)]
    asked: Asked,
}

/// List the notifications of the caller, reactions to the same note and renotes of the same put together.
#[derive(Deserialize, JsonSchema)]
pub struct ListGrouped {
    #[serde(flatten)]
    asked: Asked,
}

/// Which notifications.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Asked {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    /// All that there are count as read.
    #[serde(default = "yes")]
    mark_as_read: bool,
    /// Only these types.
    include_types: Option<Vec<Type>>,
    /// All but these types, when none are asked for.
    exclude_types: Option<Vec<Type>>,
}

/// The type of a notification.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("enum" = TYPES))]
struct Type(String);

impl Endpoint for List {
    const META: Meta = Meta::new("i/notifications").kind("read:notifications").limit(30, 30 * per::SECOND);
    type Caller = SignedIn;
    type Reply = Vec<Notification>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Notification>, ApiError> {
        let (rows, world) = self.asked.load(app, &me).await?;
        let look = Look::of(app);
        Ok(rows.iter().filter_map(|row| present(&look, &world, row)).collect())
    }
}

impl Endpoint for ListGrouped {
    const META: Meta =
        Meta::new("i/notifications-grouped").kind("read:notifications").limit(30, 30 * per::SECOND);
    type Caller = SignedIn;
    type Reply = Vec<Notification>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Notification>, ApiError> {
        let (rows, world) = self.asked.load(app, &me).await?;
        let look = Look::of(app);
        Ok(grouped(&rows).filter_map(|rows| group(&look, &world, rows)).collect())
    }
}

impl Asked {
    /// What is asked for, and all that it shows.
    async fn load(&self, app: &App, me: &SignedIn) -> Result<(Vec<NotificationRow>, World), ApiError> {
        let rows = self.rows(app, me).await?;
        if !rows.is_empty() && self.mark_as_read && notification::has_unread(&app.pool, me.id()).await? {
            let receipt = app.commands.read_notifications(app.by(me), me.id()).await?;
            app.shown(receipt).await;
        }
        let world = app.hydrate(wanted(&rows), Some(me.id())).await?;
        Ok((rows, world))
    }

    /// Those of a page that are of a wanted type; where none is, of the first page that has one.
    async fn rows(&self, app: &App, me: &SignedIn) -> Result<Vec<NotificationRow>, ApiError> {
        let mut page = self.page.limited(self.limit);
        if self.include_types.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
        for _ in 0..MAX_ROUNDS {
            let mut rows = notification::page(&app.pool, me.id(), &page).await?;
            let more =
                (rows.len() >= usize::from(page.limit)).then(|| rows.last().map(|row| row.id.0)).flatten();
            rows.retain(|row| self.wants(row.kind));
            rows.truncate(self.limit.get());
            let Some(last) = more.filter(|_| rows.is_empty()) else { return Ok(rows) };
            if page.oldest_first {
                page.since = Some(last);
            } else {
                page.until = Some(last);
            }
            page.limit = MAX_ITEMS;
        }
        Ok(Vec::new())
    }

    fn wants(&self, kind: Kind) -> bool {
        let names = |types: &Vec<Type>| types.iter().any(|name| name.0 == kind.as_str());
        match (&self.include_types, &self.exclude_types) {
            (Some(included), _) => names(included),
            (None, Some(excluded)) => !names(excluded),
            (None, None) => true,
        }
    }
}

/// Mark all notifications as read.
#[derive(Deserialize, JsonSchema)]
pub struct MarkAllAsRead {}

impl Endpoint for MarkAllAsRead {
    const META: Meta = Meta::new("notifications/mark-all-as-read").kind("write:notifications");
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        done(app, app.commands.read_notifications(app.by(&me), me.id()).await?).await
    }
}

/// Throw all notifications away.
#[derive(Deserialize, JsonSchema)]
pub struct Flush {}

impl Endpoint for Flush {
    const META: Meta = Meta::new("notifications/flush").kind("write:notifications");
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        done(app, app.commands.flush_notifications(app.by(&me), me.id()).await?).await
    }
}

/// See what a notification looks like.
#[derive(Deserialize, JsonSchema)]
pub struct Test {}

impl Endpoint for Test {
    const META: Meta =
        Meta::new("notifications/test-notification").kind("write:notifications").limit(10, per::MINUTE);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        done(app, app.commands.test_notification(app.by(&me), me.id()).await?).await
    }
}

/// Tell the caller something, as their app has it to say.
#[derive(Deserialize, JsonSchema)]
pub struct Create {
    body: Text<0, MAX_BODY_CHARS>,
    /// The name of the app when it isn't said.
    header: Option<Text<0, MAX_HEADER_CHARS>>,
    /// The address of a picture; that of the app when it isn't said.
    icon: Option<Text<0, MAX_ICON_CHARS>>,
}

impl Endpoint for Create {
    const META: Meta = Meta::new("notifications/create").kind("write:notifications");
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (name, picture) = match &me.app {
            Some(grant) => app.core.tokens.app_of(grant.id).await?,
            None => (None, None),
        };
        let sent = Sent {
            user: me.id(),
            body: self.body.0,
            header: self.header.map(|header| header.0).or(name),
            icon: self.icon.map(|icon| icon.0).or(picture),
        };
        done(app, app.commands.send_notification(app.by(&me), sent).await?).await
    }
}

async fn done(app: &App, receipt: Receipt) -> Result<(), ApiError> {
    app.shown(receipt).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn wanted_kinds(params: Value) -> Vec<Kind> {
        let list = from_value::<List>(params).unwrap().asked;
        [Kind::Reply, Kind::Reaction, Kind::Follow].into_iter().filter(|kind| list.wants(*kind)).collect()
    }

    #[test]
    fn types_are_asked_for_or_left_out() {
        assert_eq!(wanted_kinds(json!({})).len(), 3);
        assert_eq!(wanted_kinds(json!({ "includeTypes": ["reply", "pollEnded"] })), [Kind::Reply]);
        assert_eq!(wanted_kinds(json!({ "excludeTypes": ["reply"] })), [Kind::Reaction, Kind::Follow]);
        let both = json!({ "includeTypes": ["follow"], "excludeTypes": ["follow"] });
        assert_eq!(wanted_kinds(both), [Kind::Follow]);
    }

    #[test]
    fn every_kind_has_a_type_and_no_other_is_known() {
        assert!(Kind::ALL.iter().all(|kind| TYPES.contains(&kind.as_str())));
        let entry = crate::misskey::registry().find("i/notifications").unwrap();
        let refused = entry.shape.check(&mut json!({ "includeTypes": ["nosuch"] })).unwrap_err();
        assert_eq!(refused.param, "#/properties/includeTypes/items/enum");
    }
}
