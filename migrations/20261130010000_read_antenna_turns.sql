-- Read model: which of an author's notes an antenna heard last. Written by projections/src/antenna.rs.

-- How many of this author's notes the antenna had heard with this one. The table is filled again from the log.
alter table read.antenna_notes add column turn bigint not null default 0;
drop index read.antenna_notes_by_author;
create index antenna_notes_by_author on read.antenna_notes (author, antenna_id, turn);
