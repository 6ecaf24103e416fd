//! Posts notices, one after the other, each until the receiver takes it or has failed too often.
//!
//! At most one notice of a kind waits. An attempt ends with the status of the answer, whose body is not read. All attempts of a
//! notice have one `webhook-id`, so that a receiver can tell a repetition.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::Notify;
use tokio::time::sleep;
use url::Url;
use uuid::Uuid;

use super::notice::{Kind, Notice};
use crate::auth::WebhookSigner;
use crate::config::NotifySettings;
use crate::http_client::client_builder;
use crate::metrics::Metrics;

/// How long an attempt may take: people are to be woken, and a receiver that needs longer is tried again.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// The pauses between the attempts. Together, and with the timeouts, they are shorter than the ten minutes after which the next
/// notice of a kind may come.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
    Duration::from_secs(64),
    Duration::from_secs(256),
];

pub(super) struct Sender {
    client: Client,
    url: Url,
    /// The URL without what may be a secret, for logs.
    receiver: String,
    signer: Arc<RwLock<WebhookSigner>>,
    waiting: Mutex<VecDeque<Pending>>,
    pushed: Notify,
    metrics: Arc<Metrics>,
}

/// A notice that waits.
struct Pending {
    kind: Kind,
    id: String,
    body: Vec<u8>,
}

impl Sender {
    /// # Errors
    /// If HTTPS cannot be set up.
    pub(super) fn new(
        settings: &NotifySettings,
        signer: Arc<RwLock<WebhookSigner>>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let builder = client_builder(&settings.url, settings.proxy.as_ref()).map(|builder| {
            // Notices are rare: each one resolves the name anew and opens its own connection.
            builder.timeout(NOTIFY_TIMEOUT).pool_max_idle_per_host(0)
        });
        Ok(Self {
            client: builder
                .and_then(reqwest::ClientBuilder::build)
                .context("cannot set up HTTPS for RELAY_NOTIFY_URL")?,
            url: settings.url.clone(),
            receiver: settings.url.origin().ascii_serialization(),
            signer,
            waiting: Mutex::default(),
            pushed: Notify::new(),
            metrics,
        })
    }

    /// Sends this notice as soon as the earlier ones are through. One of its kind that still waits is out of date and is left out.
    pub(super) fn push(&self, notice: &Notice) {
        let kind = notice.kind();
        let body = match notice.to_json(Timestamp::now()) {
            Ok(body) => body,
            Err(error) => {
                self.metrics.notifications_failed.inc();
                tracing::error!(kind = kind.as_str(), %error, "a notification could not be written");
                return;
            }
        };
        let id = format!("msg_{}", Uuid::now_v7().simple());
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        waiting.retain(|other| other.kind != kind);
        self.metrics.notifications_failed.inc_by((before - waiting.len()) as u64);
        waiting.push_back(Pending { kind, id, body });
        drop(waiting);
        self.pushed.notify_one();
    }

    /// Sends notices for ever.
    pub(super) async fn run(&self) {
        loop {
            let next = self.waiting.lock().pop_front();
            match next {
                Some(pending) => self.send(&pending).await,
                None => self.pushed.notified().await,
            }
        }
    }

    async fn send(&self, pending: &Pending) {
        let (kind, receiver) = (pending.kind.as_str(), &self.receiver);
        let mut pauses = PAUSES.iter();
        for attempt in 1.. {
            let Err(reason) = self.post(pending).await else {
                self.metrics.notifications_sent.inc();
                tracing::info!(kind, receiver, attempt, "a notification was sent");
                return;
            };
            let Some(pause) = pauses.next() else {
                self.metrics.notifications_failed.inc();
                tracing::error!(kind, receiver, attempt, reason, "a notification could not be sent, and is given up");
                return;
            };
            tracing::warn!(kind, receiver, attempt, reason, "a notification was not taken; it is sent again");
            sleep(*pause).await;
        }
    }

    /// Any status but 2xx is a failure, which the error names. No answer is one, too.
    async fn post(&self, Pending { id, body, .. }: &Pending) -> Result<(), String> {
        let headers = self.signer.read().headers(id, body);
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body.clone());
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status().as_u16())),
            // The URL may hold a secret. The innermost error says most.
            Err(error) => Err(anyhow::Error::new(error.without_url()).root_cause().to_string()),
        }
    }
}
