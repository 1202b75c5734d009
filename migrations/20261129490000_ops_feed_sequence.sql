-- The last message of the stream when it was told up to here: a stream that ends before it has lost some.
alter table ops.feed add column sequence bigint;
