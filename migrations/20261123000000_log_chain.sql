-- A hash chain over the batches of the log, so that a change to what was written is found.
create table log.chain (
    -- The last append of the batch. The first row has none: the chain begins after it.
    position bigint primary key,
    -- sha256 of: the hash before, then position (8 bytes, big endian) and digest of each append.
    hash bytea not null
);

create trigger only_added_to before update or delete or truncate on log.chain
    for each statement execute function log.refuse();

select log.lock_appends();

insert into log.chain (position, hash)
select coalesce(max(e.position), 0), decode(repeat('00', 32), 'hex') from log.events e;

drop function log.append_batch(
    bigint, uuid[], text[], integer[], integer[], bigint[], integer[], integer[], integer[], text[], bigint[],
    uuid[], text[], smallint[], timestamptz[], uuid[], uuid[], uuid[], bytea[]);

-- Commits a batch of appends, each with its own outcome, in the order given.
--
-- `p_commands` and `p_streams` are the distinct commands and streams of the batch. One append is one
-- element of `a_…`: its command and stream (indexes into those, from 1), the version it expects, the
-- number of its events and their digest. One event is one element of `e_…`; `e_append` is the append
-- (from 1).
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
    a_digest bytea[],
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
    v_before bigint;
    v_head bigint;
    v_chained bytea;
    v_done bigint[];
    v_versions bigint[];
    v_fresh bigint[];
    v_command integer;
    v_stream integer;
begin
    perform log.lock_appends();

    select exists (select 1 from log.writers w where w.epoch = p_epoch),
           coalesce((select e.position from log.events e order by e.position desc limit 1), 0),
           (select c.hash from log.chain c order by c.position desc limit 1)
      into v_open, v_before, v_chained;
    v_head := v_before;
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
            v_chained := v_chained || int8send(v_head) || a_digest[i];
        end if;
    end loop;
    if v_head = v_before then
        return;
    end if;

    insert into log.events (position, ordinal, stream, version, event_id, kind, schema, at, subject,
                            actor, command, payload)
    select v_fresh[e.append], e.ordinal, e.stream, e.version, e.id, e.kind, e.schema, e.at, e.subject,
           e.actor, e.command, e.payload
      from unnest(e_append, e_ordinal, e_stream, e_version, e_id, e_kind, e_schema, e_at, e_subject,
                  e_actor, e_command, e_payload)
           as e(append, ordinal, stream, version, id, kind, schema, at, subject, actor, command, payload)
     where v_fresh[e.append] > 0;

    insert into log.chain (position, hash) values (v_head, sha256(v_chained));
end
$$;
