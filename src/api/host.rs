//! Refuses a request whose host is missing, ambiguous or invalid, on every path (RFC 9112, section 3.2; RFC 9113, section
//! 8.3.1). A proxy in front may route by the host, and must not read another one than the relay.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{Request, Response, Version};
use axum::response::IntoResponse;
use futures_util::future::Either;
use tower::Service;

use super::error::{ApiError, ApiErrorCode};
use super::state::AppState;
use super::{admin, customers};

/// A service that gets only requests with a sound host.
#[derive(Clone)]
pub(super) struct WithHost<S> {
    pub(super) inner: S,
    pub(super) state: Arc<AppState>,
    /// Whether operators' routes are at this address.
    pub(super) has_operators: bool,
}

impl<S, B> Service<Request<B>> for WithHost<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Err(message) = check(&request) else { return Either::Left(self.inner.call(request)) };
        let response = ApiError::new(ApiErrorCode::BadRequest, message).into_response();
        if request.uri().path() == customers::PATH {
            return Either::Right(ready(Ok(customers::count(&self.state.metrics, response))));
        }
        if self.has_operators {
            admin::record_refused(&self.state, &request, response.status());
        }
        Either::Right(ready(Ok(response)))
    }
}

/// # Errors
/// What is wrong with the request's host.
fn check<B>(request: &Request<B>) -> Result<(), &'static str> {
    let is_http2 = request.version() >= Version::HTTP_2;
    // Of a target with a scheme and a host, or `:authority`.
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    if target.is_some_and(|target| !is_host(target)) {
        return Err("the host of the request's target is invalid");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err("there is more than one Host header"),
        (Some(host), _) if !is_host(host.as_bytes()) => {
            Err("the Host header is invalid: it is a host name or an address, and perhaps a port")
        }
        (Some(host), _) if is_http2 && target.is_some_and(|target| !target.eq_ignore_ascii_case(host.as_bytes())) => {
            Err("the Host header differs from :authority")
        }
        // HTTP/1.0 has no Host header.
        (None, _) if request.version() == Version::HTTP_11 || (is_http2 && target.is_none()) => {
            Err("the Host header is missing")
        }
        _ => Ok(()),
    }
}

/// Whether this is `uri-host [":" port]` (RFC 9110, section 7.2), with a host that is not empty. A comma is refused though a
/// name may hold one: there are two hosts where a proxy has joined two headers.
fn is_host(text: &[u8]) -> bool {
    let find = |wanted| text.iter().position(|byte| *byte == wanted);
    let end = if text.starts_with(b"[") { find(b']').map(|bracket| bracket + 1) } else { find(b':') };
    let (host, port) = text.split_at(end.unwrap_or(text.len()));
    let is_host = match host {
        [b'[', address @ .., b']'] => std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
        name => !name.is_empty() && is_name(name),
    };
    is_host && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

/// `reg-name` of RFC 3986, section 3.2.2, without a comma. An IPv4 address is one.
fn is_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte) => rest,
            _ => return false,
        };
    }
}

/// The port may be empty.
fn is_port(port: &[u8]) -> bool {
    let is_number = port.iter().all(u8::is_ascii_digit);
    is_number && (port.is_empty() || std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "relay",
            "RELAY.example.com",
            "relay.example.com.",
            "segment_relay",
            "relay:8080",
            "relay:",
            "relay:0",
            "relay:65535",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:",
            "caf%C3%A9",
            "a~b!c$d&e'f(g)h*i+j;k=l",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "",
            ":",
            ":8080",
            "a b",
            " a",
            "a/b",
            "/",
            "a@b",
            "user:pass@a",
            "a,b",
            "a, b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "<a>",
            "http://a",
            "a:b",
            "a:8080x",
            "a:+80",
            "a:-1",
            "a:65536",
            "a:99999999999",
            "a:80:80",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]8080",
            "[::1]:x",
            "[::1]x",
            "[1]",
            "[127.0.0.1]",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "%",
            "a%2",
            "a%zz",
            "a\0b",
            "a\tb",
            "a|b",
            "a^b",
            "a`b",
            "{a}",
            "caf\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert!(!is_host(b"caf\xe9"));
    }
}
