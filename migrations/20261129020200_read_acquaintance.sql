-- For whom people answer most, see projections/src/acquaintance.rs.
create index notes_answering on read.notes (author, id) where reply_id is not null;
