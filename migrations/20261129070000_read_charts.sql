-- Read model: charts. Written by projections/src/chart.rs and the files below it.

-- What each chart shows, by the hour (or by the day, for what can't be added up from hours). Whose is a person,
-- or the nil UUID for all people of this server and the greatest for all of others.
create table read.chart_hours (
    whose uuid not null,
    series text collate "C" not null,
    hour timestamptz not null,
    up bigint not null,
    down bigint not null,
    -- All that went up, without what went down, from the beginning to the end of this hour.
    total bigint not null,
    primary key (whose, series, hour)
) with (fillfactor = 70);

-- The rest is what it takes to know what an event changes, and to take a person out again.

create table read.chart_people (
    user_id uuid primary key,
    local boolean not null,
    -- The hour.
    since timestamptz not null
);

-- Every note that was there at some time.
create table read.chart_notes (
    id uuid primary key,
    author uuid not null,
    reply_id uuid,
    renote_id uuid,
    -- The hours.
    written timestamptz not null,
    gone timestamptz
);
create index chart_notes_by_author on read.chart_notes (author);
create index chart_notes_by_reply on read.chart_notes (reply_id) where reply_id is not null;
create index chart_notes_by_renote on read.chart_notes (renote_id) where renote_id is not null;

create table read.chart_follows (
    follower uuid not null,
    followee uuid not null,
    hour timestamptz not null,
    started bigint not null,
    ended bigint not null,
    primary key (follower, followee, hour)
);
create index chart_follows_by_followee on read.chart_follows (followee);

create table read.chart_reactions (
    author uuid not null,
    reactor uuid not null,
    hour timestamptz not null,
    reactions bigint not null,
    primary key (author, reactor, hour)
);
create index chart_reactions_by_reactor on read.chart_reactions (reactor);

create table read.chart_active (
    user_id uuid not null,
    span text collate "C" not null,
    start timestamptz not null,
    -- 1: read, 2: wrote, 3: both.
    did smallint not null,
    primary key (user_id, span, start)
);

-- Of those who came on one day, how many were here on a later one.
create table read.chart_kept (
    cohort date not null,
    day date not null,
    people bigint not null,
    primary key (cohort, day)
);
