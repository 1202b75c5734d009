//! Reports of abuse: `users/report-abuse`, and for moderators `admin/abuse-user-reports`,
//! `admin/resolve-abuse-user-report`, `admin/update-abuse-user-report`.

use commands::Failed;
use domain::ids;
use domain::report::{CannotHandle, CannotReport, MAX_COMMENT_CHARS, MAX_NOTE_CHARS, Outcome};
use projections::Wanted;
use projections::moderation::{ReportFilter, ReportRow, reports};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::user::{From as Origin, load};
use crate::api::param::{Given, Id, Limit, Page, Text, UserId};
use crate::api::{Anyone, ApiError, Endpoint, ErrorDef, Meta, Moderator, SignedIn};
use crate::app::App;
use crate::json::user::{UserDetailedNotMe, user_detailed_not_me};
use crate::json::{Look, Time};

type ReportId = Id<ids::ReportId>;

/// What reports are about.
#[rustfmt::skip]
const CATEGORIES: &[&str] = &[
    "nsfw", "spam", "explicit", "phishing", "personalInfoLeak", "selfHarm", "criticalBreach", "otherBreach",
    "violationRights", "violationRightsOther", "other",
];

/// Tell the moderators about somebody.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct File {
    user_id: UserId,
    comment: Text<1, MAX_COMMENT_CHARS>,
    #[serde(default)]
    category: Category,
}

#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("enum" = CATEGORIES))]
struct Category(String);

impl Default for Category {
    fn default() -> Self {
        Self("other".to_owned())
    }
}

const NO_SUCH_USER: ErrorDef =
    ErrorDef::new("NO_SUCH_USER", "No such user.", "1acefcb5-0959-43fd-9685-b48305736cb5");
const CANNOT_REPORT_YOURSELF: ErrorDef = ErrorDef::new(
    "CANNOT_REPORT_YOURSELF",
    "Cannot report yourself.",
    "1e13149e-b1e8-43cf-902e-c01dbfcb202f",
);

impl Endpoint for File {
    const META: Meta = Meta::new("users/report-abuse")
        .kind("write:report-abuse")
        .errors(&[NO_SUCH_USER, CANNOT_REPORT_YOURSELF]);
    type Caller = SignedIn;
    type Reply = ();

    async fn handle(self, app: &App, me: SignedIn) -> Result<(), ApiError> {
        let (by, target) = (app.by(&me), self.user_id.0);
        let filed = app.commands.report(by, me.id(), target, self.comment.0, self.category.0).await?;
        app.shown(filed).await;
        Ok(())
    }
}

impl std::convert::From<CannotReport> for ApiError {
    fn from(refusal: CannotReport) -> Self {
        match refusal {
            CannotReport::NoSuchUser => NO_SUCH_USER.into(),
            CannotReport::Oneself => CANNOT_REPORT_YOURSELF.into(),
            CannotReport::TooLong => ApiError::invalid_param("#/properties/comment/maxLength", "is too long"),
        }
    }
}

/// List reports.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct List {
    #[serde(default)]
    limit: Limit,
    #[serde(flatten)]
    page: Page,
    /// `resolved` or `unresolved`; all of them with anything else.
    state: Option<String>,
    #[serde(default = "everywhere")]
    reporter_origin: Origin,
    #[serde(default = "everywhere")]
    target_user_origin: Origin,
    category: Option<String>,
}

fn everywhere() -> Origin {
    Origin::Combined
}

/// A report.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AbuseUserReport")]
pub struct Report {
    id: ReportId,
    created_at: Time,
    comment: String,
    resolved: bool,
    reporter_id: UserId,
    target_user_id: UserId,
    assignee_id: Option<UserId>,
    reporter: UserDetailedNotMe,
    target_user: UserDetailedNotMe,
    assignee: Option<UserDetailedNotMe>,
    /// There are no other servers to be told.
    forwarded: bool,
    category: String,
    /// `accept` or `reject`.
    resolved_as: Option<String>,
    moderation_note: String,
}

impl Endpoint for List {
    const META: Meta = Meta::new("admin/abuse-user-reports").kind("read:admin:abuse-user-reports");
    type Caller = Moderator;
    type Reply = Vec<Report>;

