-- Version 4. The statements are compared with those in the file (schema.rs): a change is a new version with a migration.

-- The name of the source by which a call came. NULL: `POST /customers`.
ALTER TABLE calls ADD COLUMN source TEXT;
ALTER TABLE parked_calls ADD COLUMN source TEXT;
ALTER TABLE dead_letters ADD COLUMN source TEXT;

-- A dead letter that is 'unmapped' is an event that made no customers. Its `call` is the event's body, its `user_id` is empty,
-- and these are its headers: a line `name: value` for each.
ALTER TABLE dead_letters ADD COLUMN headers BLOB;

-- Sources that ever had a call: what waits of each (a row counts as its call and 128 bytes), and as in `counters` what became of
-- its settled keys after the clock was set back.
CREATE TABLE sources (
    name TEXT PRIMARY KEY,
    calls INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    set_back_seq INTEGER,
    set_back_noticed_at INTEGER
) STRICT, WITHOUT ROWID;

-- As `settled_keys`, for the calls of sources: each source has a window of its own.
CREATE TABLE settled_source_keys (
    source TEXT NOT NULL,
    seq INTEGER NOT NULL,
    settled_at INTEGER NOT NULL,
    key BLOB NOT NULL,
    call_id INTEGER NOT NULL,
    PRIMARY KEY (source, seq)
) STRICT, WITHOUT ROWID;

-- The bytes of all waiting calls.
ALTER TABLE counters ADD COLUMN waiting_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE counters SET waiting_bytes = (SELECT ifnull(sum(length(call) + 128), 0) FROM calls)
    + (SELECT ifnull(sum(length(call) + 128), 0) FROM parked_calls);
