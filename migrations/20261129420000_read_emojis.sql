-- Read model: custom emoji. Written by projections/src/emoji.rs.
create table read.emojis (
    id uuid primary key,
    name text collate "C" not null,
    aliases text[] not null,
    category text collate "C",
    license text,
    sensitive boolean not null,
    local_only boolean not null,
    roles uuid[] not null,
    memo text not null,
    -- Of the picture, and of the small one of it.
    key text collate "C" not null,
    thumbnail text collate "C",
    media_type text collate "C" not null,
    updated_at timestamptz not null
);
create index emojis_by_name on read.emojis (name);
create index emojis_by_category on read.emojis (category, name, id);
create index emojis_by_key on read.emojis (key);
create index emojis_by_thumbnail on read.emojis (thumbnail) where thumbnail is not null;
