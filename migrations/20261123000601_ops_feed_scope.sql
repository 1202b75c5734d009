-- The most that the stream was ever told: what `nats_feed` was. Null when nobody knows.
alter table ops.feed add column scope text check (scope in ('public', 'all'));
