-- Read model: works that people show. Written by projections/src/work.rs.
create table read.works (
    id uuid primary key,
    -- post, page or play
    kind text collate "C" not null,
    user_id uuid not null,
    -- Of a page.
    name text collate "C",
    private boolean not null,
    -- By the names that it has in the events.
    content jsonb not null,
    updated_at timestamptz not null,
    likes bigint not null default 0
) with (fillfactor = 85);
create index works_by_user on read.works (user_id, kind, id);
create index works_by_kind on read.works (kind, id) where not private;
create index works_by_likes on read.works (kind, likes, id) where not private and likes > 0;
create index works_by_name on read.works (user_id, name) where name is not null;

create table read.work_likes (
    id uuid not null,
    work_id uuid not null,
    kind text collate "C" not null,
    -- Whose work it is, and who likes it.
    owner uuid not null,
    user_id uuid not null,
    primary key (work_id, user_id)
);
create index work_likes_by_user on read.work_likes (user_id, kind, id);
create index work_likes_by_owner on read.work_likes (owner);
create index work_likes_by_time on read.work_likes (kind, id);
