-- Work that somebody was promised when their call was answered: exports and imports. One process at a time has it in
-- its hands; what it doesn't bring to an end, another does.
create table ops.jobs (
    id uuid primary key,
    user_id uuid not null,
    -- What is to be done, sealed: it may hold a file of names.
    sealed bytea not null,
    -- Up to where it has been done, such as lines of a file.
    reached integer not null default 0,
    -- Since it came further.
    attempts integer not null default 0,
    -- Who has it in their hands, if anybody has.
    holder uuid,
    -- When somebody may take it, for the first time or again.
    due_at timestamptz not null
);
create index jobs_by_due on ops.jobs (due_at, id);
create index jobs_by_user on ops.jobs (user_id);
