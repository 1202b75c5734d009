-- Read model: advertisements. Written by projections/src/ad.rs.
create table read.ads (
    id uuid primary key,
    starts_at timestamptz not null,
    expires_at timestamptz not null,
    -- A bit for each day from Sunday on; 0 for all.
    day_of_week integer not null,
    -- domain::ad::Definition.
    definition jsonb not null
);
create index ads_by_end on read.ads (expires_at);
