//! The status with which a proxy refuses a tunnel to Segment.
//!
//! The HTTP client tells a 407 of a proxy from its other refusals, and no other status. A 401 and a 403 are about
//! credentials too, and are treated otherwise than a proxy that cannot reach Segment. So a proxy that refused with another
//! status than 407 is asked once more, by a request that shows its answer.

use std::time::Duration;

use reqwest::header::CONNECTION;
use reqwest::{Client, Method};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::retry::refuses_credentials;

/// How long an answer holds for other requests. A proxy in trouble is not asked for each of hundreds of them.
const MAX_AGE: Duration = Duration::from_secs(1);

/// How long a refusal of credentials holds: ten of the longest pauses of the gate. Many wrong logins lock an account, so each
/// probe should cost one.
const MAX_CREDENTIALS_AGE: Duration = Duration::from_secs(300);

/// The last answer of the proxy. It is locked while the proxy is asked, so that one request asks at a time.
#[derive(Default)]
pub(super) struct TunnelRefusal(Mutex<Option<(Instant, Option<u16>)>>);

impl TunnelRefusal {
    /// The status with which the client's proxy answers CONNECT to an `https` endpoint, if it answers before the deadline.
    pub(super) async fn status(&self, client: &Client, endpoint: &Url, deadline: Instant) -> Option<u16> {
        let ask = async {
            let mut last = self.0.lock().await;
            match *last {
                Some((asked_at, status)) if asked_at.elapsed() < max_age(status) => status,
                _ => last.insert((Instant::now(), connect(client, endpoint).await)).1,
            }
        };
        timeout_at(deadline, ask).await.ok()?
    }

    /// There is a tunnel: the proxy takes the credentials.
    pub(super) fn forget_credentials(&self) {
        if let Ok(mut last) = self.0.try_lock() {
            last.take_if(|(_, status)| max_age(*status) == MAX_CREDENTIALS_AGE);
        }
    }
}

fn max_age(status: Option<u16>) -> Duration {
    if status.is_some_and(refuses_credentials) { MAX_CREDENTIALS_AGE } else { MAX_AGE }
}

/// A tunnel that the proxy does make is closed at once.
async fn connect(client: &Client, endpoint: &Url) -> Option<u16> {
    let port = endpoint.port_or_known_default()?;
    // For `http` the client does not make the tunnel itself: it sends CONNECT to the proxy as it sends any other method.
    let url = format!("http://{}:{port}/", endpoint.host_str()?);
    let answer = client.request(Method::CONNECT, url).header(CONNECTION, "close").send().await.ok()?;
    Some(answer.status().as_u16())
}
