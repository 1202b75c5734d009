//! Channels: `channels/*`.

use chrono::DateTime;
use domain::channel::{
    CannotChange, CannotMute, CannotUnmute, Changes, Created, DEFAULT_COLOR, MAX_COLOR_CHARS,
    MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_PINNED, NoSuchChannel, Wish,
};
use domain::ids;
use domain::policy::{Place, Sight};
use projections::Wanted;
use projections::channel::{self, Onlooker, StandingRow};
use projections::world::ChannelRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::timeline::page_of;
use crate::api::param::{Given, Id, Limit, NoteId, Page, Text, Unique, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::json::drive::file_url;
use crate::json::note::{Note, note as present};
use crate::json::{Look, Time};

pub type ChannelId = Id<ids::ChannelId>;
type Name = Text<1, MAX_NAME_CHARS>;
type Description = Text<0, MAX_DESCRIPTION_CHARS>;
type Color = Text<1, MAX_COLOR_CHARS>;

/// A channel.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    id: ChannelId,
    created_at: Time,
    last_noted_at: Option<Time>,
    name: String,
    description: Option<String>,
    user_id: UserId,
    banner_url: Option<String>,
    banner_id: Option<Id<ids::FileId>>,
    pinned_note_ids: Vec<NoteId>,
    color: String,
    is_archived: bool,
    users_count: i64,
    notes_count: i64,
    is_sensitive: bool,
    allow_renote_to_external: bool,
    /// For those who are signed in.
    #[serde(flatten)]
    standing: Option<Standing>,
    /// Where one channel is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_notes: Option<Vec<Note>>,
}

/// What the viewer is to a channel.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Standing {
    is_following: bool,
    is_favorited: bool,
    is_muting: bool,
    /// Always false, as on Misskey: it isn't counted what has been read of it.
    has_unread_note: bool,
}

impl Channel {
    fn of(look: &Look<'_>, by: Onlooker, (row, standing): (ChannelRow, StandingRow)) -> Self {
        let StandingRow { follows, favors, mutes } = standing;
        Self {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            last_noted_at: row.last_noted_at.map(Time),
            name: row.name,
            description: row.description,
            user_id: Id(row.owner),
            banner_url: row.banner.as_ref().map(|(_, key)| file_url(look, key)),
            banner_id: row.banner.as_ref().map(|(file, _)| Id(*file)),
            pinned_note_ids: row.pinned.into_iter().map(Id).collect(),
            color: row.color,
            is_archived: row.is_archived,
            users_count: row.users,
            notes_count: row.notes,
            is_sensitive: row.is_sensitive,
            allow_renote_to_external: row.allow_renote_to_external,
            standing: by.viewer.map(|_| Standing {
                is_following: follows,
                is_favorited: favors,
                is_muting: mutes,
                has_unread_note: false,
            }),
            pinned_notes: None,
        }
    }
}

fn onlooker(app: &App, viewer: Option<ids::UserId>) -> Onlooker {
    Onlooker { viewer, now: app.now() }
}

fn list(app: &App, by: Onlooker, rows: Vec<(ChannelRow, StandingRow)>) -> Vec<Channel> {
    let look = Look::of(app);
    rows.into_iter().map(|row| Channel::of(&look, by, row)).collect()
}

/// Whether the caller has the file that is to be shown above a channel, if any is.
async fn has_banner(app: &App, me: &SignedIn, banner: Option<ids::FileId>) -> Result<bool, ApiError> {
    app.commands.has_files(me.id(), banner.as_slice()).await.map_err(ApiError::internal)
}

/// Make a channel.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    name: Name,
    description: Option<Description>,
    banner_id: Option<Id<ids::FileId>>,
    #[serde(default)]
    color: Given<Color>,
    is_sensitive: Option<bool>,
    /// Whether its notes may be passed on outside of it.
    allow_renote_to_external: Option<bool>,
}

const CREATE_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "cd1e9f3e-5a12-4ab4-96f6-5d0a2cc32050");

