-- Read model: notifications. Written by projections/src/notification.rs.
create schema if not exists read;

create table read.notifications (
    notifiee uuid not null,
    id uuid not null,
    -- The log position of the event that caused it.
    position bigint not null,
    -- By Misskey's names: follow, mention, reply, …
    kind text collate "C" not null,
    -- The person by whom it was caused; null for what the notifiee did.
    notifier uuid,
    note_id uuid,
    reaction text,
    message text,
    primary key (notifiee, id)
);
create index notifications_by_position on read.notifications (notifiee, position);
create index notifications_by_notifier on read.notifications (notifier) where notifier is not null;

-- What each person has read: everything up to this log position.
create table read.notification_markers (
    user_id uuid primary key,
    position bigint not null
);

-- Who wants to hear of each new note of whom.
create table read.note_subscribers (
    followee uuid not null,
    follower uuid not null,
    primary key (followee, follower)
);
