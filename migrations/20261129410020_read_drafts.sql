-- Read model: notes that are not written yet. Written by projections/src/draft.rs.
create table read.drafts (
    id uuid primary key,
    user_id uuid not null,
    content jsonb not null,
    -- When it is to be posted; a draft is never.
    scheduled_at timestamptz,
    -- Why it could not be posted.
    reason text
);
create index drafts_by_user on read.drafts (user_id, id) where scheduled_at is null;
create index scheduled_by_user on read.drafts (user_id, scheduled_at, id) where scheduled_at is not null;
create index scheduled_by_time on read.drafts (scheduled_at, id) where scheduled_at is not null;
