//! The rows of those who are told by the relay: of what wakes somebody, and of traces. Without them calls arrive all the same, so
//! their trouble is a warning.

use super::row::Row;
use super::way::SETTINGS_OF_WAYS;
use crate::config::{NotifySettings, Problems, Settings, TraceSettings};
use crate::http_client::client_builder;
use crate::notify::NOTIFY_TIMEOUT;
use crate::telemetry;

const NOTIFICATIONS: &str = "notifications";
const TRACES: &str = "traces";

pub(super) async fn rows(settings: &Settings, problems: &Problems) -> Vec<Row> {
    let notifications = match &settings.notify {
        _ if problems.name_any(&["RELAY_NOTIFY"]) => Row::skipped(NOTIFICATIONS, "a setting of RELAY_NOTIFY is wrong"),
        _ if problems.name_any(&SETTINGS_OF_WAYS) => Row::skipped(NOTIFICATIONS, "a setting of the way is wrong"),
        None => Row::skipped(NOTIFICATIONS, "RELAY_NOTIFY_URL is not set"),
        Some(notify) => notified(notify).await,
    };
    let traces = match &settings.traces {
        _ if problems.name_any(&["OTEL_"]) => Row::skipped(TRACES, "a setting of OTEL is wrong"),
        _ if problems.name_any(&SETTINGS_OF_WAYS) => Row::skipped(TRACES, "a setting of the way is wrong"),
        None => Row::skipped(TRACES, "OTEL_EXPORTER_OTLP_ENDPOINT is not set, or OTEL_SDK_DISABLED is true"),
        Some(traces) => traced(traces.clone()).await,
    };
    vec![notifications, traces]
}

/// Asks with HEAD, which wakes nobody. Any answer shows that the way is open.
async fn notified(notify: &NotifySettings) -> Row {
    // The path and the query may be a secret.
    let receiver = notify.url.origin().ascii_serialization();
    let asked = async {
        let client = client_builder(&notify.url, notify.proxy.as_ref())?.timeout(NOTIFY_TIMEOUT).build()?;
        client.head(notify.url.clone()).send().await
    };
    match asked.await {
        Ok(answer) => Row::ok(
            NOTIFICATIONS,
            format!("{receiver} answered {} to HEAD; no notification was sent", answer.status().as_u16()),
        ),
        Err(error) => {
            Row::warning(NOTIFICATIONS, format!("{receiver} cannot be reached: {}", root(error.without_url())))
                .advise("Nobody is told what wakes somebody: look at RELAY_NOTIFY_URL, firewalls and proxies.")
        }
    }
}

/// Exports one span.
async fn traced(settings: TraceSettings) -> Row {
    let exported = tokio::task::spawn_blocking(move || telemetry::export_one_span(&settings)).await;
    match exported.map_err(anyhow::Error::from).flatten() {
        Ok(()) => Row::ok(TRACES, "the receiver took a span named check"),
        Err(error) => Row::warning(TRACES, format!("{error:#}")).advise(
            "There are no traces: look at OTEL_EXPORTER_OTLP_ENDPOINT, and at its receiver's port for HTTP, often 4318.",
        ),
    }
}

/// The innermost words of an error, which say the most.
fn root(error: reqwest::Error) -> String {
    let error = anyhow::Error::from(error);
    error.root_cause().to_string()
}
