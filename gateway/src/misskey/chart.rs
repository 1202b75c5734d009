//! Charts, of the server and of people (`charts/…`), and how many newcomers stay (`retention`). Numbers come
//! in lists with an entry for each bucket of time, the newest first.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveTime, Utc};
use projections::chart::{self, Bucket, Chart, Series, Whose, Window};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::param::{Limit, UserId};
use crate::api::{Anyone, ApiError, Endpoint, Meta};
use crate::app::App;
use crate::json::Time;

/// How long answers to anonymous GETs may be kept, in seconds.
const CACHE_SECONDS: u32 = 3_600;
/// The last instant there is, in milliseconds since 1970: the end of the year 9999.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// How long a bucket is.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Span {
    Day,
    Hour,
}

/// Which buckets of time.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
struct Range {
    span: Span,
    #[serde(default)]
    limit: Limit<500, 30>,
    /// An instant in the newest bucket, in milliseconds since 1970; now when not said or 0.
    #[serde(default)]
    offset: Option<i64>,
}

impl Range {
    fn span(self) -> chart::Span {
        match self.span {
            Span::Day => chart::Span::Day,
            Span::Hour => chart::Span::Hour,
        }
    }

    fn window(self, now: DateTime<Utc>) -> Window {
        let at = self.offset.filter(|offset| *offset != 0);
        let at = at.and_then(|millis| DateTime::from_timestamp_millis(millis.clamp(0, LAST_MILLIS)));
        let buckets = u16::try_from(self.limit.get()).unwrap_or(chart::MAX_BUCKETS);
        Window::ending(self.span(), at.unwrap_or(now), buckets)
    }

    async fn read(self, app: &App, whose: &[Whose], series: &[Series]) -> Result<Chart, ApiError> {
        Ok(chart::chart(&app.pool, whose, series, self.window(app.now())).await?)
    }
}

const MINE_AND_THEIRS: [Whose; 2] = [Whose::Local, Whose::Remote];
const NOTES: [Series; 5] =
    [Series::Notes, Series::PlainNotes, Series::Replies, Series::Renotes, Series::NotesWithFiles];

fn counts(buckets: &[Bucket]) -> Vec<i64> {
    buckets.iter().map(|bucket| bucket.up).collect()
}

/// What came, what went, and what there was at the end.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Sums {
    total: Vec<i64>,
    inc: Vec<i64>,
    dec: Vec<i64>,
}

impl Sums {
    fn of(buckets: &[Bucket]) -> Self {
        Self {
            total: buckets.iter().map(|bucket| bucket.total).collect(),
            inc: counts(buckets),
            dec: buckets.iter().map(|bucket| bucket.down).collect(),
        }
    }
}

/// The same for people of this server, or notes of theirs, and for the rest.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Origins<T> {
    local: T,
    remote: T,
}

/// Notes, and of which kinds they are.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct NoteSums {
    #[serde(flatten)]
    sums: Sums,
    diffs: Kinds,
}

/// What came less what went. Quotes are renotes; a quote in a reply is both.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Kinds {
    normal: Vec<i64>,
    reply: Vec<i64>,
    renote: Vec<i64>,
    with_file: Vec<i64>,
}

impl NoteSums {
    fn of(chart: &Chart, whose: Whose) -> Self {
        let diffs = |series| chart.of(whose, series).iter().map(|bucket| bucket.up - bucket.down).collect();
        Self {
            sums: Sums::of(chart.of(whose, Series::Notes)),
            diffs: Kinds {
                normal: diffs(Series::PlainNotes),
                reply: diffs(Series::Replies),
                renote: diffs(Series::Renotes),
                with_file: diffs(Series::NotesWithFiles),
            },
        }
    }
}

/// Accounts.
#[derive(Deserialize, JsonSchema)]
pub struct Users {
    #[serde(flatten)]
    range: Range,
}

impl Endpoint for Users {
    const META: Meta = Meta::new("charts/users").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Origins<Sums>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Origins<Sums>, ApiError> {
        let chart = self.range.read(app, &MINE_AND_THEIRS, &[Series::Users]).await?;
        let [local, remote] = MINE_AND_THEIRS.map(|whose| Sums::of(chart.of(whose, Series::Users)));
        Ok(Origins { local, remote })
    }
}

/// Notes.
#[derive(Deserialize, JsonSchema)]
pub struct Notes {
    #[serde(flatten)]
    range: Range,
}

