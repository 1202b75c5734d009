-- Read model: charts of files and of notes with files. Written by projections/src/chart.rs and the files below it.
alter table read.chart_notes add column has_files boolean not null default false;

-- Every file that was there at some time.
create table read.chart_files (
    id uuid primary key,
    owner uuid not null,
    bytes bigint not null,
    -- The hours.
    added timestamptz not null,
    gone timestamptz
);
create index chart_files_by_owner on read.chart_files (owner);
