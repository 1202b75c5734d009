-- Read model: how much notes are praised. Written by projections/src/featured.rs.
create table read.featured (
    note_id uuid primary key,
    author uuid not null,
    channel_id uuid,
    -- On which it was written, UTC.
    day date not null,
    score bigint not null default 0
);
create index featured_by_author on read.featured (author, day, score desc, note_id desc);
create index featured_everywhere on read.featured (day, score desc, note_id desc)
    where channel_id is null and score > 0;
create index featured_by_channel on read.featured (channel_id, day, score desc, note_id desc)
    where channel_id is not null and score > 0;

create table read.praise (
    note_id uuid not null,
    user_id uuid not null,
    -- The renote; of a reaction the note itself.
    source uuid not null,
    score bigint not null,
    primary key (note_id, user_id, source)
);
create index praise_by_user on read.praise (user_id);
create index praise_by_source on read.praise (source);
