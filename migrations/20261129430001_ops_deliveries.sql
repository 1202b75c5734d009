-- What is told to other places at people's word: webhooks, and devices by Web Push. Nothing that anybody wrote is
-- in it: what is sent is read when it is sent.

create table ops.webhooks (
    id uuid primary key,
    user_id uuid not null,
    -- Name, address and secret, sealed.
    sealed bytea not null,
    -- Of what it is told, by Misskey's names.
    told_of text[] not null,
    active boolean not null,
    last_sent_at timestamptz,
    -- What was answered then: a status of HTTP, or 1 for nothing.
    last_status integer
);
create index webhooks_by_user on ops.webhooks (user_id, id);

create table ops.push_subscriptions (
    id uuid primary key,
    user_id uuid not null,
    -- A keyed hash of the address.
    lookup text not null,
    -- Address and keys, sealed.
    sealed bytea not null,
    -- Whether it is also told that notifications have been read.
    send_read boolean not null,
    unique (user_id, lookup)
);
create index push_subscriptions_by_lookup on ops.push_subscriptions (lookup);

create table ops.deliveries (
    id uuid primary key,
    -- The webhook or the subscription.
    target uuid not null,
    is_push boolean not null,
    user_id uuid not null,
    -- By Misskey's names: note, follow, notification, …
    what text not null,
    -- The note, person or notification; and who did something to it.
    about uuid,
    other uuid,
    -- When it happened.
    at timestamptz not null,
    -- When it is tried, for the first time or again.
    due_at timestamptz not null,
    attempts integer not null default 0
);
create index deliveries_by_due on ops.deliveries (due_at);
create index deliveries_by_target on ops.deliveries (target, id);
create index deliveries_by_user on ops.deliveries (user_id);

-- Up to which position of the log deliveries have been made out.
create table ops.deliveries_made (
    one boolean primary key default true check (one),
    position bigint not null
);
