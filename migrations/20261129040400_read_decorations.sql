-- Read model: decorations of avatars. Written by projections/src/decoration.rs.
create table read.decorations (
    id uuid primary key,
    -- domain::decoration::Definition.
    definition jsonb not null,
    updated_at timestamptz
);
