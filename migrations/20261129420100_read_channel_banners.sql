-- A picture of a channel. It may be gone.
alter table read.channels add column banner uuid;
