-- Read model: hashtags of notes and of profiles. Written by projections/src/hashtag.rs.
create table read.note_tags (
    tag text collate "C" not null,
    note_id uuid not null,
    author uuid not null,
    primary key (tag, note_id)
);
create index note_tags_by_note on read.note_tags (note_id);
create index note_tags_by_author on read.note_tags (author);

-- Who has ever written a tag in a note, or has it in their profile.
create table read.tag_people (
    tag text collate "C" not null,
    attached boolean not null,
    user_id uuid not null,
    local boolean not null,
    primary key (tag, attached, user_id)
);
create index tag_people_by_user on read.tag_people (user_id);

create table read.tags (
    tag text collate "C" primary key,
    mentioned_local bigint not null default 0,
    mentioned_remote bigint not null default 0,
    attached_local bigint not null default 0,
    attached_remote bigint not null default 0
) with (fillfactor = 70);

-- People of other servers, whose profiles may come to have tags.
create table read.tag_strangers (
    user_id uuid primary key
);
