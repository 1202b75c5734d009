//! What moderators see: reports, and the log of what moderators have done.
//!
//! The log is made of the events themselves: whoever acted is in the envelope of each. What something was
//! before it was changed is remembered in a private table.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Days, SecondsFormat, Utc};
use domain::log::Recorded;
use domain::report::Outcome;
use domain::{Event, EventId, ReportId, UserId, invitation, work};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::page::{MAX_ITEMS, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;
use crate::user::{ALIVE_DAYS, Origin, SortKey};

/// Fills `read.reports`, `read.moderation_logs` and `read.moderated`.
pub struct Projection;

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "moderation"
    }

    fn version(&self) -> u32 {
        3
    }

    fn tables(&self) -> &'static [&'static str] {
        &["reports", "moderation_logs", "moderated"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "instance.settings_changed",
            "instance.policies_changed",
            "role.created",
            "role.changed",
            "role.deleted",
            "role.assigned",
            "role.unassigned",
            "user.suspended",
            "user.unsuspended",
            "user.noted",
            "user.password_reset",
            "report.filed",
            "report.resolved",
            "report.annotated",
            "announcement.created",
            "announcement.changed",
            "announcement.deleted",
            "invitation.created",
            "decoration.created",
            "decoration.changed",
            "decoration.deleted",
            "emoji.added",
            "emoji.changed",
            "emoji.deleted",
            "ad.created",
            "ad.changed",
            "ad.deleted",
            "note.deleted",
            "drive.file_changed",
            "drive.file_deleted",
            "user.changed",
            "work.deleted",
            "user.erased",
        ]
    }

    // Moderators act seldom, so each event is written by itself.
    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (recorded, event) in events(batch) {
            let line = match event {
                Event::UserErased(e) => {
                    purge(tx, e.user).await?;
                    None
                }
                Event::ReportFiled(_) | Event::ReportResolved(_) | Event::ReportAnnotated(_) => {
                    report(tx, event).await?
                }
                _ => match thing(event)? {
                    Some(thing) => Some(thing.line(tx).await?),
                    None => about(tx, recorded, event).await?,
                },
            };
            if let (Some(line), Some(moderator)) = (line, recorded.actor) {
                line.write(tx, recorded, moderator).await?;
            }
        }
        Ok(())
    }
}

