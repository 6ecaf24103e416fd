-- Version 1. The text is compared with what the file says (schema.rs), so a change here is a new version with a migration.

-- Calls that wait. What is looked at for skipped rows stands before the call, which may go on into overflow pages.
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    key BLOB,
    call BLOB NOT NULL
) STRICT;

-- Calls that Segment refused, with what is needed to remember their key again when they are replayed.
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

-- Keys that are remembered. With a dead letter's id: refused. Else, while the call waits: waiting. Else: accepted. So
-- accepting a call changes nothing here, where every row is on a page of its own.
CREATE TABLE keys (
    key BLOB PRIMARY KEY,
    body BLOB NOT NULL,
    call_id INTEGER NOT NULL,
    dead_letter_id INTEGER
) STRICT, WITHOUT ROWID;

-- Keys whose call was settled, in the order of settling: forgotten from the head. One whose key belongs to another call
-- by now (its dead letter was replayed) forgets nothing.
CREATE TABLE settled_keys (
    seq INTEGER PRIMARY KEY,
    settled_at INTEGER NOT NULL,
    key BLOB NOT NULL,
    call_id INTEGER NOT NULL
) STRICT;

-- One row: how much there is, so that a start need not count.
CREATE TABLE counters (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last_id INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    dead_letters INTEGER NOT NULL,
    keys INTEGER NOT NULL
) STRICT;

INSERT INTO counters VALUES (1, 0, 0, 0, 0);
