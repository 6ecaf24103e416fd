-- Version 1. The statements are compared with those in the file (schema.rs): a change is a new version with a
-- migration.

-- Waiting calls. The columns that are read of skipped rows come before the call, which may continue in overflow pages.
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    key BLOB,
    call BLOB NOT NULL
) STRICT;

-- Calls that Segment refused, with what a replay needs to store their keys again.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    refused_at INTEGER NOT NULL,
    status INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    key BLOB,
    body BLOB,
    reason TEXT NOT NULL,
    call BLOB NOT NULL
) STRICT;

-- Remembered keys. A key with a dead letter's id was refused. Otherwise its call is waiting, or was accepted if `calls`
-- has no row with its id. So accepting a call changes nothing in this table, where nearly every row is on a different
-- page.
CREATE TABLE keys (
    key BLOB PRIMARY KEY,
    body BLOB NOT NULL,
    call_id INTEGER NOT NULL,
    dead_letter_id INTEGER
) STRICT, WITHOUT ROWID;

-- Keys of settled calls, in the order of settling; keys are forgotten from the head. A row whose key belongs to another
-- call by now, because its dead letter was replayed, deletes no key.
CREATE TABLE settled_keys (
    seq INTEGER PRIMARY KEY,
    settled_at INTEGER NOT NULL,
    key BLOB NOT NULL,
    call_id INTEGER NOT NULL
) STRICT;

-- One row: the row counts, so that a start need not count.
CREATE TABLE counters (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last_id INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    dead_letters INTEGER NOT NULL,
    keys INTEGER NOT NULL
) STRICT;

INSERT INTO counters VALUES (1, 0, 0, 0, 0);
