-- Read model: invitations. Written by projections/src/invitation.rs.
create table read.invitations (
    id uuid primary key,
    code text collate "C" not null,
    created_by uuid not null,
    expires_at timestamptz,
    used_by uuid,
    used_at timestamptz
);
create index invitations_by_maker on read.invitations (created_by, id);
create index invitations_by_user on read.invitations (used_by) where used_by is not null;