/// Reports by them and about them, what they did as moderators, and what was done about them.
async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    for statement in [
        "delete from moderation_logs
          where moderator = $1 or about = $1 or reporter = $1 or reported = $1",
        "delete from moderated where about = $1",
        "delete from reports where reporter = $1 or target = $1",
        "update reports set assignee = null where assignee = $1",
    ] {
        sqlx::query(statement).bind(user.0).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A line of the log.
struct Line {
    /// By Misskey's names.
    kind: String,
    about: Option<UserId>,
    /// The report that it is about.
    report: Option<ReportRow>,
    info: Map<String, Value>,
}

impl Line {
    fn new(kind: impl Into<String>, about: Option<UserId>, info: Value) -> Self {
        let info = match info {
            Value::Object(info) => info,
            _ => Map::new(),
        };
        Self { kind: kind.into(), about, report: None, info }
    }

    async fn write(self, tx: &mut PgConnection, recorded: &Recorded, moderator: UserId) -> sqlx::Result<()> {
        sqlx::query(
            "insert into moderation_logs (id, moderator, kind, about, reporter, reported, info)
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(recorded.id.0)
        .bind(moderator.0)
        .bind(self.kind)
        .bind(self.about.map(|user| user.0))
        .bind(self.report.as_ref().map(|report| report.reporter.0))
        .bind(self.report.as_ref().map(|report| report.target.0))
        .bind(Json(sql::clean_json(Value::Object(self.info))))
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Invitations that were made at once are one line: that of the first takes in the others.
async fn invited(tx: &mut PgConnection, new: &invitation::Created) -> sqlx::Result<Option<Line>> {
    let made_at = new.invitation.time().to_rfc3339_opts(SecondsFormat::Millis, true);
    let invitation = json!({
        "id": new.invitation, "code": new.code, "expiresAt": new.expires_at, "createdById": new.by,
        "createdAt": made_at, "usedById": null, "usedAt": null, "pendingUserId": null,
    });
    let taken_in = sqlx::query(
        "update moderation_logs set info = jsonb_insert(info, '{invitations,-1}', $3, true)
          where id = (select id from moderation_logs where moderator = $1 order by id desc limit 1)
            and info -> 'invitations' -> 0 ->> 'createdAt' = $2",
    )
    .bind(new.by.0)
    .bind(&made_at)
    .bind(Json(&invitation))
    .execute(tx)
    .await?;
    let line = || Line::new("createInvitation", None, json!({ "invitations": [invitation] }));
    Ok((taken_in.rows_affected() == 0).then(line))
}

/// Something that is made, changed and deleted.
struct Thing {
    /// As it is called in kinds and in the keys of the log.
    create: &'static str,
    update: &'static str,
    delete: &'static str,
    noun: &'static str,
    id: Uuid,
    about: Option<UserId>,
    /// What it is from now on; none when it is no more.
    now: Option<Value>,
}

fn thing(event: &Event) -> Result<Option<Thing>, ProjectError> {
    let role = |id: domain::RoleId, now| Thing {
        create: "createRole",
        update: "updateRole",
        delete: "deleteRole",
        noun: "role",
        id: id.0,
        about: None,
        now,
    };
    Ok(Some(match event {
        Event::RoleCreated(e) => role(e.role, Some(shown(&e.definition)?)),
        Event::RoleChanged(e) => role(e.role, Some(shown(&e.definition)?)),
        Event::RoleDeleted(e) => role(e.role, None),
        Event::DecorationCreated(e) => decoration(e.decoration, Some(&e.definition))?,
        Event::DecorationChanged(e) => decoration(e.decoration, Some(&e.definition))?,
        Event::DecorationDeleted(e) => decoration(e.decoration, None)?,
        Event::EmojiAdded(e) => custom_emoji(e.emoji, Some(&e.definition)),
        Event::EmojiChanged(e) => custom_emoji(e.emoji, Some(&e.definition)),
        Event::EmojiDeleted(e) => custom_emoji(e.emoji, None),
        Event::AdCreated(e) => advertisement(e.ad, Some(&e.definition))?,
        Event::AdChanged(e) => advertisement(e.ad, Some(&e.definition))?,
        Event::AdDeleted(e) => advertisement(e.ad, None)?,
        Event::AnnouncementCreated(e) => announced(e.announcement, e.definition.user, Some(&e.definition))?,
        Event::AnnouncementChanged(e) => announced(e.announcement, e.definition.user, Some(&e.definition))?,
        Event::AnnouncementDeleted(e) => announced(e.announcement, e.user, None)?,
        _ => return Ok(None),
    }))
}

fn decoration(
    id: domain::DecorationId,
    now: Option<&domain::decoration::Definition>,
) -> Result<Thing, ProjectError> {
    Ok(Thing {
        create: "createAvatarDecoration",
        update: "updateAvatarDecoration",
        delete: "deleteAvatarDecoration",
        noun: "avatarDecoration",
        id: id.0,
        about: None,
        now: now.map(shown).transpose()?,
    })
}

fn custom_emoji(id: domain::EmojiId, now: Option<&domain::emoji::Definition>) -> Thing {
    let (create, update, delete) = ("addCustomEmoji", "updateCustomEmoji", "deleteCustomEmoji");
    let now = now.map(|emoji| {
        json!({
            "id": id, "name": emoji.name, "aliases": emoji.aliases, "category": emoji.category,
            "host": null, "license": emoji.license, "isSensitive": emoji.sensitive,
            "localOnly": emoji.local_only, "roleIdsThatCanBeUsedThisEmojiAsReaction": emoji.roles,
        })
    });
    Thing { create, update, delete, noun: "emoji", id: id.0, about: None, now }
}

fn advertisement(id: domain::AdId, now: Option<&domain::ad::Definition>) -> Result<Thing, ProjectError> {
    let now = now.map(shown).transpose()?;
    let (create, update, delete) = ("createAd", "updateAd", "deleteAd");
    Ok(Thing { create, update, delete, noun: "ad", id: id.0, about: None, now })
}

fn announced(
    id: domain::AnnouncementId,
    about: Option<UserId>,
    now: Option<&domain::announcement::Definition>,
) -> Result<Thing, ProjectError> {
    let (create, update, delete) = match about {
        None => ("createGlobalAnnouncement", "updateGlobalAnnouncement", "deleteGlobalAnnouncement"),
        Some(_) => ("createUserAnnouncement", "updateUserAnnouncement", "deleteUserAnnouncement"),
    };
    let now = now.map(shown).transpose()?;
    Ok(Thing { create, update, delete, noun: "announcement", id: id.0, about, now })
}

/// A value by the names that clients know.
fn shown(value: &impl Serialize) -> serde_json::Result<Value> {
    Ok(camel(serde_json::to_value(value)?))
}

fn camel(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (camel_word(&name), camel(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(camel).collect()),
        other => other,
    }
}

fn camel_word(name: &str) -> String {
    let mut words = name.split('_');
    let mut word = words.next().unwrap_or_default().to_owned();
    for next in words {
        let mut letters = next.chars();
        word.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        word.push_str(letters.as_str());
    }
    word
}

impl Thing {
    async fn line(self, tx: &mut PgConnection) -> Result<Line, ProjectError> {
        let before = known(tx, self.id).await?;
        know(tx, self.id, self.about, self.now.as_ref()).await?;
        let id = domain::to_ulid(self.id);
        let id_key = format!("{}Id", self.noun);
        let (kind, info) = match (before, self.now) {
            (Some(before), Some(now)) => {
                (self.update, json!({ (id_key): id, "before": before, "after": now }))
            }
            (None, Some(now)) => (self.create, json!({ (id_key): id, (self.noun): now })),
            (before, None) => (self.delete, json!({ (id_key): id, (self.noun): before })),
        };
        Ok(Line::new(kind, self.about, info))
    }
}

/// What moderators did about the server or a person.
async fn about(
    tx: &mut PgConnection,
    recorded: &Recorded,
    event: &Event,
) -> Result<Option<Line>, ProjectError> {
    Ok(match event {
        Event::SettingsChanged(e) => {
            let changes = sql::fields(&e.changes)?;
            Some(settings(tx, SETTINGS, changes, |changes| changes).await?)
        }
        Event::PoliciesChanged(e) => {
            let changes = sql::fields(&e.changes)?;
            Some(settings(tx, POLICIES, changes, |changes| json!({ "policies": changes })).await?)
        }
        Event::RoleAssigned(e) => {
            let name = known(tx, e.role.0).await?.map(|role| role["name"].clone());
            let info = json!({ "roleId": e.role, "roleName": name, "expiresAt": e.expires_at });
            Some(Line::new("assignRole", Some(e.user), info))
        }
        Event::RoleUnassigned(e) => {
            let name = known(tx, e.role.0).await?.map(|role| role["name"].clone());
            Some(Line::new("unassignRole", Some(e.user), json!({ "roleId": e.role, "roleName": name })))
        }
        Event::UserSuspended(e) => Some(Line::new("suspend", Some(e.user), json!({}))),
        Event::UserUnsuspended(e) => Some(Line::new("unsuspend", Some(e.user), json!({}))),
        Event::UserNoted(e) => {
            let info = json!({ "before": e.before, "after": e.text });
            Some(Line::new("updateUserNote", Some(e.user), info))
        }
        Event::UserPasswordReset(e) => Some(Line::new("resetPassword", Some(e.user), json!({}))),
        Event::InvitationCreated(e) if e.as_moderator => invited(tx, e).await?,
        Event::NoteDeleted(e) if recorded.actor != Some(e.author) => {
            let info = json!({ "noteId": e.id, "noteUserId": e.author });
            Some(Line::new("deleteNote", Some(e.author), info))
        }
        Event::FileDeleted(e) if recorded.actor != Some(e.owner) => {
            let info = json!({ "fileId": e.id, "fileUserId": e.owner });
            Some(Line::new("deleteDriveFile", Some(e.owner), info))
        }
        Event::FileChanged(e) if recorded.actor != Some(e.owner) => e.changes.sensitive.map(|sensitive| {
            let kind = if sensitive { "markSensitiveDriveFile" } else { "unmarkSensitiveDriveFile" };
            Line::new(kind, Some(e.owner), json!({ "fileId": e.id, "fileUserId": e.owner }))
        }),
        Event::UserChanged(e) if recorded.actor != Some(e.user) => {
            let taken_down = match (&e.changes.avatar, &e.changes.banner) {
                (Some(None), _) => Some("unsetUserAvatar"),
                (_, Some(None)) => Some("unsetUserBanner"),
                _ => None,
            };
            taken_down.map(|kind| Line::new(kind, Some(e.user), json!({})))
        }
        Event::WorkDeleted(e) if recorded.actor != Some(e.user) => {
            let (what, info) = match e.kind {
                work::Kind::Post => ("deleteGalleryPost", json!({ "postId": e.id, "postUserId": e.user })),
                work::Kind::Page => ("deletePage", json!({ "pageId": e.id, "pageUserId": e.user })),
                work::Kind::Play => ("deleteFlash", json!({ "flashId": e.id, "flashUserId": e.user })),
            };
            Some(Line::new(what, Some(e.user), info))
        }
        _ => None,
    })
}

/// The keys under which it is remembered what the server was like.
const SETTINGS: Uuid = Uuid::from_u128(1);
const POLICIES: Uuid = Uuid::from_u128(2);

async fn settings(
    tx: &mut PgConnection,
    key: Uuid,
    changes: Map<String, Value>,
    told: impl Fn(Value) -> Value,
) -> Result<Line, ProjectError> {
    let mut all = match known(tx, key).await? {
        Some(Value::Object(all)) => all,
        _ => Map::new(),
    };
    // What was never changed was as it is at first.
    let usual = |name: &str| match key {
        SETTINGS => domain::instance::Settings::default().get(name).clone(),
        _ => domain::instance::Policies::default().get(name).clone(),
    };
    let was = |name: &String| (name.clone(), all.get(name).cloned().unwrap_or_else(|| usual(name)));
    let before: Map<String, Value> = changes.keys().map(was).collect();
    all.extend(changes.clone());
    know(tx, key, None, Some(&Value::Object(all))).await?;
    let info = json!({ "before": told(Value::Object(before)), "after": told(Value::Object(changes)) });
    Ok(Line::new("updateServerSettings", None, info))
}

async fn known(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Value>> {
    let value: Option<Json<Value>> =
        sqlx::query_scalar("select value from moderated where id = $1").bind(id).fetch_optional(tx).await?;
    Ok(value.map(|value| value.0))
}

async fn know(
    tx: &mut PgConnection,
    id: Uuid,
    about: Option<UserId>,
    value: Option<&Value>,
) -> sqlx::Result<()> {
    match value {
        Some(value) => {
            sqlx::query(
                "insert into moderated (id, about, value) values ($1, $2, $3)
                 on conflict (id) do update set value = excluded.value",
            )
            .bind(id)
            .bind(about.map(|user| user.0))
            .bind(Json(sql::clean_json(value.clone())))
            .execute(tx)
            .await?
        }
        None => sqlx::query("delete from moderated where id = $1").bind(id).execute(tx).await?,
    };
    Ok(())
}

async fn report(tx: &mut PgConnection, event: &Event) -> Result<Option<Line>, ProjectError> {
    match event {
        Event::ReportFiled(e) => {
            sqlx::query(
                "insert into reports (id, reporter, target, comment, category, resolved, note)
                 values ($1, $2, $3, $4, $5, false, '')",
            )
            .bind(e.report.0)
            .bind(e.reporter.0)
            .bind(e.target.0)
            .bind(sql::clean(&e.comment))
            .bind(sql::clean(&e.category))
            .execute(tx)
            .await?;
            Ok(None)
        }
        Event::ReportResolved(e) => {
            // It is gone when the person it is about is.
            let Some(before) = report_by_id(tx, e.report).await? else { return Ok(None) };
            sqlx::query("update reports set resolved = true, outcome = $2, assignee = $3 where id = $1")
                .bind(e.report.0)
                .bind(e.outcome.map(outcome_word))
                .bind(e.moderator.0)
                .execute(tx)
                .await?;
            let info = json!({
                "reportId": e.report, "report": told(&before), "forwarded": false,
                "resolvedAs": e.outcome.map(outcome_word),
            });
            Ok(Some(Line { report: Some(before), ..Line::new("resolveAbuseReport", None, info) }))
        }
        Event::ReportAnnotated(e) => {
            let Some(before) = report_by_id(tx, e.report).await? else { return Ok(None) };
            sqlx::query("update reports set note = $2 where id = $1")
                .bind(e.report.0)
                .bind(sql::clean(&e.text))
                .execute(tx)
                .await?;
            let info = json!({
                "reportId": e.report, "report": told(&before), "before": e.before, "after": e.text,
            });
            Ok(Some(Line { report: Some(before), ..Line::new("updateAbuseReportNote", None, info) }))
        }
        _ => Ok(None),
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accept => "accept",
        Outcome::Reject => "reject",
    }
}

/// A report as the log tells of it: who saw to it is who acted.
fn told(report: &ReportRow) -> Value {
    json!({
        "id": report.id,
        "createdAt": report.id.time(),
        "comment": report.comment,
        "category": report.category,
        "resolved": report.resolved,
        "resolvedAs": report.outcome,
        "forwarded": false,
        "reporterId": report.reporter,
        "targetUserId": report.target,
        "moderationNote": report.note,
    })
}

async fn report_by_id(tx: &mut PgConnection, id: ReportId) -> sqlx::Result<Option<ReportRow>> {
    let row = sqlx::query(
        "select id, reporter, target, comment, category, resolved, outcome, assignee, note
           from reports where id = $1",
    )
    .bind(id.0)
    .fetch_optional(tx)
    .await?;
    row.as_ref().map(report_row).transpose()
}

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportRow {
    pub id: ReportId,
    pub reporter: UserId,
    pub target: UserId,
    pub comment: String,
    pub category: String,
    pub resolved: bool,
    /// `accept` or `reject`.
    pub outcome: Option<String>,
    pub assignee: Option<UserId>,
    pub note: String,
}

fn report_row(row: &PgRow) -> sqlx::Result<ReportRow> {
    Ok(ReportRow {
        id: ReportId(row.try_get("id")?),
        reporter: UserId(row.try_get("reporter")?),
        target: UserId(row.try_get("target")?),
        comment: row.try_get("comment")?,
        category: row.try_get("category")?,
        resolved: row.try_get("resolved")?,
        outcome: row.try_get("outcome")?,
        assignee: row.try_get::<Option<Uuid>, _>("assignee")?.map(UserId),
        note: row.try_get("note")?,
    })
}

/// Which reports.
#[derive(Debug, Clone, Default)]
pub struct ReportFilter {
    pub resolved: Option<bool>,
    pub category: Option<String>,
    pub reporters: Origin,
    pub targets: Origin,
}

pub async fn reports(pool: &PgPool, filter: &ReportFilter, page: &Page) -> sqlx::Result<Vec<ReportRow>> {
    let order = page.order();
    let from = |origin: Origin, who: &str| match origin {
        Origin::Combined => "true".to_owned(),
        Origin::Local => {
            format!("exists (select 1 from read.users u where u.id = r.{who} and u.host is null)")
        }
        Origin::Remote => {
            format!("exists (select 1 from read.users u where u.id = r.{who} and u.host is not null)")
        }
    };
    let (reporters, targets) = (from(filter.reporters, "reporter"), from(filter.targets, "target"));
    let sql = format!(
        "select r.id, r.reporter, r.target, r.comment, r.category, r.resolved, r.outcome, r.assignee, r.note
           from read.reports r
          where r.id > $1 and r.id < $2
            and ($4::boolean is null or r.resolved = $4)
            and ($5::text is null or r.category = $5)
            and {reporters} and {targets}
          order by r.id {order} limit $3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(filter.resolved)
        .bind(filter.category.as_deref().map(sql::clean))
        .fetch_all(pool)
        .await?;
    rows.iter().map(report_row).collect()
}

/// Reports by their ids; unknown ones are left out.
pub async fn reports_by_ids(pool: &PgPool, ids: &[ReportId]) -> sqlx::Result<HashMap<ReportId, ReportRow>> {
    let rows = sqlx::query(
        "select id, reporter, target, comment, category, resolved, outcome, assignee, note
           from read.reports where id = any($1)",
    )
    .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| report_row(row).map(|row| (row.id, row))).collect()
}

/// What a moderator did.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRow {
    pub id: EventId,
    pub moderator: UserId,
    pub kind: String,
    /// The person whom it concerned.
    pub about: Option<UserId>,
    pub info: Map<String, Value>,
}

/// Which lines of the log.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    pub kind: Option<String>,
    pub moderator: Option<UserId>,
    /// What is in what is told of it.
    pub search: Option<String>,
}

pub async fn log(pool: &PgPool, filter: &LogFilter, page: &Page) -> sqlx::Result<Vec<LogRow>> {
    let order = page.order();
    let sql = format!(
        "select id, moderator, kind, about, info
           from read.moderation_logs
          where id > $1 and id < $2
            and ($4::text is null or kind = $4)
            and ($5::uuid is null or moderator = $5)
            and ($6::text is null or position(lower($6) in lower(info::text)) > 0)
          order by id {order} limit $3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(filter.kind.as_deref().map(sql::clean))
        .bind(filter.moderator.map(|user| user.0))
        .bind(filter.search.as_deref().map(sql::clean))
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(LogRow {
                id: EventId(row.try_get("id")?),
                moderator: UserId(row.try_get("moderator")?),
                kind: row.try_get("kind")?,
                about: row.try_get::<Option<Uuid>, _>("about")?.map(UserId),
                info: row.try_get::<Json<Map<String, Value>>, _>("info")?.0,
            })
        })
        .collect()
}

/// In which state people are, for moderators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    All,
    /// Wrote or deleted a note within [`ALIVE_DAYS`].
    Alive,
    /// Not suspended.
    Available,
    Admin,
    Moderator,
    AdminOrModerator,
    Suspended,
}

/// Which people, for moderators: also those who don't let themselves be found.
#[derive(Debug, Clone, Default)]
pub struct PeopleFilter {
    /// The key, and whether the greatest comes first; by age when there is none.
    pub sort: Option<(SortKey, bool)>,
    pub state: State,
    pub origin: Origin,
    /// How their names begin.
    pub username: Option<String>,
    pub hostname: Option<String>,
}

pub async fn people(
    pool: &PgPool,
    filter: &PeopleFilter,
    now: DateTime<Utc>,
    limit: u16,
    offset: u32,
) -> sqlx::Result<Vec<UserId>> {
    let has = |flag: &str| {
        format!(
            "exists (select 1 from read.role_assignments a join read.roles r on r.id = a.role_id
                      where a.user_id = u.id and (a.expires_at is null or a.expires_at > $3)
                        and (r.definition ->> '{flag}')::boolean)"
        )
    };
    let root = "exists (select 1 from read.instance i where i.root = u.id)";
    let (admin, moderator) = (has("is_administrator"), has("is_moderator"));
    let state = match filter.state {
        State::All => "true".to_owned(),
        State::Alive => "n.updated_at > $4".to_owned(),
        State::Available => "not u.is_suspended".to_owned(),
        State::Suspended => "u.is_suspended".to_owned(),
        State::Admin => format!("({admin} or {root})"),
        State::Moderator => moderator,
        State::AdminOrModerator => format!("({admin} or {moderator} or {root})"),
    };
    let origin = match filter.origin {
        Origin::Combined => "true",
        Origin::Local => "u.host is null",
        Origin::Remote => "u.host is not null",
    };
    let (key, known, descending) = match filter.sort {
        None => ("u.id", "true", false),
        Some((SortKey::CreatedAt, descending)) => ("u.id", "true", descending),
        Some((SortKey::Followers, descending)) => ("coalesce(f.followers, 0)", "true", descending),
        Some((SortKey::UpdatedAt, descending)) => ("n.updated_at", "n.updated_at is not null", descending),
    };
    let order = if descending { "desc" } else { "asc" };
    let alive_since = now.checked_sub_days(Days::new(ALIVE_DAYS));
    let sql = format!(
        "select u.id
           from read.users u
           left join read.follow_counts f on f.user_id = u.id
           left join read.note_authors n on n.user_id = u.id
          where ($5::text is null or u.username_lower like $5)
            and ($6::text is null or u.host = $6)
            and ($3::timestamptz is not null and $4::timestamptz is not null)
            and {state} and {origin} and {known}
          order by {key} {order}, u.id {order}
          limit $1 offset $2"
    );
    let begins = |name: &String| {
        let escaped = sql::clean(name).to_lowercase().replace('\\', "\\\\").replace('%', "\\%");
        format!("{}%", escaped.replace('_', "\\_"))
    };
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(i64::from(limit.min(MAX_ITEMS)))
        .bind(i64::from(offset))
        .bind(now)
        .bind(alive_since.unwrap_or(now))
        .bind(filter.username.as_ref().map(begins))
        .bind(filter.hostname.as_deref().map(|host| sql::clean(host).to_lowercase()))
        .fetch_all(pool)
        .await?;
    Ok(sql::users(ids))
}

/// The tables of this server: name, rows as the database guesses, bytes with indexes.
pub async fn tables(pool: &PgPool) -> sqlx::Result<Vec<(String, i64, i64)>> {
    sqlx::query_as(
        "select n.nspname || '.' || c.relname, c.reltuples::bigint, pg_total_relation_size(c.oid)
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind = 'r' and n.nspname in ('log', 'read', 'ops')
          order by 1",
    )
    .fetch_all(pool)
    .await
}

/// An index: schema, table, name, tablespace, definition.
pub type Index = (String, String, String, Option<String>, String);

/// The indexes of this server.
pub async fn indexes(pool: &PgPool) -> sqlx::Result<Vec<Index>> {
    sqlx::query_as(
        "select schemaname::text, tablename::text, indexname::text, tablespace::text, indexdef
           from pg_indexes where schemaname in ('log', 'read', 'ops') order by 1, 2, 3",
    )
    .fetch_all(pool)
    .await
}
