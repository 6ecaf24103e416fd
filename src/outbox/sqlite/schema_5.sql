-- Version 5. The statements are compared with those in the file (schema.rs): a change is a new version with a migration.

-- The trace context of a call's request, as 25 bytes: the ids of the trace and of the span, and the flags of W3C's `traceparent`.
-- NULL: the call is in no trace. Dead letters have none: a replay starts a trace.
ALTER TABLE calls ADD COLUMN trace BLOB;
ALTER TABLE parked_calls ADD COLUMN trace BLOB;
