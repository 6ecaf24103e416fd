//! Traces: spans that go to OpenTelemetry's protocol, if `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
//!
//! The spans of one customer are `POST /customers` or `POST /sources/{name}`, `map`, `store` and `deliver`. A request to Segment is a
//! span of its own: it is linked to every `deliver` of the calls that it held, and each of those to it. A call carries its
//! [`TraceContext`], also through the outbox, so that its `deliver` belongs to the sender's trace after a restart, too.
//!
//! No span holds a trait, a user id, a message id, a secret, or Segment's words. The request's id is as its sender chose it. Without
//! the setting no span is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, TracerProviderBuilder};
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::TraceSettings;
use crate::http_client::client_builder;

/// The target of every span. Other spans are in no trace, and these are in no log.
pub const TARGET: &str = "segment_relay::traces";

/// The name of the service, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says another one.
const SERVICE: &str = "segment-relay";

/// The links of a span: Segment takes 2,500 calls in a request.
const MAX_LINKS: u32 = 2_500;

/// How long the last spans may take at the end of the process. Docker and Kubernetes kill it 4 s after the longest shutdown of the
/// default settings.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// How long one request to the receiver of traces may take, as OpenTelemetry's own default.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Set once, by [`layer`].
static ARE_ON: AtomicBool = AtomicBool::new(false);

/// Whether spans are made.
pub fn are_on() -> bool {
    ARE_ON.load(Ordering::Relaxed)
}

/// The traces as long as they are exported. Dropping it exports the spans that ended and ends the exporter's thread.
pub(super) struct Traces(SdkTracerProvider);

impl Drop for Traces {
    fn drop(&mut self) {
        // It fails if the receiver is away: the exporter has logged that.
        let _ = self.0.shutdown_with_timeout(LAST_EXPORT);
    }
}

/// Exports the spans of this module's target. The exporter reads OpenTelemetry's standard variables.
///
/// # Errors
/// One of these variables is wrong, or HTTPS cannot be set up.
pub(super) fn layer<S>(settings: &TraceSettings) -> anyhow::Result<(impl Layer<S> + use<S>, Traces)>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let provider = provider(settings)?.build();
    let spans = filter_fn(|meta| meta.is_span() && meta.target() == TARGET).with_max_level_hint(LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_target(false);
    ARE_ON.store(true, Ordering::Relaxed);
    Ok((layer.with_filter(spans), Traces(provider)))
}

/// Makes and exports spans. It is called, and dropped, outside of the runtime.
fn provider(settings: &TraceSettings) -> anyhow::Result<TracerProviderBuilder> {
    let TraceSettings { endpoint, proxy } = settings;
    let client = reqwest::blocking::ClientBuilder::from(client_builder(endpoint, proxy.as_ref())?);
    let client = client.timeout(EXPORT_TIMEOUT).build()?;
    let url = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(url).build();
    let exporter = exporter.context("cannot export traces")?;
    let provider = SdkTracerProvider::builder().with_max_links_per_span(MAX_LINKS).with_resource(resource());
    Ok(provider.with_batch_exporter(exporter))
}

/// Exports one span named `check`, whatever the sampler says, and waits for the receiver's answer.
///
/// # Errors
/// A standard variable is wrong, or the receiver did not take the span.
pub fn export_one_span(settings: &TraceSettings) -> anyhow::Result<()> {
    let provider = provider(settings)?.with_sampler(Sampler::AlwaysOn).build();
    // Dropping a span ends it.
    drop(provider.tracer(SERVICE).start("check"));
    let exported = provider.force_flush();
    drop(Traces(provider));
    exported.context("the receiver did not take a span")
}

/// What the standard variables say of this process, and its own name and version where they say nothing.
fn resource() -> Resource {
    let version = || KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let told = Resource::builder().with_attribute(version()).build();
    let name = told.get(&"service.name".into()).map(|name| name.to_string()).unwrap_or_default();
    if name.is_empty() || name.starts_with("unknown_service") {
        return Resource::builder().with_attribute(version()).with_service_name(SERVICE).build();
    }
    told
}

/// Where the spans of a call belong: a trace, and a span of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
}

impl TraceContext {
    /// The bytes of [`to_bytes`](Self::to_bytes): 16 of the trace's id, 8 of the span's, and the flags, as in W3C's `traceparent`.
    pub const BYTES: usize = 25;

    /// That of the current span. `None` where there are no traces.
    pub fn current() -> Option<Arc<Self>> {
        are_on().then(|| Self::of(Span::current().context().span().span_context())).flatten().map(Arc::new)
    }

    fn of(span: &SpanContext) -> Option<Self> {
        span.is_valid().then(|| Self { trace_id: span.trace_id(), span_id: span.span_id(), flags: span.trace_flags() })
    }

