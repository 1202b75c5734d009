-- Bytes of the server's own, such as the picture of an emoji, can be strays as well: then nobody owns them, the
-- emoji is named, and `file_id` is made of the key.
alter table ops.stray_files alter column user_id drop not null;
alter table ops.stray_files add column emoji_id uuid;
