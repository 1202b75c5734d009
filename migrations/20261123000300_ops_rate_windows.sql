-- Calls counted for all processes that answer on this database; a process that is alone counts in memory.
-- Nothing is lost with it: a crash of the database empties it, as a restart forgets what is in memory.
create unlogged table ops.rate_windows (
    -- Who calls, and the limit.
    key text collate "C" primary key,
    duration_ms bigint not null,
    -- How many calls were in the window before the newest.
    before integer not null,
    -- When calls were made, oldest first, in milliseconds of the database's clock; the newest is the last.
    calls bigint[] not null
) with (fillfactor = 50, toast_tuple_target = 8160);
