//! What a person takes along from elsewhere, out of files in their drive: `i/import-…`. It is promised, and done by
//! [`crate::jobs`]: a row that was done before is passed over.

use commands::{Failed, Receipt};
use domain::antenna::{MAX_NAME_CHARS, Settings, Source};
use domain::{AntennaId, FileId, ListId, UserId};
use futures_util::TryStreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::antenna::accounts;
use super::list::limits;
use super::user::is_own;
use crate::api::error::OVERLOADED;
use crate::api::param::Id;
use crate::api::{ApiError, Endpoint, ErrorDef, Meta, SignedIn, per};
use crate::app::App;
use crate::jobs::{ask, reached};
use crate::json::Look;
use crate::ops::jobs::{Job, Work};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// The largest file of lists, in bytes.
const MAX_LIST_BYTES: u64 = 30_000;
/// The longest name of a list that is made, in characters.
const MAX_LIST_NAME_CHARS: usize = 100;

/// Follow those in a file.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Following {
    file_id: Id<FileId>,
    /// Their replies to others, too.
    #[serde(default)]
    with_replies: bool,
}

const FOLLOWING_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "b98644cf-a5ac-4277-a502-0b8054a709a3");
const FOLLOWING_TOO_BIG_FILE: ErrorDef =
    ErrorDef::new("TOO_BIG_FILE", "That file is too big.", "dee9d4ed-ad07-43ed-8b34-b2856398bc60");
const FOLLOWING_EMPTY_FILE: ErrorDef =
    ErrorDef::new("EMPTY_FILE", "That file is empty.", "31a1b42c-06f7-42ae-8a38-a661c5c9f691");

impl Endpoint for Following {
    const META: Meta = Meta::new("i/import-following")
        .secure()
        .role("canImportFollowing")
        .limit(1, per::HOUR)
        .not_moved()
        .errors(&[FOLLOWING_NO_SUCH_FILE, FOLLOWING_TOO_BIG_FILE, FOLLOWING_EMPTY_FILE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let errors = [FOLLOWING_NO_SUCH_FILE, FOLLOWING_TOO_BIG_FILE, FOLLOWING_EMPTY_FILE];
        let text = read(app, &me, self.file_id, MAX_BYTES, errors).await?;
        ask(app, &me, Work::Follow { text, with_replies: self.with_replies }).await
    }
}

/// Block those in a file.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocking {
    file_id: Id<FileId>,
}

const BLOCKING_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "ebb53e5f-6574-9c0c-0b92-7ca6def56d7e");
const BLOCKING_TOO_BIG_FILE: ErrorDef =
    ErrorDef::new("TOO_BIG_FILE", "That file is too big.", "b7fbf0b1-aeef-3b21-29ef-fadd4cb72ccf");
const BLOCKING_EMPTY_FILE: ErrorDef =
    ErrorDef::new("EMPTY_FILE", "That file is empty.", "6f3a4dcc-f060-a707-4950-806fbdbe60d6");

impl Endpoint for Blocking {
    const META: Meta = Meta::new("i/import-blocking")
        .secure()
        .role("canImportBlocking")
        .limit(1, per::HOUR)
        .not_moved()
        .errors(&[BLOCKING_NO_SUCH_FILE, BLOCKING_TOO_BIG_FILE, BLOCKING_EMPTY_FILE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let errors = [BLOCKING_NO_SUCH_FILE, BLOCKING_TOO_BIG_FILE, BLOCKING_EMPTY_FILE];
        let text = read(app, &me, self.file_id, MAX_BYTES, errors).await?;
        ask(app, &me, Work::Block { text }).await
    }
}

/// Mute those in a file.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Muting {
    file_id: Id<FileId>,
}

const MUTING_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "e674141e-bd2a-ba85-e616-aefb187c9c2a");
const MUTING_TOO_BIG_FILE: ErrorDef =
    ErrorDef::new("TOO_BIG_FILE", "That file is too big.", "9b4ada6d-d7f7-0472-0713-4f558bd1ec9c");
const MUTING_EMPTY_FILE: ErrorDef =
    ErrorDef::new("EMPTY_FILE", "That file is empty.", "d2f12af1-e7b4-feac-86a3-519548f2728e");

impl Endpoint for Muting {
    const META: Meta = Meta::new("i/import-muting")
        .secure()
        .role("canImportMuting")
        .limit(1, per::HOUR)
        .not_moved()
        .errors(&[MUTING_NO_SUCH_FILE, MUTING_TOO_BIG_FILE, MUTING_EMPTY_FILE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let errors = [MUTING_NO_SUCH_FILE, MUTING_TOO_BIG_FILE, MUTING_EMPTY_FILE];
        let text = read(app, &me, self.file_id, MAX_BYTES, errors).await?;
        ask(app, &me, Work::Mute { text }).await
    }
}

/// Put people into lists, as a file says; lists that aren't there are made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserLists {
    file_id: Id<FileId>,
}

