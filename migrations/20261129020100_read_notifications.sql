-- Read models: notifications of every kind, and when polls end. Written by projections/src/notification.rs and
-- projections/src/poll.rs.
alter table read.notifications
    drop column reaction,
    drop column message,
    -- The note that a renote passes on.
    add column target_id uuid,
    -- What else is shown, by its names in the API.
    add column details jsonb not null default '{}';

-- What one person is to another, as far as it decides who is told what. The notifications have their own copy
-- of it: other read models may be further or less far in the log.
drop table read.note_subscribers;
create table read.notification_ties (
    holder uuid not null,
    other uuid not null,
    follows boolean not null,
    -- Wants to hear of each new note.
    hears boolean not null,
    blocks boolean not null,
    mutes boolean not null,
    mute_until timestamptz,
    primary key (holder, other)
);
create index notification_ties_by_other on read.notification_ties (other);
create index notification_ties_of_hearers on read.notification_ties (other) where hears;

-- From whom people want to be told, by kind, where they have said so.
create table read.notification_wishes (
    user_id uuid primary key,
    config jsonb not null
);

-- Who is in which list of whom.
create table read.notification_members (
    owner uuid not null,
    user_id uuid not null,
    list_id uuid not null,
    primary key (owner, user_id, list_id)
);
create index notification_members_by_user on read.notification_members (user_id);

-- Threads that people mute.
create table read.notification_threads (
    user_id uuid not null,
    thread_id uuid not null,
    primary key (user_id, thread_id)
);

-- Who is told when a poll ends: its author, and those who voted. Only of polls that will end.
create table read.poll_audiences (
    note_id uuid not null,
    user_id uuid not null,
    author uuid not null,
    primary key (note_id, user_id)
);
create index poll_audiences_by_user on read.poll_audiences (user_id);
create index poll_audiences_by_author on read.poll_audiences (author);

-- Polls whose end hasn't been noticed.
create table read.poll_ends (
    note_id uuid primary key,
    author uuid not null,
    ends_at timestamptz not null
);
create index poll_ends_by_time on read.poll_ends (ends_at, note_id);
create index poll_ends_by_author on read.poll_ends (author);
