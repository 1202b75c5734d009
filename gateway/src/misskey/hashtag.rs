//! Hashtags: `hashtags/list`, `hashtags/search`, `hashtags/show`, `hashtags/trend`, `hashtags/users`,
//! `notes/search-by-tag`.

use projections::hashtag::{self, NotesFilter, PeopleFilter, TagKey, TagRow};
use projections::user::{Origin, SortKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::timeline::seen_page;
use super::user::{From, Person, people};
use crate::api::param::{Limit, Page};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta};
use crate::app::App;
use crate::json::note::Note;

/// How long others may keep the trend, in seconds.
const TREND_CACHE_SECONDS: u32 = 60;
/// Groups of tags that are looked for together, and tags of one.
const MAX_GROUPS: usize = 16;
const MAX_TAGS: usize = 16;

/// A hashtag with how many people have written it, or have it in their profile.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hashtag {
    tag: String,
    mentioned_users_count: i64,
    mentioned_local_users_count: i64,
    mentioned_remote_users_count: i64,
    attached_users_count: i64,
    attached_local_users_count: i64,
    attached_remote_users_count: i64,
}

fn present(row: TagRow) -> Hashtag {
    Hashtag {
        mentioned_users_count: row.mentioned_local + row.mentioned_remote,
        mentioned_local_users_count: row.mentioned_local,
        mentioned_remote_users_count: row.mentioned_remote,
        attached_users_count: row.attached_local + row.attached_remote,
        attached_local_users_count: row.attached_local,
        attached_remote_users_count: row.attached_remote,
        tag: row.tag,
    }
}

/// List hashtags.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    /// Only those that somebody has in their profile.
    #[serde(default)]
    attached_to_user_only: bool,
    #[serde(default)]
    attached_to_local_user_only: bool,
    #[serde(default)]
    attached_to_remote_user_only: bool,
    sort: Sort,
}

/// `+`: the greatest first.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
enum Sort {
    #[serde(rename = "+mentionedUsers")]
    MostMentioned,
    #[serde(rename = "-mentionedUsers")]
    LeastMentioned,
    #[serde(rename = "+mentionedLocalUsers")]
    MostMentionedHere,
    #[serde(rename = "-mentionedLocalUsers")]
    LeastMentionedHere,
    #[serde(rename = "+mentionedRemoteUsers")]
    MostMentionedElsewhere,
    #[serde(rename = "-mentionedRemoteUsers")]
    LeastMentionedElsewhere,
    #[serde(rename = "+attachedUsers")]
    MostAttached,
    #[serde(rename = "-attachedUsers")]
    LeastAttached,
    #[serde(rename = "+attachedLocalUsers")]
    MostAttachedHere,
    #[serde(rename = "-attachedLocalUsers")]
    LeastAttachedHere,
    #[serde(rename = "+attachedRemoteUsers")]
    MostAttachedElsewhere,
    #[serde(rename = "-attachedRemoteUsers")]
    LeastAttachedElsewhere,
}

impl Sort {
    /// The key, and whether the greatest comes first.
    fn order(self) -> (TagKey, bool) {
        use Origin::{Combined, Local, Remote};
        match self {
            Sort::MostMentioned => (TagKey::Mentioned(Combined), true),
            Sort::LeastMentioned => (TagKey::Mentioned(Combined), false),
            Sort::MostMentionedHere => (TagKey::Mentioned(Local), true),
            Sort::LeastMentionedHere => (TagKey::Mentioned(Local), false),
            Sort::MostMentionedElsewhere => (TagKey::Mentioned(Remote), true),
            Sort::LeastMentionedElsewhere => (TagKey::Mentioned(Remote), false),
            Sort::MostAttached => (TagKey::Attached(Combined), true),
            Sort::LeastAttached => (TagKey::Attached(Combined), false),
            Sort::MostAttachedHere => (TagKey::Attached(Local), true),
            Sort::LeastAttachedHere => (TagKey::Attached(Local), false),
            Sort::MostAttachedElsewhere => (TagKey::Attached(Remote), true),
            Sort::LeastAttachedElsewhere => (TagKey::Attached(Remote), false),
        }
    }
}

impl Endpoint for List {
    const META: Meta = Meta::new("hashtags/list");
    type Caller = Anyone;
    type Reply = Vec<Hashtag>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Vec<Hashtag>, ApiError> {
        let (key, descending) = self.sort.order();
        let attached = if self.attached_to_local_user_only {
            Some(Origin::Local)
        } else if self.attached_to_remote_user_only {
            Some(Origin::Remote)
        } else {
            self.attached_to_user_only.then_some(Origin::Combined)
        };
        let limit = Page::default().limited(self.limit).limit;
        let rows = hashtag::list(&app.pool, key, descending, attached, limit).await?;
        Ok(rows.into_iter().map(present).collect())
    }
}

/// Look for hashtags that begin so.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Search {
    #[serde(default)]
    limit: Limit,
    query: String,
    #[serde(default)]
    offset: u32,
}

impl Endpoint for Search {
    const META: Meta = Meta::new("hashtags/search");
    type Caller = Anyone;
    type Reply = Vec<String>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Vec<String>, ApiError> {
        let limit = Page::default().limited(self.limit).limit;
        Ok(hashtag::search(&app.pool, &self.query, limit, self.offset).await?)
    }
}