const LISTS_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "ea9cc34f-c415-4bc6-a6fe-28ac40357049");
const LISTS_TOO_BIG_FILE: ErrorDef =
    ErrorDef::new("TOO_BIG_FILE", "That file is too big.", "ae6e7a22-971b-4b52-b2be-fc0b9b121fe9");
const LISTS_EMPTY_FILE: ErrorDef =
    ErrorDef::new("EMPTY_FILE", "That file is empty.", "99efe367-ce6e-4d44-93f8-5fae7b040356");

impl Endpoint for UserLists {
    const META: Meta = Meta::new("i/import-user-lists")
        .secure()
        .role("canImportUserLists")
        .limit(1, per::HOUR)
        .not_moved()
        .errors(&[LISTS_NO_SUCH_FILE, LISTS_TOO_BIG_FILE, LISTS_EMPTY_FILE]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let errors = [LISTS_NO_SUCH_FILE, LISTS_TOO_BIG_FILE, LISTS_EMPTY_FILE];
        let text = read(app, &me, self.file_id, MAX_LIST_BYTES, errors).await?;
        ask(app, &me, Work::Lists { text }).await
    }
}

/// Puts people into lists.
pub async fn lists(app: &App, me: &SignedIn, job: &Job, text: &str) -> Result<(), ApiError> {
    let limits = limits(&me.account);
    for (n, line) in rows(text, job) {
        let fields = fields(line);
        if let [name, account, ..] = &fields[..]
            && let Some(user) = find(app, account).await?
            && let Some(list) = list_named(app, me, name.trim(), job.makes(n)).await?
        {
            passed(app.commands.push_to_list(app.by(me), me.id(), list, user, limits).await)?;
        }
        reached(app, job, n).await?;
    }
    Ok(())
}

/// The list of this name; one that isn't there is made, if it may be.
async fn list_named(app: &App, me: &SignedIn, name: &str, new: Uuid) -> Result<Option<ListId>, ApiError> {
    let standing = app.commands.lists(me.id()).await.map_err(ApiError::internal)?;
    if let Some(list) = standing.named(name) {
        return Ok(Some(list));
    }
    if !(1..=MAX_LIST_NAME_CHARS).contains(&name.chars().count()) {
        return Ok(None);
    }
    let limits = limits(&me.account);
    let made = app.commands.create_list(app.by(me), me.id(), ListId(new), name.to_owned(), limits).await;
    Ok(passed(made)?.then_some(ListId(new)))
}

/// Make antennas, as a file says.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Antennas {
    file_id: Id<FileId>,
}

const ANTENNAS_NO_SUCH_FILE: ErrorDef =
    ErrorDef::new("NO_SUCH_FILE", "No such file.", "3b71d086-c3fa-431c-b01d-ded65a777172");
const ANTENNAS_EMPTY_FILE: ErrorDef =
    ErrorDef::new("EMPTY_FILE", "That file is empty.", "7f60115d-8d93-4b0f-bd0e-3815dcbb389f");
const TOO_MANY_ANTENNAS: ErrorDef = ErrorDef::new(
    "TOO_MANY_ANTENNAS",
    "You cannot create antenna any more.",
    "600917d4-a4cb-4cc5-8ba8-7ac8ea3c7779",
);

/// An antenna in a file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wished {
    name: String,
    src: Source,
    #[serde(default)]
    keywords: Vec<Vec<String>>,
    #[serde(default)]
    exclude_keywords: Vec<Vec<String>>,
    #[serde(default)]
    users: Vec<String>,
    user_list_accts: Option<Vec<String>>,
    #[serde(default)]
    case_sensitive: bool,
    #[serde(default)]
    local_only: bool,
    #[serde(default)]
    exclude_bots: bool,
    #[serde(default)]
    with_replies: bool,
    #[serde(default)]
    with_file: bool,
}

impl Endpoint for Antennas {
    const META: Meta = Meta::new("i/import-antennas")
        .secure()
        .role("canImportAntennas")
        .limit(1, per::HOUR)
        .not_moved()
        .errors(&[ANTENNAS_NO_SUCH_FILE, ANTENNAS_EMPTY_FILE, TOO_MANY_ANTENNAS]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let errors = [ANTENNAS_NO_SUCH_FILE, ANTENNAS_NO_SUCH_FILE, ANTENNAS_EMPTY_FILE];
        let text = read(app, &me, self.file_id, MAX_BYTES, errors).await?;
        let wished = wished(&text).len();
        let limit = me.account.limit("antennaLimit");
        let standing = projections::antenna::of_owner(&app.pool, me.id()).await?;
        if standing.len() + wished > limit {
            return Err(TOO_MANY_ANTENNAS.into());
        }
        ask(app, &me, Work::Antennas { text }).await
    }
}

/// Makes antennas. One that listens for nothing, or for too much, is passed over.
pub async fn antennas(app: &App, me: &SignedIn, job: &Job, text: &str) -> Result<(), ApiError> {
    let limit = me.account.limit("antennaLimit");
    for (n, wish) in beyond(wished(text).into_iter(), job) {
        if wish.name.chars().count() <= MAX_NAME_CHARS {
            let (id, settings) = (AntennaId(job.makes(n)), wish.settings(app));
            passed(app.commands.create_antenna(app.by(me), me.id(), id, settings, limit).await)?;
        }
        reached(app, job, n).await?;
    }
    Ok(())
}

