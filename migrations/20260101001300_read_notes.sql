-- Read model: notes, whom they name, and counts per author. Written by projections/src/note.rs.
create schema if not exists read;

create table read.notes (
    id uuid primary key,
    author uuid not null,
    text text,
    cw text,
    visibility text collate "C" not null
        check (visibility in ('public', 'home', 'followers', 'specified')),
    local_only boolean not null,
    reaction_acceptance text,
    reply_id uuid,
    reply_author uuid,
    renote_id uuid,
    renote_author uuid,
    mentions uuid[] not null,
    visible_to uuid[] not null,
    tags text[] not null,
    emojis text[] not null,
    poll jsonb,
    -- Null for notes of this server.
    uri text,
    -- A renote that adds nothing of its own.
    pure boolean not null,
    replies bigint not null default 0,
    renotes bigint not null default 0
) with (fillfactor = 85);

create index notes_by_author on read.notes (author, id);
create index notes_local on read.notes (id) where visibility = 'public' and uri is null;
create index notes_public on read.notes (id) where visibility = 'public';
create index notes_by_reply on read.notes (reply_id, id) where reply_id is not null;
create index notes_by_renote on read.notes (renote_id, id) where renote_id is not null;
create index notes_renoted_by on read.notes (author, renote_id, id) where renote_id is not null;

-- People whom a note names or is addressed to.
create table read.mentions (
    user_id uuid not null,
    note_id uuid not null,
    primary key (user_id, note_id)
);

create table read.note_authors (
    user_id uuid primary key,
    notes bigint not null,
    -- When a note of theirs was last written, or deleted other than along with one it answers.
    updated_at timestamptz
) with (fillfactor = 70);
create index note_authors_by_update on read.note_authors (updated_at, user_id);

-- All notes: those of this server, and those of others.
create table read.note_totals (
    local boolean primary key,
    notes bigint not null
) with (fillfactor = 10);