    async fn handle(self, app: &App, me: Moderator) -> Result<Vec<Report>, ApiError> {
        let filter = ReportFilter {
            resolved: match self.state.as_deref() {
                Some("resolved") => Some(true),
                Some("unresolved") => Some(false),
                _ => None,
            },
            category: self.category,
            reporters: self.reporter_origin.into(),
            targets: self.target_user_origin.into(),
        };
        let rows = reports(&app.pool, &filter, &self.page.limited(self.limit)).await?;
        let people: Vec<ids::UserId> = rows
            .iter()
            .flat_map(|row| [Some(row.reporter), Some(row.target), row.assignee])
            .flatten()
            .collect();
        let (world, eyes) =
            load(app, &Anyone(Some(me.0)), &people, Wanted::in_detail(people.clone())).await?;
        let look = Look::of(app);
        let person = |id| user_detailed_not_me(&look, &world, id, &eyes);
        let shown = |row: ReportRow| {
            Some(Report {
                id: Id(row.id),
                created_at: Time(row.id.time()),
                comment: row.comment,
                resolved: row.resolved,
                reporter_id: Id(row.reporter),
                target_user_id: Id(row.target),
                assignee_id: row.assignee.map(Id),
                reporter: person(row.reporter)?,
                target_user: person(row.target)?,
                assignee: row.assignee.and_then(person),
                forwarded: false,
                category: row.category,
                resolved_as: row.outcome,
                moderation_note: row.note,
            })
        };
        Ok(rows.into_iter().filter_map(shown).collect())
    }
}

/// Say that a report has been seen to.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolve {
    report_id: ReportId,
    resolved_as: Option<How>,
}

/// How a report ended.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum How {
    Accept,
    Reject,
}

const NO_SUCH_REPORT_TO_RESOLVE: ErrorDef =
    ErrorDef::new("NO_SUCH_ABUSE_REPORT", "No such abuse report.", "ac3794dd-2ce4-d878-e546-73c60c06b398")
        .status(404)
        .server();

impl Endpoint for Resolve {
    const META: Meta = Meta::new("admin/resolve-abuse-user-report")
        .kind("write:admin:resolve-abuse-user-report")
        .errors(&[NO_SUCH_REPORT_TO_RESOLVE]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let outcome = self.resolved_as.map(|how| match how {
            How::Accept => Outcome::Accept,
            How::Reject => Outcome::Reject,
        });
        let (by, moderator) = (app.by(&me.0), me.0.id());
        let resolved = app.commands.resolve_report(by, self.report_id.0, moderator, outcome).await;
        app.shown(resolved.map_err(|failed| told(failed, NO_SUCH_REPORT_TO_RESOLVE))?).await;
        Ok(())
    }
}

/// Why nothing is done about a report, as it is told.
fn told(failed: Failed<CannotHandle>, no_such_report: ErrorDef) -> Failed<ApiError> {
    failed.map_refusal(|cannot| match cannot {
        CannotHandle::NoSuchReport => no_such_report.into(),
        CannotHandle::TooLong => {
            ApiError::invalid_param("#/properties/moderationNote/maxLength", "is too long")
        }
    })
}

/// Note something about a report.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Annotate {
    report_id: ReportId,
    #[serde(default)]
    moderation_note: Given<Text<0, MAX_NOTE_CHARS>>,
}

const NO_SUCH_REPORT_TO_ANNOTATE: ErrorDef =
    ErrorDef::new("NO_SUCH_ABUSE_REPORT", "No such abuse report.", "15f51cf5-46d1-4b1d-a618-b35bcbed0662")
        .status(404)
        .server();

impl Endpoint for Annotate {
    const META: Meta = Meta::new("admin/update-abuse-user-report")
        .kind("write:admin:resolve-abuse-user-report")
        .errors(&[NO_SUCH_REPORT_TO_ANNOTATE]);
    type Caller = Moderator;
    type Reply = ();

    async fn handle(self, app: &App, me: Moderator) -> Result<(), ApiError> {
        let Some(text) = self.moderation_note.0 else { return Ok(()) };
        let noted = app.commands.annotate_report(app.by(&me.0), self.report_id.0, &text.0).await;
        app.shown(noted.map_err(|failed| told(failed, NO_SUCH_REPORT_TO_ANNOTATE))?).await;
        Ok(())
    }
}
