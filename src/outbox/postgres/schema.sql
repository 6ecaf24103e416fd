-- Bytes that come from callers or from Segment are bytea: text cannot hold NUL. A user is found by user_key, the first 16 bytes of
-- the SHA-256 of the user id, because a user id may be longer than an entry of an index may be.

-- What an id is made of: ((base + transaction) << 16) + place. system: the cluster whose transactions these are.
CREATE TABLE segment_relay.meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    base bigint NOT NULL,
    system bigint NOT NULL
);

-- Who delivers.
CREATE TABLE segment_relay.lease (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    owner bigint NOT NULL,
    epoch bigint NOT NULL,
    expires timestamptz NOT NULL,
    since timestamptz NOT NULL
);
INSERT INTO segment_relay.lease (owner, epoch, expires, since) VALUES (0, 0, '-infinity', now());

CREATE TABLE segment_relay.members (
    relay bigint PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- What was stored, by whom: a commit of unknown outcome is repeated under the same number. n: negative for the calls that an event was
-- replaced by. first: the id before that of the first call.
CREATE TABLE segment_relay.groups (
    relay bigint NOT NULL,
    n bigint NOT NULL,
    first bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relay, n)
);

-- Calls that wait. key: the first 16 bytes of the digest of the idempotency key. trace: the context of the request's trace.
CREATE TABLE segment_relay.calls (
    id bigint PRIMARY KEY,
    user_key bytea NOT NULL,
    user_id bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    key bytea,
    source text,
    trace bytea,
    call bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, vacuum_truncate = off);

-- Calls of parked users, and of users with very many calls.
CREATE TABLE segment_relay.parked_calls (LIKE segment_relay.calls INCLUDING DEFAULTS INCLUDING INDEXES)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, vacuum_truncate = off);
CREATE INDEX parked_calls_user ON segment_relay.parked_calls (user_key, id);

-- Users with calls in parked_calls. since: the first call fails since then (the user is parked); NULL: no call fails, and the calls are
-- read in turns, the user with the smallest turn next. attempts: requests to Segment with the first call. failures: those in which it
-- failed on its own, since the user was parked. status, reason: Segment's last answer to it. retry_at: when it is tried again.
CREATE TABLE segment_relay.parked (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_key bytea NOT NULL UNIQUE,
    user_id bytea NOT NULL,
    calls bigint NOT NULL,
    bytes bigint NOT NULL,
    since timestamptz,
    attempts integer NOT NULL,
    failures integer NOT NULL,
    status integer,
    reason bytea,
    retry_at timestamptz NOT NULL,
    turn bigint NOT NULL
);
CREATE INDEX parked_due ON segment_relay.parked (retry_at, id) WHERE since IS NOT NULL;
CREATE INDEX parked_turn ON segment_relay.parked (turn) WHERE since IS NULL;

-- Idempotency keys. body: the digest of the request's body; a repeat has the same. dead_letter_id: of a call that became one.
CREATE TABLE segment_relay.keys (
    key bytea PRIMARY KEY,
    body bytea NOT NULL,
    call_id bigint NOT NULL,
    dead_letter_id bigint
);

-- Keys of accepted calls, whose windows have begun. source '': POST /customers.
CREATE TABLE segment_relay.settled_keys (
    source text NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    settled_at timestamptz NOT NULL DEFAULT now(),
    key bytea NOT NULL,
    call_id bigint NOT NULL,
    PRIMARY KEY (source, seq)
);

-- Calls that were not accepted, and events that could not be mapped. why: refused (by Segment), gave_up (it failed for too long),
-- operator (one gave it up), unmapped. status: Segment's answer, 0 without one. body: that of the key. headers: those of an event.
CREATE TABLE segment_relay.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bytea,
    stored_at timestamptz NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now(),
    status integer NOT NULL,
    attempts integer NOT NULL,
    key bytea,
    body bytea,
    reason bytea NOT NULL,
    call bytea NOT NULL,
    why text NOT NULL,
    source text,
    headers bytea
);

-- Differences of counts, one row a transaction and source: nothing updates a counter that others wait for. source '': POST /customers.
CREATE TABLE segment_relay.tallies (
    source text NOT NULL,
    waiting bigint NOT NULL DEFAULT 0,
    waiting_bytes bigint NOT NULL DEFAULT 0,
    dead_letters bigint NOT NULL DEFAULT 0,
    dead_letter_bytes bigint NOT NULL DEFAULT 0,
    keys bigint NOT NULL DEFAULT 0,
    parked_users bigint NOT NULL DEFAULT 0,
    parked_calls bigint NOT NULL DEFAULT 0,
    parked_bytes bigint NOT NULL DEFAULT 0
);

-- The sums of the tallies that were folded.
CREATE TABLE segment_relay.totals (LIKE segment_relay.tallies INCLUDING DEFAULTS, PRIMARY KEY (source));

-- What the deliverer says once a second. used_up_users: user_keys whose share is used up.
CREATE TABLE segment_relay.published (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    made_at timestamptz NOT NULL,
    oldest_stored_at timestamptz,
    used_up_users bytea[] NOT NULL
);
INSERT INTO segment_relay.published (made_at, used_up_users) VALUES (now(), '{}');

-- What relays ask of the deliverer. json keeps a text as it is; jsonb takes no NUL.
CREATE TABLE segment_relay.requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asked_at timestamptz NOT NULL DEFAULT now(),
    verb text NOT NULL,
    arguments json NOT NULL,
    answer json
);
