-- Keys: each person's data key, wrapped by the master key. A destroyed key keeps its row, so that it
-- is never made again.
create schema if not exists ops;

create table ops.keys (
    -- The nil uuid is the server itself.
    person uuid primary key,
    wrapped bytea,
    created_at timestamptz not null default now(),
    destroyed_at timestamptz,
    check ((wrapped is null) = (destroyed_at is not null))
);

-- One row: the secret of the keyed hashes, wrapped by the master key. That it opens shows that the
-- master key is the right one.
create table ops.keyring (
    one boolean primary key default true check (one),
    secret bytea not null
);
