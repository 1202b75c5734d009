//! Announcements: `announcements`, `announcements/show`, `announcement`, `i/read-announcement`, and for those
//! who make them `admin/announcements/create`, `update`, `delete`, `list`.

use commands::Failed;
use domain::announcement::{
    CannotAnnounce, Changes, Definition, Display, Icon, MAX_TEXT_CHARS, MAX_TITLE_CHARS, MAX_URL_CHARS,
};
use domain::ids;
use projections::Wanted;
use projections::announcement::{self, AnnouncementRow, Filter, ListedRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Given, Id, Limit, Nullable, Page, Text, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, Moderator, SignedIn};
use crate::app::App;
use crate::json::announcement::{Announcement, announcement as present};
use crate::json::user::{UserLite, user_lite};
use crate::json::{Look, Time};

type AnnouncementId = Id<ids::AnnouncementId>;

/// List announcements for everybody and those for the caller alone.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    offset: u32,
    /// Those that are done with, when it is false.
    #[serde(default = "crate::api::param::yes")]
    is_active: bool,
}

impl Endpoint for List {
    const META: Meta = Meta::new("announcements");
    type Caller = Anyone;
    type Reply = Vec<Announcement>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Announcement>, ApiError> {
        let page = self.page.limited(self.limit);
        let rows = announcement::list(&app.pool, me.id(), self.is_active, &page, self.offset).await?;
        Ok(rows.iter().map(|row| present(row, me.id())).collect())
    }
}

/// How an announcement is asked for.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct ById {
    announcement_id: AnnouncementId,
}

/// Show an announcement.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Show(ById);

/// Show an announcement, by an older name.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ShowByOldName(ById);

const NO_SUCH_ANNOUNCEMENT: ErrorDef =
    ErrorDef::new("NO_SUCH_ANNOUNCEMENT", "No such announcement.", "b57b5e1d-4f49-404a-9edb-46b00268f121");

impl Endpoint for Show {
    const META: Meta = Meta::new("announcements/show").errors(&[NO_SUCH_ANNOUNCEMENT]);
    type Caller = Anyone;
    type Reply = Announcement;

    async fn handle(self, app: &App, me: Anyone) -> Result<Announcement, ApiError> {
        show(app, &me, &self.0).await
    }
}

impl Endpoint for ShowByOldName {
    const META: Meta = Meta::new("announcement").errors(&[NO_SUCH_ANNOUNCEMENT]);
    type Caller = Anyone;
    type Reply = Announcement;

    async fn handle(self, app: &App, me: Anyone) -> Result<Announcement, ApiError> {
        show(app, &me, &self.0).await
    }
}

async fn show(app: &App, me: &Anyone, asked: &ById) -> Result<Announcement, ApiError> {
    let row = announcement::by_id(&app.pool, asked.announcement_id.0, me.id()).await?;
    Ok(present(&row.ok_or(NO_SUCH_ANNOUNCEMENT)?, me.id()))
}

/// Note that the caller has read an announcement.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Read(ById);

impl Endpoint for Read {
    const META: Meta = Meta::new("i/read-announcement").kind("write:account");
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let id = self.0.announcement_id.0;
        if let Some(receipt) = app.commands.read_announcement(app.by(&me), id, me.id()).await? {
            app.shown(receipt).await;
        }
        Ok(())
    }
}

/// Announce something to everybody, or to one person.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    title: Text<1, MAX_TITLE_CHARS>,
    text: Text<1, MAX_TEXT_CHARS>,
    image_url: Nullable<Text<0, MAX_URL_CHARS>>,
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["info", "warning", "error", "success"]))]
    icon: Icon,
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["normal", "banner", "dialog"]))]
    display: Display,
    #[serde(default)]
    for_existing_users: bool,
    #[serde(default)]
    need_confirmation_to_read: bool,
    #[serde(default)]
    need_enrollment_tutorial_to_read: bool,
    #[serde(default)]
    close_duration: i32,
    #[serde(default)]
    display_order: i32,
    #[serde(default)]
    silence: bool,
    /// For this person alone.
    #[serde(default)]
    user_id: Option<UserId>,
}

const NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "6c1bf0ae-1f0a-4f0c-8f6c-5a1d7d0c9b32");

impl Endpoint for Create {
    const META: Meta =
        Meta::new("admin/announcements/create").kind("write:admin:announcements").errors(&[NO_SUCH_USER]);
    type Caller = Moderator;
    type Reply = Announcement;

    async fn handle(self, app: &App, me: Moderator) -> Result<Announcement, ApiError> {
        let by = app.by(&me.0);
        let id = ids::AnnouncementId(app.ids.at(by.now));
        let definition = Definition {
            title: self.title.0,
            text: self.text.0,
            image_url: picture(self.image_url.0),
            icon: self.icon,
            display: self.display,
            for_existing_users: self.for_existing_users,
            need_confirmation_to_read: self.need_confirmation_to_read,
            need_enrollment_tutorial_to_read: self.need_enrollment_tutorial_to_read,
            close_duration: self.close_duration,
            display_order: self.display_order,
            silence: self.silence,
            is_active: true,
            user: self.user_id.map(|id| id.0),
        };
        let announced = app.commands.announce(by, id, definition.clone()).await;
        app.shown(announced.map_err(|failed| told(failed, NO_SUCH_USER))?).await;
        Ok(present(&AnnouncementRow { id, definition, updated_at: None, is_read: false }, None))
    }
}

/// An empty address names no picture.
fn picture(url: Option<Text<0, MAX_URL_CHARS>>) -> Option<String> {
    url.map(|url| url.0).filter(|url| !url.is_empty())
}

/// Why something isn't announced, as it is told.
fn told(failed: Failed<CannotAnnounce>, missing: ErrorDef) -> Failed<ApiError> {
    failed.map_refusal(|cannot| match cannot {
        CannotAnnounce::NoSuchAnnouncement | CannotAnnounce::NoSuchUser => missing.into(),
        CannotAnnounce::TooLong => ApiError::invalid_param("#/properties/text/maxLength", "is too long"),
    })
}

/// Change an announcement; what isn't named stays.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    id: AnnouncementId,
    #[serde(default)]
    title: Given<Text<1, MAX_TITLE_CHARS>>,
    #[serde(default)]
    text: Given<Text<1, MAX_TEXT_CHARS>>,
    #[serde(default)]
    image_url: Given<Option<Text<0, MAX_URL_CHARS>>>,
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["info", "warning", "error", "success"]))]
    icon: Given<Icon>,
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["normal", "banner", "dialog"]))]
    display: Given<Display>,
    #[serde(default)]
    for_existing_users: Given<bool>,
    #[serde(default)]
    need_confirmation_to_read: Given<bool>,
    #[serde(default)]
    need_enrollment_tutorial_to_read: Given<bool>,
    #[serde(default)]
    close_duration: Given<i32>,
    #[serde(default)]
    display_order: Given<i32>,
    #[serde(default)]
    silence: Given<bool>,
    #[serde(default)]
    is_active: Given<bool>,
}

const NO_SUCH_ANNOUNCEMENT_TO_UPDATE: ErrorDef =
    ErrorDef::new("NO_SUCH_ANNOUNCEMENT", "No such announcement.", "d3aae5a7-6372-4cb4-b61c-f511ffc2d7cc");

impl Endpoint for Update {
    const META: Meta = Meta::new("admin/announcements/update")
        .kind("write:admin:announcements")
        .errors(&[NO_SUCH_ANNOUNCEMENT_TO_UPDATE]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let changes = Changes {
            title: self.title.0.map(|title| title.0),
            text: self.text.0.map(|text| text.0),
            image_url: self.image_url.0.map(picture),
            icon: self.icon.0,
            display: self.display.0,
            for_existing_users: self.for_existing_users.0,
            need_confirmation_to_read: self.need_confirmation_to_read.0,
            need_enrollment_tutorial_to_read: self.need_enrollment_tutorial_to_read.0,
            close_duration: self.close_duration.0,
            display_order: self.display_order.0,
            silence: self.silence.0,
            is_active: self.is_active.0,
        };
        let changed = app.commands.change_announcement(app.by(&me.0), self.id.0, changes).await;
        app.shown(changed.map_err(|failed| told(failed, NO_SUCH_ANNOUNCEMENT_TO_UPDATE))?).await;
        Ok(())
    }
}

