-- Read model: what people have reached. Written by projections/src/achievement.rs.
create table read.achievements (
    user_id uuid not null,
    name text collate "C" not null,
    earned_at timestamptz not null,
    primary key (user_id, name)
);