impl Endpoint for Create {
    const META: Meta = Meta::new("channels/create")
        .kind("write:channels")
        .limit(10, per::HOUR)
        .not_moved()
        .errors(&[CREATE_NO_SUCH_FILE]);
    type Caller = SignedIn;
    type Reply = Channel;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Channel, ApiError> {
        let banner = self.banner_id.map(|id| id.0);
        if !has_banner(app, &me, banner).await? {
            return Err(CREATE_NO_SUCH_FILE.into());
        }
        let by = app.by(&me);
        let id = ids::ChannelId(app.ids.at(by.now));
        let new = Created {
            id,
            owner: me.id(),
            name: self.name.0,
            description: self.description.map(|text| text.0).filter(|text| !text.is_empty()),
            color: self.color.0.map_or_else(|| DEFAULT_COLOR.to_owned(), |color| color.0),
            is_sensitive: self.is_sensitive.unwrap_or(false),
            allow_renote_to_external: self.allow_renote_to_external.unwrap_or(true),
            banner,
        };
        let receipt = app.commands.create_channel(by, new).await?;
        app.shown(receipt).await;
        shown(app, id, &me).await
    }
}

/// Change a channel.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    channel_id: ChannelId,
    #[serde(default)]
    name: Given<Name>,
    #[serde(default)]
    description: Given<Option<Description>>,
    #[serde(default)]
    banner_id: Given<Option<Id<ids::FileId>>>,
    is_archived: Option<bool>,
    #[serde(default)]
    pinned_note_ids: Given<Unique<NoteId, 0, MAX_PINNED>>,
    #[serde(default)]
    color: Given<Color>,
    is_sensitive: Option<bool>,
    allow_renote_to_external: Option<bool>,
}

const UPDATE_NO_SUCH_CHANNEL: ErrorDef =
    ErrorDef::new("NO_SUCH_CHANNEL", "No such channel.", "f9c5467f-d492-4c3c-9a8d-a70dacc86512");
const ACCESS_DENIED: ErrorDef = ErrorDef::new(
    "ACCESS_DENIED",
    "You do not have edit privilege of the channel.",
    "1fb7cb09-d46a-4fdf-b8df-057788cce513",
);
const UPDATE_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "e86c14a4-0da2-4032-8df3-e737a04c7f3b");

impl Endpoint for Update {
    const META: Meta = Meta::new("channels/update").kind("write:channels").errors(&[
        UPDATE_NO_SUCH_CHANNEL,
        ACCESS_DENIED,
        UPDATE_NO_SUCH_FILE,
    ]);
    type Caller = SignedIn;
    type Reply = Channel;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Channel, ApiError> {
        let banner = self.banner_id.0.map(|id| id.map(|id| id.0));
        if !has_banner(app, &me, banner.flatten()).await? {
            return Err(UPDATE_NO_SUCH_FILE.into());
        }
        let description = |text: Option<Description>| text.map(|text| text.0).filter(|text| !text.is_empty());
        let changes = Changes {
            name: self.name.0.map(|name| name.0),
            description: self.description.0.map(description),
            color: self.color.0.map(|color| color.0),
            is_archived: self.is_archived,
            is_sensitive: self.is_sensitive,
            allow_renote_to_external: self.allow_renote_to_external,
            banner,
            pinned: self.pinned_note_ids.0.map(|notes| notes.0.into_iter().map(|note| note.0).collect()),
        };
        let (id, moderates) = (self.channel_id.0, me.account.moderates());
        let changed = app.commands.change_channel(app.by(&me), id, me.id(), moderates, changes).await;
        let receipt = changed.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotChange::NoSuchChannel => UPDATE_NO_SUCH_CHANNEL,
                CannotChange::NotYours => ACCESS_DENIED,
            })
        })?;
        app.shown(receipt).await;
        shown(app, id, &me).await
    }
}

/// Show a channel and the notes pinned to it.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    channel_id: ChannelId,
}

const SHOW_NO_SUCH_CHANNEL: ErrorDef =
    ErrorDef::new("NO_SUCH_CHANNEL", "No such channel.", "6f6c314b-7486-4897-8966-c04a66a02923");

impl Endpoint for Show {
    const META: Meta = Meta::new("channels/show").errors(&[SHOW_NO_SUCH_CHANNEL]);
    type Caller = Anyone;
    type Reply = Channel;

    async fn handle(self, app: &App, me: Anyone) -> Result<Channel, ApiError> {
        let by = onlooker(app, me.id());
        let row = channel::by_id(&app.pool, self.channel_id.0, by).await?.ok_or(SHOW_NO_SUCH_CHANNEL)?;
        let pinned = row.0.pinned.clone();
        let world = app.hydrate(Wanted::notes(pinned.clone()), me.id()).await?;
        let look = Look::of(app);
        let seen = pinned.into_iter().filter(|note| matches!(world.see(*note), Some(Sight::Seen(_))));
        let notes = seen.filter_map(|note| present(&look, &world, note)).collect();
        Ok(Channel { pinned_notes: Some(notes), ..Channel::of(&look, by, row) })
    }
}

