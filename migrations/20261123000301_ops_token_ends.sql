-- Whoever remembers a token hears when it ends, with the transaction that ends it: the person it spoke for,
-- or nothing when all have ended.
create function ops.tell_token_end() returns trigger language plpgsql as $$
begin
    if tg_op = 'TRUNCATE' then
        perform pg_notify('kiroku_tokens', '');
    else
        perform pg_notify('kiroku_tokens', old.user_id::text);
    end if;
    return null;
end
$$;

create trigger tell_end after delete on ops.native_tokens
    for each row execute function ops.tell_token_end();
create trigger tell_change after update on ops.native_tokens
    for each row when (old.hash <> new.hash or old.user_id <> new.user_id)
    execute function ops.tell_token_end();
create trigger tell_all_ends after truncate on ops.native_tokens
    for each statement execute function ops.tell_token_end();

create trigger tell_end after delete on ops.app_tokens
    for each row execute function ops.tell_token_end();
create trigger tell_change after update on ops.app_tokens
    for each row when (old.hash <> new.hash or old.legacy_hash is distinct from new.legacy_hash
                       or old.user_id <> new.user_id or old.permission <> new.permission)
    execute function ops.tell_token_end();
create trigger tell_all_ends after truncate on ops.app_tokens
    for each statement execute function ops.tell_token_end();
