//! HTTPS to `/v1/batch`: sends one request and returns its [`SendResult`].
//!
//! The HTTP client is renewed regularly, because Segment's addresses change and a busy connection would keep using the old
//! one. The client never retries and never follows a redirect: [`super::retry`] alone decides what a result means. Answers
//! are read up to a bound, and are not assumed to be JSON.

use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use data_encoding::BASE64;
use jiff::Timestamp;
use parking_lot::RwLock;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{ClientBuilder, Response};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::batch::Batch;
use super::connections::{self, Connections};
use super::failure::Failure;
use super::retry::{self, ResponseClass, SendResult};
use super::secret_forms::SecretForms;
use super::tunnel::TunnelRefusal;
use crate::config::{self, Secret, SegmentSettings, WriteKeys};
use crate::http_client::client_builder;
use crate::segment::FailureReason;

/// Time after which an idle connection is closed: less than the minute after which load balancers commonly close it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Share of the request's timeout that connecting may take: less than all of it, so that a failed connection is known
/// as a request that was not sent.
const CONNECT_TIMEOUT_SHARE: f64 = 0.8;

/// How much of an answer's body is read, in bytes. Segment's bodies are under a hundred.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;

/// Level 1 saves 80 % of the bytes for about 1 us a call. Higher levels cost more than they save.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::fast();

pub(super) struct Transport {
    settings: SegmentSettings,
    pub(super) url: Url,
    pub(super) connections: Connections,
    pub(super) tunnel_refusal: TunnelRefusal,
    /// The secrets that requests hold, earlier write keys among them. Answers are searched for them.
    secrets: RwLock<SecretForms>,
}

impl Transport {
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) fn new(settings: SegmentSettings, write_keys: &WriteKeys) -> anyhow::Result<Self> {
        Self::with_client(settings, write_keys, |builder| builder)
    }

    /// The same, with a client of which `change` says more.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) fn with_client(
        settings: SegmentSettings,
        write_keys: &WriteKeys,
        change: fn(ClientBuilder) -> ClientBuilder,
    ) -> anyhow::Result<Self> {
        let for_clients = settings.clone();
        let connections = Connections::new(move || change(client(&for_clients)?).build()).context(
            "cannot set up HTTPS; certificate authorities are in a package such as ca-certificates, or in SSL_CERT_FILE",
        )?;
        let mut url = settings.endpoint.clone();
        url.set_path(&format!("{}/v1/batch", url.path().trim_end_matches('/')));
        let secrets = RwLock::new(secrets(&settings));
        let transport = Self { settings, url, connections, tunnel_refusal: TunnelRefusal::default(), secrets };
        transport.add_secrets(write_keys);
        Ok(transport)
    }

    /// Requests may hold these keys from now on. Earlier ones count, too: an answer may come late.
    pub(super) fn add_secrets(&self, write_keys: &WriteKeys) {
        let mut secrets = self.secrets.write();
        let keys = write_keys.of_sources().map(|(_, key)| key).chain([write_keys.default_key()]);
        keys.for_each(|key| secrets.add(key.reveal()));
    }

    /// Sends a batch once, with this write key in the body and in a header. `retry_count` is 0 for the first attempt.
    pub(super) async fn send_batch(&self, batch: &Batch, write_key: &Secret, retry_count: u32) -> SendResult {
        let deadline = Instant::now() + self.settings.timeout;
        match self.head_of_answer(self.post(batch, write_key, retry_count), deadline).await {
            Ok(response) => read_response(response, deadline).await,
            Err(result) => result,
        }
    }

    /// Waits for the head of the answer to a request.
    pub(super) async fn head_of_answer(
        &self,
        request: impl Future<Output = reqwest::Result<Response>>,
        deadline: Instant,
    ) -> Result<Response, SendResult> {
        match timeout_at(deadline, request).await {
            Ok(Ok(response)) => {
                self.tunnel_refusal.forget_credentials();
                Ok(response)
            }
            Ok(Err(error)) if error.is_connect() => Err(self.not_sent(error.into(), deadline).await),
            Ok(Err(error)) => Err(SendResult::NoResponse(error.into())),
            Err(_elapsed) => Err(SendResult::NoResponse(Failure::new(FailureReason::Timeout))),
        }
    }

    /// The host of Segment.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// What a result means for the batch.
    pub(super) fn classify(&self, result: &SendResult) -> ResponseClass {
        retry::classify(result, &self.secrets.read(), SystemTime::now())
    }

    /// The connection failed. If a proxy made no tunnel, its status says whether the credentials are wrong.
    async fn not_sent(&self, mut failure: Failure, deadline: Instant) -> SendResult {
        if failure.reason == FailureReason::Proxy(None) {
            let status = self.tunnel_refusal.status(&self.connections.client(), &self.url, deadline).await;
            failure.reason = FailureReason::Proxy(status);
        }
        SendResult::NotSent(failure)
    }

    /// Posts a batch, and returns the head of the answer.
    pub(super) async fn post(&self, batch: &Batch, write_key: &Secret, retry_count: u32) -> reqwest::Result<Response> {
        let body = batch.request_body(write_key.reveal(), Timestamp::now());
        let request = self.connections.client().post(self.url.clone()).basic_auth(write_key.reveal(), Some(""));
        let mut request = request.header(CONTENT_TYPE, "application/json");
        if retry_count > 0 {
            request = request.header("x-retry-count", retry_count);
        }
        let request = match self.settings.gzip.then(|| gzip(&body)).flatten() {
            Some(compressed) => request.header(CONTENT_ENCODING, "gzip").body(compressed),
            None => request.body(body),
        };
        request.send().await.inspect(|_response| connections::note_answer())
    }
}

