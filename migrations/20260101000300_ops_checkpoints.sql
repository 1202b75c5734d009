-- Checkpoints: how far each projector has come. Moved in the transaction that writes its read tables.
create schema if not exists ops;

create table ops.checkpoints (
    projector text collate "C" primary key,
    -- The version of the code that filled the tables; a higher one empties them and starts again.
    version integer not null,
    position bigint not null,
    -- Set while the projector stands still at an event that it can't apply.
    stopped_at timestamptz,
    stop_reason text,
    check ((stopped_at is null) = (stop_reason is null))
);
