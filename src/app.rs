//! The composition root: the only file that names concrete types and puts them together.

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::Settings;
use crate::http::{self, Edge};
use crate::lifecycle::{Ending, Lifecycle};
use crate::segment::LiveClients;
use crate::status::Status;

/// A relay that is put together and not yet running.
pub struct App {
    edge: Arc<Edge>,
    life: Lifecycle,
}

impl App {
    /// Puts the relay together and starts what runs behind its routes.
    ///
    /// # Errors
    /// If HTTPS cannot be set up.
    pub fn build(settings: &Settings, life: &Lifecycle) -> anyhow::Result<Self> {
        let status = Arc::new(Status::new()?);
        let clients = Arc::new(LiveClients::start(settings.segment.clone(), status.clone(), life)?);
        let (measured, gauges) = (clients.clone(), status.clone());
        let edge = Edge::new(clients, status, life.clone(), settings.request_timeout, settings.max_in_flight)
            .measured_by(move || measured.measure(&gauges));
        Ok(Self { edge: Arc::new(edge), life: life.clone() })
    }

    /// Serves on `listener` until told to stop.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn run(self, listener: TcpListener, settings: &Settings) -> anyhow::Result<Ending> {
        let address = listener.local_addr().context("no local address")?;
        self.life.supervise("http", http::serve(listener, self.edge));
        tracing::info!(%address, endpoint = %settings.segment.endpoint, "segment-relay serves");
        if !address.ip().is_loopback() {
            tracing::warn!("RELAY_AUTH is none: whoever can reach this port can send customers");
        }
        Ok(self.life.run(settings.shutdown_delay, settings.shutdown_grace).await?)
    }
}
