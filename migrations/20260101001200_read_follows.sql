-- Read model: followings, requests to follow, and their counts. Written by projections/src/follow.rs.
create schema if not exists read;

create table read.follows (
    id uuid primary key,
    follower uuid not null,
    followee uuid not null,
    -- domain::follow::Notify: none, normal.
    notify text not null,
    with_replies boolean not null,
    unique (follower, followee)
);
create index follows_by_followee on read.follows (followee, id);
create index follows_by_follower on read.follows (follower, id);

create table read.follow_requests (
    id uuid primary key,
    follower uuid not null,
    followee uuid not null,
    with_replies boolean not null,
    unique (follower, followee)
);
create index follow_requests_by_followee on read.follow_requests (followee, id);
create index follow_requests_by_follower on read.follow_requests (follower, id);

create table read.follow_counts (
    user_id uuid primary key,
    followers bigint not null,
    following bigint not null
) with (fillfactor = 70);
