//! Antennas: `antennas/*`.

use domain::antenna::{CannotTune, MAX_NAME_CHARS, MAX_WORDS, NoSuchAntenna, Settings, Source};
use domain::ids;
use projections::antenna::{self, AntennaRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::list::ListId;
use super::timeline::seen_page;
use super::user::is_own;
use crate::api::param::{Given, Id, Limit, Page, Text};
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn};
use crate::app::App;
use crate::json::Time;
use crate::json::note::Note;

type AntennaId = Id<ids::AntennaId>;

/// Whose notes an antenna hears.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Src {
    Home,
    All,
    Users,
    List,
    UsersBlacklist,
}

impl From<Src> for Source {
    fn from(src: Src) -> Self {
        match src {
            Src::Home => Source::Home,
            Src::All => Source::All,
            Src::Users => Source::Users,
            Src::List => Source::List,
            Src::UsersBlacklist => Source::UsersBlacklist,
        }
    }
}

impl From<Source> for Src {
    fn from(source: Source) -> Self {
        match source {
            Source::Home => Src::Home,
            Source::All => Src::All,
            Source::Users => Src::Users,
            Source::List => Src::List,
            Source::UsersBlacklist => Src::UsersBlacklist,
        }
    }
}

/// An antenna.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Antenna {
    id: AntennaId,
    created_at: Time,
    name: String,
    keywords: Vec<Vec<String>>,
    exclude_keywords: Vec<Vec<String>>,
    src: Src,
    user_list_id: Option<ListId>,
    users: Vec<String>,
    case_sensitive: bool,
    local_only: bool,
    exclude_bots: bool,
    with_replies: bool,
    with_file: bool,
    exclude_notes_in_sensitive_channel: bool,
    /// It hears nothing any more when nobody has looked at it for a while, until somebody does.
    is_active: bool,
    /// Always false, as on Misskey: it isn't counted what has been read of it.
    has_unread_note: bool,
    /// Always false: nobody is notified of what it hears.
    notify: bool,
}

impl Antenna {
    fn of(app: &App, row: AntennaRow) -> Self {
        let Settings { name, source, list, keywords, exclude_keywords, users, .. } = row.settings;
        Self {
            id: Id(row.id),
            created_at: Time(row.id.time()),
            name,
            keywords,
            exclude_keywords,
            src: source.into(),
            user_list_id: list.map(Id),
            users,
            case_sensitive: row.settings.case_sensitive,
            local_only: row.settings.local_only,
            exclude_bots: row.settings.exclude_bots,
            with_replies: row.settings.with_replies,
            with_file: row.settings.with_file,
            exclude_notes_in_sensitive_channel: row.settings.exclude_notes_in_sensitive_channel,
            is_active: app.now() < row.listens_until,
            has_unread_note: false,
            notify: false,
        }
    }
}

/// Make an antenna.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    name: Text<1, MAX_NAME_CHARS>,
    src: Src,
    user_list_id: Option<ListId>,
    /// All words of one of these.
    keywords: Vec<Vec<String>>,
    /// Not all words of any of these.
    exclude_keywords: Vec<Vec<String>>,
    users: Vec<String>,
    case_sensitive: bool,
    #[serde(default)]
    local_only: bool,
    #[serde(default)]
    exclude_bots: bool,
    with_replies: bool,
    /// Only notes with files.
    with_file: bool,
    #[serde(default)]
    exclude_notes_in_sensitive_channel: bool,
}

const CREATE_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_USER_LIST", "No such user list.", "95063e93-a283-4b8b-9aa5-bcdb8df69a7f");
const TOO_MANY_ANTENNAS: ErrorDef = ErrorDef::new(
    "TOO_MANY_ANTENNAS",
    "You cannot create antenna any more.",
    "faf47050-e8b5-438c-913c-db2b1576fde4",
);
const CREATE_EMPTY_KEYWORD: ErrorDef = ErrorDef::new(
    "EMPTY_KEYWORD",
    "Either keywords or excludeKeywords is required.",
    "53ee222e-1ddd-4f9a-92e5-9fb82ddb463a",
);

impl Endpoint for Create {
    const META: Meta = Meta::new("antennas/create").kind("write:account").not_moved().errors(&[
        CREATE_NO_SUCH_LIST,
        TOO_MANY_ANTENNAS,
        CREATE_EMPTY_KEYWORD,
    ]);
    type Caller = SignedIn;
    type Reply = Antenna;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Antenna, ApiError> {
        let source = Source::from(self.src);
        let settings = Settings {
            name: self.name.0,
            source,
            list: self.user_list_id.map(|list| list.0).filter(|_| source == Source::List),
            keywords: self.keywords,
            exclude_keywords: self.exclude_keywords,
            accounts: accounts(app, &self.users),
            users: self.users,
            case_sensitive: self.case_sensitive,
            local_only: self.local_only,
            exclude_bots: self.exclude_bots,
            with_replies: self.with_replies,
            with_file: self.with_file,
            exclude_notes_in_sensitive_channel: self.exclude_notes_in_sensitive_channel,
        };
        let (by, limit) = (app.by(&me), me.account.limit("antennaLimit"));
        let id = ids::AntennaId(app.ids.at(by.now));
        let made = app.commands.create_antenna(by, me.id(), id, settings, limit).await;
        let receipt = made.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotTune::NoSuchList => CREATE_NO_SUCH_LIST.into(),
                CannotTune::TooMany => TOO_MANY_ANTENNAS.into(),
                CannotTune::NoWords => CREATE_EMPTY_KEYWORD.into(),
                CannotTune::TooMuch => too_much(),
                CannotTune::NoSuchAntenna => ApiError::internal("a new antenna is not looked for"),
            })
        })?;
        app.shown(receipt).await;
        shown(app, id).await
    }
}

