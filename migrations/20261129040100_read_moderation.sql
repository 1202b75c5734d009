-- Read models of moderation: reports and the log of moderators, written by projections/src/moderation.rs, and
-- what projections/src/user.rs knows of people for moderators.
create table read.reports (
    id uuid primary key,
    reporter uuid not null,
    target uuid not null,
    comment text not null,
    category text not null,
    resolved boolean not null,
    -- accept or reject.
    outcome text,
    assignee uuid,
    note text not null
);
create index reports_by_state on read.reports (resolved, id);
create index reports_by_reporter on read.reports (reporter);
create index reports_by_target on read.reports (target);
create index reports_by_assignee on read.reports (assignee) where assignee is not null;

create table read.moderation_logs (
    -- Of the event.
    id uuid primary key,
    moderator uuid not null,
    kind text collate "C" not null,
    -- The person whom it concerned; for a report, who sent it and whom it is about.
    about uuid,
    reporter uuid,
    reported uuid,
    info jsonb not null
);
create index moderation_logs_by_kind on read.moderation_logs (kind, id);
create index moderation_logs_by_moderator on read.moderation_logs (moderator, id);
create index moderation_logs_by_person on read.moderation_logs (about) where about is not null;
create index moderation_logs_by_reporter on read.moderation_logs (reporter) where reporter is not null;
create index moderation_logs_by_reported on read.moderation_logs (reported) where reported is not null;

-- What things were when they were last changed, for the log.
create table read.moderated (
    id uuid primary key,
    about uuid,
    value jsonb not null
);
create index moderated_by_person on read.moderated (about) where about is not null;

alter table read.users
    add column is_suspended boolean not null default false,
    add column moderation_note text not null default '';
create index users_suspended on read.users (id) where is_suspended;
