//! People: accounts, profiles, the days on which they were here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Days, Utc};
use domain::log::Recorded;
use domain::user::{Created, Profile};
use domain::{Event, UserId};
use serde_json::{Map, Value};
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::erased;
use crate::page::MAX_ITEMS;
use crate::runtime::{ProjectError, Projector, events, to_position};
use crate::sql::{self, Sums};
use crate::world::UserRow;

/// An account is alive when a note of it was written or deleted within so many days (Misskey's `users`).
pub const ALIVE_DAYS: u64 = 5;

/// Fills `read.users` and `read.user_hosts`.
pub struct Projection;

#[derive(Default)]
struct Folded<'e> {
    created: Option<&'e Created>,
    changes: Map<String, Value>,
    days: i64,
    suspended: Option<bool>,
    note: Option<String>,
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "users"
    }

    fn version(&self) -> u32 {
        2
    }

    fn tables(&self) -> &'static [&'static str] {
        &["users", "user_hosts"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[
            "user.created",
            "user.changed",
            "user.active",
            "user.suspended",
            "user.unsuspended",
            "user.noted",
            "user.erased",
        ]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                purge(tx, user).await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
    let mut people: BTreeMap<Uuid, Folded<'_>> = BTreeMap::new();
    for (_, event) in events(batch) {
        match event {
            Event::UserCreated(e) => people.entry(e.user.0).or_default().created = Some(e),
            Event::UserChanged(e) => {
                people.entry(e.user.0).or_default().changes.extend(sql::fields(&e.changes)?);
            }
            Event::UserActive(e) => people.entry(e.user.0).or_default().days += 1,
            Event::UserSuspended(e) => people.entry(e.user.0).or_default().suspended = Some(true),
            Event::UserUnsuspended(e) => people.entry(e.user.0).or_default().suspended = Some(false),
            Event::UserNoted(e) => {
                people.entry(e.user.0).or_default().note = Some(sql::clean(&e.text).into_owned());
            }
            _ => (),
        }
    }
    let (created, changed): (Vec<_>, Vec<_>) = people.iter().partition(|(_, f)| f.created.is_some());
    if !created.is_empty() {
        create(tx, &created).await?;
    }
    if !changed.is_empty() {
        change(tx, &changed).await?;
    }
    let moderated: Vec<_> =
        people.iter().filter(|(_, f)| f.suspended.is_some() || f.note.is_some()).collect();
    if !moderated.is_empty() {
        moderate(tx, &moderated).await?;
    }
    Ok(())
}

async fn purge(tx: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query(
        "with gone as (delete from users where id = $1 returning coalesce(host, '') as host)
         update user_hosts h set users = h.users - 1 from gone g where h.host = g.host",
    )
    .bind(user.0)
    .execute(&mut *tx)
    .await?;
    sqlx::query("delete from user_hosts where users = 0").execute(tx).await?;
    Ok(())
}

async fn create(tx: &mut PgConnection, people: &[(&Uuid, &Folded<'_>)]) -> sqlx::Result<()> {
    let mut hosts: Sums<String> = Sums::default();
    let (mut ids, mut names, mut lower) = (Vec::new(), Vec::new(), Vec::new());
    let (mut at, mut uris, mut profiles, mut days) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, folded) in people {
        let Some(created) = folded.created else { continue };
        let host = created.host.as_ref().map(|host| host.as_str().to_owned());
        hosts.add(host.clone().unwrap_or_default(), 1);
        let name = sql::clean(&created.username).into_owned();
        ids.push(**id);
        lower.push(name.to_lowercase());
        names.push(name);
        at.push(host);
        uris.push(created.uri.as_ref().map(|uri| uri.as_str().to_owned()));
        profiles.push(Json(folded.changes.clone()));
        days.push(folded.days);
    }
    sqlx::query(
        "insert into users (id, username, username_lower, host, uri, profile, active_days)
         select id, username, username_lower, host, uri, profile, active_days
           from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::bigint[])
                as u(id, username, username_lower, host, uri, profile, active_days)",
    )
    .bind(ids)
    .bind(names)
    .bind(lower)
    .bind(at)
    .bind(uris)
    .bind(profiles)
    .bind(days)
    .execute(&mut *tx)
    .await?;
    let (names, counts) = hosts.split();
    sqlx::query(
        "insert into user_hosts as h (host, users)
         select host, users from unnest($1::text[], $2::bigint[]) as n(host, users)
         on conflict (host) do update set users = h.users + excluded.users",
    )
    .bind(names)
    .bind(counts)
    .execute(tx)
    .await?;
    Ok(())
}

async fn change(tx: &mut PgConnection, people: &[(&Uuid, &Folded<'_>)]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = people.iter().map(|(id, _)| **id).collect();
    let changes: Vec<Json<&Map<String, Value>>> = people.iter().map(|(_, f)| Json(&f.changes)).collect();
    let days: Vec<i64> = people.iter().map(|(_, f)| f.days).collect();
    sqlx::query(
        "update users u
            set profile = u.profile || c.changes, active_days = u.active_days + c.days
           from unnest($1::uuid[], $2::jsonb[], $3::bigint[]) as c(id, changes, days)
          where u.id = c.id",
    )
    .bind(ids)
    .bind(changes)
    .bind(days)
    .execute(tx)
    .await?;
    Ok(())
}

async fn moderate(tx: &mut PgConnection, people: &[(&Uuid, &Folded<'_>)]) -> sqlx::Result<()> {
    sqlx::query(
        "update users u
            set is_suspended = coalesce(m.suspended, u.is_suspended),
                moderation_note = coalesce(m.note, u.moderation_note)
           from unnest($1::uuid[], $2::boolean[], $3::text[]) as m(id, suspended, note)
          where u.id = m.id",
    )
    .bind(people.iter().map(|(id, _)| **id).collect::<Vec<_>>())
    .bind(people.iter().map(|(_, f)| f.suspended).collect::<Vec<_>>())
    .bind(people.iter().map(|(_, f)| f.note.as_deref()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// People with their counts, as if they had no role; unknown ids are left out.
pub async fn by_ids(pool: &PgPool, ids: &[UserId]) -> sqlx::Result<HashMap<UserId, UserRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query(
        "select u.id, u.username, u.host, u.uri, u.profile, u.active_days, u.is_suspended, u.moderation_note,
                coalesce(i.root = u.id, false) as is_root,
                not coalesce((i.policies -> 'canPublicNote')::boolean, true) as is_silenced,
                coalesce(f.followers, 0) as followers, coalesce(f.following, 0) as following,
                coalesce(n.notes, 0) as notes, n.updated_at,
                (select c.position from ops.checkpoints c where c.projector = 'notes') as counted_to
           from read.users u
           left join read.follow_counts f on f.user_id = u.id
           left join read.note_authors n on n.user_id = u.id
           left join read.instance i on true
          where u.id = any((select $1::uuid[])::uuid[])",
    )
    .bind(ids)
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| user_row(row).map(|user| (user.id, user))).collect()
}

fn user_row(row: &PgRow) -> sqlx::Result<UserRow> {
    Ok(UserRow {
        id: UserId(row.try_get("id")?),
        username: row.try_get("username")?,
        host: row.try_get("host")?,
        uri: row.try_get("uri")?,
        profile: row.try_get::<Json<Profile>, _>("profile")?.0.into(),
        is_root: row.try_get("is_root")?,
        followers: row.try_get("followers")?,
        following: row.try_get("following")?,
        notes: row.try_get("notes")?,
        updated_at: row.try_get("updated_at")?,
        counted_to: to_position(row.try_get::<Option<i64>, _>("counted_to")?.unwrap_or_default()),
        active_days: row.try_get("active_days")?,
        roles: Vec::new(),
        is_silenced: row.try_get("is_silenced")?,
        is_suspended: row.try_get("is_suspended")?,
        decorations: Vec::new(),
        moderation_note: row.try_get("moderation_note")?,
    })
}

/// The person of this name, in any case of letters; no host means this server.
pub async fn by_username(pool: &PgPool, username: &str, host: Option<&str>) -> sqlx::Result<Option<UserId>> {
    let id: Option<Uuid> =
        sqlx::query_scalar("select id from read.users where username_lower = $1 and coalesce(host, '') = $2")
            .bind(sql::clean(username).to_lowercase())
            .bind(sql::clean(host.unwrap_or_default()).to_lowercase())
            .fetch_optional(pool)
            .await?;
    Ok(id.map(UserId))
}

/// The people of these names and hosts, in that order; an empty host means this server.
pub async fn by_usernames(pool: &PgPool, names: &[(String, String)]) -> sqlx::Result<Vec<UserId>> {
    let (names, hosts): (Vec<String>, Vec<String>) = names
        .iter()
        .map(|(name, host)| (sql::clean(name).to_lowercase(), sql::clean(host).to_lowercase()))
        .unzip();
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select u.id
           from unnest($1::text[], $2::text[]) with ordinality as w(name, host, n)
           join read.users u on u.username_lower = w.name and coalesce(u.host, '') = w.host
          order by w.n",
    )
    .bind(names)
    .bind(hosts)
    .fetch_all(pool)
    .await?;
    Ok(sql::users(ids))
}

/// By what a list of people is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    Followers,
    CreatedAt,
    /// Only those who ever wrote something.
    UpdatedAt,
}

/// Where people are from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Combined,
    Local,
    Remote,
}

/// Which people, in which order.
#[derive(Debug, Clone, Default)]
pub struct UserListFilter {
    /// The key, and whether the greatest comes first; by age when there is none.
    pub sort: Option<(SortKey, bool)>,
    /// Only accounts that wrote or deleted a note within [`ALIVE_DAYS`].
    pub alive: bool,
    pub origin: Origin,
    pub hostname: Option<String>,
}

/// The people who let themselves be found.
pub async fn list(
    pool: &PgPool,
    filter: &UserListFilter,
    now: DateTime<Utc>,
    limit: u16,
    offset: u32,
) -> sqlx::Result<Vec<UserId>> {
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
    let alive_since = filter.alive.then(|| now.checked_sub_days(Days::new(ALIVE_DAYS))).flatten();
    let sql = format!(
        "select u.id
           from read.users u
           left join read.follow_counts f on f.user_id = u.id
           left join read.note_authors n on n.user_id = u.id
          where coalesce((u.profile ->> 'is_explorable')::boolean, true)
            and ($1::timestamptz is null or n.updated_at > $1)
            and ($2::text is null or u.host = $2)
            and not u.is_suspended
            and {origin} and {known}
          order by {key} {order}, u.id {order}
          limit $3 offset $4"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(alive_since)
        .bind(filter.hostname.as_deref().map(|host| sql::clean(host).to_lowercase()))
        .bind(i64::from(limit.min(MAX_ITEMS)))
        .bind(i64::from(offset))
        .fetch_all(pool)
        .await?;
    Ok(sql::users(ids))
}

/// How much there is on this server; `original_…` is what was made here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub notes: i64,
    pub original_notes: i64,
    pub users: i64,
    pub original_users: i64,
    /// Other servers that people are known from.
    pub instances: i64,
}

pub async fn stats(pool: &PgPool) -> sqlx::Result<Stats> {
    let row = sqlx::query(
        "select n.notes, n.original_notes, u.users, u.original_users, u.instances
           from (select coalesce(sum(notes), 0)::bigint as notes,
                        coalesce(sum(notes) filter (where local), 0)::bigint as original_notes
                   from read.note_totals) n,
                (select coalesce(sum(users), 0)::bigint as users,
                        coalesce(sum(users) filter (where host = ''), 0)::bigint as original_users,
                        count(*) filter (where host <> '') as instances
                   from read.user_hosts) u",
    )
    .fetch_one(pool)
    .await?;
    Ok(Stats {
        notes: row.try_get("notes")?,
        original_notes: row.try_get("original_notes")?,
        users: row.try_get("users")?,
        original_users: row.try_get("original_users")?,
        instances: row.try_get("instances")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, at, user};
    use domain::instance::Rooted;
    use domain::note;
    use domain::remote::{ActorUri, Host};
    use domain::user::{Active, Changed, ProfileChanges};

    fn changed(n: u8, changes: ProfileChanges) -> Changed {
        Changed { user: user(n), changes }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_profile_is_its_changes_over_the_defaults(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "Alice");
        story.says(changed(1, ProfileChanges { name: Some(Some("A".to_owned())), ..Default::default() }));
        story.project().await;
        story.says(changed(1, ProfileChanges { name: Some(None), is_cat: Some(true), ..Default::default() }));
        let location = Some(Some("nul\0".to_owned()));
        story.says(changed(1, ProfileChanges { location, is_cat: Some(false), ..Default::default() }));
        for day in 1..=3 {
            story.says(Active { user: user(1), day: chrono::NaiveDate::from_ymd_opt(2026, 1, day).unwrap() });
        }
        story.says(Rooted { root: user(1) });
        story.project().await;

        let people = by_ids(&pool, &[user(1), user(9)]).await.unwrap();
        assert_eq!(people.len(), 1);
        let alice = &people[&user(1)];
        assert_eq!((alice.username.as_str(), alice.active_days, alice.is_root), ("Alice", 3, true));
        let expected = Profile { location: Some("nul\u{fffd}".to_owned()), ..Profile::default() };
        assert_eq!(*alice.profile, expected);
        assert_eq!((alice.notes, alice.followers, alice.updated_at), (0, 0, None));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn people_are_found_by_name_and_host(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "Alice");
        story.says(Created {
            user: user(2),
            username: "alice".to_owned(),
            host: Some(Host::parse("remote.example").unwrap()),
            uri: Some(ActorUri::parse("https://remote.example/users/1").unwrap()),
        });
        story.project().await;
        assert_eq!(by_username(&pool, "ALICE", None).await.unwrap(), Some(user(1)));
        assert_eq!(by_username(&pool, "alice", Some("Remote.Example")).await.unwrap(), Some(user(2)));
        assert_eq!(by_username(&pool, "alice", Some("other.example")).await.unwrap(), None);
        assert_eq!(by_username(&pool, "bob\0", None).await.unwrap(), None);
        let names = [("alice", "remote.example"), ("nobody", ""), ("Alice", "")];
        let names = names.map(|(name, host)| (name.to_owned(), host.to_owned()));
        assert_eq!(by_usernames(&pool, &names).await.unwrap(), [user(2), user(1)]);
        let expected = Stats { users: 2, original_users: 1, instances: 1, ..Stats::default() };
        assert_eq!(stats(&pool).await.unwrap(), expected);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn lists_are_sorted_and_filtered(pool: PgPool) {
        let mut story = Story::new(&pool);
        for (n, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            story.person(n, name);
        }
        story.says(changed(4, ProfileChanges { is_explorable: Some(false), ..Default::default() }));
        story.follow(1, 2);
        story.follow(3, 2);
        story.follow(2, 1);
        let first = story.note(3, |_| ());
        story.note(1, |_| ());
        story.says(note::Deleted { id: first, author: user(3) });
        story.project().await;

        let all = UserListFilter::default();
        let get =
            async |filter: UserListFilter, offset| list(&pool, &filter, at(NOW), 2, offset).await.unwrap();
        assert_eq!(get(all.clone(), 0).await, [user(1), user(2)]);
        assert_eq!(get(all.clone(), 2).await, [user(3)]);
        let newest = UserListFilter { sort: Some((SortKey::CreatedAt, true)), ..all.clone() };
        assert_eq!(get(newest, 0).await, [user(3), user(2)]);
        let followed = UserListFilter { sort: Some((SortKey::Followers, true)), ..all.clone() };
        assert_eq!(get(followed, 0).await, [user(2), user(1)]);
        let updated = UserListFilter { sort: Some((SortKey::UpdatedAt, true)), ..all.clone() };
        assert_eq!(get(updated, 0).await, [user(3), user(1)]);
        let alive = UserListFilter { alive: true, ..all.clone() };
        assert_eq!(get(alive.clone(), 0).await, [user(1), user(3)]);
        let later = at(NOW) + chrono::TimeDelta::days(6);
        assert_eq!(list(&pool, &alive, later, 10, 0).await.unwrap(), []);
        let remote = UserListFilter { origin: Origin::Remote, ..all.clone() };
        assert_eq!(get(remote, 0).await, []);
        let elsewhere = UserListFilter { hostname: Some("x.example".to_owned()), ..all };
        assert_eq!(get(elsewhere, 0).await, []);
    }
}
