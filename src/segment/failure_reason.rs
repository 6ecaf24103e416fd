//! Why a request to Segment failed: one of a few words, for logs and for the relay's own messages.

/// The reason of a failed request. It holds nothing that the other side wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The answer has this status.
    Status(u16),
    /// The answer has this status of a success, and a body that is not Segment's.
    Body(u16),
    /// The host has no address, or the name servers did not say.
    Dns,
    /// Nothing listens at the address.
    ConnectionRefused,
    /// There is no way to the address.
    Unreachable,
    /// The connection was reset or closed before the answer was there.
    ConnectionReset,
    /// There was no answer in time.
    Timeout,
    /// The server's certificate is not valid for it.
    Certificate,
    /// TLS failed otherwise.
    Tls,
    /// The proxy made no connection. It said so with this status, if it answered.
    Proxy(Option<u16>),
    /// The answer is not HTTP.
    NotHttp,
    /// None of these.
    Other,
}

impl FailureReason {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Body(_) => "body",
            Self::Dns => "dns",
            Self::ConnectionRefused => "connection_refused",
            Self::Unreachable => "unreachable",
            Self::ConnectionReset => "connection_reset",
            Self::Timeout => "timeout",
            Self::Certificate => "certificate",
            Self::Tls => "tls",
            Self::Proxy(_) => "proxy",
            Self::NotHttp => "not_http",
            Self::Other => "other",
        }
    }

    /// The status of the answer, if there was one.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) | Self::Body(status) => Some(status),
            Self::Proxy(status) => status,
            _ => None,
        }
    }

    /// The same for people.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Status(_) => "its answer is a failure",
            Self::Body(_) => "the body of its answer is not Segment's",
            Self::Dns => "its name could not be resolved",
            Self::ConnectionRefused => "the connection was refused",
            Self::Unreachable => "its address cannot be reached",
            Self::ConnectionReset => "the connection was closed",
            Self::Timeout => "the request timed out",
            Self::Certificate => "its certificate is not valid",
            Self::Tls => "TLS failed",
            Self::Proxy(_) => "the proxy made no connection",
            Self::NotHttp => "its answer is not HTTP",
            Self::Other => "the request failed",
        }
    }
}
