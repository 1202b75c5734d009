-- Read model: files, folders and how much room they take. Written by projections/src/drive.rs.
create table read.drive_files (
    id uuid primary key,
    owner uuid not null,
    name text collate "C" not null,
    comment text,
    media_type text collate "C" not null,
    md5 text collate "C" not null,
    size bigint not null,
    sensitive boolean not null,
    width integer,
    height integer,
    orientation smallint,
    blurhash text,
    -- Null also when the folder has gone.
    folder_id uuid,
    key text collate "C" not null,
    thumbnail text collate "C"
);
create unique index drive_files_by_key on read.drive_files (key);
create unique index drive_files_by_thumbnail on read.drive_files (thumbnail) where thumbnail is not null;
create index drive_files_by_owner on read.drive_files (owner, id);
create index drive_files_in_folder on read.drive_files (owner, folder_id, id);
create index drive_files_by_name on read.drive_files (owner, name, id);
create index drive_files_by_size on read.drive_files (owner, size, id);
create index drive_files_by_content on read.drive_files (owner, md5, id);

create table read.drive_folders (
    id uuid primary key,
    owner uuid not null,
    name text collate "C" not null,
    parent_id uuid
);
create index drive_folders_in_folder on read.drive_folders (owner, parent_id, id);
create index drive_folders_by_name on read.drive_folders (owner, name, id);

create table read.drive_usage (
    user_id uuid primary key,
    files bigint not null,
    bytes bigint not null
) with (fillfactor = 70);

-- Files of notes, in the order in which they are shown; those that are gone stay named.
alter table read.notes add column files uuid[] not null default '{}';
create index notes_by_file on read.notes using gin (files) where files <> '{}';
create index notes_with_files_by_author on read.notes (author, id) where files <> '{}';
create index notes_public_with_files on read.notes (id) where visibility = 'public' and files <> '{}';