/// Channels in which something was written of late.
#[derive(Deserialize, JsonSchema)]
pub struct Featured {}

impl Endpoint for Featured {
    const META: Meta = Meta::new("channels/featured");
    type Caller = Anyone;
    type Reply = Vec<Channel>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Channel>, ApiError> {
        let by = onlooker(app, me.id());
        Ok(list(app, by, channel::featured(&app.pool, by).await?))
    }
}

/// Channels that the caller made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    limit: Limit<100, 5>,
}

impl Endpoint for Owned {
    const META: Meta = Meta::new("channels/owned").kind("read:channels");
    type Caller = SignedIn;
    type Reply = Vec<Channel>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Channel>, ApiError> {
        let by = onlooker(app, Some(me.id()));
        Ok(list(app, by, channel::owned(&app.pool, by, &self.page.limited(self.limit)).await?))
    }
}

/// Channels that the caller follows.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    limit: Limit<100, 5>,
}

impl Endpoint for Followed {
    const META: Meta = Meta::new("channels/followed").kind("read:channels");
    type Caller = SignedIn;
    type Reply = Vec<Channel>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Channel>, ApiError> {
        let by = onlooker(app, Some(me.id()));
        Ok(list(app, by, channel::followed(&app.pool, by, &self.page.limited(self.limit)).await?))
    }
}

/// Channels that the caller likes.
#[derive(Deserialize, JsonSchema)]
pub struct MyFavorites {}

impl Endpoint for MyFavorites {
    const META: Meta = Meta::new("channels/my-favorites").kind("read:channels");
    type Caller = SignedIn;
    type Reply = Vec<Channel>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Channel>, ApiError> {
        let by = onlooker(app, Some(me.id()));
        Ok(list(app, by, channel::favorites(&app.pool, by).await?))
    }
}

/// Find channels.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Search {
    query: Text<0, MAX_NAME_CHARS>,
    #[serde(rename = "type", default)]
    how: How,
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    limit: Limit<100, 5>,
}

/// Where a text is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum How {
    #[default]
    NameAndDescription,
    NameOnly,
}

impl Endpoint for Search {
    const META: Meta = Meta::new("channels/search");
    type Caller = Anyone;
    type Reply = Vec<Channel>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Channel>, ApiError> {
        let (by, page) = (onlooker(app, me.id()), self.page.limited(self.limit));
        let found = channel::search(&app.pool, by, &self.query.0, self.how == How::NameOnly, &page).await?;
        Ok(list(app, by, found))
    }
}

/// Notes in a channel.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    channel_id: ChannelId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

const TIMELINE_NO_SUCH_CHANNEL: ErrorDef =
    ErrorDef::new("NO_SUCH_CHANNEL", "No such channel.", "4d0eeeba-a02c-4c3c-9966-ef60d38d2e7f");

impl Endpoint for Timeline {
    const META: Meta = Meta::new("channels/timeline").errors(&[TIMELINE_NO_SUCH_CHANNEL]);
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        let (viewer, id) = (me.id(), self.channel_id.0);
        let row = channel::by_id(&app.pool, id, onlooker(app, viewer)).await?;
        row.ok_or(TIMELINE_NO_SUCH_CHANNEL)?;
        page_of(app, viewer, Place::InChannel, self.page, self.limit, |page| async move {
            projections::note::in_channel(&app.pool, id, viewer, &page).await
        })
        .await
    }
}

macro_rules! wishes {
    ($($(#[$doc:meta])* $name:ident $path:literal $wish:ident $error:ident $id:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            channel_id: ChannelId,
        }

        const $error: ErrorDef = ErrorDef::new("NO_SUCH_CHANNEL", "No such channel.", $id);

        impl Endpoint for $name {
            const META: Meta = Meta::new($path).kind("write:channels").not_moved().errors(&[$error]);
            type Caller = SignedIn;
            type Reply = ();

            async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
                let (by, id) = (app.by(&me), self.channel_id.0);
                let done = app.commands.stand_to_channel(by, me.id(), id, Wish::$wish).await;
                let receipt = done.map_err(|failed| failed.map_refusal(|NoSuchChannel| $error))?;
                app.shown(receipt).await;
                Ok(())
            }
        }
    )*};
}

