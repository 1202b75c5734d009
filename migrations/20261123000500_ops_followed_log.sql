-- Which log the read models follow: positions are those of one log. Written by projections/src/followed.rs.
create table ops.followed_log (
    one boolean primary key default true check (one),
    identity text not null
);

-- There was no other that lasts.
insert into ops.followed_log (identity) values ('postgres');
