//! Refuses what a web page of another site can send through somebody's browser to a program on this machine.
//!
//! Browsers say where a request comes from (`Origin`, `Sec-Fetch-Site`). A site that gives its own name the address of this
//! machine (DNS rebinding) is the same site to a browser, but its name stands in `Host`. Other programs, such as curl, send
//! none of this and are not refused.

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

/// Fetch Metadata, <https://www.w3.org/TR/fetch-metadata/>.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The routes, with 403 for cross-site requests. With `is_loopback` a `Host` must name a loopback address too.
pub fn refuse_cross_site<S>(routes: Router<S>, is_loopback: bool) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    routes.layer(from_fn(move |request: Request, next: Next| {
        let refusal = refusal(request.uri(), request.headers(), is_loopback);
        async move {
            match refusal {
                None => next.run(request).await,
                Some(message) => forbidden(message),
            }
        }
    }))
}

fn forbidden(message: &str) -> Response {
    // The shape of the relay's own failures.
    let error = json!({"message": message, "code": "forbidden"});
    (StatusCode::FORBIDDEN, Json(json!({"success": false, "error": error}))).into_response()
}

/// Why a request is refused, if it is.
fn refusal(uri: &Uri, headers: &HeaderMap, is_loopback: bool) -> Option<&'static str> {
    let target = uri.authority().map(|host| Some(host.as_str()));
    let hosts: Vec<_> = target.into_iter().chain(headers.get_all(HOST).iter().map(|host| host.to_str().ok())).collect();
    if is_loopback && !hosts.iter().all(|host| host.is_some_and(names_loopback)) {
        return Some("the Host names no loopback address; use 127.0.0.1 or localhost");
    }
    let is_own = |site: &str| matches!(site, "same-origin" | "none");
    if !headers.get_all(SEC_FETCH_SITE).into_iter().all(|site| site.to_str().is_ok_and(is_own)) {
        return Some("a page of another site, or a link there, sent this request; see Sec-Fetch-Site");
    }
    let host = hosts.first().copied().flatten();
    let is_this = |origin: &str| {
        let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
    };
    if !headers.get_all(ORIGIN).into_iter().all(|origin| origin.to_str().is_ok_and(is_this)) {
        return Some("a page of another site sent this request; see Origin");
    }
    None
}

/// Whether a `Host` names this machine's own loopback address, with any port or none.
fn names_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().to_ascii_lowercase();
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback());
    }
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, Uri};

    use super::{names_loopback, refusal};

    #[test]
    fn loopback_addresses_and_names_under_localhost_are_loopback() {
        for host in ["localhost", "LocalHost:1", "a.localhost:80", "127.0.0.1", "127.1.2.3:4", "[::1]", "[::1]:9"] {
            assert!(names_loopback(host), "{host}");
        }
        assert!(names_loopback("[::ffff:127.0.0.1]:8090"));
        for host in ["", ":80", "a.example", "localhost.a.example", "alocalhost", "127.0.0.1.a.example", "128.0.0.1"] {
            assert!(!names_loopback(host), "{host}");
        }
        for host in ["[::2]", "::1", "localhost@a.example", "a.example@localhost", "localhost/", "0.0.0.0", "[::]"] {
            assert!(!names_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_request_without_host_or_origin_comes_from_no_browser() {
        assert_eq!(refusal(&Uri::from_static("/faults"), &HeaderMap::new(), true), None);
    }

    #[test]
    fn the_authority_of_an_absolute_target_counts_as_a_host() {
        let headers = HeaderMap::from_iter([(super::HOST, "localhost".parse().unwrap())]);
        assert!(refusal(&Uri::from_static("http://a.example/faults"), &headers, true).is_some());
        assert!(refusal(&Uri::from_static("http://localhost/faults"), &headers, true).is_none());
    }

    #[test]
    fn an_origin_is_this_host_in_any_case_and_with_either_scheme() {
        for (host, origin, is_own) in [
            ("localhost:8090", "http://LOCALHOST:8090", true),
            ("sandbox.example", "https://sandbox.example", true),
            ("localhost:8090", "http://localhost", false),
            ("localhost:8090", "null", false),
            ("localhost:8090", "ftp://localhost:8090", false),
        ] {
            let headers = [(super::HOST, host), (super::ORIGIN, origin)];
            let headers = HeaderMap::from_iter(headers.map(|(name, value)| (name, value.parse().unwrap())));
            assert_eq!(refusal(&Uri::from_static("/"), &headers, false).is_none(), is_own, "{host} {origin}");
        }
    }
}
