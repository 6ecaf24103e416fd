//! The relay behind nginx and HAProxy, with the configurations of `config/nginx` and `config/haproxy`: what docs/proxies.md says.
//!
//! Addresses, paths of certificates and what only root may do are replaced; all else is what operators copy.

mod fleet;
mod proxy;
mod restart;

use reqwest::Method;

use crate::harness::{Durable, ada, at_last};
pub use proxy::free_port;
use proxy::{KINDS, Kind, Proxy};

/// A relay at a port of its own choice, behind this proxy.
async fn behind(kind: Kind, settings: &[(&str, &str)]) -> (Durable, Proxy) {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let durable = Durable::with(&[&[("RELAY_LISTEN", &*listen)], settings].concat()).await;
    let proxy = Proxy::start(kind, &[listen]).await;
    (durable, proxy)
}

/// How many TCP connections there are, or were a moment ago, to this port.
fn connections_to(port: u16) -> usize {
    let end = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    table.lines().filter(|line| line.split_whitespace().nth(2).is_some_and(|remote| remote.ends_with(&end))).count()
}

#[tokio::test]
async fn a_customer_is_stored_and_the_senders_request_id_comes_back() {
    for kind in KINDS {
        let (durable, proxy) = behind(kind, &[]).await;
        let request = proxy.post(&ada()).header("x-request-id", "sent-7");
        let answer = proxy.send(request).await;
        assert!(answer.is_stored(), "{kind:?}: {answer:?}");
        assert_eq!(answer.header("x-request-id"), Some("sent-7"), "{kind:?}");
        at_last(async || durable.segment().received().await.len() == 1).await;
    }
}

#[tokio::test]
async fn refusals_are_the_relays_own() {
    for kind in KINDS {
        let (_durable, proxy) = behind(kind, &[]).await;
        let answer =
            proxy.send(proxy.request(Method::POST, "/customers").body("{").header("content-type", "application/json"));
        answer.await.assert_failed(400, "invalid_json");
        proxy.send(proxy.request(Method::GET, "/customers")).await.assert_failed(405, "method_not_allowed");
        proxy.send(proxy.request(Method::POST, "/sources/unknown")).await.assert_failed(404, "not_found");
    }
}

#[tokio::test]
async fn a_body_above_a_limit_is_413_in_the_relays_form() {
    for kind in KINDS {
        let (_durable, proxy) = behind(kind, &[]).await;
        // One customer may have 64 KiB, which the relay says. nginx itself refuses what has more than 1 MiB.
        for (length, is_the_relays) in [(70_000, true), (1_200_000, kind != Kind::Nginx)] {
            let body = "x".repeat(length);
            let request =
                proxy.request(Method::POST, "/customers").header("content-type", "application/json").body(body);
            let answer = proxy.send(request).await;
            assert_eq!((answer.status, answer.code()), (413, "message_too_large"), "{kind:?}: {answer:?}");
            assert_eq!(answer.header("x-request-id").is_some(), is_the_relays, "{kind:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn no_path_of_operators_and_no_metric_is_reachable() {
    for kind in KINDS {
        let (durable, proxy) = behind(kind, &[]).await;
        let document = durable.get("/openapi.json").await;
        let paths = document.body["paths"].as_object().expect("paths").keys();
        let shut = paths.filter(|path| !path.starts_with("/customers") && !path.starts_with("/sources/"));
        let tricks =
            ["/", "/sources/../metrics", "/sources/%2e%2e/metrics", "/customers/../status", "/metrics/", "//metrics"];
        let shut: Vec<_> = shut.map(|path| path.replace(['{', '}'], "")).chain(tricks.map(str::to_owned)).collect();
        assert!(shut.len() > 20, "{shut:?}");
        for path in shut {
            for method in ["GET", "POST"] {
                let (status, head) = proxy.raw(method, &path).await;
                assert_eq!(status, 404, "{kind:?}: {method} {path}");
                // The relay's own answers have one.
                assert!(!head.to_ascii_lowercase().contains("x-request-id"), "{kind:?}: {method} {path}: {head}");
            }
        }
        // The relay would have answered.
        assert_eq!(durable.get("/metrics").await.status, 200);
    }
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    for kind in KINDS {
        let (durable, proxy) = behind(kind, &[]).await;
        let before = connections_to(proxy.address().port());
        for _ in 0..20 {
            assert!(proxy.send(proxy.post(&ada())).await.is_stored());
        }
        assert_eq!(connections_to(proxy.address().port()) - before, 1, "{kind:?}");
        assert_eq!(connections_to(durable.relay().address().port()), 1, "{kind:?}");
    }
}
