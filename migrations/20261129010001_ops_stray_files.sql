-- Files whose bytes are there, or were, while the log may know nothing of them: an upload that has not been
-- told to the log yet, or a deleted file. Kept by gateway/src/drive.
create table ops.stray_files (
    file_id uuid primary key,
    user_id uuid not null,
    key text not null,
    thumbnail text,
    noted_at timestamptz not null
);
create index stray_files_by_age on ops.stray_files (noted_at);
create index stray_files_by_user on ops.stray_files (user_id);
