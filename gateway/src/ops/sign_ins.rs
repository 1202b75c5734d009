//! Who tried to sign in, and from where: for the person whose account it is. Kept for a while, and not in the
//! log: it says where people are.

use std::net::IpAddr;

use axum::http::HeaderMap;
use chrono::{DateTime, Duration, Utc};
use domain::ids::{self, UserId};
use projections::Page;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

/// How long an attempt is kept.
pub const KEPT_FOR: Duration = Duration::days(365);
/// The most attempts kept of one person; older ones are let go.
pub const MAX_KEPT: i64 = 1_000;
/// What is kept of a request: nothing that lets anybody in.
const KEPT_HEADERS: [&str; 11] = [
    "host",
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "origin",
    "sec-ch-ua-platform",
    "user-agent",
    "x-forwarded-for",
];
/// The longest header that is kept, in characters.
const MAX_HEADER_CHARS: usize = 512;

/// From where somebody comes.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    pub ip: IpAddr,
    pub headers: Map<String, Value>,
}

impl Visit {
    pub fn of(ip: IpAddr, headers: &HeaderMap) -> Self {
        let kept = KEPT_HEADERS.into_iter().filter_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            let value: String = value.chars().take(MAX_HEADER_CHARS).collect();
            Some((name.to_owned(), Value::String(value)))
        });
        Self { ip, headers: kept.collect() }
    }
}

/// One attempt; pages go by its id.
#[derive(Debug, Clone, PartialEq)]
pub struct SignIn {
    pub id: Uuid,
    pub ip: String,
    pub headers: Value,
    pub success: bool,
}

/// Notes and lists attempts.
#[derive(Clone)]
pub struct SignIns {
    pool: PgPool,
}

impl SignIns {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Notes an attempt under a new id of this instant, and lets go of what is too old or too much.
    pub async fn note(
        &self,
        user: UserId,
        id: Uuid,
        visit: &Visit,
        success: bool,
        now: DateTime<Utc>,
    ) -> sqlx::Result<()> {
        sqlx::query(
            "insert into ops.sign_ins (id, user_id, ip, headers, success) values ($1, $2, $3, $4, $5)
             on conflict (id) do nothing",
        )
        .bind(id)
        .bind(user.0)
        .bind(visit.ip.to_string())
        .bind(Value::Object(visit.headers.clone()))
        .bind(success)
        .execute(&self.pool)
        .await?;
        sqlx::query(
            "delete from ops.sign_ins
              where user_id = $1
                and (id < $2 or id <= (select id from ops.sign_ins where user_id = $1
                                        order by id desc offset $3 limit 1))",
        )
        .bind(user.0)
        .bind(ids::first_of(now - KEPT_FOR))
        .bind(MAX_KEPT)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The attempts to sign in as somebody.
    pub async fn list(&self, user: UserId, page: &Page) -> sqlx::Result<Vec<SignIn>> {
        let sql = format!(
            "select id, ip, headers, success from ops.sign_ins
              where user_id = $1 and id > $2 and id < $3 order by id {} limit $4",
            page.order()
        );
        let rows: Vec<(Uuid, String, Value, bool)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(user.0)
            .bind(page.since())
            .bind(page.until())
            .bind(page.limit())
            .fetch_all(&self.pool)
            .await?;
        let row = |(id, ip, headers, success)| SignIn { id, ip, headers, success };
        Ok(rows.into_iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[sqlx::test(migrations = "../migrations")]
    async fn attempts_are_listed_the_newest_first_and_let_go_in_time(pool: PgPool) {
        let sign_ins = SignIns::new(pool);
        let user = UserId(Uuid::from_u128(1));
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", "x".repeat(MAX_HEADER_CHARS + 1).parse().unwrap());
        headers.insert("cookie", "secret".parse().unwrap());
        let visit = Visit::of(IpAddr::from([192, 0, 2, 1]), &headers);
        assert_eq!(visit.headers.len(), 1);
        assert_eq!(visit.headers["user-agent"].as_str().map(str::len), Some(MAX_HEADER_CHARS));
        let id = |at| {
            let mut id = *ids::first_of(at).as_bytes();
            id[15] = 1;
            Uuid::from_bytes(id)
        };
        let late = now + KEPT_FOR;
        for at in [now, now + Duration::seconds(2), late] {
            sign_ins.note(user, id(at), &visit, at == late, now).await.unwrap();
        }
        let all = sign_ins.list(user, &Page::newest(10)).await.unwrap();
        assert_eq!(all.iter().map(|one| one.success).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(
            (all[0].ip.as_str(), &all[0].headers),
            ("192.0.2.1", &Value::Object(visit.headers.clone()))
        );
        let older = Page { until: Some(all[1].id), ..Page::newest(10) };
        assert_eq!(sign_ins.list(user, &older).await.unwrap(), all[2..]);
        assert_eq!(sign_ins.list(UserId(Uuid::from_u128(2)), &Page::newest(10)).await.unwrap(), []);

        let later = late + Duration::seconds(1);
        sign_ins.note(user, id(later), &visit, true, later).await.unwrap();
        assert_eq!(sign_ins.list(user, &Page::newest(10)).await.unwrap().len(), 3, "the oldest is let go");
    }
}
