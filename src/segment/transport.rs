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
use reqwest::{Client, redirect};
use tokio::time::Instant;
use url::Url;

use super::batch::Batch;
use super::retry::Answer;
use super::settings::SegmentSettings;

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
        match tokio::time::timeout(self.settings.timeout, self.exchange(body, retries)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => Answer::NotSent(cause(&error)),
            Ok(Err(error)) => Answer::Lost(cause(&error)),
            Err(_elapsed) => Answer::Lost("timeout".to_owned()),
        }
    }

    async fn exchange(&self, body: Vec<u8>, retries: u32) -> reqwest::Result<Answer> {
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
        let mut response = request.basic_auth(&self.settings.write_key, Some("")).body(body).send().await?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        Ok(Answer::Status { status, retry_after, body: beginning(&mut response).await })
    }

    /// The client, a new one if the old one has lived for long enough. Requests under way keep the old one.
    fn client(&self) -> Client {
        let mut client = self.client.lock();
        if client.1.elapsed() > CLIENT_LIFE {
            match self::client(&self.settings) {
                Ok(new) => *client = (new, Instant::now()),
                Err(error) => tracing::error!(%error, "could not renew the HTTP client; going on with the old one"),
            }
        }
        client.0.clone()
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
    Client::builder()
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

/// The answer's first bytes. What follows them, or an error among them, changes nothing: the status is there.
async fn beginning(response: &mut reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(MAX_ANSWER);
    body
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
