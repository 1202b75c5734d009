-- Read model: channels and what people are to them. Written by projections/src/channel.rs; the channel of a
-- note by projections/src/note.rs.

create table read.channels (
    id uuid primary key,
    owner uuid not null,
    name text not null,
    description text,
    color text not null,
    is_archived boolean not null default false,
    is_sensitive boolean not null,
    allow_renote_to_external boolean not null,
    pinned uuid[] not null default '{}',
    -- Notes ever written in it, by how many people, and when the last.
    notes bigint not null default 0,
    users bigint not null default 0,
    last_noted_at timestamptz
) with (fillfactor = 70);
create index channels_by_owner on read.channels (owner, id);
create index channels_by_use on read.channels (last_noted_at, id) where last_noted_at is not null;

-- The notes of one person in a channel.
create table read.channel_authors (
    channel_id uuid not null,
    user_id uuid not null,
    notes bigint not null,
    last_noted_at timestamptz not null,
    primary key (channel_id, user_id)
) with (fillfactor = 70);
create index channel_authors_by_user on read.channel_authors (user_id);

create table read.channel_follows (
    channel_id uuid not null,
    user_id uuid not null,
    primary key (user_id, channel_id)
);
create index channel_follows_by_channel on read.channel_follows (channel_id);

create table read.channel_favorites (
    channel_id uuid not null,
    user_id uuid not null,
    primary key (user_id, channel_id)
);
create index channel_favorites_by_channel on read.channel_favorites (channel_id);

create table read.channel_mutes (
    channel_id uuid not null,
    user_id uuid not null,
    -- Null for ever.
    expires_at timestamptz,
    primary key (user_id, channel_id)
);
create index channel_mutes_by_channel on read.channel_mutes (channel_id);

alter table read.notes add column channel_id uuid;
create index notes_by_channel on read.notes (channel_id, id) where channel_id is not null;

-- Whose notes antennas may leave out. Written by projections/src/antenna.rs.
create table read.antenna_sensitive_channels (
    channel_id uuid primary key,
    owner uuid not null
);
create index antenna_sensitive_channels_by_owner on read.antenna_sensitive_channels (owner);
