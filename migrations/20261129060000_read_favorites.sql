-- Read model: notes that people keep for themselves. Written by projections/src/favorite.rs.
create table read.favorites (
    id uuid not null,
    user_id uuid not null,
    note_id uuid not null,
    primary key (user_id, note_id)
);
create index favorites_by_id on read.favorites (user_id, id);
