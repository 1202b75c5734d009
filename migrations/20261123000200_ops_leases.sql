-- Leases: which session is the active copy of each projector, and when its process was alive last, by the
-- clock of the database. Worth nothing after a crash, so it is not logged. Written by
-- projections/src/lease.rs.
create unlogged table ops.leases (
    projector text collate "C" primary key,
    -- The session that holds the lock of the projector and writes its tables.
    pid integer not null,
    renewed_at timestamptz not null
);
