-- Read model: words of notes, to be looked for. Written by projections/src/search.rs.
create table read.note_words (
    note_id uuid primary key,
    author uuid not null,
    -- Text and content warning, in one case and width.
    words text not null,
    -- Hashes of the single characters in it and of the pairs of neighbours.
    grams integer[] not null
);
create index note_words_by_author on read.note_words (author, note_id);
create index note_words_by_gram on read.note_words using gin (grams) with (fastupdate = off);

create table read.user_words (
    user_id uuid primary key,
    username text collate "C" not null,
    name text not null,
    about text not null,
    -- Of all three.
    grams integer[] not null
);
create index user_words_by_username on read.user_words (username);
create index user_words_by_gram on read.user_words using gin (grams) with (fastupdate = off);
