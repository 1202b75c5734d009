-- What anybody was told by the events between two positions. Written by projections/src/notification.rs.
create index notifications_of_position on read.notifications (position);
