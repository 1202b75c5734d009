-- Rebuilds that go on: how far the tables that are built beside the live ones have come. Written by
-- projections/src/rebuild.rs, in the transaction that writes those tables.
create table ops.rebuilds (
    projector text collate "C" primary key,
    -- The version of the code that fills them.
    version integer not null,
    -- Of the definitions of the live tables from which they were made; other ones start anew.
    fingerprint text not null,
    position bigint not null,
    started_at timestamptz not null default now()
);

-- Where tables are built, and where those that were replaced wait to be dropped.
create schema read_next;
create schema read_old;