impl Endpoint for Notes {
    const META: Meta = Meta::new("charts/notes").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Origins<NoteSums>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Origins<NoteSums>, ApiError> {
        let chart = self.range.read(app, &MINE_AND_THEIRS, &NOTES).await?;
        let [local, remote] = MINE_AND_THEIRS.map(|whose| NoteSums::of(&chart, whose));
        Ok(Origins { local, remote })
    }
}

/// Different people of this server who were here.
#[derive(Deserialize, JsonSchema)]
pub struct ActiveUsers {
    #[serde(flatten)]
    range: Range,
}

/// How many people read, wrote or did both; and how new those are who read.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ActiveUsersReply {
    read_write: Vec<i64>,
    read: Vec<i64>,
    write: Vec<i64>,
    registered_within_week: Vec<i64>,
    registered_within_month: Vec<i64>,
    registered_within_year: Vec<i64>,
    registered_outside_week: Vec<i64>,
    registered_outside_month: Vec<i64>,
    registered_outside_year: Vec<i64>,
}

impl Endpoint for ActiveUsers {
    const META: Meta = Meta::new("charts/active-users").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = ActiveUsersReply;

    async fn handle(self, app: &App, _: Anyone) -> Result<ActiveUsersReply, ApiError> {
        use Series::*;
        let series = match self.range.span {
            Span::Hour => [HourRead, HourWrote, HourBoth, HourNewInWeek, HourNewInMonth, HourNewInYear],
            Span::Day => [DayRead, DayWrote, DayBoth, DayNewInWeek, DayNewInMonth, DayNewInYear],
        };
        let chart = self.range.read(app, &[Whose::Local], &series).await?;
        let [read, write, read_write, week, month, year] =
            series.map(|series| counts(chart.of(Whose::Local, series)));
        let older = |new: &[i64]| read.iter().zip(new).map(|(all, new)| all - new).collect();
        Ok(ActiveUsersReply {
            registered_outside_week: older(&week),
            registered_outside_month: older(&month),
            registered_outside_year: older(&year),
            registered_within_week: week,
            registered_within_month: month,
            registered_within_year: year,
            read_write,
            read,
            write,
        })
    }
}

/// Notes of one person.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotesOfUser {
    #[serde(flatten)]
    range: Range,
    user_id: UserId,
}

impl Endpoint for NotesOfUser {
    const META: Meta = Meta::new("charts/user/notes").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = NoteSums;

    async fn handle(self, app: &App, _: Anyone) -> Result<NoteSums, ApiError> {
        let whose = Whose::Person(self.user_id.0);
        let chart = self.range.read(app, &[whose], &NOTES).await?;
        Ok(NoteSums::of(&chart, whose))
    }
}

/// How many kilobytes (of 1,000 bytes) so many bytes are.
fn kilobytes(bytes: i64) -> i64 {
    (bytes + 500) / 1_000
}

/// Files that were added and deleted, and their size in kilobytes.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct FileCounts {
    inc_count: Vec<i64>,
    inc_size: Vec<i64>,
    dec_count: Vec<i64>,
    dec_size: Vec<i64>,
}

impl FileCounts {
    fn of(chart: &Chart, whose: Whose) -> Self {
        let (files, bytes) = (chart.of(whose, Series::Files), chart.of(whose, Series::FileBytes));
        Self {
            inc_count: counts(files),
            inc_size: bytes.iter().map(|bucket| kilobytes(bucket.up)).collect(),
            dec_count: files.iter().map(|bucket| bucket.down).collect(),
            dec_size: bytes.iter().map(|bucket| kilobytes(bucket.down)).collect(),
        }
    }
}

/// Files.
#[derive(Deserialize, JsonSchema)]
pub struct Files {
    #[serde(flatten)]
    range: Range,
}

impl Endpoint for Files {
    const META: Meta = Meta::new("charts/drive").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Origins<FileCounts>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Origins<FileCounts>, ApiError> {
        let chart = self.range.read(app, &MINE_AND_THEIRS, &[Series::Files, Series::FileBytes]).await?;
        let [local, remote] = MINE_AND_THEIRS.map(|whose| FileCounts::of(&chart, whose));
        Ok(Origins { local, remote })
    }
}

/// Files of one person.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesOfUser {
    #[serde(flatten)]
    range: Range,
    user_id: UserId,
}

/// Files, and how many there were at the end.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct FileSums {
    total_count: Vec<i64>,
    total_size: Vec<i64>,
    #[serde(flatten)]
    counts: FileCounts,
}

impl Endpoint for FilesOfUser {
    const META: Meta = Meta::new("charts/user/drive").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = FileSums;

