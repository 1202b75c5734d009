//! What operators have hung on live tables. Grants, owners, comments and views go along at a switch; what
//! can't is told before anything is built.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, FromRow};

use super::tables::{Table, path};
use super::{NEXT_SCHEMA, RebuildError, wait_at_most};
use crate::runtime::LIVE_SCHEMA;

/// The most views that go along: readers wait while each is defined again.
pub const MAX_VIEWS: i64 = 200;
/// The most of what is in the way that is named.
const MAX_NAMED: i64 = 20;

/// A view that looks at a live table.
#[derive(Debug, PartialEq, Eq, FromRow)]
pub(super) struct View {
    /// With its schema, quoted where needed.
    name: String,
    owner: String,
    /// Such as `security_barrier=true`.
    options: Option<String>,
    /// Its query; every name in it has its schema.
    definition: String,
}

/// What hangs on the live tables `$1`: dependencies on a table, its row type, or the array of that. What
/// makes up the table itself is left out.
const HANGING: &str = "
    with live as materialized (
        select c.oid, c.reltype, t.typarray, c.relrowsecurity
          from pg_class c
          join pg_type t on t.oid = c.reltype
         where c.relnamespace = $2::regnamespace and c.relname = any($1)
    ), refs(class, oid) as (
        select 'pg_class'::regclass, oid from live
        union all select 'pg_type'::regclass, reltype from live
        union all select 'pg_type'::regclass, typarray from live
    ), hanging as (
        select distinct d.classid, d.objid, d.objsubid
          from refs
          join pg_depend d on d.refclassid = refs.class and d.refobjid = refs.oid
         where not case d.classid
               when 'pg_class'::regclass then exists (
                    select from pg_class c where c.oid = d.objid and c.relkind in ('i', 't'))
               when 'pg_type'::regclass then d.deptype = 'i'
               when 'pg_attrdef'::regclass then exists (
                    select from pg_attrdef a where a.oid = d.objid and a.adrelid in (select oid from live))
               when 'pg_statistic_ext'::regclass then true
               when 'pg_constraint'::regclass then exists (
                    select from pg_constraint c
                     where c.oid = d.objid and c.contype <> 'f' and c.conrelid in (select oid from live))
               else false end
    ), views as (
        select distinct v.oid, r.oid as rule, v.relowner, v.relnamespace, v.relname, v.reloptions
          from hanging h
          join pg_rewrite r on h.classid = 'pg_rewrite'::regclass and r.oid = h.objid
          join pg_class v on v.oid = r.ev_class
         where r.rulename = '_RETURN' and v.relkind = 'v' and v.relpersistence = 'p'
           and pg_has_role(v.relowner, 'usage') and has_schema_privilege(v.relnamespace, 'create')
    )";

/// The views that look at these live tables, those that may look at others first. Refuses when something
/// hangs on the tables that can't go along. Takes the search path of the transaction away.
pub(super) async fn views(tx: &mut PgConnection, tables: &[&str]) -> Result<Vec<View>, RebuildError> {
    // So that every name is printed with its schema, and read back as what it was.
    path(tx, "''").await?;
    let stuck = format!(
        "{HANGING}
         select coalesce(
                    (select pg_describe_object('pg_class'::regclass, r.ev_class, 0)
                       from pg_rewrite r
                      where h.classid = 'pg_rewrite'::regclass and r.oid = h.objid
                        and r.rulename = '_RETURN'),
                    pg_describe_object(h.classid, h.objid, h.objsubid)) as what
           from hanging h
          where not (h.classid = 'pg_rewrite'::regclass and h.objid in (select rule from views))
         union
         select 'row level security of ' || pg_describe_object('pg_class'::regclass, oid, 0)
           from live where relrowsecurity
         union
         select format('more than {MAX_VIEWS} views') from views having count(*) > {MAX_VIEWS}
          order by what
          limit {MAX_NAMED}"
    );
    let stuck: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(stuck)).bind(tables).bind(LIVE_SCHEMA).fetch_all(&mut *tx).await?;
    if !stuck.is_empty() {
        return Err(RebuildError::InTheWay { objects: stuck.join(", ") });
    }
    let views = format!(
        "{HANGING}
         select format('%I.%I', n.nspname, v.relname) as name, quote_ident(pg_get_userbyid(v.relowner)) as owner,
                array_to_string(v.reloptions, ', ') as options, pg_get_viewdef(v.oid) as definition
           from views v
           join pg_namespace n on n.oid = v.relnamespace
          order by v.oid desc"
    );
    Ok(sqlx::query_as(AssertSqlSafe(views)).bind(tables).bind(LIVE_SCHEMA).fetch_all(tx).await?)
}

