//! A stand-in for Segment whose troubles depend on what a request holds: one user's, one call's or everybody's.
//!
//! It runs in the process of the test, and knows the time of each request on the clock of the test.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::peer::{Peer, Reply, answer};

/// What a request gets in place of `200 {"success":true}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Status(u16),
    /// A status with `Retry-After` in seconds.
    RetryAfter(u16, u32),
    /// No answer.
    Hang,
    /// A reset.
    Reset,
    /// The calls are kept, and the answer is lost in a reset.
    Lost,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// The users of its calls.
    pub users: HashSet<String>,
    pub calls: usize,
    pub fault: Option<Fault>,
}

/// A call that was kept.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Instant,
    pub user: String,
    /// `traits.n`.
    pub number: u64,
    pub message_id: String,
}

/// The stand-in, and its script.
pub struct ScriptedSegment {
    peer: Peer,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    everybody: Option<Fault>,
    /// Of one request in so many; 0 for all.
    one_in: u32,
    latency: Duration,
    /// A request that holds a call with one of these texts gets the fault. The first one counts.
    troubled: Vec<(String, Fault)>,
    requests: Vec<Seen>,
    arrivals: Vec<Arrival>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    user_id: String,
    message_id: String,
    traits: Traits,
}

#[derive(Deserialize)]
struct Traits {
    #[serde(default)]
    n: u64,
}

impl ScriptedSegment {
    /// Starts one without troubles.
    pub fn start() -> Self {
        let script: Arc<Mutex<Script>> = Arc::default();
        let judge = script.clone();
        let peer = Peer::replying(move |head, body| {
            let mut script = judge.lock().unwrap();
            let (reply, latency) = (script.reply(head, body), script.latency);
            drop(script);
            // After the calls were kept: a request is not processed after the one who sent it gave it up.
            std::thread::sleep(latency);
            reply
        });
        Self { peer, script }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        self.peer.url()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.peer.connections()
    }

    /// From now on every request gets this fault; `None`: only those of the troubled.
    pub fn fail_all(&self, fault: Option<Fault>) {
        self.fail_some(fault, 0);
    }

    /// The same for one request in so many.
    pub fn fail_some(&self, fault: Option<Fault>, one_in: u32) {
        let mut script = self.script();
        (script.everybody, script.one_in) = (fault, one_in);
    }

    /// From now on a request with a call that holds this text gets this fault. It replaces the text's fault of before.
    pub fn fail(&self, text: &str, fault: Fault) {
        let mut script = self.script();
        script.troubled.retain(|(other, _)| other != text);
        script.troubled.push((text.to_owned(), fault));
    }

    /// Ends all troubles.
    pub fn heal(&self) {
        let mut script = self.script();
        script.troubled.clear();
        (script.everybody, script.one_in, script.latency) = (None, 0, Duration::ZERO);
    }

    /// From now on every answer waits for so long.
    pub fn delay(&self, latency: Duration) {
        self.script().latency = latency;
    }

    /// The requests so far, in order.
    pub fn requests(&self) -> Vec<Seen> {
        self.script().requests.clone()
    }

    /// How many requests there were so far.
    pub fn request_count(&self) -> usize {
        self.script().requests.len()
    }

    /// The calls that were kept so far, in order of arrival.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.script().arrivals.clone()
    }

    /// How many different users of this prefix have had a call kept.
    pub fn users_arrived(&self, prefix: &str) -> usize {
        let script = self.script();
        let of_prefix = script.arrivals.iter().filter(|arrival| arrival.user.starts_with(prefix));
        of_prefix.map(|arrival| &arrival.user).collect::<HashSet<_>>().len()
    }

    /// The requests and the arrivals since the last time, which are forgotten.
    pub fn take(&self) -> (Vec<Seen>, Vec<Arrival>) {
        let mut script = self.script();
        (std::mem::take(&mut script.requests), std::mem::take(&mut script.arrivals))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

impl Script {
    fn reply(&mut self, head: &str, body: &[u8]) -> Reply {
        assert!(head.starts_with("POST /v1/batch HTTP/1.1\r\n"), "{head}");
        let batch: Batch<'_> = serde_json::from_slice(body).expect("a batch");
        let calls: Vec<Call> =
            batch.batch.iter().map(|call| serde_json::from_str(call.get()).expect("a call")).collect();
        let is_hit = self.one_in == 0 || fastrand::u32(..self.one_in) == 0;
        let fault = self.everybody.filter(|_| is_hit).or_else(|| {
            let holds = |text: &str| batch.batch.iter().any(|call| call.get().contains(text));
            self.troubled.iter().find(|(text, _)| holds(text)).map(|(_, fault)| *fault)
        });
        let at = Instant::now();
        let users = calls.iter().map(|call| call.user_id.clone()).collect();
        self.requests.push(Seen { at, users, calls: calls.len(), fault });
        if matches!(fault, None | Some(Fault::Lost)) {
            self.arrivals.extend(calls.into_iter().map(|call| Arrival {
                at,
                user: call.user_id,
                number: call.traits.n,
                message_id: call.message_id,
            }));
        }
        match fault {
            None => Reply::Answer(answer("200 OK", &[], r#"{"success":true}"#)),
            Some(Fault::Status(status)) => Reply::Answer(answer(&format!("{status} No"), &[], "no")),
            Some(Fault::RetryAfter(status, seconds)) => {
                let line = format!("retry-after: {seconds}");
                Reply::Answer(answer(&format!("{status} Later"), &[&line], "later"))
            }
            Some(Fault::Hang) => Reply::Hang,
            Some(Fault::Reset | Fault::Lost) => Reply::Reset,
        }
    }
}
