//! The reason of a request that got no answer, found in the chain of the HTTP client's errors.

use std::error::Error;
use std::io;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use tower::Service;

use crate::segment::FailureReason;

/// The error of a tunnel through a proxy. `hyper_util` has it public under this name alone.
type TunnelError = <Tunnel<HttpConnector> as Service<Uri>>::Error;

/// Why there is no answer. No `Debug`: the detail is for the operator who asked for a check.
pub(super) struct Failure {
    pub(super) reason: FailureReason,
    /// The innermost error in the words of its library. It holds no URL.
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(reason: FailureReason) -> Self {
        Self { reason, detail: reason.sentence().to_owned() }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let reason = reason(&error);
        Self { reason, detail: anyhow::Error::new(error).root_cause().to_string() }
    }
}

fn reason(error: &reqwest::Error) -> FailureReason {
    let tunnel = causes(error).find_map(|cause| cause.downcast_ref::<TunnelError>());
    if let Some(tunnel) = tunnel {
        return FailureReason::Proxy(matches!(tunnel, TunnelError::ProxyAuthRequired).then_some(407));
    }
    if error.is_dns() {
        return FailureReason::Dns;
    }
    if error.is_timeout() {
        return FailureReason::Timeout;
    }
    // The innermost cause says most.
    causes(error).filter_map(reason_of).last().unwrap_or(FailureReason::Other)
}

/// The error and its causes, outermost first. An `io::Error` hides the error in it from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

fn reason_of(cause: &(dyn Error + 'static)) -> Option<FailureReason> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(match tls {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => FailureReason::Certificate,
            _ => FailureReason::Tls,
        });
    }
    if let Some(http) = cause.downcast_ref::<hyper::Error>() {
        return match () {
            () if http.is_parse() => Some(FailureReason::NotHttp),
            () if http.is_incomplete_message() || http.is_closed() || http.is_canceled() => {
                Some(FailureReason::ConnectionReset)
            }
            () => None,
        };
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused => Some(FailureReason::ConnectionRefused),
        io::ErrorKind::TimedOut => Some(FailureReason::Timeout),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(FailureReason::ConnectionReset),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            Some(FailureReason::Unreachable)
        }
        _ => None,
    }
}
