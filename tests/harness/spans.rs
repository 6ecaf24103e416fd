//! A receiver of OpenTelemetry's protocol over HTTP. It keeps the spans that it gets.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message;
use tokio::net::TcpListener;

/// A span as the receiver got it. Ids are in hexadecimal.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty: the span has no parent.
    pub parent: String,
    /// The traces and ids of the spans that it is linked to.
    pub links: Vec<(String, String)>,
    pub attributes: Vec<(String, String)>,
    /// The name of the service.
    pub service: String,
}

impl Span {
    /// The value of an attribute. Empty if there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether it is linked to the other one.
    pub fn is_linked_to(&self, other: &Self) -> bool {
        self.links.iter().any(|(trace, id)| *trace == other.trace && *id == other.id)
    }
}

/// The receiver. It ends with the test's runtime.
pub struct SpanReceiver {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl SpanReceiver {
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let app = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { url, spans }
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The spans so far, in the order of arrival.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("a lock").clone()
    }

    /// Those with this name.
    pub fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }
}

type Answer = (StatusCode, [(axum::http::HeaderName, &'static str); 1], Vec<u8>);

async fn take(State(spans): State<Arc<Mutex<Vec<Span>>>>, body: Bytes) -> Answer {
    let request = ExportTraceServiceRequest::decode(body).expect("spans");
    for resource in request.resource_spans {
        let of_resource = resource.resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default();
        let service = of_resource.iter().find(|(key, _)| key == "service.name");
        let service = service.map(|(_, name)| name.clone()).unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.lock().expect("a lock").push(Span {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                attributes: attributes(&span.attributes),
                service: service.clone(),
            });
        }
    }
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    (StatusCode::OK, [(CONTENT_TYPE, "application/x-protobuf")], answer)
}

fn attributes(values: &[KeyValue]) -> Vec<(String, String)> {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    values.iter().map(|value| (value.key.clone(), text(value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
