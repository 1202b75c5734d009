-- Read model: people. Written by projections/src/user.rs.
create schema if not exists read;

create table read.users (
    id uuid primary key,
    username text not null,
    username_lower text collate "C" not null,
    -- Null for people of this server.
    host text collate "C",
    uri text,
    -- What differs from the defaults of domain::user::Profile.
    profile jsonb not null,
    -- Days (UTC) on which they used the server.
    active_days bigint not null
) with (fillfactor = 90);

create unique index users_by_name on read.users (username_lower, coalesce(host, ''));
create index users_local on read.users (id) where host is null;

-- People per host; the empty host is this server.
create table read.user_hosts (
    host text collate "C" primary key,
    users bigint not null
);