fn wished(text: &str) -> Vec<Wished> {
    serde_json::from_str(text).unwrap_or_default()
}

impl Wished {
    /// One that listens to a list listens to the people who were in it.
    fn settings(self, app: &App) -> Settings {
        let (source, users) = match (self.src, self.user_list_accts) {
            (Source::List, accounts) => (Source::Users, accounts.unwrap_or_default()),
            (source, _) => (source, self.users),
        };
        Settings {
            name: self.name,
            source,
            list: None,
            keywords: self.keywords,
            exclude_keywords: self.exclude_keywords,
            accounts: accounts(app, &users),
            users,
            case_sensitive: self.case_sensitive,
            local_only: self.local_only,
            exclude_bots: self.exclude_bots,
            with_replies: self.with_replies,
            with_file: self.with_file,
            exclude_notes_in_sensitive_channel: false,
        }
    }
}

/// A file of the caller's, whole; the errors say that there is none, that it is too large, that it is empty.
async fn read(
    app: &App,
    me: &SignedIn,
    id: Id<FileId>,
    most: u64,
    [missing, too_large, empty]: [ErrorDef; 3],
) -> Result<String, ApiError> {
    let row = projections::drive::by_ids(&app.pool, &[id.0]).await?.remove(&id.0);
    let row = row.filter(|row| row.owner == me.id()).ok_or(missing)?;
    if row.size > most {
        return Err(too_large.into());
    }
    if row.size == 0 {
        return Err(empty.into());
    }
    let found = app.drive.store.get(row.owner, &row.key, None).await.map_err(ApiError::internal)?;
    let mut pieces = found.ok_or(missing)?.bytes;
    let mut read = Vec::new();
    while let Some(piece) = pieces.try_next().await.map_err(ApiError::internal)? {
        read.extend_from_slice(&piece);
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}

/// What is done with those in a file.
#[derive(Clone, Copy)]
pub enum Act {
    Follow { with_replies: bool },
    Block,
    Mute,
}

impl Act {
    async fn with(self, app: &App, me: &SignedIn, user: UserId) -> Result<bool, ApiError> {
        let (by, id) = (app.by(me), me.id());
        match self {
            Act::Follow { with_replies } => passed(app.commands.follow(by, id, user, with_replies).await),
            Act::Block => passed(app.commands.block(by, id, user).await),
            Act::Mute => passed(app.commands.mute(by, id, user, None).await),
        }
    }
}

/// Does something with each person in a file.
pub async fn people(app: &App, me: &SignedIn, job: &Job, text: &str, act: Act) -> Result<(), ApiError> {
    for (n, line) in rows(text, job) {
        if let Some(account) = fields(line).first()
            && let Some(user) = find(app, account).await?.filter(|user| *user != me.id())
        {
            act.with(app, me, user).await?;
        }
        reached(app, job, n).await?;
    }
    Ok(())
}

/// Whether something was done. What can't be done, or has been, is passed over; what failed is tried again.
fn passed<R: std::error::Error>(done: Result<Receipt, Failed<R>>) -> Result<bool, ApiError> {
    match done {
        Ok(_) => Ok(true),
        Err(Failed::Refused(cause)) => {
            tracing::debug!(%cause, "something in a file is passed over");
            Ok(false)
        }
        Err(failed) => Err(failed.map_refusal(|_| OVERLOADED).into()),
    }
}

/// The lines that a job has not come to yet, counted from 1.
fn rows<'a>(text: &'a str, job: &Job) -> impl Iterator<Item = (usize, &'a str)> {
    beyond(text.lines(), job)
}

fn beyond<T>(all: impl Iterator<Item = T>, job: &Job) -> impl Iterator<Item = (usize, T)> {
    (1..).zip(all).skip(usize::try_from(job.reached).unwrap_or_default())
}

/// The fields of a line of values by comma.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.trim().chars().peekable();
    while let Some(here) = rest.next() {
        match here {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

/// Whoever is known here under `name@host`.
async fn find(app: &App, account: &str) -> Result<Option<UserId>, ApiError> {
    let account = account.trim().trim_start_matches('@');
    let (name, host) = account.split_once('@').unwrap_or((account, Look::of(app).host()));
    let host = Some(host).filter(|host| !is_own(app, &host.to_lowercase()));
    Ok(projections::user::by_username(&app.pool, name, host).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_comma() {
        assert_eq!(fields("alice@a.example"), ["alice@a.example"]);
        assert_eq!(
            fields(" list,@bob@b.example,withReplies=true\r"),
            ["list", "@bob@b.example", "withReplies=true"]
        );
        assert_eq!(fields("\"a, \"\"b\"\"\",c"), ["a, \"b\"", "c"]);
        assert_eq!(fields(""), [""]);
    }
}
