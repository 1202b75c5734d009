//! The sums that charts show: one row for each hour in which something of a series happened.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use domain::UserId;
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

/// The most buckets of one chart.
pub const MAX_BUCKETS: u16 = 500;

/// Whose numbers they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Of all people of this server.
    Local,
    /// Of all people of other servers.
    Remote,
    Person(UserId),
}

impl Whose {
    pub(super) fn id(self) -> Uuid {
        match self {
            Whose::Local => Uuid::nil(),
            Whose::Remote => Uuid::max(),
            Whose::Person(user) => user.0,
        }
    }
}

macro_rules! series {
    ($($(#[$doc:meta])* $name:ident $word:literal),* $(,)?) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Series {
            $($(#[$doc])* $name),*
        }

        impl Series {
            /// How it is stored.
            pub(super) fn word(self) -> &'static str {
                match self {
                    $(Series::$name => $word),*
                }
            }
        }
    };
}

series! {
    Users "users",
    Notes "notes",
    /// Notes that answer and pass on nothing.
    PlainNotes "notes.plain",
    Replies "notes.replies",
    /// Renotes and quotes.
    Renotes "notes.renotes",
    /// Notes with files.
    NotesWithFiles "notes.files",
    /// Whom the person follows here.
    FollowingLocal "following.local",
    FollowingRemote "following.remote",
    LocalFollowers "followers.local",
    RemoteFollowers "followers.remote",
    /// Reactions to the person's notes by people of this server.
    ReactionsOfLocal "reactions.local",
    ReactionsOfRemote "reactions.remote",
    Files "files",
    FileBytes "files.bytes",
    /// Different people who were here in the hour.
    HourRead "hour.read",
    HourWrote "hour.wrote",
    HourBoth "hour.both",
    /// Of those who read, who came within the week.
    HourNewInWeek "hour.week",
    HourNewInMonth "hour.month",
    HourNewInYear "hour.year",
    /// The same by the day, in the day's first hour.
    DayRead "day.read",
    DayWrote "day.wrote",
    DayBoth "day.both",
    DayNewInWeek "day.week",
    DayNewInMonth "day.month",
    DayNewInYear "day.year",
}

/// How long a bucket is; days are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    Hour,
    Day,
}

impl Span {
    pub(super) fn word(self) -> &'static str {
        match self {
            Span::Hour => "hour",
            Span::Day => "day",
        }
    }

    pub(super) fn length(self) -> TimeDelta {
        match self {
            Span::Hour => TimeDelta::hours(1),
            Span::Day => TimeDelta::days(1),
        }
    }

    /// The start of the bucket in which this instant is.
    pub fn start(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let over = at.timestamp().rem_euclid(self.length().num_seconds());
        DateTime::from_timestamp(at.timestamp() - over, 0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// What changes in a batch, or goes with a person.
#[derive(Default)]
pub(super) struct Hours(BTreeMap<(Uuid, Series, DateTime<Utc>), (i64, i64)>);

impl Hours {
    pub(super) fn add(&mut self, whose: Whose, series: Series, hour: DateTime<Utc>, up: i64, down: i64) {
        let sums = self.0.entry((whose.id(), series, hour)).or_default();
        sums.0 += up;
        sums.1 += down;
    }

    /// Adds it to what is stored, and to the totals from there on.
    pub(super) async fn write(self, tx: &mut PgConnection) -> sqlx::Result<()> {
        let changed: Vec<_> = self.0.into_iter().filter(|(_, sums)| *sums != (0, 0)).collect();
        let (mut whose, mut series, mut hours) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ups, mut downs, mut nets, mut until) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut net = 0;
        for (n, ((id, of, hour), (up, down))) in changed.iter().enumerate() {
            net += up - down;
            let next = changed.get(n + 1).map(|(key, _)| key);
            let next = next.filter(|(next_id, next_of, _)| (next_id, next_of) == (id, of));
            whose.push(*id);
            series.push(of.word());
            hours.push(*hour);
            ups.push(*up);
            downs.push(*down);
            nets.push(net);
            until.push(next.map(|(.., hour)| *hour));
            if next.is_none() {
                net = 0;
            }
        }
        if whose.is_empty() {
            return Ok(());
        }
        // A new row begins with the total of the one before; what the batch changes comes after.
        sqlx::query(
            "insert into chart_hours as h (whose, series, hour, up, down, total)
             select d.whose, d.series, d.hour, d.up, d.down,
                    coalesce((select b.total from chart_hours b
                               where b.whose = d.whose and b.series = d.series and b.hour < d.hour
                               order by b.hour desc limit 1), 0)
               from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[])
                    as d(whose, series, hour, up, down)
             on conflict (whose, series, hour) do update
                set up = h.up + excluded.up, down = h.down + excluded.down",
        )
        .bind(&whose)
        .bind(&series)
        .bind(&hours)
        .bind(&ups)
        .bind(&downs)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "update chart_hours h
                set total = h.total + d.net
               from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[])
                    as d(whose, series, hour, next, net)
              where h.whose = d.whose and h.series = d.series and d.net <> 0
                and h.hour >= d.hour and h.hour < coalesce(d.next, 'infinity')",
        )
        .bind(&whose)
        .bind(&series)
        .bind(&hours)
        .bind(until)
        .bind(nets)
        .execute(&mut *tx)
        .await?;
        // Only what is taken out again leaves nothing.
        if ups.iter().chain(&downs).all(|n| *n >= 0) {
            return Ok(());
        }
        sqlx::query(
            "delete from chart_hours h
              using unnest($1::uuid[], $2::text[], $3::timestamptz[]) as d(whose, series, hour)
              where h.whose = d.whose and h.series = d.series and h.hour = d.hour
                and h.up = 0 and h.down = 0",
        )
        .bind(whose)
        .bind(series)
        .bind(hours)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Which buckets: so many, up to the one in which an instant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    span: Span,
    newest: DateTime<Utc>,
    buckets: u16,
}