/// Take an announcement back.
#[derive(Deserialize, JsonSchema)]
pub struct Delete {
    id: AnnouncementId,
}

const NO_SUCH_ANNOUNCEMENT_TO_DELETE: ErrorDef =
    ErrorDef::new("NO_SUCH_ANNOUNCEMENT", "No such announcement.", "ecad8040-a276-4e85-bda9-015a708d291e");

impl Endpoint for Delete {
    const META: Meta = Meta::new("admin/announcements/delete")
        .kind("write:admin:announcements")
        .errors(&[NO_SUCH_ANNOUNCEMENT_TO_DELETE]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let deleted = app.commands.delete_announcement(app.by(&me.0), self.id.0).await;
        app.shown(deleted.map_err(|failed| told(failed, NO_SUCH_ANNOUNCEMENT_TO_DELETE))?).await;
        Ok(())
    }
}

/// List announcements for everybody, or those for one person, with how many have read them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListAll {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    offset: u32,
    /// Those for this person alone.
    user_id: Option<UserId>,
    status: Option<Status>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Status {
    Active,
    Archived,
}

/// An announcement as those who made it see it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Listed {
    id: AnnouncementId,
    created_at: Time,
    updated_at: Option<Time>,
    title: String,
    text: String,
    image_url: Option<String>,
    #[schemars(with = "String")]
    icon: Icon,
    #[schemars(with = "String")]
    display: Display,
    is_active: bool,
    for_existing_users: bool,
    need_confirmation_to_read: bool,
    need_enrollment_tutorial_to_read: bool,
    close_duration: i32,
    display_order: i32,
    silence: bool,
    user_id: Option<UserId>,
    user: Option<UserLite>,
    reads: i64,
    last_read_at: Option<Time>,
}

impl Endpoint for ListAll {
    const META: Meta = Meta::new("admin/announcements/list").kind("read:admin:announcements");
    type Caller = Moderator;
    type Reply = Vec<Listed>;

    async fn handle(self, app: &App, me: Moderator) -> Result<Vec<Listed>, ApiError> {
        let user = self.user_id.map(|id| id.0);
        let is_active = self.status.map(|status| matches!(status, Status::Active));
        let page = self.page.limited(self.limit);
        let filter = Filter { user, is_active };
        let rows = announcement::list_all(&app.pool, filter, &page, self.offset).await?;
        let world = app.hydrate(Wanted::users(user), Some(me.0.id())).await?;
        let look = Look::of(app);
        let shown = |row: ListedRow| {
            let AnnouncementRow { id, definition, updated_at, .. } = row.announcement;
            Listed {
                id: Id(id),
                created_at: Time(id.time()),
                updated_at: updated_at.map(Time),
                title: definition.title,
                text: definition.text,
                image_url: definition.image_url,
                icon: definition.icon,
                display: definition.display,
                is_active: definition.is_active,
                for_existing_users: definition.for_existing_users,
                need_confirmation_to_read: definition.need_confirmation_to_read,
                need_enrollment_tutorial_to_read: definition.need_enrollment_tutorial_to_read,
                close_duration: definition.close_duration,
                display_order: definition.display_order,
                silence: definition.silence,
                user_id: definition.user.map(Id),
                user: definition.user.and_then(|id| world.user(id)).map(|user| user_lite(&look, user)),
                reads: row.reads,
                last_read_at: row.last_read_at.map(Time),
            }
        };
        Ok(rows.into_iter().map(shown).collect())
    }
}
