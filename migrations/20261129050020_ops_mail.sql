-- Mail: who is reached where, and what is on its way. Addresses are sealed with the server's keys and found by
-- keyed hashes; all of it goes when its person is erased.

-- What the administrator sets and nobody may read, sealed: `smtpPass`.
create table ops.server_secrets (
    name text primary key,
    sealed bytea not null
);

create table ops.mail_addresses (
    user_id uuid primary key,
    sealed bytea not null,
    lookup text not null,
    verified boolean not null
);
create unique index mail_addresses_verified on ops.mail_addresses (lookup) where verified;

-- Mail to be sent, sealed whole.
create table ops.outbox (
    id uuid primary key,
    -- Whom it is to, if it is somebody's here.
    user_id uuid,
    sealed bytea not null,
    attempts integer not null default 0,
    due_at timestamptz not null
);
create index outbox_by_due on ops.outbox (due_at);
create index outbox_by_user on ops.outbox (user_id);

-- Accounts that are made when their address is proven.
create table ops.pending_sign_ups (
    hash bytea primary key,
    -- Name, address and the hash of the password, sealed.
    sealed bytea not null,
    expires_at timestamptz not null
);
create index pending_sign_ups_by_expiry on ops.pending_sign_ups (expires_at);