wishes! {
    /// Want the notes of a channel in the home timeline.
    Follow "channels/follow" Follow FOLLOW_NO_SUCH_CHANNEL "c0031718-d573-4e85-928e-10039f1fbb68";
    /// Want them there no more.
    Unfollow "channels/unfollow" Unfollow UNFOLLOW_NO_SUCH_CHANNEL "19959ee9-0153-4c51-bbd9-a98c49dc59d6";
    /// Like a channel.
    Favorite "channels/favorite" Favor FAVORITE_NO_SUCH_CHANNEL "4938f5f3-6167-4c04-9149-6607b7542861";
    /// Like a channel no more.
    Unfavorite "channels/unfavorite" Unfavor UNFAVORITE_NO_SUCH_CHANNEL "353c68dd-131a-476c-aa99-88a345e83668";
}

/// Want the notes of a channel nowhere but in itself.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateMute {
    channel_id: ChannelId,
    /// Milliseconds since 1970; for ever when not said.
    expires_at: Option<i64>,
}

const MUTE_NO_SUCH_CHANNEL: ErrorDef =
    ErrorDef::new("NO_SUCH_CHANNEL", "No such Channel.", "7174361e-d58f-31d6-2e7c-6fb830786a3f");
const ALREADY_MUTING_CHANNEL: ErrorDef = ErrorDef::new(
    "ALREADY_MUTING_CHANNEL",
    "You are already muting that user.",
    "5a251978-769a-da44-3e89-3931e43bb592",
);
const EXPIRES_AT_IS_PAST: ErrorDef = ErrorDef::new(
    "EXPIRES_AT_IS_PAST",
    "Cannot set past date to \"expiresAt\".",
    "42b32236-df2c-a45f-fdbf-def67268f749",
);

impl Endpoint for CreateMute {
    const META: Meta = Meta::new("channels/mute/create").kind("write:channels").not_moved().errors(&[
        MUTE_NO_SUCH_CHANNEL,
        ALREADY_MUTING_CHANNEL,
        EXPIRES_AT_IS_PAST,
    ]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let end = match self.expires_at {
            Some(millis) => Some(DateTime::from_timestamp_millis(millis).ok_or(EXPIRES_AT_IS_PAST)?),
            None => None,
        };
        let muted = app.commands.mute_channel(app.by(&me), me.id(), self.channel_id.0, end).await;
        let receipt = muted.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotMute::NoSuchChannel => MUTE_NO_SUCH_CHANNEL,
                CannotMute::AlreadyMuted => ALREADY_MUTING_CHANNEL,
                CannotMute::Past => EXPIRES_AT_IS_PAST,
            })
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// End the mute of a channel.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMute {
    channel_id: ChannelId,
}

const UNMUTE_NO_SUCH_CHANNEL: ErrorDef =
    ErrorDef::new("NO_SUCH_CHANNEL", "No such Channel.", "e7998769-6e94-d9c2-6b8f-94a527314aba");
const NOT_MUTING_CHANNEL: ErrorDef = ErrorDef::new(
    "NOT_MUTING_CHANNEL",
    "You are not muting that channel.",
    "14d55962-6ea8-d990-1333-d6bef78dc2ab",
);

impl Endpoint for DeleteMute {
    const META: Meta = Meta::new("channels/mute/delete")
        .kind("write:channels")
        .not_moved()
        .errors(&[UNMUTE_NO_SUCH_CHANNEL, NOT_MUTING_CHANNEL]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let ended = app.commands.unmute_channel(app.by(&me), me.id(), self.channel_id.0).await;
        let receipt = ended.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotUnmute::NoSuchChannel => UNMUTE_NO_SUCH_CHANNEL,
                CannotUnmute::NotMuted => NOT_MUTING_CHANNEL,
            })
        })?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// Channels that the caller mutes.
#[derive(Deserialize, JsonSchema)]
pub struct ListMutes {}

impl Endpoint for ListMutes {
    const META: Meta = Meta::new("channels/mute/list").kind("read:channels").not_moved();
    type Caller = SignedIn;
    type Reply = Vec<Channel>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Channel>, ApiError> {
        let by = onlooker(app, Some(me.id()));
        Ok(list(app, by, channel::muted(&app.pool, by).await?))
    }
}

/// A channel that has just been written.
async fn shown(app: &App, id: ids::ChannelId, me: &SignedIn) -> Result<Channel, ApiError> {
    let by = onlooker(app, Some(me.id()));
    let row = channel::by_id(&app.pool, id, by).await?;
    let row = row.ok_or_else(|| ApiError::internal("a channel is not there that was written"))?;
    Ok(Channel::of(&Look::of(app), by, row))
}
