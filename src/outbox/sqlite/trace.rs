//! The column `trace` of a waiting call: the trace context in which the call came.

use std::sync::Arc;

use rusqlite::types::ValueRef;

use crate::segment::Call;
use crate::telemetry::TraceContext;

/// The column of a call.
pub(super) fn trace_column(call: &Call) -> Option<[u8; TraceContext::BYTES]> {
    call.trace().map(|trace| trace.to_bytes())
}

/// The context in a column. `None` if it holds none: no call is lost for its trace.
pub(super) fn trace_of(column: ValueRef<'_>) -> Option<Arc<TraceContext>> {
    column.as_blob().ok().and_then(TraceContext::from_bytes).map(Arc::new)
}
