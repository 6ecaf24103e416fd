//! What begins each statement that stores calls.

/// Begins a statement whose commit nothing makes weaker that is set for the role or the database. The statement needs `level`.
macro_rules! level {
    () => {
        "WITH level AS MATERIALIZED (
            SELECT set_config('synchronous_commit',
                CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true) AS now
        ), "
    };
}
pub(super) use level;
