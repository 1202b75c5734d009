-- Read model: collections of notes. Written by projections/src/clip.rs.
create table read.clips (
    id uuid primary key,
    user_id uuid not null,
    name text not null,
    description text,
    public boolean not null,
    -- When a note was last put in.
    clipped_at timestamptz
) with (fillfactor = 85);
create index clips_by_user on read.clips (user_id, id);

create table read.clip_notes (
    clip_id uuid not null,
    note_id uuid not null,
    -- Whose clip it is.
    user_id uuid not null,
    primary key (clip_id, note_id)
);
create index clip_notes_by_note on read.clip_notes (note_id, clip_id);
create index clip_notes_by_user on read.clip_notes (user_id);

create table read.clip_favorites (
    id uuid not null,
    clip_id uuid not null,
    -- Who keeps it.
    user_id uuid not null,
    primary key (clip_id, user_id)
);
create index clip_favorites_by_user on read.clip_favorites (user_id, id);
