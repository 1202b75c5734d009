-- Read model: announcements and who has read them. Written by projections/src/announcement.rs.
create table read.announcements (
    id uuid primary key,
    -- Null when it is for everybody.
    user_id uuid,
    is_active boolean not null,
    silence boolean not null,
    for_existing_users boolean not null,
    -- domain::announcement::Definition.
    definition jsonb not null,
    updated_at timestamptz
);
create index announcements_by_user on read.announcements (user_id, id);

create table read.announcement_reads (
    user_id uuid not null,
    announcement_id uuid not null,
    read_at timestamptz not null,
    primary key (user_id, announcement_id)
);
create index announcement_reads_by_announcement on read.announcement_reads (announcement_id, read_at);
