-- Who tries again to make a file brings other bytes, under another key: both may be there without the file.
alter table ops.stray_files drop constraint stray_files_pkey;
alter table ops.stray_files add primary key (file_id, key);