    async fn handle(self, app: &App, _: Anyone) -> Result<FileSums, ApiError> {
        let whose = Whose::Person(self.user_id.0);
        let chart = self.range.read(app, &[whose], &[Series::Files, Series::FileBytes]).await?;
        let total = |series| chart.of(whose, series).iter().map(|bucket| bucket.total);
        Ok(FileSums {
            total_count: total(Series::Files).collect(),
            total_size: total(Series::FileBytes).map(kilobytes).collect(),
            counts: FileCounts::of(&chart, whose),
        })
    }
}

/// Whom one person follows, and who follows them.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowsOfUser {
    #[serde(flatten)]
    range: Range,
    user_id: UserId,
}

/// By where the others are from.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct FollowSums {
    followings: Sums,
    followers: Sums,
}

impl Endpoint for FollowsOfUser {
    const META: Meta = Meta::new("charts/user/following").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Origins<FollowSums>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Origins<FollowSums>, ApiError> {
        use Series::*;
        let whose = Whose::Person(self.user_id.0);
        let series = [FollowingLocal, LocalFollowers, FollowingRemote, RemoteFollowers];
        let chart = self.range.read(app, &[whose], &series).await?;
        let sums = |series| Sums::of(chart.of(whose, series));
        Ok(Origins {
            local: FollowSums { followings: sums(FollowingLocal), followers: sums(LocalFollowers) },
            remote: FollowSums { followings: sums(FollowingRemote), followers: sums(RemoteFollowers) },
        })
    }
}

/// Reactions to the notes of one person; those that were taken back count as well.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReactionsOfUser {
    #[serde(flatten)]
    range: Range,
    user_id: UserId,
}

/// So many.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Counts {
    count: Vec<i64>,
}

impl Endpoint for ReactionsOfUser {
    const META: Meta = Meta::new("charts/user/reactions").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Origins<Counts>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Origins<Counts>, ApiError> {
        let whose = Whose::Person(self.user_id.0);
        let series = [Series::ReactionsOfLocal, Series::ReactionsOfRemote];
        let chart = self.range.read(app, &[whose], &series).await?;
        let [local, remote] = series.map(|series| Counts { count: counts(chart.of(whose, series)) });
        Ok(Origins { local, remote })
    }
}

/// How many of those who came on a day were here on the days after.
#[derive(Deserialize, JsonSchema)]
pub struct Retention {}

/// The newcomers of one day.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Cohort {
    /// The end of the day.
    created_at: Time,
    users: i64,
    /// How many of them were here on the day that ended with each date, such as `2026-1-31`.
    data: BTreeMap<String, i64>,
}

impl Endpoint for Retention {
    const META: Meta = Meta::new("retention").get().cache(CACHE_SECONDS);
    type Caller = Anyone;
    type Reply = Vec<Cohort>;

    async fn handle(self, app: &App, _: Anyone) -> Result<Vec<Cohort>, ApiError> {
        let end = |day: chrono::NaiveDate| day + Days::new(1);
        let cohorts = chart::retention(&app.pool, app.now().date_naive()).await?;
        let cohort = |cohort: chart::Cohort| Cohort {
            created_at: Time(end(cohort.day).and_time(NaiveTime::MIN).and_utc()),
            users: cohort.people,
            data: cohort
                .kept
                .into_iter()
                .map(|(day, people)| (end(day), people))
                .map(|(end, people)| (format!("{}-{}-{}", end.year(), end.month(), end.day()), people))
                .collect(),
        };
        Ok(cohorts.into_iter().map(cohort).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn window(params: Value) -> Window {
        from_value::<Range>(params).unwrap().window("2026-03-04T05:06:07Z".parse().unwrap())
    }

    #[test]
    fn an_offset_names_the_newest_bucket() {
        let at = |text: &str| Window::ending(chart::Span::Hour, text.parse().unwrap(), 30);
        let now = at("2026-03-04T05:00:00Z");
        assert_eq!(window(json!({ "span": "hour" })), now);
        assert_eq!(window(json!({ "span": "hour", "offset": null })), now);
        assert_eq!(window(json!({ "span": "hour", "offset": 0 })), now);
        let offset = |millis: i64| window(json!({ "span": "hour", "offset": millis }));
        assert_eq!(offset(7_199_999), at("1970-01-01T01:00:00Z"));
        assert_eq!(offset(i64::MIN), at("1970-01-01T00:00:00Z"));
        assert_eq!(offset(i64::MAX), at("9999-12-31T23:00:00Z"));
    }
}
