//! The way to Segment, asked once and told step by step: for the command `check`.
//!
//! The request is made as those of a relay are, by the same client, with the same proxy and the same certificate authorities,
//! so nothing passes here that a relay cannot do. It is a batch without calls.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use reqwest::Response;
use reqwest::header::DATE;
use reqwest::tls::{TlsInfo, Version};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::batch::Batch;
use super::certificate::Certificate;
use super::retry::{ResponseClass, SendResult};
use super::transport::{Transport, read_response};
use crate::config::{SegmentSettings, WriteKeys};
use crate::segment::{FailureReason, SegmentError};

/// The steps of a request, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The connection to the first machine on the way: Segment's, or the proxy.
    Tcp,
    /// The tunnel through the proxy.
    Proxy,
    /// The encryption of what Segment gets.
    Tls,
    /// The request and its answer.
    Http,
}

/// The end of a request without an answer.
pub struct NoAnswer {
    pub stage: Stage,
    pub reason: FailureReason,
    /// The innermost error in the words of its library. It holds no URL.
    pub detail: String,
}

/// An answer, whatever it says.
pub struct Answer {
    pub status: u16,
    /// What it means for calls. `None`: there was no write key, and nothing was posted.
    pub meaning: Option<Result<(), SegmentError>>,
    /// The address that the connection is to, if the client says so.
    pub peer: Option<SocketAddr>,
    pub tls: Option<Tls>,
    /// The time of the one who answers, to the second.
    pub date: Option<SystemTime>,
    /// When the request began, by our clock, and how long the head of the answer took.
    pub asked_at: SystemTime,
    pub took: Duration,
}

/// How the connection to Segment is encrypted.
pub struct Tls {
    /// As in `TLS 1.3`.
    pub version: &'static str,
    pub certificate: Option<Certificate>,
}

/// The host and port that a connection is made to first: those of the proxy, if there is one.
fn first_hop(settings: &SegmentSettings) -> String {
    match &settings.proxy {
        Some(proxy) => proxy.authority().to_owned(),
        None => {
            let endpoint = &settings.endpoint;
            // It is http or https, so it has a port and a host.
            let port = endpoint.port_or_known_default().unwrap_or_default();
            format!("{}:{port}", endpoint.host_str().unwrap_or_default())
        }
    }
}

/// The host and port that a connection is made to first, and its addresses.
///
/// # Errors
/// If there is none, or the name servers do not answer within an attempt's time.
pub async fn lookup(settings: &SegmentSettings) -> (String, io::Result<Vec<SocketAddr>>) {
    let host = first_hop(settings);
    let found = match timeout(settings.timeout, lookup_host(&host)).await {
        Ok(found) => found.map(Iterator::collect),
        Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name servers did not answer in time")),
    };
    (host, found)
}

/// Asks Segment once, and says how far the request came. Without a write key nothing is posted.
///
/// # Errors
/// The outer error if HTTPS cannot be set up.
pub async fn ask(settings: &SegmentSettings, has_key: bool) -> anyhow::Result<Result<Answer, NoAnswer>> {
    let keys = WriteKeys::new(settings.write_key.clone());
    let transport = Transport::with_client(settings.clone(), &keys, |client| client.tls_info(true))?;
    let (asked_at, begun) = (SystemTime::now(), Instant::now());
    let deadline = begun + settings.timeout;
    let batch = Batch::default();
    let head = if has_key {
        transport.head_of_answer(transport.post(&batch, &settings.write_key, 0), deadline).await
    } else {
        let request = transport.connections.client().get(transport.url.clone());
        transport.head_of_answer(request.send(), deadline).await
    };
    let response = match head {
        Ok(response) => response,
        Err(SendResult::NotSent(failure)) => {
            let (stage, reason) = stage_of(settings, &transport, failure.reason).await;
            return Ok(Err(NoAnswer { stage, reason, detail: failure.detail }));
        }
        Err(result) => return Ok(Err(no_answer(result))),
    };
    let mut answer = Answer {
        status: response.status().as_u16(),
        meaning: None,
        peer: response.remote_addr(),
        tls: response.extensions().get().map(tls),
        date: date(&response),
        asked_at,
        took: begun.elapsed(),
    };
    if has_key {
        let result = read_response(response, deadline).await;
        if let SendResult::NoResponse(_) = result {
            return Ok(Err(no_answer(result)));
        }
        answer.meaning = Some(match transport.classify(&result) {
            ResponseClass::Retryable { error, .. } | ResponseClass::ConfigurationError(error) => Err(error),
            _ => Ok(()),
        });
    }
    Ok(Ok(answer))
}

fn no_answer(result: SendResult) -> NoAnswer {
    let (reason, detail) = match result {
        SendResult::NotSent(failure) | SendResult::NoResponse(failure) => (failure.reason, failure.detail),
        SendResult::Response { status, .. } => (FailureReason::Status(status), String::new()),
    };
    NoAnswer { stage: Stage::Http, reason, detail }
}

/// The step at which a connection failed. The client does not tell all of them apart, so the earlier steps are tried again.
async fn stage_of(settings: &SegmentSettings, transport: &Transport, reason: FailureReason) -> (Stage, FailureReason) {
    match reason {
        FailureReason::Dns | FailureReason::ConnectionRefused | FailureReason::Unreachable => {
            return (Stage::Tcp, reason);
        }
        FailureReason::Proxy(Some(_)) => return (Stage::Proxy, reason),
        _ => {}
    }
    match timeout(settings.timeout, TcpStream::connect(first_hop(settings))).await {
        Ok(Ok(_connected)) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return (Stage::Tcp, FailureReason::ConnectionRefused);
        }
        _ => return (Stage::Tcp, reason),
    }
    let stage = match (settings.endpoint.scheme(), &settings.proxy) {
        ("https", None) => Stage::Tls,
        ("https", Some(_)) => {
            let (client, deadline) = (transport.connections.client(), Instant::now() + settings.timeout);
            let status = transport.tunnel_refusal.status(&client, &transport.url, deadline).await;
            if status.is_some_and(|status| (200..300).contains(&status)) { Stage::Tls } else { Stage::Proxy }
        }
        (_, None) => Stage::Tcp,
        (_, Some(_)) => Stage::Proxy,
    };
    (stage, reason)
}

fn tls(info: &TlsInfo) -> Tls {
    let version = match info.version() {
        Some(Version::TLS_1_2) => "TLS 1.2",
        Some(Version::TLS_1_3) => "TLS 1.3",
        _ => "TLS",
    };
    Tls { version, certificate: info.peer_certificate().and_then(Certificate::read) }
}

fn date(response: &Response) -> Option<SystemTime> {
    let text = response.headers().get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()
}
