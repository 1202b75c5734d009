-- The event log: only ever added to. No index beyond the keys.
create schema log;

create table log.events (
    -- One append has one position; positions have no gaps.
    position bigint not null,
    ordinal integer not null,
    stream text collate "C" not null,
    -- The version of the stream after this event, from 1.
    version bigint not null,
    event_id uuid not null,
    kind text collate "C" not null,
    schema smallint not null,
    at timestamptz not null,
    subject uuid,
    actor uuid,
    command uuid not null,
    payload bytea not null,
    primary key (position, ordinal),
    unique (stream, version),
    -- Idempotency, for ever: a command has one append.
    unique (command, ordinal)
);

-- A sealed payload can't be compressed.
alter table log.events alter column payload set storage external;

create function log.refuse() returns trigger language plpgsql as $$
begin
    raise exception 'the log is only added to: % on %.% is refused', tg_op, tg_table_schema, tg_table_name;
end
$$;

create trigger only_added_to before update or delete or truncate on log.events
    for each statement execute function log.refuse();

-- The processes that may append. A process whose epoch is gone has been fenced.
create table log.writers (
    epoch bigint generated always as identity primary key,
    opened_at timestamptz not null default now()
);

-- One append at a time, until the end of the transaction: a position is given out only after every
-- smaller one can be seen, so a reader that follows positions misses nothing.
create function log.lock_appends() returns void language sql as $$
    select pg_advisory_xact_lock(7739834451)
$$;

-- Registers a writer and returns its epoch. The sole writer fences all earlier ones; when this
-- returns, none of them can commit any more.
create function log.open_writer(p_sole boolean) returns bigint language plpgsql as $$
declare
    v_epoch bigint;
begin
    perform log.lock_appends();
    insert into log.writers default values returning epoch into v_epoch;
    if p_sole then
        delete from log.writers where epoch < v_epoch;
    end if;
    return v_epoch;
end
$$;

-- Commits a batch of appends, each with its own outcome, in the order given.
--
-- `p_commands` and `p_streams` are the distinct commands and streams of the batch. One append is one
-- element of `a_…`: its command and stream (indexes into those, from 1), the version it expects and
-- the number of its events. One event is one element of `e_…`; `e_append` is the append (from 1).
--
-- Returns per append: its position, or 0; and when that is 0, the version the stream really has, or
-- -1 when this writer has been fenced.
create function log.append_batch(
    p_epoch bigint,
    p_commands uuid[],
    p_streams text[],
    a_command integer[],
    a_stream integer[],
    a_expected bigint[],
    a_events integer[],
    e_append integer[],
    e_ordinal integer[],
    e_stream text[],
    e_version bigint[],
    e_id uuid[],
    e_kind text[],
    e_schema smallint[],
    e_at timestamptz[],
    e_subject uuid[],
    e_actor uuid[],
    e_command uuid[],
    e_payload bytea[],
    out positions bigint[],
    out actual bigint[]
) language plpgsql
as $$
declare
    v_open boolean;
    v_head bigint;
    v_done bigint[];
    v_versions bigint[];
    v_fresh bigint[];
    v_command integer;
    v_stream integer;
begin
    perform log.lock_appends();

    select exists (select 1 from log.writers w where w.epoch = p_epoch),
           coalesce((select e.position from log.events e order by e.position desc limit 1), 0)
      into v_open, v_head;
    v_done := array(
        select coalesce((
            select e.position from log.events e where e.command = c.command and e.ordinal = 0
        ), 0)
          from unnest(p_commands) as c(command));
    v_versions := array(
        select coalesce((
            select e.version from log.events e where e.stream = s.stream order by e.version desc limit 1
        ), 0)
          from unnest(p_streams) as s(stream));

    positions := array_fill(0::bigint, array[cardinality(a_command)]);
    actual := positions;
    v_fresh := positions;
    for i in 1 .. cardinality(a_command) loop
        v_command := a_command[i];
        v_stream := a_stream[i];
        if v_done[v_command] > 0 then
            positions[i] := v_done[v_command];
        elsif not v_open then
            actual[i] := -1;
        elsif v_versions[v_stream] <> a_expected[i] then
            actual[i] := v_versions[v_stream];
        else
            v_head := v_head + 1;
            v_versions[v_stream] := a_expected[i] + a_events[i];
            v_done[v_command] := v_head;
            positions[i] := v_head;
            v_fresh[i] := v_head;
        end if;
    end loop;

    insert into log.events (position, ordinal, stream, version, event_id, kind, schema, at, subject,
                            actor, command, payload)
    select v_fresh[e.append], e.ordinal, e.stream, e.version, e.id, e.kind, e.schema, e.at, e.subject,
           e.actor, e.command, e.payload
      from unnest(e_append, e_ordinal, e_stream, e_version, e_id, e_kind, e_schema, e_at, e_subject,
                  e_actor, e_command, e_payload)
           as e(append, ordinal, stream, version, id, kind, schema, at, subject, actor, command, payload)
     where v_fresh[e.append] > 0;
end
$$;
