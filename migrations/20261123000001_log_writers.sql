-- Writers that come and go: each says every few seconds that it is there; one that has been silent for
-- the length of the lease is fenced by the others. Times are those of the database's clock.
alter table log.writers
    -- While a sole writer is here, nobody joins.
    add column sole boolean not null default false,
    add column seen_at timestamptz not null default clock_timestamp();

create function log.remove_silent_writers(p_lease interval) returns void language sql as $$
    -- One that is locked is just saying that it is there. One from the future: the clock was set back.
    delete from log.writers w
     where w.epoch in (
        select s.epoch from log.writers s
         where s.seen_at not between clock_timestamp() - p_lease and clock_timestamp() + p_lease
           for update skip locked)
$$;

drop function log.open_writer(boolean);

-- Registers a writer and returns its epoch; null while a sole writer is here. A sole writer fences all
-- earlier ones; when this returns, none of them can commit any more.
create function log.open_writer(p_sole boolean, p_lease interval) returns bigint language plpgsql
set lock_timeout = '4s'
as $$
declare
    v_epoch bigint;
begin
    perform log.lock_appends();
    perform log.remove_silent_writers(p_lease);
    if exists (select 1 from log.writers w where w.sole) then
        return null;
    end if;
    if p_sole then
        delete from log.writers;
    end if;
    insert into log.writers (sole) values (p_sole) returning epoch into v_epoch;
    return v_epoch;
end
$$;

-- Says that a writer is there, and removes those that have been silent. False when it has been fenced.
create function log.renew_writer(p_epoch bigint, p_lease interval) returns boolean language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update log.writers w set seen_at = clock_timestamp() where w.epoch = p_epoch;
    if not found then
        return false;
    end if;
    perform log.remove_silent_writers(p_lease);
    return true;
end
$$;

-- Ends the sessions that began longer than `p_held` ago and hold the lock of the appends, and says how
-- many: a client that is stopped between two messages leaves its transaction open, and no time-out of the
-- server ends that. Nothing acknowledged is lost, since it was not committed.
create function log.break_lock(p_held interval) returns bigint language sql as $$
    select count(*) filter (where pg_terminate_backend(l.pid))
      from pg_locks l
      join pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.objsubid = 1
       and l.database = (select d.oid from pg_database d where d.datname = current_database())
       and l.classid = (7739834451 >> 32)::oid and l.objid = (7739834451 & 4294967295)::oid
       and a.pid <> pg_backend_pid()
       and a.xact_start < clock_timestamp() - p_held
$$;
