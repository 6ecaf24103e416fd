//! The status with which a proxy refuses a tunnel to Segment.
//!
//! The HTTP client tells a 407 of a proxy from its other refusals, and no other status. A 403 is about credentials too, and
//! is treated otherwise than a proxy that cannot reach Segment. So a proxy that refused with another status than 407 is
//! asked once more, by a request that shows its answer.

use std::time::Duration;

use reqwest::header::CONNECTION;
use reqwest::{Client, Method};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use url::Url;

/// How long an answer holds for other requests. A proxy in trouble is not asked for each of hundreds of them.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The last answer of the proxy. It is locked while the proxy is asked, so that one request asks at a time.
#[derive(Default)]
pub(super) struct TunnelRefusal(Mutex<Option<(Instant, Option<u16>)>>);

impl TunnelRefusal {
    /// The status with which the client's proxy answers CONNECT to an `https` endpoint, if it answers before the deadline.
    pub(super) async fn status(&self, client: &Client, endpoint: &Url, deadline: Instant) -> Option<u16> {
        let ask = async {
            let mut last = self.0.lock().await;
            match *last {
                Some((asked_at, status)) if asked_at.elapsed() < MAX_AGE => status,
                _ => last.insert((Instant::now(), connect(client, endpoint).await)).1,
            }
        };
        timeout_at(deadline, ask).await.ok()?
    }
}

/// A tunnel that the proxy does make is closed at once.
async fn connect(client: &Client, endpoint: &Url) -> Option<u16> {
    let port = endpoint.port_or_known_default()?;
    // For `http` the client does not make the tunnel itself: it sends CONNECT to the proxy as it sends any other method.
    let url = format!("http://{}:{port}/", endpoint.host_str()?);
    let answer = client.request(Method::CONNECT, url).header(CONNECTION, "close").send().await.ok()?;
    Some(answer.status().as_u16())
}
