-- OAuth: codes that apps exchange for tokens. A used code is kept until it would have ended, so that whoever
-- shows it again ends the token that it gave.
create table ops.oauth_codes (
    hash bytea primary key,
    user_id uuid not null,
    client_id text not null,
    redirect_uri text not null,
    name text not null,
    icon_url text,
    permission text[] not null,
    challenge text not null,
    -- The token that was given for it.
    token_id uuid,
    -- It was shown again, so the token is not to be.
    is_over boolean not null default false,
    expires_at timestamptz not null
);
create index oauth_codes_by_expiry on ops.oauth_codes (expires_at);
create index oauth_codes_by_user on ops.oauth_codes (user_id);
