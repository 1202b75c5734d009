-- Access: who may act, and for whom. Current state, not history; every row can be erased.
-- Tokens, secrets and sessions are kept as SHA-256 of what the client holds; all of them are random or
-- keyed, so no salt is needed. A leaked copy of these tables lets nobody in.

create schema if not exists ops;

-- Password hashes, as PHC strings (argon2id) or bcrypt.
create table ops.passwords (
    user_id uuid primary key,
    hash text not null,
    changed_at timestamptz not null
);

-- The one native token of a person: derived from the server's key and the seed, so it is the same at
-- each sign-in and stored nowhere. A new seed ends the old token.
create table ops.native_tokens (
    user_id uuid primary key,
    seed bytea not null,
    hash bytea not null unique,
    created_at timestamptz not null
);

-- Registered apps (the older of the two ways to ask for access).
create table ops.apps (
    id uuid primary key,
    user_id uuid,
    secret_hash bytea not null unique,
    name text not null,
    description text not null,
    callback_url text,
    permission text[] not null,
    created_at timestamptz not null
);
create index apps_by_user on ops.apps (user_id, id);

-- What a person granted to an app or to a MiAuth session. `legacy_hash` is the hash of
-- hex(sha256(token || app secret)), which older clients send. `session_hash` is set until the app has
-- fetched its token.
create table ops.app_tokens (
    id uuid primary key,
    user_id uuid not null,
    app_id uuid references ops.apps (id) on delete cascade,
    hash bytea not null unique,
    legacy_hash bytea unique,
    session_hash bytea,
    name text,
    description text,
    icon_url text,
    permission text[] not null,
    created_at timestamptz not null
);
create unique index app_tokens_by_user_app on ops.app_tokens (user_id, app_id) where app_id is not null;
create index app_tokens_by_user on ops.app_tokens (user_id, id);
create index app_tokens_by_session on ops.app_tokens (session_hash) where session_hash is not null;

-- A registered app asking one person; accepted once `user_id` is set.
create table ops.auth_sessions (
    id uuid primary key,
    app_id uuid not null references ops.apps (id) on delete cascade,
    token_hash bytea not null unique,
    user_id uuid,
    created_at timestamptz not null
);
create index auth_sessions_by_age on ops.auth_sessions (created_at);

-- Signed-in browsers, for the server's own pages.
create table ops.browser_sessions (
    hash bytea primary key,
    user_id uuid not null,
    created_at timestamptz not null,
    expires_at timestamptz not null
);
create index browser_sessions_by_user on ops.browser_sessions (user_id);
create index browser_sessions_by_expiry on ops.browser_sessions (expires_at);
