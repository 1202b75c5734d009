//! Roles, who is assigned to them, and which roles people have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::log::Recorded;
use domain::role::{About, Assigned, Condition, Definition, LooksAt, Target, effective_one};
use domain::{Event, RoleAssignmentId, RoleId, UserId};
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::cache::Source;
use crate::erased;
use crate::page::{LIMIT, Page};
use crate::runtime::{ProjectError, Projector, events};
use crate::sql;
use crate::world::UserRow;

/// The most roles that are listed at once.
pub const MAX_ROLES: i64 = 1_000;

/// Fills `read.roles` and `read.role_assignments`.
pub struct Projection;

/// What a batch comes to.
#[derive(Default)]
struct Folded<'e> {
    defined: BTreeMap<Uuid, Option<(&'e Definition, DateTime<Utc>)>>,
    /// Roles that ended in it; what was assigned to them before is gone.
    ended: BTreeSet<Uuid>,
    /// By role and person: what stands at the end.
    assigned: BTreeMap<(Uuid, Uuid), Option<&'e Assigned>>,
}

#[async_trait]
impl Projector for Projection {
    fn name(&self) -> &'static str {
        "roles"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["roles", "role_assignments"]
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["role.created", "role.changed", "role.deleted", "role.assigned", "role.unassigned", "user.erased"]
    }

    async fn apply(&self, tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
        for (part, erased) in erased::parts(batch) {
            write(tx, part).await?;
            if let Some(user) = erased {
                sqlx::query("delete from role_assignments where user_id = $1")
                    .bind(user.0)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        Ok(())
    }
}

async fn write(tx: &mut PgConnection, batch: &[Arc<Recorded>]) -> Result<(), ProjectError> {
    let mut folded = Folded::default();
    for (recorded, event) in events(batch) {
        match event {
            Event::RoleCreated(e) => {
                folded.defined.insert(e.role.0, Some((&e.definition, recorded.at)));
            }
            Event::RoleChanged(e) => {
                folded.defined.insert(e.role.0, Some((&e.definition, recorded.at)));
            }
            Event::RoleDeleted(e) => {
                folded.defined.insert(e.role.0, None);
                folded.ended.insert(e.role.0);
                folded.assigned.retain(|(role, _), _| *role != e.role.0);
            }
            Event::RoleAssigned(e) => {
                folded.assigned.insert((e.role.0, e.user.0), Some(e));
            }
            Event::RoleUnassigned(e) => {
                folded.assigned.insert((e.role.0, e.user.0), None);
            }
            _ => (),
        }
    }
    define(tx, &folded).await?;
    Ok(assign(tx, &folded).await?)
}

async fn define(tx: &mut PgConnection, folded: &Folded<'_>) -> Result<(), ProjectError> {
    if !folded.ended.is_empty() {
        let ended: Vec<Uuid> = folded.ended.iter().copied().collect();
        for statement in
            ["delete from roles where id = any($1)", "delete from role_assignments where role_id = any($1)"]
        {
            sqlx::query(statement).bind(&ended).execute(&mut *tx).await?;
        }
    }
    let mut ids = Vec::new();
    let (mut definitions, mut conditional, mut updated) = (Vec::new(), Vec::new(), Vec::new());
    for (id, defined) in &folded.defined {
        let Some((definition, at)) = defined else { continue };
        ids.push(*id);
        definitions.push(Json(sql::fields(definition)?));
        conditional.push(definition.target == Target::Conditional);
        updated.push(*at);
    }
    if !ids.is_empty() {
        sqlx::query(
            "insert into roles (id, definition, conditional, updated_at)
             select id, definition, conditional, updated_at
               from unnest($1::uuid[], $2::jsonb[], $3::boolean[], $4::timestamptz[])
                    as r(id, definition, conditional, updated_at)
             on conflict (id) do update
                set definition = excluded.definition, conditional = excluded.conditional,
                    updated_at = excluded.updated_at",
        )
        .bind(ids)
        .bind(definitions)
        .bind(conditional)
        .bind(updated)
        .execute(tx)
        .await?;
    }
    Ok(())
}

async fn assign(tx: &mut PgConnection, folded: &Folded<'_>) -> sqlx::Result<()> {
    let gone = folded.assigned.iter().filter(|(_, assigned)| assigned.is_none()).map(|(key, _)| *key);
    let (roles, people): (Vec<Uuid>, Vec<Uuid>) = gone.unzip();
    if !roles.is_empty() {
        sqlx::query(
            "delete from role_assignments a using unnest($1::uuid[], $2::uuid[]) as d(role_id, user_id)
              where a.role_id = d.role_id and a.user_id = d.user_id",
        )
        .bind(roles)
        .bind(people)
        .execute(&mut *tx)
        .await?;
    }
    let standing: Vec<&Assigned> = folded.assigned.values().copied().flatten().collect();
    if !standing.is_empty() {
        sqlx::query(
            "insert into role_assignments (role_id, user_id, id, expires_at, memo)
             select role_id, user_id, id, expires_at, memo
               from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[])
                    as a(role_id, user_id, id, expires_at, memo)
             on conflict (role_id, user_id) do update
                set id = excluded.id, expires_at = excluded.expires_at, memo = excluded.memo",
        )
        .bind(standing.iter().map(|e| e.role.0).collect::<Vec<_>>())
        .bind(standing.iter().map(|e| e.user.0).collect::<Vec<_>>())
        .bind(standing.iter().map(|e| e.id.0).collect::<Vec<_>>())
        .bind(standing.iter().map(|e| e.expires_at).collect::<Vec<_>>())
        .bind(
            standing
                .iter()
                .map(|e| e.memo.as_ref().map(|memo| sql::clean(memo).into_owned()))
                .collect::<Vec<_>>(),
        )
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// A role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleRow {
    pub id: RoleId,
    pub updated_at: DateTime<Utc>,
    pub definition: Definition,
    /// For whom it is besides those who are assigned; none when it isn't conditional.
    pub condition: Option<Condition>,
}

/// One person's assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignmentRow {
    pub id: RoleAssignmentId,
    pub role: RoleId,
    pub user: UserId,
    pub expires_at: Option<DateTime<Utc>>,
    pub memo: Option<String>,
}