/// Keeps everybody from these views and live tables, until the end of the transaction. Whoever is made to wait
/// waits no longer than `within` for it to have them all.
///
/// A query that locks what this has not got yet, and waits for what it has, is in its way; who runs such a query
/// again and again would be each time. So what could not be locked moves to the front of `first`, and is locked
/// before all else the next time.
pub(super) async fn lock(
    tx: &mut PgConnection,
    views: &[View],
    tables: &[&Table],
    within: Duration,
    first: &mut Vec<String>,
) -> sqlx::Result<()> {
    // To give a view to whom it belongs locks it and does nothing else. `lock table` would lock all that it
    // looks at.
    let views = views.iter().map(|View { name, owner, .. }| format!("alter view {name} owner to {owner};"));
    let tables = tables
        .iter()
        .map(|table| format!("lock table {LIVE_SCHEMA}.{} in access exclusive mode;", table.name));
    let mut locks: Vec<String> = views.chain(tables).collect();
    locks.sort_by_key(|lock| first.iter().position(|one| one == lock).unwrap_or(first.len()));
    let block = format!("begin {} end", locks.join("\n")).replace('\'', "''");
    let milliseconds = within.as_millis();
    sqlx::query(AssertSqlSafe(format!("set local statement_timeout = {milliseconds}")))
        .execute(&mut *tx)
        .await?;
    if let Err(error) = sqlx::query(AssertSqlSafe(format!("do '{block}'"))).execute(&mut *tx).await {
        // The context tells which statement of the block it was.
        let context = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<PgDatabaseError>()?.r#where())
            .unwrap_or_default();
        if let Some(failed) = locks.into_iter().find(|lock| context.contains(lock.trim_end_matches(';'))) {
            first.retain(|one| *one != failed);
            first.insert(0, failed);
        }
        return Err(error);
    }
    sqlx::query("set local statement_timeout = 0").execute(&mut *tx).await?;
    // What else the views look at may be locked by somebody.
    wait_at_most(tx, within).await
}

/// Gives the new tables the owners, grants and comments of the live ones.
pub(super) async fn grant(tx: &mut PgConnection, tables: &[&Table]) -> sqlx::Result<()> {
    let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
    let statements: Vec<String> = sqlx::query_scalar(
        "with pairs as (
             select format('%I.%I', $3, l.relname) as name, l.oid, l.relowner, l.relacl,
                    n.oid as new, n.relowner as new_owner, n.relacl as new_acl
               from pg_class l
               join pg_class n on n.relname = l.relname and n.relnamespace = $3::regnamespace
              where l.relnamespace = $2::regnamespace and l.relname = any($1)
         ), granted as (
             select name, '' as columns, acl.*
               from pairs, aclexplode(relacl) as acl where acl.grantee <> relowner
             union all
             select name, format(' (%I)', a.attname), acl.*
               from pairs
               join pg_attribute a on a.attrelid = pairs.oid and a.attnum > 0 and not a.attisdropped,
                    aclexplode(a.attacl) as acl
         ), statements(n, statement) as (
             select 1, format('alter table %s owner to %I', name, pg_get_userbyid(relowner))
               from pairs where relowner <> new_owner
             union all
             -- What default privileges have given.
             select 2, format('revoke all on table %s from %s', name,
                              case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end)
               from pairs, aclexplode(new_acl) as acl
              where acl.grantee <> new_owner
             union all
             select 3, format('grant %s%s on table %s to %s%s', privilege_type, columns, name,
                              case grantee when 0 then 'public' else grantee::regrole::text end,
                              case when is_grantable then ' with grant option' else '' end)
               from granted
             union all
             select 4, format('comment on table %s is %L', name, obj_description(oid, 'pg_class'))
               from pairs where obj_description(oid, 'pg_class') is not null
         )
         select statement from statements order by n",
    )
    .bind(names)
    .bind(LIVE_SCHEMA)
    .bind(NEXT_SCHEMA)
    .fetch_all(&mut *tx)
    .await?;
    // At once, since readers wait.
    sqlx::raw_sql(AssertSqlSafe(statements.join(";\n"))).execute(tx).await?;
    Ok(())
}

/// Lets the views look at what the names in them stand for now. What hangs on them stays.
pub(super) async fn look_again(tx: &mut PgConnection, views: &[View]) -> Result<(), RebuildError> {
    for View { name, options, definition, .. } in views {
        let with = options.as_ref().map_or_else(String::new, |options| format!(" with ({options})"));
        let replace = format!("create or replace view {name}{with} as {definition}");
        let replaced = sqlx::query(AssertSqlSafe(replace)).execute(&mut *tx).await;
        replaced.map_err(|source| match super::is_in_use(&source) {
            true => RebuildError::Sql(source),
            false => RebuildError::View { view: name.clone(), source },
        })?;
    }
    Ok(())
}
