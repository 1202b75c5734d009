-- Read model: reactions and their counts. Written by projections/src/reaction.rs.
create schema if not exists read;

create table read.reactions (
    id uuid not null,
    note_id uuid not null,
    user_id uuid not null,
    reaction text collate "C" not null,
    primary key (note_id, user_id)
);
create index reactions_by_note on read.reactions (note_id, id);
create index reactions_by_kind on read.reactions (note_id, reaction, id);
create index reactions_by_user on read.reactions (user_id, id);

create table read.reaction_counts (
    note_id uuid not null,
    reaction text collate "C" not null,
    reactions bigint not null,
    primary key (note_id, reaction)
) with (fillfactor = 70);
