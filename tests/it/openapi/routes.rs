//! The paths and methods of the document are those of the router.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;

use super::document::Document;
use super::{CUSTOMERS, ask, both, filled};
use crate::harness::App;

#[tokio::test]
async fn every_path_of_the_document_takes_its_methods_and_no_others() {
    let (durable, app) = both().await;
    let document = Document::of(durable.relay()).await;
    for (relay, has_operators) in [(durable.relay(), true), (app.relay(), false)] {
        for (path, mut methods) in document.paths() {
            if methods.contains(&Method::GET) {
                methods.insert(Method::HEAD);
            }
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let answer = ask(relay, method.clone(), &filled(path)).await;
                // A HEAD has no body.
                let is_whole = method != Method::HEAD;
                if document.needs_the_setting(path) && !has_operators {
                    assert_eq!(answer.status, 404, "{method} {path}");
                    if is_whole {
                        document.check_component("NotFound", &answer);
                    }
                    continue;
                }
                if methods.contains(&method) {
                    assert_ne!(answer.status, 405, "{method} {path}");
                    assert_ne!(answer.message(), "there is nothing at this path", "{method} {path}");
                    continue;
                }
                assert_eq!(answer.status, 405, "{method} {path}");
                let allowed = answer.header("allow").unwrap_or_default().split(',');
                let allowed: BTreeSet<_> =
                    allowed.map(|name| Method::from_bytes(name.trim().as_bytes()).unwrap()).collect();
                assert_eq!(allowed, methods, "{path}");
                if is_whole {
                    answer.assert_failed(405, "method_not_allowed");
                    // An operators' answer to a wrong method is described like any other.
                    document.check_component("MethodNotAllowed", &answer);
                }
                assert!(answer.header("x-request-id").is_some(), "{path}");
            }
        }
    }
}

/// Every Rust file of the routes, but for tests and fuzz targets.
fn sources_of_routes() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("tests") || path.ends_with("tests.rs") || path.ends_with("fuzz.rs") {
                continue;
            }
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![src.join("api.rs")];
    walk(&src.join("api"), &mut found);
    found
}

#[tokio::test]
async fn every_route_of_the_router_is_in_the_document() {
    let app = App::start().await;
    let document = Document::of(app.relay()).await;
    let described: BTreeSet<_> = document.paths().iter().map(|(path, _)| (*path).to_owned()).collect();
    let mut routed = BTreeSet::new();
    for file in sources_of_routes() {
        let source = fs::read_to_string(&file).unwrap();
        // A route that is registered in another way would not be seen here.
        for way in [".route_service(", ".nest(", ".nest_service("] {
            assert!(!source.contains(way), "{} has {way}", file.display());
        }
        // `operators` adds the one route that it is given.
        let added = source.split(".route(").chain(source.split("operators(state, "));
        let is_first = |part: &str| source.starts_with(part);
        for route in added.filter(|part| !is_first(part)).map(str::trim_start) {
            if route.starts_with("route, methods)") {
                continue;
            }
            let path = match route.strip_prefix('"') {
                Some(literal) => literal.split('"').next().unwrap(),
                None if route.starts_with("customers::PATH,") => CUSTOMERS,
                None if route.starts_with("sources::PATH,") => "/sources/{name}",
                None => panic!("{} has a route whose path is not a literal", file.display()),
            };
            // `/docs/` is `/docs`.
            routed.insert(if path == "/" { path } else { path.trim_end_matches('/') }.to_owned());
        }
    }
    assert_eq!(routed, described);
}
