-- Version 3. The statements are compared with those in the file (schema.rs): a change is a new version with a migration.

-- Users whose calls are kept apart from `calls`: the first waiting call of the user fails on its own (`since` is set), or so
-- many of the user's calls wait that they are read a part at a time (`since` is NULL).
CREATE TABLE parked (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL UNIQUE,
    -- The user's rows in `calls` have ids up to this one: later calls go to `parked_calls`.
    after_id INTEGER NOT NULL,
    -- Rows of the user in `parked_calls`, and their bytes.
    calls INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    -- When the first call was parked. NULL: it does not fail.
    since INTEGER,
    -- Requests that held the first call, and how many of them failed with this call alone since it was parked.
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    -- Of the last failure. No status: there was no answer.
    status INTEGER,
    reason TEXT,
    -- The time of the next attempt. If `since` is NULL, the user's turn to be read: the lowest is next.
    retry_at INTEGER NOT NULL
) STRICT;

CREATE INDEX parked_when_due ON parked (retry_at) WHERE since IS NOT NULL;
CREATE INDEX parked_in_turn ON parked (retry_at) WHERE since IS NULL;

-- Their calls, each under the id that it had or would have had in `calls`.
CREATE TABLE parked_calls (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    key BLOB,
    call BLOB NOT NULL
) STRICT;

CREATE INDEX parked_calls_of_user ON parked_calls (user_id);

-- Why a call is a dead letter: 'refused' by Segment, 'gave_up' after it failed on its own for too long, given up by an
-- 'operator'. A dead letter without an answer has the status 0.
ALTER TABLE dead_letters ADD COLUMN why TEXT NOT NULL DEFAULT 'refused';

-- Users whose first call fails; all rows of `parked_calls`; the bytes of the rows of failing users, and of dead letters: a
-- row counts as its call and its reason, and 128 bytes.
ALTER TABLE counters ADD COLUMN parked_users INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN parked_calls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN parked_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counters ADD COLUMN dead_letter_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE counters SET dead_letter_bytes =
    (SELECT ifnull(sum(length(call) + octet_length(reason) + 128), 0) FROM dead_letters);
