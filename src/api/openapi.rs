//! `GET /openapi.json`: what this relay answers, as an OpenAPI 3.1 document, made from what it answers with.
//!
//! A route is registered together with its description, here and nowhere else, so that no path or method is in the router
//! and not in the document, or the other way round. Limits, codes, statuses, names of headers and shapes come from the
//! constants, tables and types that the program itself uses. The document is of this process: endpoints for operators are in
//! it if they are there, and what a caller has to show is what `RELAY_AUTH` says. It is written once, at the start.
//!
//! It does not check requests or answers; tests hold the answers against it.

mod answers;
pub(super) mod customers;
pub(super) mod docs;
pub(super) mod health;
pub(super) mod operator;
mod security;

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::routing::{self, MethodRouter};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::request_id::{self, MAX_LENGTH, PUNCTUATION, RequestId};
use crate::auth::Auth;
use answers::Answers;

/// Routes and their descriptions.
pub(super) struct Routes<S> {
    router: Router<S>,
    /// By path, then by method.
    paths: BTreeMap<&'static str, Map<String, Value>>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), paths: BTreeMap::new() }
    }

    pub(super) fn get<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H, described: Value) -> Self {
        self.with("get", path, routing::get(handler), described)
    }

    pub(super) fn post<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H, described: Value) -> Self {
        self.with("post", path, routing::post(handler), described)
    }

    pub(super) fn delete<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H, described: Value) -> Self {
        self.with("delete", path, routing::delete(handler), described)
    }

    fn with(mut self, method: &str, path: &'static str, handler: MethodRouter<S>, described: Value) -> Self {
        self.paths.entry(path).or_default().insert(method.to_owned(), described);
        Self { router: self.router.route(path, handler), paths: self.paths }
    }

    /// These and those.
    pub(super) fn merge(mut self, others: Self) -> Self {
        self.paths.extend(others.paths);
        Self { router: self.router.merge(others.router), paths: self.paths }
    }

    /// Does something to the router that adds no route.
    pub(super) fn on_router<T>(self, change: impl FnOnce(Router<S>) -> Router<T>) -> Routes<T> {
        Routes { router: change(self.router), paths: self.paths }
    }

    /// The router, which answers with the document at `path`, too.
    pub(super) fn documented(mut self, path: &'static str, auth: &Auth) -> Router<S> {
        self.paths.entry(path).or_default().insert("get".to_owned(), itself());
        let document = Bytes::from(document(&self.paths, auth).to_string());
        let answer = move |request: Request| async move {
            Answer::text_of_json(document).with_id(&RequestId::of(request.headers()))
        };
        self.router.route(path, routing::get(answer))
    }
}

fn document(paths: &BTreeMap<&'static str, Map<String, Value>>, auth: &Auth) -> Value {
    // Every request may carry an id of its own.
    let with_id = |operations: &Map<String, Value>| {
        let mut item = operations.clone();
        item.insert("parameters".to_owned(), json!([{"$ref": "#/components/parameters/request-id"}]));
        item
    };
    let operated = paths.values().flat_map(Map::values).any(|operation| operation["tags"] == json!([operator::TAG]));
    let mut tags = vec![json!({"name": customers::TAG, "description": "What a sender needs."})];
    if operated {
        tags.push(json!({"name": operator::TAG, "description": "For those who show the `RELAY_ADMIN_TOKEN`."}));
    }
    tags.push(json!({"name": health::TAG, "description": "For load balancers, Prometheus and readers."}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": "Send one customer per request to `POST /customers`: 200 means that Segment accepted this very \
                            call, 202 (with an outbox) that it is on disk, synced, and will be delivered. Nothing else is \
                            ever called success.\n\nWhere there is a GET there is a HEAD. Any other method gets 405 \
                            `method_not_allowed` and an `Allow` header, any other path 404 `not_found`, in the shape of \
                            every failure here. Only bytes that are no HTTP request, or whose head is too large, get a bare \
                            400 or 431.",
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        // Beside this document, wherever a proxy puts that.
        "servers": [{"url": "."}],
        "tags": tags,
        "paths": paths.iter().map(|(path, item)| ((*path).to_owned(), with_id(item).into())).collect::<Map<_, _>>(),
        "components": {
            "schemas": {"Customer": crate::customer::schema()},
            "headers": {"request-id": {
                "description": "The request's id: the caller's, if it was fit to be logged, else a new one.",
                "required": true,
                "schema": {"type": "string", "pattern": format!("^[A-Za-z0-9{PUNCTUATION}]{{1,{MAX_LENGTH}}}$")},
            }},
            "parameters": {"request-id": {
                "name": request_id::HEADER.as_str(),
                "in": "header",
                "description": format!("An id for this request, 1 to {MAX_LENGTH} ASCII letters, digits and {PUNCTUATION}; \
                                        another is replaced."),
                "schema": {"type": "string"},
            }},
            "securitySchemes": security::schemes(auth, operated),
        },
    })
}

/// What is said of the document in the document.
fn itself() -> Value {
    json!({
        "operationId": "getOpenApi",
        "summary": "This document",
        "tags": [health::TAG],
        "responses": Answers::new().json(StatusCode::OK, "OpenAPI 3.1 of this very process.", json!({"type": "object"})).done(),
    })
}
