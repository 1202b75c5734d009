-- What a person sees of who came in and what was given away, and what is left to do after they are gone.

-- When an app's token was last used; null until it is.
alter table ops.app_tokens add column last_used_at timestamptz;

-- Who tried to sign in, from where, and whether they got in. The id is that of the command that signs in.
create table ops.sign_ins (
    id uuid primary key,
    user_id uuid not null,
    ip text not null,
    headers jsonb not null,
    success boolean not null
);
create index sign_ins_by_user on ops.sign_ins (user_id, id);

-- Hashes of tokens whose person has been erased, so that their apps are told so. Whose they were is not kept.
create table ops.ended_tokens (
    hash bytea primary key,
    ended_at timestamptz not null
);
create index ended_tokens_by_age on ops.ended_tokens (ended_at);

-- People who asked to be erased. `certificate` is null until also the bytes on the disk are gone.
create table ops.erasures (
    user_id uuid primary key,
    asked_at timestamptz not null,
    done_at timestamptz,
    certificate jsonb,
    check ((done_at is null) = (certificate is null))
);
create index erasures_by_done on ops.erasures (done_at);
