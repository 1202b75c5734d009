-- Read model: votes and their counts. Written by projections/src/poll.rs.
create schema if not exists read;

create table read.votes (
    id uuid not null,
    note_id uuid not null,
    user_id uuid not null,
    -- Index into the choices, from 0.
    choice integer not null,
    primary key (note_id, user_id, choice)
);
create index votes_by_user on read.votes (user_id, id);

create table read.vote_counts (
    note_id uuid not null,
    choice integer not null,
    votes bigint not null,
    primary key (note_id, choice)
) with (fillfactor = 70);
