-- What timelines in memory ask of a note before it is loaded; read by projections/src/timeline.rs.

-- 1: a renote that adds nothing; 2: with files; 4: an answer to somebody else, with a random byte of whose id from the
-- ninth bit on.
alter table read.notes add column traits integer not null generated always as (
    case when pure then 1 else 0 end
    | case when files <> '{}' then 2 else 0 end
    | case when reply_author <> author then 4 | (get_byte(uuid_send(reply_author), 10) << 8) else 0 end
) stored;

drop index read.notes_by_author;
create index notes_by_author on read.notes (author, id) include (traits);
drop index read.notes_by_channel;
create index notes_by_channel on read.notes (channel_id, id) include (traits) where channel_id is not null;