/// The secrets that a request holds beside the write key: the proxy's password with its user and without.
fn secrets(settings: &SegmentSettings) -> SecretForms {
    let authorization = settings.proxy.as_ref().and_then(config::Proxy::authorization);
    let encoded = authorization.and_then(|value| value.as_bytes().strip_prefix(b"Basic "));
    let decoded = encoded.and_then(|encoded| BASE64.decode(encoded).ok()).unwrap_or_default();
    let credentials = String::from_utf8_lossy(&decoded);
    let password = credentials.split_once(':').map_or("", |(_user, password)| password);
    SecretForms::new([&*credentials, password])
}

fn client(settings: &SegmentSettings) -> reqwest::Result<ClientBuilder> {
    let builder = connections::watched(client_builder(&settings.endpoint, settings.proxy.as_ref())?)
        // One connection per slot: a reset affects one batch, and no batch waits for another one's bytes.
        .http1_only()
        .connect_timeout(settings.timeout.mul_f64(CONNECT_TIMEOUT_SHARE))
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(settings.max_concurrency.get());
    Ok(builder)
}

/// Reads the answer and the beginning of its body. If the body breaks off, the status of a failure still counts. A 2xx does
/// not, because the rest of its body might have reported a failure.
pub(super) async fn read_response(mut response: Response, deadline: Instant) -> SendResult {
    let headers = response.headers().get_all(RETRY_AFTER).iter();
    let retry_after = headers.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
    let status = response.status();
    let mut body = Vec::new();
    let read = async {
        while body.len() <= MAX_RESPONSE_BYTES
            && let Some(chunk) = response.chunk().await?
        {
            body.extend_from_slice(&chunk);
        }
        reqwest::Result::Ok(())
    };
    let read = timeout_at(deadline, read).await;
    let failure = match read {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.into()),
        Err(_elapsed) => Some(Failure::new(FailureReason::Timeout)),
    };
    let is_whole = failure.is_none() && body.len() <= MAX_RESPONSE_BYTES;
    body.truncate(MAX_RESPONSE_BYTES);
    match failure {
        Some(failure) if status.is_success() => SendResult::NoResponse(failure),
        _ => SendResult::Response { status: status.as_u16(), retry_after, body, is_whole },
    }
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), GZIP_LEVEL);
    // Writing into memory cannot fail. If it did, the request would be sent uncompressed.
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
