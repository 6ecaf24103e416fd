//! Connections are accepted, bounded in number, and dealt out to a runtime a core, where they stay.

mod activity;
pub mod connection;
pub mod fd_limit;
mod patience;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::api::AppState;
use crate::supervisor::Supervisor;
use connection::Shared;

/// Connections at once, if the system has descriptors for them; more wait in its backlog. Each has a read buffer of up to
/// 32 KiB.
pub const MAX_CONNECTIONS: usize = 10_000;

/// How long to wait when a connection cannot be accepted, which is when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is said at most that all places are taken.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Serves until the process drains: then no connection is accepted any more, and those there are finish what they do.
/// There are at most `places` connections.
pub async fn serve(listener: TcpListener, state: Arc<AppState>, places: usize) {
    let supervisor = state.supervisor.clone();
    let shared = Arc::new(Shared::new(state));
    let places = Arc::new(Semaphore::new(places));
    let runtimes = match runtimes(&supervisor) {
        Ok(runtimes) => runtimes,
        Err(error) => {
            tracing::error!(%error, "could not start the threads for connections");
            return;
        }
    };
    let accept = async {
        let mut said: Option<Instant> = None;
        for runtime in runtimes.iter().cycle() {
            let stream = accept(&listener).await;
            if places.available_permits() == 0 {
                shared.crowded.store(true, Ordering::Relaxed);
                if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                    tracing::warn!("all places for connections are taken; idle connections are closed early");
                    said = Some(Instant::now());
                }
            }
            // The semaphore is never closed; if it were, nothing could be accepted.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            shared.crowded.store(false, Ordering::Relaxed);
            let shared = shared.clone();
            let connection = async move {
                // What fails here is a connection that is gone already.
                if let Ok(stream) = TcpStream::from_std(stream) {
                    connection::serve(stream, shared).await;
                }
                drop(place);
            };
            supervisor.spawn_on(runtime, "connection", connection);
        }
    };
    tokio::select! {
        () = accept => {}
        () = supervisor.draining() => {}
    }
}

/// A runtime a core, each with one thread: connections are dealt out to them and stay there, so that a request never
/// wakes a thread but its own. With 512 callers that brings 15 % more requests, and 20 % with an outbox (`cargo bench`).
fn runtimes(supervisor: &Supervisor) -> std::io::Result<Vec<Handle>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (0..cores).map(|_| supervisor.runtime("connections")).collect()
}

/// The next connection, registered with no runtime yet.
async fn accept(listener: &TcpListener) -> std::net::TcpStream {
    loop {
        let accepted = listener.accept().await.and_then(|(stream, _peer)| {
            // Without it answers wait for acknowledgements; if it cannot be had, they do.
            let _ = stream.set_nodelay(true);
            stream.into_std()
        });
        match accepted {
            Ok(stream) => return stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