/// Change an antenna.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    antenna_id: AntennaId,
    #[serde(default)]
    name: Given<Text<1, MAX_NAME_CHARS>>,
    #[serde(default)]
    src: Given<Src>,
    #[serde(default)]
    user_list_id: Given<Option<ListId>>,
    #[serde(default)]
    keywords: Given<Vec<Vec<String>>>,
    #[serde(default)]
    exclude_keywords: Given<Vec<Vec<String>>>,
    #[serde(default)]
    users: Given<Vec<String>>,
    #[serde(default)]
    case_sensitive: Given<bool>,
    #[serde(default)]
    local_only: Given<bool>,
    #[serde(default)]
    exclude_bots: Given<bool>,
    #[serde(default)]
    with_replies: Given<bool>,
    #[serde(default)]
    with_file: Given<bool>,
    #[serde(default)]
    exclude_notes_in_sensitive_channel: Given<bool>,
}

const UPDATE_NO_SUCH_ANTENNA: ErrorDef =
    ErrorDef::new("NO_SUCH_ANTENNA", "No such antenna.", "10c673ac-8852-48eb-aa1f-f5b67f069290");
const UPDATE_NO_SUCH_LIST: ErrorDef =
    ErrorDef::new("NO_SUCH_USER_LIST", "No such user list.", "1c6b35c9-943e-48c2-81e4-2844989407f7");
const ANTENNA_LIMIT_EXCEEDED: ErrorDef = ErrorDef::new(
    "ANTENNA_LIMIT_EXCEEDED",
    "You cannot update the antenna because you have exceeded the limit of antennas.",
    "3166a92e-09d9-4c09-afa3-1dbe34a3afcf",
);
const UPDATE_EMPTY_KEYWORD: ErrorDef = ErrorDef::new(
    "EMPTY_KEYWORD",
    "Either keywords or excludeKeywords is required.",
    "721aaff6-4e1b-4d88-8de6-877fae9f68c4",
);

impl Endpoint for Update {
    const META: Meta = Meta::new("antennas/update").kind("write:account").not_moved().errors(&[
        UPDATE_NO_SUCH_ANTENNA,
        UPDATE_NO_SUCH_LIST,
        ANTENNA_LIMIT_EXCEEDED,
        UPDATE_EMPTY_KEYWORD,
    ]);
    type Caller = SignedIn;
    type Reply = Antenna;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Antenna, ApiError> {
        let (by, limit) = (app.by(&me), me.account.limit("antennaLimit"));
        let id = self.antenna_id.0;
        let accounts = self.users.0.as_deref().map(|users| accounts(app, users));
        let change = |settings: &mut Settings| self.apply(settings, accounts.as_deref());
        let changed = app.commands.change_antenna(by, me.id(), id, change, limit).await;
        let receipt = changed.map_err(|failed| {
            failed.map_refusal(|refusal| match refusal {
                CannotTune::NoSuchAntenna => UPDATE_NO_SUCH_ANTENNA.into(),
                CannotTune::NoSuchList => UPDATE_NO_SUCH_LIST.into(),
                CannotTune::TooMany => ANTENNA_LIMIT_EXCEEDED.into(),
                CannotTune::NoWords => UPDATE_EMPTY_KEYWORD.into(),
                CannotTune::TooMuch => too_much(),
            })
        })?;
        app.shown(receipt).await;
        shown(app, id).await
    }
}

impl Update {
    fn apply(&self, settings: &mut Settings, accounts: Option<&[String]>) {
        fn set<T: Clone>(place: &mut T, given: Option<&T>) {
            if let Some(given) = given {
                place.clone_from(given);
            }
        }
        set(&mut settings.name, self.name.0.as_ref().map(|name| &name.0));
        set(&mut settings.source, self.src.0.map(Source::from).as_ref());
        set(&mut settings.list, self.user_list_id.0.map(|list| list.map(|list| list.0)).as_ref());
        if settings.source != Source::List {
            settings.list = None;
        }
        set(&mut settings.keywords, self.keywords.0.as_ref());
        set(&mut settings.exclude_keywords, self.exclude_keywords.0.as_ref());
        set(&mut settings.users, self.users.0.as_ref());
        if let Some(accounts) = accounts {
            settings.accounts = accounts.to_vec();
        }
        set(&mut settings.case_sensitive, self.case_sensitive.0.as_ref());
        set(&mut settings.local_only, self.local_only.0.as_ref());
        set(&mut settings.exclude_bots, self.exclude_bots.0.as_ref());
        set(&mut settings.with_replies, self.with_replies.0.as_ref());
        set(&mut settings.with_file, self.with_file.0.as_ref());
        let sensitive = self.exclude_notes_in_sensitive_channel.0.as_ref();
        set(&mut settings.exclude_notes_in_sensitive_channel, sensitive);
    }
}