/// Which roles, for [`list`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those that are shown, and whose people and notes can be listed.
    Explorable,
}

/// All that it takes to say which roles some people have.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    conditional: Arc<[Arc<RoleRow>]>,
    /// The roles that somebody is assigned to, in the order of their assignments, with their ends.
    assigned: HashMap<UserId, Arc<[Given]>>,
}

/// A role that somebody is assigned to, and until when.
pub(crate) type Given = (Arc<RoleRow>, Option<DateTime<Utc>>);

impl Roles {
    /// The roles of a person now: those assigned, then those by condition. With them the instant until
    /// which that is so if nothing happens.
    pub fn of(&self, user: &UserRow, now: DateTime<Utc>) -> (Vec<Arc<RoleRow>>, Option<DateTime<Utc>>) {
        let assigned = self.assigned.get(&user.id).into_iter().flat_map(|given| given.iter());
        let standing: Vec<_> = assigned.filter(|(_, end)| domain::role::stands(*end, now)).collect();
        let mut until = standing.iter().filter_map(|(_, end)| *end).min();
        let mut roles: Vec<Arc<RoleRow>> = standing.into_iter().map(|(role, _)| Arc::clone(role)).collect();
        if self.conditional.is_empty() {
            return (roles, until);
        }
        let ids: Vec<RoleId> = roles.iter().map(|role| role.id).collect();
        let about = About {
            user: user.id,
            is_local: user.host.is_none(),
            is_suspended: user.is_suspended,
            profile: &user.profile,
            followers: user.followers,
            following: user.following,
            notes: user.notes,
            assigned: &ids,
        };
        for role in self.conditional.iter() {
            let Some(condition) = &role.condition else { continue };
            until = until.into_iter().chain(condition.turns_at(user.id, now)).min();
            if !ids.contains(&role.id) && condition.holds(&about, now) {
                roles.push(Arc::clone(role));
            }
        }
        (roles, until)
    }

    /// Gives a person the roles that they have now.
    pub(crate) fn give(&self, user: &mut UserRow, now: DateTime<Utc>) {
        user.roles = self.of(user, now).0;
        if !user.roles.is_empty() {
            let definitions = user.roles.iter().map(|role| &role.definition);
            let may_write = effective_one("canPublicNote", &Value::from(!user.is_silenced), definitions);
            user.is_silenced = may_write != Value::Bool(true);
        }
    }

    /// Whether somebody's roles may change without an event about roles.
    pub fn looks_at(&self) -> LooksAt {
        let conditions = self.conditional.iter().filter_map(|role| role.condition.as_ref());
        conditions.map(Condition::looks_at).fold(LooksAt::default(), LooksAt::or)
    }
}

