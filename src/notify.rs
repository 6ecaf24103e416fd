//! Tells somebody, by a webhook, what wakes people: an outage, dead letters, a parked user, a half full outbox, worker restarts.
//!
//! Once a second `watch` looks at figures that are in memory and says what is to be told; it is pure. A [`Notice`] holds counts
//! and reasons, and nothing of a customer. `sender` posts it, signed as Standard Webhooks.

mod notice;
mod sender;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::auth::WebhookSigner;
use crate::config::{AuthSettings, NotifySettings};
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use sender::Sender;
use watch::Watch;

pub use notice::Notice;
pub use sender::NOTIFY_TIMEOUT;
pub use watch::{Figures, OutboxFigures, ShutGate};

/// How often the figures are looked at. A second more or less makes no difference to people.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells somebody what wakes people, for as long as the process serves.
pub struct Notifier {
    signer: Arc<RwLock<WebhookSigner>>,
}

impl Notifier {
    /// Starts to look at the figures, which `figures` reads from memory. What is already so wakes nobody.
    ///
    /// # Errors
    /// If HTTPS cannot be set up.
    pub fn start(
        settings: &NotifySettings,
        figures: impl Fn() -> Figures + Send + 'static,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> anyhow::Result<Self> {
        let signer = Arc::new(RwLock::new(WebhookSigner::new(&settings.secrets.secrets)));
        let sender = Arc::new(Sender::new(settings, signer.clone(), metrics.clone())?);
        let mut watch = Watch::new(&figures());
        let stages = supervisor.clone();
        let queue = sender.clone();
        let look = async move {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let told = watch.look(&figures(), Instant::now(), Timestamp::now());
                metrics.notifications_suppressed.inc_by(told.held_back);
                told.notices.into_iter().for_each(|notice| queue.push(&notice));
            }
        };
        // What is not sent yet when the process drains stays unsent: a stop waits for no receiver.
        supervisor.supervise("notifications", async move {
            tokio::select! {
                () = stages.draining() => {}
                () = look => {}
                () = sender.run() => {}
            }
        });
        let proxy = settings.proxy.as_ref().map(tracing::field::display);
        tracing::info!(receiver = settings.url.origin().ascii_serialization(), proxy, "notifications are sent");
        Ok(Self { signer })
    }

    /// From now on these secrets sign.
    pub fn replace_secrets(&self, settings: &AuthSettings) {
        *self.signer.write() = WebhookSigner::new(&settings.secrets);
    }
}
