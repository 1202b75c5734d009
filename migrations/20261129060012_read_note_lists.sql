-- Lists of notes: questions of this server.
create index notes_with_poll on read.notes (id) where poll is not null and visibility = 'public' and uri is null;
