-- Read model: antennas and what they heard. Written by projections/src/antenna.rs.

create table read.antennas (
    id uuid primary key,
    owner uuid not null,
    -- domain::antenna::Settings.
    settings jsonb not null,
    -- The event that said so last.
    changed uuid not null,
    -- Later notes are not heard.
    listens_until timestamptz not null
);
create index antennas_by_owner on read.antennas (owner, id);
create index antennas_by_change on read.antennas (changed);

create table read.antenna_notes (
    antenna_id uuid not null,
    note_id uuid not null,
    author uuid not null,
    primary key (antenna_id, note_id)
);
create index antenna_notes_by_author on read.antenna_notes (author, antenna_id, note_id);

-- What it takes to know whose notes an antenna hears.
create table read.antenna_authors (
    user_id uuid primary key,
    -- In lower case: name, or name@host for people of other servers.
    account text not null,
    is_bot boolean not null default false
);

create table read.antenna_follows (
    follower uuid not null,
    followee uuid not null,
    primary key (followee, follower)
);
create index antenna_follows_by_follower on read.antenna_follows (follower);

create table read.antenna_members (
    list_id uuid not null,
    user_id uuid not null,
    owner uuid not null,
    primary key (user_id, list_id)
);
create index antenna_members_by_list on read.antenna_members (list_id);
create index antenna_members_by_owner on read.antenna_members (owner);