/// Show a hashtag.
#[derive(Deserialize, JsonSchema)]
pub struct Show {
    tag: String,
}

const NO_SUCH_HASHTAG: ErrorDef =
    ErrorDef::new("NO_SUCH_HASHTAG", "No such hashtag.", "110ee688-193e-4a3a-9ecf-c167b2e6981e");

impl Endpoint for Show {
    const META: Meta = Meta::new("hashtags/show").errors(&[NO_SUCH_HASHTAG]);
    type Caller = Anyone;
    type Reply = Hashtag;

    async fn handle(self, app: &App, _: Anyone) -> Result<Hashtag, ApiError> {
        let row = hashtag::show(&app.pool, &self.tag).await?.ok_or(NO_SUCH_HASHTAG)?;
        Ok(present(row))
    }
}

/// The hashtags that most people write now.
#[derive(Deserialize, JsonSchema)]
pub struct Trend {}

/// A hashtag that is written now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HashtagTrend")]
pub struct Trending {
    tag: String,
    /// People who wrote it in each ten minutes, the current ones first.
    chart: Vec<i64>,
    users_count: i64,
}

impl Endpoint for Trend {
    const META: Meta = Meta::new("hashtags/trend").get().cache(TREND_CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Vec<Trending>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Vec<Trending>, ApiError> {
        let trends = hashtag::trend(&app.pool, app.now()).await?;
        let show = |trend: hashtag::Trend| Trending {
            tag: trend.tag,
            chart: trend.chart,
            users_count: trend.people,
        };
        Ok(trends.into_iter().map(show).collect())
    }
}

/// List people who have a hashtag in their profile.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Users {
    tag: String,
    #[serde(default)]
    limit: Limit,
    sort: UserSort,
    #[serde(default)]
    state: State,
    #[serde(default)]
    origin: From,
}

/// `+`: the greatest or newest first.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
enum UserSort {
    #[serde(rename = "+follower")]
    MostFollowers,
    #[serde(rename = "-follower")]
    FewestFollowers,
    #[serde(rename = "+createdAt")]
    Newest,
    #[serde(rename = "-createdAt")]
    Oldest,
    #[serde(rename = "+updatedAt")]
    LatestUpdate,
    #[serde(rename = "-updatedAt")]
    EarliestUpdate,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum State {
    #[default]
    All,
    Alive,
}

impl Endpoint for Users {
    const META: Meta = Meta::new("hashtags/users");
    type Caller = Anyone;
    type Reply = Vec<Person>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Person>, ApiError> {
        let (sort, descending) = match self.sort {
            UserSort::MostFollowers => (SortKey::Followers, true),
            UserSort::FewestFollowers => (SortKey::Followers, false),
            UserSort::Newest => (SortKey::CreatedAt, true),
            UserSort::Oldest => (SortKey::CreatedAt, false),
            UserSort::LatestUpdate => (SortKey::UpdatedAt, true),
            UserSort::EarliestUpdate => (SortKey::UpdatedAt, false),
        };
        let (alive, origin) = (self.state == State::Alive, Origin::from(self.origin));
        let filter = PeopleFilter { sort, descending, alive, origin };
        let limit = Page::default().limited(self.limit).limit;
        let found = hashtag::people(&app.pool, &self.tag, filter, app.now(), limit).await?;
        people(app, &me, &found, true).await
    }
}

/// Look for notes with hashtags.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notes {
    #[schemars(with = "String", length(min = 1))]
    #[serde(default)]
    tag: Option<String>,
    /// Notes that have all tags of one of these groups.
    #[schemars(with = "Groups")]
    #[serde(default)]
    query: Option<Groups>,
    /// Of this server, or not.
    #[serde(default)]
    local: Option<bool>,
    #[serde(default)]
    reply: Option<bool>,
    #[serde(default)]
    renote: Option<bool>,
    #[serde(default)]
    with_files: bool,
    #[serde(default)]
    poll: Option<bool>,
    #[serde(flatten)]
    page: Page,
    #[serde(default)]
    limit: Limit,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Groups(#[schemars(length(min = 1))] Vec<Group>);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Group(#[schemars(length(min = 1), inner(length(min = 1)))] Vec<String>);

impl Endpoint for Notes {
    const META: Meta = Meta::new("notes/search-by-tag");
    type Caller = Anyone;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: Anyone) -> Result<Vec<Note>, ApiError> {
        let tags: Vec<Vec<String>> = match (self.tag, self.query) {
            (Some(tag), _) => vec![vec![tag]],
            (None, Some(groups)) => groups.0.into_iter().map(|group| group.0).collect(),
            (None, None) => {
                let (param, reason) = ("#/allOf/0/anyOf/0/required", "must have required property 'tag'");
                return Err(ApiError::invalid_param(param, reason));
            }
        };
        if tags.len() > MAX_GROUPS || tags.iter().any(|group| group.len() > MAX_TAGS) {
            return Err(ApiError::invalid_param("#/properties/query/maxItems", "too many tags"));
        }
        let viewer = me.id();
        let (local, reply, renote, poll) = (self.local, self.reply, self.renote, self.poll);
        let filter = NotesFilter { tags, local, reply, renote, poll, with_files: self.with_files };
        seen_page(app, viewer, self.page, self.limit, |page| {
            let filter = &filter;
            async move { hashtag::notes(&app.pool, viewer, filter, &page).await }
        })
        .await
    }
}
