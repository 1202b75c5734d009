-- Read model: what apps keep for people. Written by projections/src/registry.rs.
create table read.registry (
    user_id uuid not null,
    -- Empty for what belongs to no app.
    domain text collate "C" not null,
    scope text[] collate "C" not null,
    key text collate "C" not null,
    -- By which it is listed.
    id uuid not null,
    value jsonb not null,
    updated_at timestamptz not null,
    primary key (user_id, domain, scope, key)
);