    /// The form in which a store keeps it.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [self.flags.to_u8(); Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id.to_bytes());
        bytes[16..24].copy_from_slice(&self.span_id.to_bytes());
        bytes
    }

    /// `None` if the bytes are no context.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk::<16>()?;
        let (span_id, rest) = rest.split_first_chunk::<8>()?;
        let [flags] = rest else { return None };
        let (trace_id, span_id) = (TraceId::from_bytes(*trace_id), SpanId::from_bytes(*span_id));
        let is_valid = trace_id != TraceId::INVALID && span_id != SpanId::INVALID;
        is_valid.then_some(Self { trace_id, span_id, flags: TraceFlags::new(*flags) })
    }

    /// As the parent of spans.
    fn remote(self) -> Context {
        Context::new().with_remote_span_context(SpanContext::new(
            self.trace_id,
            self.span_id,
            self.flags,
            true,
            TraceState::NONE,
        ))
    }
}

/// Continues the trace that `traceparent` of a request names, if it is right. `tracestate` is free text of whoever sends it, and goes
/// no further.
pub fn continue_from(span: &Span, headers: &HeaderMap) {
    let named = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
    if let Some(context) = TraceContext::of(named.span().span_context()) {
        // It fails where the span is in no trace.
        let _ = span.set_parent(context.remote());
    }
}

/// The span of a call's way from the publisher to its outcome. Empty where there are no traces, or the call's is not sampled.
#[derive(Debug, Default)]
pub struct DeliverySpan(Option<Box<Span>>);

impl DeliverySpan {
    /// Starts the span. A call without a context, such as a dead letter that is replayed, starts a trace.
    pub fn start(context: Option<&TraceContext>) -> Self {
        if !are_on() || context.is_some_and(|context| !context.flags.is_sampled()) {
            return Self::default();
        }
        let span = tracing::info_span!(target: TARGET, parent: None, "deliver", segment_relay.outcome = field::Empty);
        if let Some(context) = context {
            let _ = span.set_parent(context.remote());
        }
        Self(Some(Box::new(span)))
    }

    /// Ends the span. It has no outcome if it is dropped instead: the call stays in the outbox, or its caller hears of a shutdown.
    pub fn end(&mut self, outcome: &'static str) {
        if let Some(span) = self.0.take() {
            span.record("segment_relay.outcome", outcome);
        }
    }
}

/// The span of one request to Segment.
pub struct RequestSpan(Option<Span>);

impl RequestSpan {
    /// Starts the span of a request with these calls. It is a child of the first that is in a trace, and linked to all of them.
    /// `host` is Segment's, `resends` the number of requests before that held the same calls, `count` the number of calls.
    pub fn start<'a>(host: &str, resends: u32, count: usize, calls: impl Iterator<Item = &'a DeliverySpan>) -> Self {
        if !are_on() {
            return Self(None);
        }
        let mut calls = calls.filter_map(|call| call.0.as_deref()).peekable();
        let Some(first) = calls.peek() else { return Self(None) };
        let span = tracing::info_span!(
            target: TARGET,
            parent: *first,
            "POST /v1/batch",
            otel.kind = "client",
            otel.status_code = field::Empty,
            http.request.method = "POST",
            http.request.resend_count = resends,
            http.response.status_code = field::Empty,
            server.address = host,
            segment_relay.calls = count,
            segment_relay.result = field::Empty,
        );
        let own = span.context().span().span_context().clone();
        for call in calls {
            span.add_link(call.context().span().span_context().clone());
            call.add_link(own.clone());
        }
        Self(Some(span))
    }

    /// Ends the span with what the answer means, and its status if there was an answer.
    pub fn end(self, result: &'static str, status: Option<u16>) {
        let Some(span) = self.0 else { return };
        span.record("segment_relay.result", result);
        if let Some(status) = status {
            span.record("http.response.status_code", status);
        }
        if result != "accepted" {
            span.record("otel.status_code", "ERROR");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TraceContext;

    #[test]
    fn a_context_is_the_same_after_it_was_stored() {
        let bytes: Vec<u8> = (1..=24).chain([1]).collect();
        let context = TraceContext::from_bytes(&bytes).unwrap();
        assert_eq!(context.to_bytes().as_slice(), bytes);
        assert!(context.flags.is_sampled());
    }

    #[test]
    fn bytes_that_are_no_context_are_none() {
        for bytes in [vec![], vec![1; 24], vec![1; 26], vec![0; 25], [vec![1; 16], vec![0; 8], vec![1]].concat()] {
            assert_eq!(TraceContext::from_bytes(&bytes), None, "{bytes:?}");
        }
    }
}
