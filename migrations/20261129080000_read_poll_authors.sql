-- Read model: whose poll it was that somebody is told has ended. Who is erased takes that along. Written by
-- projections/src/notification.rs.
alter table read.notifications add column poll_author uuid;
create index notifications_by_poll_author on read.notifications (poll_author) where poll_author is not null;
