-- The second factor: one-time passwords, backup codes, passkeys. None of it is history; all of it goes when its
-- person is erased.

create table ops.second_factors (
    user_id uuid primary key,
    -- Sealed with the server's keys. `pending` is shown to its person and not in force yet.
    secret bytea,
    pending bytea,
    -- Hashes of the codes that are left; random, so no salt is needed.
    backup_codes bytea[] not null default '{}',
    -- Whether a passkey alone lets in.
    password_less boolean not null default false
);

-- The last step of which a person's code was taken, for each purpose: no code is taken twice.
create table ops.used_codes (
    user_id uuid not null,
    purpose text not null,
    step bigint not null,
    primary key (user_id, purpose)
);

create table ops.passkeys (
    id bytea primary key,
    user_id uuid not null,
    name text not null,
    -- As COSE writes it.
    public_key bytea not null,
    sign_count bigint not null,
    transports text[] not null,
    backed_up boolean not null,
    created_at timestamptz not null,
    last_used_at timestamptz not null
);
create index passkeys_by_user on ops.passkeys (user_id, created_at);

-- Questions that are to be answered once and soon: by an authenticator, or by the second page of a sign-in.
create table ops.challenges (
    hash bytea primary key,
    user_id uuid,
    challenge bytea not null,
    expires_at timestamptz not null
);
create index challenges_by_expiry on ops.challenges (expires_at);
create index challenges_by_user on ops.challenges (user_id);