impl Window {
    pub fn ending(span: Span, at: DateTime<Utc>, buckets: u16) -> Self {
        Self { span, newest: span.start(at), buckets: buckets.clamp(1, MAX_BUCKETS) }
    }

    /// The starts of the buckets, the newest first.
    pub(super) fn starts(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let (newest, length) = (self.newest, self.span.length());
        (0..self.buckets).map(move |back| newest - length * i32::from(back))
    }
}

/// What happened in one bucket, and what there was at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    pub up: i64,
    pub down: i64,
    pub total: i64,
}

/// Some series over one window, the newest bucket first.
#[derive(Debug)]
pub struct Chart(HashMap<(Uuid, &'static str), Vec<Bucket>>);

impl Chart {
    /// The buckets of a series that was asked for.
    pub fn of(&self, whose: Whose, series: Series) -> &[Bucket] {
        self.0.get(&(whose.id(), series.word())).map_or(&[], Vec::as_slice)
    }
}

/// Reads the series of everybody named.
pub async fn chart(pool: &PgPool, whose: &[Whose], series: &[Series], window: Window) -> sqlx::Result<Chart> {
    let keys = || whose.iter().flat_map(|whose| series.iter().map(|series| (whose.id(), series.word())));
    let (ids, words): (Vec<Uuid>, Vec<&str>) = keys().unzip();
    let from = window.starts().last().unwrap_or(window.newest);
    type Row = (Uuid, String, Option<DateTime<Utc>>, i64, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "select k.whose, k.series, b.start, b.up, b.down, b.total
           from unnest($1::uuid[], $2::text[]) as k(whose, series)
          cross join lateral (
                select date_trunc($3, h.hour, 'UTC') as start, sum(h.up)::bigint as up, sum(h.down)::bigint as down,
                       (array_agg(h.total order by h.hour desc))[1] as total
                  from read.chart_hours h
                 where h.whose = k.whose and h.series = k.series and h.hour >= $4 and h.hour < $5
                 group by 1
                union all
                (select null, 0, 0, h.total
                   from read.chart_hours h
                  where h.whose = k.whose and h.series = k.series and h.hour < $4
                  order by h.hour desc limit 1)) b",
    )
    .bind(ids)
    .bind(words)
    .bind(window.span.word())
    .bind(from)
    .bind(window.newest + window.span.length())
    .fetch_all(pool)
    .await?;
    let found: HashMap<(Uuid, &str, Option<DateTime<Utc>>), Bucket> = rows
        .iter()
        .map(|(id, word, start, up, down, total)| {
            ((*id, word.as_str(), *start), Bucket { up: *up, down: *down, total: *total })
        })
        .collect();
    let line = |(id, word): (Uuid, &'static str)| {
        let mut total = found.get(&(id, word, None)).map_or(0, |before| before.total);
        let mut starts: Vec<DateTime<Utc>> = window.starts().collect();
        starts.reverse();
        let mut buckets: Vec<Bucket> = starts
            .into_iter()
            .map(|start| {
                let silent = Bucket { up: 0, down: 0, total };
                let bucket = found.get(&(id, word, Some(start))).copied().unwrap_or(silent);
                total = bucket.total;
                bucket
            })
            .collect();
        buckets.reverse();
        ((id, word), buckets)
    };
    Ok(Chart(keys().map(line).collect()))
}
