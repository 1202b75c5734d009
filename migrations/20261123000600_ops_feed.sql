-- How far the feed has told the stream of NATS that was made at this time.
create table ops.feed (
    one boolean primary key default true check (one),
    stream text not null,
    position bigint not null,
    ordinal integer not null
);