/// Delete an antenna.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    antenna_id: AntennaId,
}

const DELETE_NO_SUCH_ANTENNA: ErrorDef =
    ErrorDef::new("NO_SUCH_ANTENNA", "No such antenna.", "b34dcf9d-348f-44bb-99d0-6c9314cfe2df");

impl Endpoint for Delete {
    const META: Meta = Meta::new("antennas/delete").kind("write:account").errors(&[DELETE_NO_SUCH_ANTENNA]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let deleted = app.commands.delete_antenna(app.by(&me), me.id(), self.antenna_id.0).await;
        let receipt = deleted.map_err(|failed| failed.map_refusal(|NoSuchAntenna| DELETE_NO_SUCH_ANTENNA))?;
        app.shown(receipt).await;
        Ok(())
    }
}

/// The caller's antennas.
#[derive(Deserialize, JsonSchema)]
pub struct List {}

impl Endpoint for List {
    const META: Meta = Meta::new("antennas/list").kind("read:account");
    type Caller = SignedIn;
    type Reply = Vec<Antenna>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Antenna>, ApiError> {
        let rows = antenna::of_owner(&app.pool, me.id()).await?;
        Ok(rows.into_iter().map(|row| Antenna::of(app, row)).collect())
    }
}

/// Show an antenna.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Show {
    antenna_id: AntennaId,
}

const SHOW_NO_SUCH_ANTENNA: ErrorDef =
    ErrorDef::new("NO_SUCH_ANTENNA", "No such antenna.", "c06569fb-b025-4f23-b22d-1fcd20d2816b");

impl Endpoint for Show {
    const META: Meta = Meta::new("antennas/show").kind("read:account").errors(&[SHOW_NO_SUCH_ANTENNA]);
    type Caller = SignedIn;
    type Reply = Antenna;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Antenna, ApiError> {
        let row = antenna::by_id(&app.pool, self.antenna_id.0).await?;
        let row = row.filter(|row| row.owner == me.id()).ok_or(SHOW_NO_SUCH_ANTENNA)?;
        Ok(Antenna::of(app, row))
    }
}

/// What an antenna heard.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notes {
    antenna_id: AntennaId,
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
}

const NOTES_NO_SUCH_ANTENNA: ErrorDef =
    ErrorDef::new("NO_SUCH_ANTENNA", "No such antenna.", "850926e0-fd3b-49b6-b69a-b28a5dbd82fe");

impl Endpoint for Notes {
    const META: Meta = Meta::new("antennas/notes").kind("read:account").errors(&[NOTES_NO_SUCH_ANTENNA]);
    type Caller = SignedIn;
    type Reply = Vec<Note>;

    async fn handle(self, app: &App, me: SignedIn) -> Result<Vec<Note>, ApiError> {
        let (id, antenna) = (me.id(), self.antenna_id.0);
        let row = antenna::by_id(&app.pool, antenna).await?;
        row.filter(|row| row.owner == id).ok_or(NOTES_NO_SUCH_ANTENNA)?;
        // What it heard can be shown all the same.
        if let Err(error) = app.commands.use_antenna(app.by(&me), id, antenna).await {
            tracing::warn!(%error, user.id = %id, "it isn't noted that an antenna is used");
        }
        seen_page(app, Some(id), self.page, self.limit, |page| async move {
            antenna::notes(&app.pool, antenna, id, &page).await
        })
        .await
    }
}

/// People as an antenna compares them: `@Name`, `name@host` and `@name@this.server` are all understood.
pub fn accounts(app: &App, users: &[String]) -> Vec<String> {
    let account = |user: &String| {
        let lower = user.trim().trim_start_matches('@').to_lowercase();
        match lower.split_once('@') {
            Some((name, host)) if is_own(app, host) => name.to_owned(),
            _ => lower,
        }
    };
    users.iter().map(account).filter(|account| !account.is_empty()).collect()
}

fn too_much() -> ApiError {
    ApiError::invalid_param(
        "#/properties/keywords/maxItems",
        format!("must NOT have more than {MAX_WORDS} items"),
    )
}

/// An antenna that has just been written.
async fn shown(app: &App, antenna: ids::AntennaId) -> Result<Antenna, ApiError> {
    let row = antenna::by_id(&app.pool, antenna).await?;
    let row = row.ok_or_else(|| ApiError::internal("an antenna is not there that was written"))?;
    Ok(Antenna::of(app, row))
}
