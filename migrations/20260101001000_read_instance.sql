-- Read model: the server itself. Written by projections/src/instance.rs.
create schema if not exists read;

create table read.instance (
    one boolean primary key default true check (one),
    url text,
    root uuid,
    -- What differs from the defaults.
    settings jsonb not null default '{}',
    policies jsonb not null default '{}'
);
