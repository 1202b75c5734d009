-- What it takes to remove one person from the read models at once. Written by projections/src/note.rs and
-- projections/src/notification.rs.

-- A note keeps counting renotes that are gone: how many of them are whose, for the notes that are there.
create table read.withdrawn_renotes (
    note_id uuid not null,
    author uuid not null,
    renotes bigint not null,
    primary key (note_id, author)
);
create index withdrawn_renotes_by_author on read.withdrawn_renotes (author);

create index note_subscribers_by_follower on read.note_subscribers (follower);
