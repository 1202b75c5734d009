-- Read models: blocks, mutes and memos. Written by projections/src/{block,mute,memo}.rs.
create table read.blocks (
    id uuid primary key,
    blocker uuid not null,
    blockee uuid not null,
    unique (blocker, blockee)
);
create index blocks_by_blocker on read.blocks (blocker, id);
create index blocks_by_blockee on read.blocks (blockee, blocker);

create table read.mutes (
    id uuid primary key,
    muter uuid not null,
    mutee uuid not null,
    -- When it is over by itself; it stays here until another one takes its place.
    expires_at timestamptz,
    unique (muter, mutee)
);
create index mutes_by_muter on read.mutes (muter, id);
create index mutes_by_mutee on read.mutes (mutee);

-- Of pure renotes alone.
create table read.renote_mutes (
    id uuid primary key,
    muter uuid not null,
    mutee uuid not null,
    unique (muter, mutee)
);
create index renote_mutes_by_muter on read.renote_mutes (muter, id);
create index renote_mutes_by_mutee on read.renote_mutes (mutee);

create table read.thread_mutes (
    user_id uuid not null,
    -- The note at the top.
    thread_id uuid not null,
    primary key (user_id, thread_id)
);

create table read.memos (
    user_id uuid not null,
    about uuid not null,
    memo text not null,
    primary key (user_id, about)
);
create index memos_by_about on read.memos (about);

-- The note at the top of the thread, where it is another one. Written by projections/src/note.rs.
alter table read.notes add column thread_id uuid;
