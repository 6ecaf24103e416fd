//! HTTPS to `/v1/batch`: one attempt, from bytes to [`Answer`].
//!
//! The client is renewed now and then, because Segment's addresses are not static and a busy connection would pin one for
//! ever. It never retries and never follows a redirect: both are decided in [`super::retry`] alone. Segment's answers are
//! read up to a bound and not assumed to be JSON.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, redirect};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::batch::Batch;
use super::retry::Answer;
use crate::config::SegmentSettings;

/// How long a resolved address is used at most.
const CLIENT_LIFE: Duration = Duration::from_secs(300);

/// How long an unused connection is kept: less than the minute after which load balancers commonly close them.
const IDLE: Duration = Duration::from_secs(30);

/// The share of an attempt's time that connecting may take.
const CONNECT_SHARE: f64 = 0.8;

/// How much of an answer is read, in bytes. Segment's are under a hundred.
const MAX_ANSWER: usize = 16 * 1024;

/// Level 1 saves 80 % of the bytes for about 1 us a call; higher ones cost more than they save.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::fast();

/// The way to one endpoint.
pub(super) struct Transport {
    settings: SegmentSettings,
    url: Url,
    client: Mutex<(Client, Instant)>,
}

impl Transport {
    /// # Errors
    /// If there is no TLS to be had, or the endpoint cannot be a base URL.
    pub(super) fn new(settings: SegmentSettings) -> anyhow::Result<Self> {
        let client = client(&settings).context("cannot set up HTTPS")?;
        let url = batch_url(&settings.endpoint);
        Ok(Self { settings, url, client: Mutex::new((client, Instant::now())) })
    }

    /// Sends a batch once. `retries` is how often its calls were sent before.
    pub(super) async fn attempt(&self, batch: &Batch, retries: u32) -> Answer {
        let body = batch.body(&self.settings.write_key, Timestamp::now());
        let deadline = Instant::now() + self.settings.timeout;
        let response = match timeout_at(deadline, self.send(body, retries)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Answer::NotSent(cause(&error)),
            Ok(Err(error)) => return Answer::Lost(cause(&error)),
            Err(_elapsed) => return Answer::Lost("timeout".to_owned()),
        };
        read(response, deadline).await
    }

    async fn send(&self, body: Vec<u8>, retries: u32) -> reqwest::Result<Response> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if retries > 0 {
            headers.insert(HeaderName::from_static("x-retry-count"), retries.into());
        }
        let body = match self.settings.gzip.then(|| gzip(&body)).flatten() {
            Some(compressed) => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                compressed
            }
            None => body,
        };
        let request = self.client().post(self.url.clone()).headers(headers);
        request.basic_auth(&self.settings.write_key, Some("")).body(body).send().await
    }

    /// The client, a new one if the old one has lived for long enough. Requests under way keep the old one.
    fn client(&self) -> Client {
        let mut client = self.client.lock();
        if client.1.elapsed() <= CLIENT_LIFE {
            return client.0.clone();
        }
        // Whoever sees it first renews it, while the others go on with the old one; a failure is not repeated at once.
        client.1 = Instant::now();
        let old = client.0.clone();
        drop(client);
        match self::client(&self.settings) {
            Ok(new) => {
                self.client.lock().0 = new.clone();
                new
            }
            Err(error) => {
                tracing::error!(%error, "could not renew the HTTP client; going on with the old one");
                old
            }
        }
    }
}

/// Where batches go.
fn batch_url(endpoint: &Url) -> Url {
    let mut url = endpoint.clone();
    let path = format!("{}/v1/batch", endpoint.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

fn client(settings: &SegmentSettings) -> reqwest::Result<Client> {
    // Whoever set a provider before us is welcome to it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder();
    // A proxy is for the way out, and a sandbox on this machine is not out.
    let builder = if is_loopback(&settings.endpoint) { builder.no_proxy() } else { builder };
    builder
        .user_agent(concat!("segment-relay/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        // One connection a slot: a reset hurts one batch, and no batch waits behind another's bytes.
        .http1_only()
        // Earlier than the whole attempt's end: a call that never left is then known never to have left.
        .connect_timeout(settings.timeout.mul_f64(CONNECT_SHARE))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.max_concurrency.get())
        .build()
}

fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The answer with its body's first bytes. If they break off, a failure is still that failure; but a 2xx might have gone on
/// to say that it was none.
async fn read(mut response: Response, deadline: Instant) -> Answer {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status();
    let mut body = Vec::new();
    let is_whole = loop {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => break true,
            Ok(Err(_)) | Err(_) => break false,
        }
        if body.len() >= MAX_ANSWER {
            break true;
        }
    };
    if status.is_success() && !is_whole {
        return Answer::Lost("the answer broke off".to_owned());
    }
    body.truncate(MAX_ANSWER);
    Answer::Status { status: status.as_u16(), retry_after, body }
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), GZIP_LEVEL);
    // Writing into memory cannot fail; if it did, the request goes uncompressed.
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// The innermost reason, without the URL that every layer above repeats.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
