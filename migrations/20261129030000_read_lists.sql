-- Read model: lists of people. Written by projections/src/list.rs.

create table read.lists (
    id uuid primary key,
    owner uuid not null,
    name text not null,
    is_public boolean not null default false
);
create index lists_by_owner on read.lists (owner, id);

create table read.list_members (
    id uuid primary key,
    list_id uuid not null,
    user_id uuid not null,
    with_replies boolean not null default false,
    unique (list_id, user_id)
);
create index list_members_by_list on read.list_members (list_id, id);
create index list_members_by_user on read.list_members (user_id);

-- Who likes a list.
create table read.list_favorites (
    list_id uuid not null,
    user_id uuid not null,
    primary key (list_id, user_id)
);
create index list_favorites_by_user on read.list_favorites (user_id);
