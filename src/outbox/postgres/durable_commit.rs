//! What begins each transaction that promises something.

/// Makes the commit of this transaction wait for what it must, whatever is set for the role or the database; and makes the server say
/// if it ends that wait early, which it does by a warning alone.
macro_rules! settings {
    () => {
        "set_config('synchronous_commit',
            CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)
        || set_config('client_min_messages', 'warning', true)"
    };
}
pub(super) use settings;

/// Begins a statement with [`settings`]. The statement needs `level`.
macro_rules! level {
    () => {
        concat!(
            "WITH level AS MATERIALIZED (SELECT ",
            $crate::outbox::postgres::durable_commit::settings!(),
            " AS now), "
        )
    };
}
pub(super) use level;
