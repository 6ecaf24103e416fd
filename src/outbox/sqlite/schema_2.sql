-- Version 2. The statements are compared with those in the file (schema.rs): a change is a new version with a migration.

-- The key of a refused call is remembered for as long as its dead letter is there, and no longer. Version 1 kept the keys
-- of dead letters that were discarded, until their window ended, and forgot those of old dead letters.
-- The first condition counts: NULL is "not in" an empty list, and the key of a call that was not refused has no dead letter.
DELETE FROM keys WHERE dead_letter_id IS NOT NULL AND dead_letter_id NOT IN (SELECT id FROM dead_letters);
-- A later call may have the key by now: another dead letter, the newest of which wins, or one that was not refused. No row
-- of `calls` or `settled_keys` has the id 0.
INSERT OR IGNORE INTO keys (key, body, call_id, dead_letter_id)
    SELECT key, body, 0, id FROM dead_letters WHERE key IS NOT NULL AND body IS NOT NULL ORDER BY id DESC;
UPDATE counters SET keys = (SELECT count(*) FROM keys);

-- After the clock was set back: rows of `settled_keys` from the future with a `seq` up to the first number count as settled
-- at the second, a time.
ALTER TABLE counters ADD COLUMN set_back_seq INTEGER;
ALTER TABLE counters ADD COLUMN set_back_noticed_at INTEGER;
