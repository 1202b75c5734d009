-- Read model: notes that profiles show first. Written by projections/src/pin.rs.
create table read.pins (
    user_id uuid not null,
    id uuid not null,
    note_id uuid not null,
    primary key (user_id, id)
);
