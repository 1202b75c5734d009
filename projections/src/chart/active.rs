//! Who was here: different people by the hour and by the day, and how many of the newcomers come back.
//!
//! Somebody reads when the log shows that they look at something: they open an app (noted once a day), react,
//! vote, or look through their notifications. They write when they write a note.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::UserId;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::hours::{Hours, Series, Span, Whose};
use super::{People, Person, RETENTION_DAYS};
use crate::sql::Sums;

/// What people do, as bits.
pub(super) const READ: i16 = 1;
pub(super) const WROTE: i16 = 2;
const BOTH: i16 = READ | WROTE;

/// How long somebody is new: a week, a month and a year, in days.
const NEW_DAYS: [i64; 3] = [7, 30, 365];

fn series(span: Span) -> [Series; 6] {
    use Series::*;
    match span {
        Span::Hour => [HourRead, HourWrote, HourBoth, HourNewInWeek, HourNewInMonth, HourNewInYear],
        Span::Day => [DayRead, DayWrote, DayBoth, DayNewInWeek, DayNewInMonth, DayNewInYear],
    }
}

/// A person and a bucket.
type Key = (Uuid, Span, DateTime<Utc>);

/// What people did in a batch.
#[derive(Default)]
pub(super) struct Active(BTreeMap<Key, i16>);

impl Active {
    /// Notes what somebody of this server did.
    pub(super) fn was(&mut self, people: &People, user: UserId, at: DateTime<Utc>, did: i16) {
        if people.origin(user.0) == Whose::Local {
            for span in [Span::Hour, Span::Day] {
                *self.0.entry((user.0, span, span.start(at))).or_default() |= did;
            }
        }
    }

    pub(super) async fn write(
        self,
        tx: &mut PgConnection,
        people: &People,
        hours: &mut Hours,
    ) -> sqlx::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = self.0.keys().map(|(id, ..)| *id).collect();
        let spans: Vec<&str> = self.0.keys().map(|(_, span, _)| span.word()).collect();
        let starts: Vec<DateTime<Utc>> = self.0.keys().map(|(.., start)| *start).collect();
        let known: Vec<(Uuid, String, DateTime<Utc>, i16)> = sqlx::query_as(
            "select a.user_id, a.span, a.start, a.did
               from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as d(user_id, span, start)
               join chart_active a on a.user_id = d.user_id and a.span = d.span and a.start = d.start",
        )
        .bind(&ids)
        .bind(&spans)
        .bind(&starts)
        .fetch_all(&mut *tx)
        .await?;
        let known: HashMap<(Uuid, &str, DateTime<Utc>), i16> =
            known.iter().map(|(id, span, start, did)| ((*id, span.as_str(), *start), *did)).collect();
        let mut kept: Sums<(NaiveDate, NaiveDate)> = Sums::default();
        let mut changed: Vec<(Key, i16)> = Vec::new();
        for ((id, span, start), now) in &self.0 {
            let before = known.get(&(*id, span.word(), *start)).copied().unwrap_or(0);
            let after = before | *now;
            if after != before {
                count(hours, &mut kept, people.get(*id), (*span, *start), before, -1);
                count(hours, &mut kept, people.get(*id), (*span, *start), after, 1);
                changed.push(((*id, *span, *start), after));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into chart_active (user_id, span, start, did)
             select user_id, span, start, did
               from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::smallint[])
                    as d(user_id, span, start, did)
             on conflict (user_id, span, start) do update set did = excluded.did",
        )
        .bind(changed.iter().map(|((id, ..), _)| *id).collect::<Vec<_>>())
        .bind(changed.iter().map(|((_, span, _), _)| span.word()).collect::<Vec<_>>())
        .bind(changed.iter().map(|((.., start), _)| *start).collect::<Vec<_>>())
        .bind(changed.iter().map(|(_, did)| *did).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
        write_kept(tx, kept).await
    }
}

/// Forgets that the person was ever here.
pub(super) async fn purge(
    tx: &mut PgConnection,
    user: UserId,
    people: &People,
    hours: &mut Hours,
) -> sqlx::Result<()> {
    let rows: Vec<(String, DateTime<Utc>, i16)> =
        sqlx::query_as("delete from chart_active where user_id = $1 returning span, start, did")
            .bind(user.0)
            .fetch_all(&mut *tx)
            .await?;
    let mut kept: Sums<(NaiveDate, NaiveDate)> = Sums::default();
    for (span, start, did) in rows {
        let span = if span == Span::Day.word() { Span::Day } else { Span::Hour };
        count(hours, &mut kept, people.get(user.0), (span, start), did, -1);
    }
    write_kept(tx, kept).await
}

/// Counts, `n` times, what one person did in one bucket.
fn count(
    hours: &mut Hours,
    kept: &mut Sums<(NaiveDate, NaiveDate)>,
    person: Option<Person>,
    (span, start): (Span, DateTime<Utc>),
    did: i16,
    n: i64,
) {
    if did == 0 {
        return;
    }
    let age = person.map(|person| start - person.since);
    let is_new = |days: i64| did & READ != 0 && age.is_some_and(|age| age < TimeDelta::days(days));
    let is = [
        did & READ != 0,
        did & WROTE != 0,
        did == BOTH,
        is_new(NEW_DAYS[0]),
        is_new(NEW_DAYS[1]),
        is_new(NEW_DAYS[2]),
    ];
    for (series, _) in series(span).into_iter().zip(is).filter(|(_, is)| *is) {
        hours.add(Whose::Local, series, start, n, 0);
    }
    if let Some(person) = person.filter(|_| span == Span::Day) {
        let (cohort, day) = (person.since.date_naive(), start.date_naive());
        if (1..=i64::from(RETENTION_DAYS)).contains(&(day - cohort).num_days()) {
            kept.add((cohort, day), n);
        }
    }
}

async fn write_kept(tx: &mut PgConnection, kept: Sums<(NaiveDate, NaiveDate)>) -> sqlx::Result<()> {
    let (keys, people) = kept.split();
    if keys.is_empty() {
        return Ok(());
    }
    let takes_out = people.iter().any(|n| *n < 0);
    let (cohorts, days): (Vec<NaiveDate>, Vec<NaiveDate>) = keys.into_iter().unzip();
    sqlx::query(
        "insert into chart_kept as k (cohort, day, people)
         select cohort, day, people from unnest($1::date[], $2::date[], $3::bigint[]) as d(cohort, day, people)
         on conflict (cohort, day) do update set people = k.people + excluded.people",
    )
    .bind(cohorts)
    .bind(days)
    .bind(people)
    .execute(&mut *tx)
    .await?;
    if takes_out {
        sqlx::query("delete from chart_kept where people = 0").execute(tx).await?;
    }
    Ok(())
}
