//! The table of metrics. A row has the name, what the metric counts, and the fields with their labels.
//!
//! The words are the `# HELP` of the text format, and the cell of the table in docs/metrics.md.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::declare::{Counters, histogram, opts, registered};

/// Seconds, from a disk that syncs to its own memory to one that hangs.
const COMMIT_SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// Seconds, from a call that is stored in memory alone to the default of RELAY_REQUEST_TIMEOUT.
const REQUEST_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

metrics! {
    "Requests" {
        "segment_relay_requests_total": "Customers posted to `/customers`, by outcome. A request with several counts each of them. \
            One that is refused as a whole counts once, and so does the 405 to other methods. `result` is `accepted` (200), \
            `stored` (202), `refused` (4xx) or `failed` (5xx). `code` is the error's `code`, empty for a success." =>
            requests_accepted: IntCounter(&[("result", "accepted"), ("code", "")]),
            requests_stored: IntCounter(&[("result", "stored"), ("code", "")]),
            requests_refused: Counters(&[("result", "refused")], "code", &[
                "bad_request", "gave_up", "idempotency_key_reused", "invalid_json", "invalid_payload",
                "message_too_large", "method_not_allowed", "request_timeout", "segment_rejected", "unauthorized",
                "unsupported_media_type",
            ]),
            requests_failed: Counters(&[("result", "failed")], "code", &[
                "internal_error", "outbox_timeout", "overloaded", "segment_misconfigured", "segment_rate_limited",
                "segment_timeout", "segment_unauthorized", "segment_unavailable", "shutting_down",
            ]);
        "segment_relay_request_duration_seconds": "Time from the head of a request to `/customers` to its answer, by the status of \
            the answer. A request with several customers counts once. One that is refused for its `Host` does not count." =>
            request_seconds_accepted: Histogram(&[("result", "accepted")], REQUEST_SECONDS),
            request_seconds_stored: Histogram(&[("result", "stored")], REQUEST_SECONDS),
            request_seconds_refused: Histogram(&[("result", "refused")], REQUEST_SECONDS),
            request_seconds_failed: Histogram(&[("result", "failed")], REQUEST_SECONDS);
        "segment_relay_requests_in_flight": "Places in flight that are taken, by `POST /customers` and by sources. A request with \
            several customers takes one for each 32 KiB that it has in memory, at most 64." =>
            requests_in_flight: IntGauge(&[]);
        "segment_relay_requests_in_flight_max": "Places in flight: `RELAY_MAX_IN_FLIGHT`." => requests_in_flight_max: IntGauge(&[]);
        "segment_relay_requests_waiting": "Places in flight of callers who wait for the outcome of a stored call (`Prefer: wait`)." =>
            requests_waiting: IntGauge(&[]);
        "segment_relay_requests_waiting_max": "The most places in flight of such callers: half of all. Who finds none is answered \
            202 at once." => requests_waiting_max: IntGauge(&[]);
        "segment_relay_body_room_used_bytes": "Memory that the bodies of requests take, beside the first KiB of each, by `route`: \
            `customers` or `sources`." =>
            body_room_customers: IntGauge(&[("route", "customers")]),
            body_room_sources: IntGauge(&[("route", "sources")]);
        "segment_relay_body_room_max_bytes": "The most memory that the bodies of requests may take. Large bodies leave a part of it \
            to small ones." =>
            body_room_max_customers: IntGauge(&[("route", "customers")]),
            body_room_max_sources: IntGauge(&[("route", "sources")]);
        "segment_relay_admin_requests_total": "Operators' requests: `succeeded` (2xx), `failed` (any other answer, or none), \
            `unauthorized` (401). One that is refused for its `Host` is `failed`." =>
            admin_succeeded: IntCounter(&[("result", "succeeded")]),
            admin_failed: IntCounter(&[("result", "failed")]),
            admin_unauthorized: IntCounter(&[("result", "unauthorized")]);
        "segment_relay_log_lines_dropped_total": "Lines that are not in the log. `limit`: over the limit of their kind. `backlog`: \
            nobody read the output in time." =>
            log_lines_over_limit: IntCounter(&[("reason", "limit")]),
            log_lines_in_backlog: IntCounter(&[("reason", "backlog")]);
        "segment_relay_notifications_total": "Notifications (`RELAY_NOTIFY_URL`). `sent`: the receiver took it. `failed`: it was given \
            up, or a newer one of its kind took its place. `suppressed`: one of its kind was sent shortly before." =>
            notifications_sent: IntCounter(&[("result", "sent")]),
            notifications_failed: IntCounter(&[("result", "failed")]),
            notifications_suppressed: IntCounter(&[("result", "suppressed")]);
        "segment_relay_panics_total": "Panics of request handlers. Each was answered 500 `internal_error`." => panics: IntCounter(&[]);
    }
    "Connections" {
        "segment_relay_connections": "Open connections, by `listener`: `senders` or, with `RELAY_ADMIN_LISTEN`, `operators`." =>
            connections: IntGaugeVec(&["listener"]);
        "segment_relay_connections_max": "The most connections at once. Further ones wait in the system's backlog. It is lower where \
            the limit of open files is low." => connections_max: IntGaugeVec(&["listener"]);
        "segment_relay_connections_accepted_total": "Connections accepted." => connections_accepted: IntCounterVec(&["listener"]);
        "segment_relay_connections_ended_total": "Connections that the relay ended early. `room`: others needed its place. `slow`: its \
            peer neither ended the head of a request nor read an answer in time." =>
            connections_ended: IntCounterVec(&["listener", "reason"]);
    }
    "Sources" {
        "segment_relay_source_events_total": "Answers at `/sources/{source}`: `mapped` (the event made customers, and they were taken), \
            `none` (it made none), `unmapped` (it is a dead letter), `refused` (4xx), `unauthorized` (401), `failed` (5xx). Handshakes \
            do not count." => source_events: IntCounterVec(&["source", "outcome"]);
        "segment_relay_source_request_duration_seconds": "Time from the head of a request to its answer. Handshakes do not count." =>
            source_request_seconds: HistogramVec(&["source"], REQUEST_SECONDS);
        "segment_relay_source_filter_duration_seconds": "Time from an event's place in the queue of its source to the end of its \
            filter." =>
            // From one round trip to a worker to the time that a filter has.
            source_filter_seconds: HistogramVec(
                &["source"],
                [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]
            );
        "segment_relay_source_filter_queue_events": "Events that wait for the filter of their source, at most 512." =>
            source_filter_queue: IntGaugeVec(&["source"]);
        "segment_relay_source_waiting_calls": "Stored calls of the source that are not settled." => source_calls: IntGaugeVec(&["source"]);
        "segment_relay_source_waiting_bytes": "Bytes of these calls." => source_bytes: IntGaugeVec(&["source"]);
        "segment_relay_map_worker_restarts_total": "Processes for filters that ended and were replaced: after a `time` of more than 1 s \
            for an event, for want of `memory`, or by a `crash`, such as an overflow of the stack or a kill from outside." =>
            map_workers_out_of_time: IntCounter(&[("reason", "time")]),
            map_workers_out_of_memory: IntCounter(&[("reason", "memory")]),
            map_workers_crashed: IntCounter(&[("reason", "crash")]);
    }
    "Calls and Segment" {
        "segment_relay_calls_total": "Calls by their end: `accepted`, `refused` for good, `failed` (certainly not accepted), `unknown` \
            (may have been accepted), `withdrawn` (the caller left before the call was sent)." =>
            calls_accepted: IntCounter(&[("result", "accepted")]),
            calls_refused: IntCounter(&[("result", "refused")]),
            calls_failed: IntCounter(&[("result", "failed")]),
            calls_unknown: IntCounter(&[("result", "unknown")]),
            calls_withdrawn: IntCounter(&[("result", "withdrawn")]);
        "segment_relay_calls_waiting": "Calls in memory that wait for a request to Segment." => calls_waiting: IntGauge(&[]);
        "segment_relay_segment_attempts_total": "Requests to Segment by what the answer means: `accepted`, `refused`, `rate_limited`, \
            `unauthorized`, `misconfigured`, `unavailable`, `unknown` (there was no answer, or a gateway said 502 or 504), `exhausted` \
            (Segment reported too many retries)." =>
            attempts: Counters(&[], "result", &[
                "accepted", "exhausted", "misconfigured", "rate_limited", "refused", "unauthorized", "unavailable",
                "unknown",
            ]);
        "segment_relay_segment_attempt_duration_seconds": "Duration of a request to Segment, to the end of its answer." =>
            // From a stand-in for Segment on the same machine to the default of SEGMENT_TIMEOUT.
            attempt_seconds: Histogram(&[], [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]);
        "segment_relay_batch_calls": "Calls in a request to Segment." =>
            // Up to Segment's limit of 2,500 a request.
            batch_calls: Histogram(&[], [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1000.0, 2500.0]);
        "segment_relay_slots_busy": "Requests to Segment in flight, at most `SEGMENT_MAX_CONCURRENCY`." => slots_busy: IntGauge(&[]);
        "segment_relay_gate_shut": "1 while one call at a time asks whether an outage is over, or nothing is sent because of a rate \
            limit." => gate_shut: IntGauge(&[]);
        "segment_relay_segment_failures_in_a_row": "Requests to Segment that failed since the last one that was accepted. Refusals do not \
            count, nor do failures of parked calls. With calls of few users this alone shows an outage: the gate stays open." =>
            failures_in_a_row: IntGauge(&[]);
        "segment_relay_write_keys_refused": "Write keys that Segment refuses while it may accept another one. `/status` names their \
            sources. With a single key the gate is shut instead." => write_keys_refused: IntGauge(&[]);
    }
    "The outbox" {
        "segment_relay_outbox_calls": "Stored calls that are not settled." => outbox_calls: IntGauge(&[]);
        "segment_relay_outbox_oldest_call_age_seconds": "Age of the oldest of these." => outbox_oldest_seconds: IntGauge(&[]);
        "segment_relay_outbox_size_bytes": "Bytes that calls, keys and dead letters take. A file, and a copy of it, also has free pages." => outbox_bytes: IntGauge(&[]);
        "segment_relay_outbox_max_bytes": "The most of these bytes: `RELAY_OUTBOX_MAX_SIZE`. 0 without an outbox." =>
            outbox_max_bytes: IntGauge(&[]);
        "segment_relay_outbox_unwritable": "1 while no call can be stored: the outbox is full, or it cannot be written. `/readyz` gives \
            the reason." => outbox_unwritable: IntGauge(&[]);
        "segment_relay_outbox_log_bytes": "Length of the file's write-ahead log. It is 16 to 64 MiB at most, unless a reader of the file \
            keeps it from being emptied. 0 with PostgreSQL." => outbox_log_bytes: IntGauge(&[]);
        "segment_relay_outbox_stored_total": "Calls stored." => outbox_stored: IntCounter(&[]);
        "segment_relay_outbox_settled_total": "Stored calls that were settled and synced: `accepted`, `refused` (a dead letter), or \
            `gave_up` (a dead letter that Segment did not refuse)." =>
            outbox_accepted: IntCounter(&[("result", "accepted")]),
            outbox_refused: IntCounter(&[("result", "refused")]),
            outbox_gave_up: IntCounter(&[("result", "gave_up")]);
        "segment_relay_outbox_share_exhausted_total": "Calls answered 503 because a share of the outbox is used up: `user` (an eighth, of \
            one user's calls), `parked` (half, of parked calls and dead letters) or `source` (a quarter once the outbox is half full, of \
            the calls of one source or of `POST /customers`)." =>
            share_exhausted_user: IntCounter(&[("share", "user")]),
            share_exhausted_parked: IntCounter(&[("share", "parked")]),
            share_exhausted_source: IntCounter(&[("share", "source")]);
        "segment_relay_outbox_commit_duration_seconds": "Duration of a transaction, its sync included." =>
            outbox_commit_seconds: Histogram(&[], COMMIT_SECONDS);
        "segment_relay_outbox_sync_duration_seconds": "Duration of the commit alone: the write of the log and its sync." =>
            outbox_sync_seconds: Histogram(&[], COMMIT_SECONDS);
        "segment_relay_outbox_commit_commands": "Commands in a transaction." =>
            // Up to the most that one transaction takes.
            outbox_commit_commands: Histogram(&[], [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0, 1000.0]);
        "segment_relay_parked_users": "Users whose first stored call fails on its own." => parked_users: IntGauge(&[]);
        "segment_relay_parked_calls": "Stored calls kept apart: those of parked users, and of users with so many calls that they are read \
            a part at a time." => parked_calls: IntGauge(&[]);
        "segment_relay_parked_bytes": "Bytes of the calls of parked users." => parked_bytes: IntGauge(&[]);
        "segment_relay_users_parked_total": "Users who were parked." => users_parked: IntCounter(&[]);
        "segment_relay_users_woken_total": "Parked users whose first call was accepted, refused or given up." =>
            users_woken: IntCounter(&[]);
        "segment_relay_dead_letters": "Dead letters in the outbox." => dead_letters: IntGauge(&[]);
        "segment_relay_dead_letter_bytes": "Bytes of the dead letters." => dead_letter_bytes: IntGauge(&[]);
        "segment_relay_dead_letters_replayed_total": "Dead letters put back into the outbox." => dead_letters_replayed: IntCounter(&[]);
        "segment_relay_dead_letters_discarded_total": "Dead letters that operators deleted." => dead_letters_discarded: IntCounter(&[]);
        "segment_relay_dead_letters_pushed_out_total": "Dead letters, the oldest first, deleted because they and parked calls take more \
            than half of the outbox." => dead_letters_pushed_out: IntCounter(&[]);
        "segment_relay_dead_letters_expired_total": "Dead letters deleted because of their age (`RELAY_DEAD_LETTER_RETENTION`)." =>
            dead_letters_expired: IntCounter(&[]);
    }
    "Several relays with one outbox" {
        "segment_relay_fleet_delivering": "1 while this relay delivers the calls of an outbox in PostgreSQL. One of its relays does; \
            for a second at a take-over two may say so. 0 with an outbox in a file." =>
            fleet_delivering: IntGauge(&[]);
        "segment_relay_fleet_members": "Relays that have the outbox: each was seen within the last minute. The same at each relay." =>
            fleet_members: IntGauge(&[]);
        "segment_relay_fleet_tenures": "How often a relay began to deliver, since the tables were made. The same at each relay." =>
            fleet_tenures: IntGauge(&[]);
        "segment_relay_fleet_database_reachable": "1 while this relay can reach the outbox's database." =>
            fleet_database_reachable: IntGauge(&[]);
        "segment_relay_fleet_calls_table_bytes": "Bytes on disk of the table of waiting calls and its index. Far more than the calls take: \
            rows that were deleted could not be removed. The same at each relay." => fleet_calls_table_bytes: IntGauge(&[]);
        "segment_relay_fleet_oldest_transaction_seconds": "Age of the oldest transaction in the database. No row that was deleted since \
            can be removed. The same at each relay." => fleet_oldest_transaction_seconds: IntGauge(&[]);
        "segment_relay_fleet_appends_repeated_total": "Commits that were repeated because it was not known whether calls are stored." =>
            fleet_appends_repeated: IntCounter(&[]);
    }
    "The process" {
        "segment_relay_build_info": "Always 1. `version` is the version of the relay." =>
            build_info: IntGauge(&[("version", env!("CARGO_PKG_VERSION"))]);
    }
}
