//! What the routes share.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::admin::state::AdminState;
use super::body_room::BodyRoom;
use super::error::{ApiError, NO_ROUTE};
use super::prefer::Wait;
use super::sources::shares::Shares;
use crate::auth::{Auth, Tokens};
use crate::config::{AuthSettings, Secret};
use crate::metrics::Metrics;
use crate::segment::SegmentClients;
use crate::sources::Sources;
use crate::supervisor::Supervisor;

/// The clients are injected.
pub struct AppState {
    pub(super) clients: Arc<dyn SegmentClients>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) supervisor: Supervisor,
    pub(super) auth: Auth,
    pub(super) request_timeout: Duration,
    /// Permits for requests in flight. A request takes one when its body is complete, so that nobody holds one by being slow.
    pub(super) in_flight: Semaphore,
    pub(super) max_in_flight: usize,
    /// Permits for the places that requests with several customers take beside the first: half of all.
    pub(super) places_of_several: Semaphore,
    /// Permits for the callers among them who wait for the outcome of a stored call: half, so that a Segment that does not
    /// answer leaves places for those who only store.
    pub(super) waiters: Semaphore,
    /// The room for the bodies of `POST /customers`.
    pub(super) body_room: Arc<BodyRoom>,
    /// `None`: there are no sources.
    pub(super) sources: Option<Arc<Sources>>,
    pub(super) source_shares: Shares,
    /// Updates the gauges before they are read.
    pub(super) update_gauges: Box<dyn Fn() + Send + Sync>,
    /// Why the relay is not ready, other than a shutdown.
    pub(super) unready_reason: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
    /// `None`: the operators' routes are absent.
    pub(super) admin: Option<Arc<AdminState>>,
    /// Puts one more layer around the routes of each listener. It is told whether the listener's address is a loopback one.
    pub(super) wrap: fn(Router, bool) -> Router,
}

impl AppState {
    /// `request_timeout` bounds a caller's whole request, `max_in_flight` the number of requests at once.
    pub fn new(
        clients: Arc<dyn SegmentClients>,
        metrics: Arc<Metrics>,
        supervisor: Supervisor,
        request_timeout: Duration,
        max_in_flight: usize,
    ) -> Self {
        let max_in_flight = max_in_flight.min(Semaphore::MAX_PERMITS);
        Self {
            clients,
            metrics,
            supervisor,
            auth: Auth::none(),
            request_timeout,
            in_flight: Semaphore::new(max_in_flight),
            max_in_flight,
            places_of_several: Semaphore::new(max_in_flight / 2),
            waiters: Semaphore::new(max_in_flight / 2),
            body_room: BodyRoom::half(),
            sources: None,
            source_shares: Shares::new(max_in_flight),
            update_gauges: Box::new(|| ()),
            unready_reason: Box::new(|| None),
            admin: None,
            wrap: |routes, _is_loopback| routes,
        }
    }

    /// What the relay counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Accepts customers only from senders whom `auth` accepts.
    #[must_use]
    pub fn with_auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// Takes events of these sources.
    #[must_use]
    pub fn with_sources(self, sources: Arc<Sources>) -> Self {
        Self { sources: Some(sources), ..self }
    }

    /// Calls `update_gauges` before metrics are read.
    #[must_use]
    pub fn with_metrics_hook(self, update_gauges: impl Fn() + Send + Sync + 'static) -> Self {
        Self { update_gauges: Box::new(update_gauges), ..self }
    }

    /// Is not ready while `unready_reason` gives a reason.
    #[must_use]
    pub fn with_readiness(self, unready_reason: impl Fn() -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self { unready_reason: Box::new(unready_reason), ..self }
    }

    /// Has the operators' routes.
    #[must_use]
    pub fn with_admin(self, admin: AdminState) -> Self {
        Self { admin: Some(Arc::new(admin)), ..self }
    }

    /// Puts one more layer around the routes of each listener, inside those that every answer has. It is told whether the
    /// listener's address is a loopback one.
    #[must_use]
    pub fn with_layer(self, wrap: fn(Router, bool) -> Router) -> Self {
        Self { wrap, ..self }
    }

    /// Accepts the secrets of these settings from now on, and no others.
    pub fn replace_secrets(&self, senders: &AuthSettings, admin_token: Option<&Secret>) {
        self.auth.replace_secrets(senders);
        if let (Some(admin), Some(token)) = (&self.admin, admin_token) {
            *admin.token.write() = Tokens::new(&[token.reveal()]);
        }
    }

    /// How long a caller who holds so many places in flight waits for the outcome, the header that says so, and its permit.
    pub(super) fn grant_wait(
        &self,
        wait: Option<Wait>,
        places: usize,
    ) -> (Option<Duration>, Option<HeaderValue>, Option<SemaphorePermit<'_>>) {
        // Without an outbox every caller hears the outcome, so there is nothing to wait for beyond that.
        let Some(Wait { time, applied }) = wait.filter(|_| self.clients.stores()) else { return (None, None, None) };
        let places = places.min(self.max_in_flight / 2).max(1).try_into().unwrap_or(u32::MAX);
        match (!time.is_zero()).then(|| self.waiters.try_acquire_many(places)).transpose() {
            Ok(permit) => (Some(time), Some(applied), permit),
            // Who finds no place to wait is answered when the call is stored.
            Err(_) => (None, None, None),
        }
    }

    /// Updates the metrics that are not counted along the way.
    pub(super) fn update_metrics(&self) {
        (self.update_gauges)();
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        metrics.requests_in_flight.set(gauge(self.requests_in_flight()));
        metrics.requests_in_flight_max.set(gauge(self.max_in_flight));
        let most_waiters = self.max_in_flight / 2;
        metrics.requests_waiting.set(gauge(most_waiters - self.waiters.available_permits()));
        metrics.requests_waiting_max.set(gauge(most_waiters));
        let (customers, sources) = (&self.body_room, self.source_shares.room());
        metrics.body_room_customers.set(gauge(customers.taken()));
        metrics.body_room_max_customers.set(gauge(customers.limit()));
        metrics.body_room_sources.set(gauge(sources.taken()));
        metrics.body_room_max_sources.set(gauge(sources.limit()));
    }

    /// The number of places in flight that are taken.
    pub(super) fn requests_in_flight(&self) -> usize {
        self.max_in_flight - self.in_flight.available_permits()
    }
}

/// The state of the operators' routes, for their handlers.
pub(super) struct Admin(pub(super) Arc<AdminState>);

impl FromRequestParts<Arc<AppState>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(_parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, ApiError> {
        state.admin.clone().map(Self).ok_or_else(|| ApiError::not_found(NO_ROUTE))
    }
}
