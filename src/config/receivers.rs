//! The settings of those who are told by the relay: of what wakes somebody, and of traces.

use std::fmt;

use url::Url;

use super::auth::AuthSettings;
use super::proxy::Proxy;

/// Whom to tell what wakes somebody.
#[derive(Clone)]
pub struct NotifySettings {
    /// Its path and query may be a secret.
    pub url: Url,
    /// The proxy on the way there.
    pub proxy: Option<Proxy>,
    /// The secrets of Standard Webhooks that sign.
    pub secrets: AuthSettings,
}

impl fmt::Debug for NotifySettings {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotifySettings({})", self.url.origin().ascii_serialization())
    }
}

/// Where traces go. The exporter reads OpenTelemetry's other standard variables itself.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The base URL, without `/v1/traces`.
    pub endpoint: Url,
    /// The proxy on the way there.
    pub proxy: Option<Proxy>,
}
