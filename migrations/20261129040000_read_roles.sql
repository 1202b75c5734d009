-- Read model: roles and who is assigned to them. Written by projections/src/role.rs.
create table read.roles (
    id uuid primary key,
    -- domain::role::Definition.
    definition jsonb not null,
    conditional boolean not null,
    updated_at timestamptz not null
);

create table read.role_assignments (
    role_id uuid not null,
    user_id uuid not null,
    id uuid not null,
    -- Null when it doesn't end by itself; one whose time has come stays until there is another.
    expires_at timestamptz,
    memo text,
    primary key (role_id, user_id)
);
create index role_assignments_by_user on read.role_assignments (user_id);
create index role_assignments_by_id on read.role_assignments (role_id, id);

-- Which role a notification is about.
alter table read.notifications add column role_id uuid;