/// What decides which roles these people have.
pub async fn of_people(pool: &PgPool, people: &[UserId]) -> sqlx::Result<Roles> {
    let rows = sqlx::query(
        "select r.id, r.definition, r.updated_at, a.user_id, a.expires_at
           from read.roles r
           left join read.role_assignments a on a.role_id = r.id and a.user_id = any((select $1::uuid[])::uuid[])
          where r.conditional or a.user_id is not null
          order by a.id, r.id",
    )
    .bind(people.iter().map(|user| user.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    let mut known: HashMap<Uuid, Arc<RoleRow>> = HashMap::new();
    let mut conditional = Vec::new();
    let mut assigned: HashMap<UserId, Vec<Given>> = HashMap::new();
    for row in rows {
        let id: Uuid = row.try_get("id")?;
        let role = match known.get(&id) {
            Some(role) => Arc::clone(role),
            None => {
                let role = Arc::new(role_row(&row)?);
                if role.condition.is_some() {
                    conditional.push(Arc::clone(&role));
                }
                known.insert(id, Arc::clone(&role));
                role
            }
        };
        if let Some(user) = row.try_get::<Option<Uuid>, _>("user_id")? {
            assigned.entry(UserId(user)).or_default().push((role, row.try_get("expires_at")?));
        }
    }
    conditional.sort_unstable_by_key(|role: &Arc<RoleRow>| role.id);
    let assigned = assigned.into_iter().map(|(user, given)| (user, given.into())).collect();
    Ok(Roles { conditional: conditional.into(), assigned })
}

/// The same, with what is in memory.
pub(crate) async fn known(source: &Source<'_>, people: &[UserId]) -> sqlx::Result<Roles> {
    let Some((kept, at)) = source.memory else { return of_people(source.pool, people).await };
    let (rules, given) = (&kept.shelves.conditional, &kept.shelves.given);
    let (mut conditional, _, rules_begun) = rules.get([()], at);
    let (mut assigned, missing, given_begun) = given.get(people.iter().copied(), at);
    let conditional = match conditional.remove(&()).filter(|_| missing.is_empty()) {
        Some(conditional) => conditional,
        None => {
            let loaded = of_people(source.pool, &missing).await?;
            rules.put(rules_begun, [((), Some(loaded.conditional.clone()))]);
            given.put(
                given_begun,
                missing.into_iter().map(|user| (user, loaded.assigned.get(&user).cloned())),
            );
            assigned.extend(loaded.assigned);
            loaded.conditional
        }
    };
    Ok(Roles { conditional, assigned })
}

fn role_row(row: &PgRow) -> sqlx::Result<RoleRow> {
    let definition = row.try_get::<Json<Definition>, _>("definition")?.0;
    let condition =
        (definition.target == Target::Conditional).then(|| Condition::read(&definition.condition));
    Ok(RoleRow {
        id: RoleId(row.try_get("id")?),
        updated_at: row.try_get("updated_at")?,
        definition,
        condition,
    })
}

/// Roles, those first to which somebody was assigned last, with how many people are assigned to each.
pub async fn list(pool: &PgPool, which: Which, now: DateTime<Utc>) -> sqlx::Result<Vec<(RoleRow, i64)>> {
    let (shown, order) = match which {
        Which::All => ("true", "greatest(r.id, a.last) desc"),
        Which::Explorable => (
            "(r.definition ->> 'is_public')::boolean and (r.definition ->> 'is_explorable')::boolean",
            "r.id",
        ),
    };
    let sql = format!(
        "select r.id, r.definition, r.updated_at, coalesce(a.people, 0) as people
           from read.roles r
           left join lateral (
                select count(*) filter (where a.expires_at is null or a.expires_at > $1) as people,
                       (array_agg(a.id order by a.id desc))[1] as last
                  from read.role_assignments a where a.role_id = r.id) a on true
          where {shown}
          order by {order} limit $2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(now).bind(MAX_ROLES).fetch_all(pool).await?;
    rows.iter().map(|row| Ok((role_row(row)?, row.try_get("people")?))).collect()
}

/// Some roles with how many people are assigned to each; unknown ids are left out.
pub async fn by_ids(
    pool: &PgPool,
    ids: &[RoleId],
    now: DateTime<Utc>,
) -> sqlx::Result<HashMap<RoleId, (RoleRow, i64)>> {
    let rows = sqlx::query(
        "select r.id, r.definition, r.updated_at,
                (select count(*) from read.role_assignments a
                  where a.role_id = r.id and (a.expires_at is null or a.expires_at > $2)) as people
           from read.roles r where r.id = any($1)",
    )
    .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
    .bind(now)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok((RoleId(row.try_get("id")?), (role_row(row)?, row.try_get("people")?))))
        .collect()
}

/// One role with how many people are assigned to it.
pub async fn by_id(pool: &PgPool, id: RoleId, now: DateTime<Utc>) -> sqlx::Result<Option<(RoleRow, i64)>> {
    Ok(by_ids(pool, &[id], now).await?.remove(&id))
}

/// Who is assigned to a role now.
pub async fn assigned(
    pool: &PgPool,
    role: RoleId,
    now: DateTime<Utc>,
    page: &Page,
) -> sqlx::Result<Vec<AssignmentRow>> {
    let order = page.order();
    let sql = format!(
        "select id, role_id, user_id, expires_at, memo
           from read.role_assignments
          where role_id = $1 and id > $2 and id < $3 and (expires_at is null or expires_at > $5)
          order by id {order} limit $4"
    );
    let rows: Vec<AssignmentTuple> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(role.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(now)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(assignment).collect())
}

/// To which roles a person is assigned now.
pub async fn assignments_of(
    pool: &PgPool,
    user: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<AssignmentRow>> {
    let rows: Vec<AssignmentTuple> = sqlx::query_as(
        "select a.id, a.role_id, a.user_id, a.expires_at, a.memo
           from read.role_assignments a join read.roles r on r.id = a.role_id
          where a.user_id = $1 and (a.expires_at is null or a.expires_at > $2)
          order by a.id",
    )
    .bind(user.0)
    .bind(now)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(assignment).collect())
}

type AssignmentTuple = (Uuid, Uuid, Uuid, Option<DateTime<Utc>>, Option<String>);

fn assignment((id, role, user, expires_at, memo): AssignmentTuple) -> AssignmentRow {
    AssignmentRow { id: RoleAssignmentId(id), role: RoleId(role), user: UserId(user), expires_at, memo }
}

/// Public notes that those who are assigned to a role now wrote since they are, person by person.
pub async fn notes(
    pool: &PgPool,
    role: RoleId,
    now: DateTime<Utc>,
    page: &Page,
) -> sqlx::Result<Vec<domain::NoteId>> {
    let order = page.order();
    let sql = format!(
        "select h.id
           from read.role_assignments a
          cross join lateral (
                select n.id
                  from read.notes n
                 where n.author = a.user_id and n.id > greatest($2, a.id) and n.id < $3
                   and n.visibility = 'public'
                 order by n.id {order} limit {LIMIT}) h
          where a.role_id = $1 and (a.expires_at is null or a.expires_at > $5)
          order by h.id {order} limit {LIMIT}"
    );
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(role.0)
        .bind(page.since())
        .bind(page.until())
        .bind(page.limit())
        .bind(now)
        .fetch_all(pool)
        .await?;
    Ok(ids.into_iter().map(domain::NoteId).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Story, at, role_id, user};
    use crate::{Wanted, hydrate};
    use domain::role::{Deleted, RolePolicy, Unassigned};
    use domain::user::{Active, ProfileChanges};
    use serde_json::json;

    async fn names(pool: &PgPool, n: u8, now: DateTime<Utc>) -> Vec<String> {
        let world = hydrate(pool, Wanted::users([user(n)]), None, now).await.unwrap();
        world.user(user(n)).unwrap().roles.iter().map(|role| role.definition.name.clone()).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn people_have_the_roles_they_are_assigned_to_until_they_end(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "a");
        let (helper, guest) = (story.role(1, |_| ()), story.role(2, |role| role.is_explorable = false));
        let end = at(NOW + 60_000);
        story.assign(1, guest, Some(end));
        let assigned = story.assign(1, helper, None);
        story.assign(2, helper, Some(at(NOW + 1)));
        story.project().await;

        assert_eq!(names(&pool, 1, at(NOW + 59_999)).await, ["role 2", "role 1"]);
        assert_eq!(names(&pool, 1, end).await, ["role 1"]);
        let page = Page::newest(10);
        let of_helper = super::assigned(&pool, helper, end, &page).await.unwrap();
        assert_eq!(of_helper.iter().map(|row| (row.id, row.user)).collect::<Vec<_>>(), [(assigned, user(1))]);
        let roles = list(&pool, Which::All, at(NOW + 100)).await.unwrap();
        let counts: Vec<_> = roles.iter().map(|(role, people)| (role.id, *people)).collect();
        assert_eq!(counts, [(helper, 1), (guest, 1)]);
        let explorable = list(&pool, Which::Explorable, end).await.unwrap();
        assert_eq!(explorable.iter().map(|(role, _)| role.id).collect::<Vec<_>>(), [helper]);
        assert_eq!(by_id(&pool, guest, end).await.unwrap().unwrap().1, 0);
        assert_eq!(assignments_of(&pool, user(1), end).await.unwrap().len(), 1);
        let found = of_people(&pool, &[user(1)]).await.unwrap();
        let rows = crate::user::by_ids(&pool, &[user(1)]).await.unwrap();
        assert_eq!(found.of(&rows[&user(1)], at(NOW)).1, Some(end));

        story.says(Unassigned { role: guest, user: user(1) });
        story.says(Deleted { role: helper, name: "role 1".to_owned() });
        story.project().await;
        assert_eq!(names(&pool, 1, at(NOW)).await, [] as [&str; 0]);
        story.role(1, |_| ());
        story.project().await;
        assert_eq!(names(&pool, 1, at(NOW)).await, [] as [&str; 0], "it is another one");
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn conditions_give_roles_by_what_is_known_of_people(pool: PgPool) {
        let mut story = Story::new(&pool);
        for n in 1..=2 {
            story.person(n, &format!("user{n}"));
        }
        let helper = story.role(1, |_| ());
        let conditional = |condition: Value| {
            move |role: &mut Definition| {
                (role.target, role.condition) = (Target::Conditional, condition);
            }
        };
        story.role(2, conditional(json!({ "type": "isCat" })));
        story.role(3, conditional(json!({ "type": "notesMoreThanOrEq", "value": 1 })));
        story.role(4, conditional(json!({ "type": "roleAssignedTo", "roleId": helper })));
        story.assign(2, role_id(3), None);
        story.project().await;
        let now = story.now();
        assert_eq!(names(&pool, 1, now).await, [] as [&str; 0]);
        assert_eq!(names(&pool, 2, now).await, ["role 3"], "assigned all the same");
        story.changes(1, ProfileChanges { is_cat: Some(true), ..Default::default() });
        story.note(1, |_| ());
        story.assign(1, helper, None);
        story.says(Active { user: user(1), day: chrono::NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() });
        story.project().await;
        assert_eq!(names(&pool, 1, now).await, ["role 1", "role 2", "role 3", "role 4"]);
        let found = of_people(&pool, &[]).await.unwrap();
        assert_eq!(found.looks_at(), LooksAt { profile: true, counts: true });
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn who_may_not_write_publicly_is_silenced(pool: PgPool) {
        let mut story = Story::new(&pool);
        story.person(1, "a");
        let quiet = RolePolicy { use_default: false, priority: 1, value: json!(false) };
        let role = story.role(1, |role| {
            role.policies.insert("canPublicNote".to_owned(), quiet);
        });
        story.project().await;
        let silenced = async |now| {
            let world = hydrate(&pool, Wanted::users([user(1)]), None, now).await.unwrap();
            world.user(user(1)).unwrap().is_silenced
        };
        assert!(!silenced(at(NOW)).await);
        story.assign(1, role, None);
        story.project().await;
        assert!(silenced(at(NOW)).await);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn public_notes_of_those_who_have_a_role_are_listed(pool: PgPool) {
        let mut story = Story::new(&pool);
        let role = story.role(1, |_| ());
        for n in 1..=3 {
            story.person(n, &format!("user{n}"));
        }
        story.note(1, |_| ());
        story.assign(1, role, None);
        story.assign(2, role, Some(at(NOW + 1)));
        let first = story.note(1, |_| ());
        story.note(2, |_| ());
        story.note(1, |note| note.visibility = domain::note::Visibility::Home);
        let second = story.note(1, |_| ());
        story.project().await;
        let now = story.now();
        assert_eq!(notes(&pool, role, now, &Page::newest(10)).await.unwrap(), [second, first]);
        let older = Page { until: Some(second.0), ..Page::newest(1) };
        assert_eq!(notes(&pool, role, now, &older).await.unwrap(), [first]);
    }
}
