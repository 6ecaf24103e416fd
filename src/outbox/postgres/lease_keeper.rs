//! The task that keeps the lease: it asks the server what [`Lease`] says, lets the fence be opened and shuts it, and tells the deliverer
//! whose turn it is. On the same connection it shows the other relays that this one lives, and sees whether they do.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::types::Type;

use super::connect::{Connection, Connector};
use super::database_error::{DatabaseError, ErrorKind};
use super::lease::{Allowed, Answer, Lease, Sight, Statement, Step, Tenure, Terms};
use super::shared::Reopening;
use crate::segment::{SendFence, boot_time};
use crate::supervisor::Supervisor;

/// The time limit of a statement: two fit into the time for which sending is allowed.
const STATEMENT_LIMIT: Duration = Duration::from_secs(2);

/// How often this relay shows that it lives: five times until others take it for dead.
const HEARTBEAT: Duration = Duration::from_secs(1);

const LOOK: &str = "SELECT CASE WHEN owner = $1 OR expires < clock_timestamp() THEN 0
        ELSE greatest(1, ceil(extract(epoch FROM expires - clock_timestamp()) * 1000))::bigint END
    FROM segment_relay.lease";

/// Of two relays that take it at once, the second one waits for the first one's commit, and finds another lease.
const TAKE: &str = "UPDATE segment_relay.lease SET owner = $1, epoch = epoch + 1, since = clock_timestamp(),
        expires = clock_timestamp() + $2 * interval '1 millisecond'
    WHERE owner = $1 OR expires < clock_timestamp() RETURNING epoch";

const RENEW: &str = "UPDATE segment_relay.lease SET expires = clock_timestamp() + $2 * interval '1 millisecond'
    WHERE owner = $1 AND epoch = $3";

/// A renewal that is executed after it finds another owner.
const RELEASE: &str = "UPDATE segment_relay.lease SET owner = 0, expires = '-infinity'
    WHERE owner = $1 AND epoch = $2";

/// The number of others who were seen lately.
const BEAT: &str = "WITH own AS (INSERT INTO segment_relay.members (relay, name, version) VALUES ($1, $2, $3)
        ON CONFLICT (relay) DO UPDATE SET seen_at = now())
    SELECT count(*) FROM segment_relay.members WHERE relay <> $1 AND seen_at > now() - interval '5 seconds'";

const LEAVE: &str = "DELETE FROM segment_relay.members WHERE relay = $1";

/// What the keeper needs to know and to tell.
pub(super) struct LeaseKeeper {
    pub(super) connector: Connector,
    /// This relay's name in the tables, and for operators.
    pub(super) relay: i64,
    pub(super) name: String,
    pub(super) segment_timeout: Duration,
    pub(super) fence: Arc<SendFence>,
    pub(super) tenure: watch::Sender<Option<Tenure>>,
    /// For how long Segment cannot be reached from here. `None` while it can, and after a 429.
    pub(super) gate_shut_for: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    /// Whether all calls that were handed out came back and are settled.
    pub(super) has_all_back: Box<dyn Fn() -> bool + Send + Sync>,
    pub(super) supervisor: Supervisor,
}

/// Something that is awaited, if it was begun.
type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

#[derive(Default)]
struct Awaited {
    opened: Pending<(Connection, Reopening)>,
    answer: Pending<Result<Answer, DatabaseError>>,
    /// The number of others.
    beat: Pending<Result<i64, DatabaseError>>,
    /// Of which connection the answer and the number are. An error of one that was given up says nothing of its successor.
    answer_of: Option<Arc<Connection>>,
    beat_of: Option<Arc<Connection>>,
}

enum Event {
    Opened(Box<(Connection, Reopening)>),
    Answer(Result<Answer, DatabaseError>),
    Beat(Result<i64, DatabaseError>),
    BeatDue,
    Look,
}

impl LeaseKeeper {
    /// Keeps the lease until the process drains and what was sent is settled. Then the lease is released. It is not released if
    /// the grace period ends before: requests may be in flight.
    pub(super) fn start(self) {
        let supervisor = self.supervisor.clone();
        supervisor.clone().supervise_until_drained("outbox lease", async move {
            tokio::select! {
                () = self.run() => {}
                () = supervisor.cancelled() => {}
            }
            self.apply(None);
        });
    }

    async fn run(&self) {
        let mut lease = Lease::new(Terms::new(self.segment_timeout));
        let mut awaited = Awaited::default();
        let mut reopening = Some(Reopening::new("lease"));
        let mut connection: Option<Arc<Connection>> = None;
        let (mut others, mut next_beat) = (0, Instant::now());
        loop {
            let Step { statement, wake, .. } = self.step(&mut lease, others > 0);
            if let Some(statement) = statement {
                awaited.answer = Some(self.ask(statement, connection.clone()));
                awaited.answer_of.clone_from(&connection);
            }
            let Some(wake) = wake else { break };
            if connection.is_none()
                && let Some(mut reopening) = reopening.take()
            {
                let connector = self.connector.clone();
                awaited.opened = Some(Box::pin(async move { (reopening.open(&connector).await, reopening) }));
            }
            let can_beat = connection.is_some() && awaited.beat.is_none();
            let event = tokio::select! {
                biased;
                answer = ended(&mut awaited.answer) => Event::Answer(answer),
                others = ended(&mut awaited.beat) => Event::Beat(others),
                opened = ended(&mut awaited.opened) => Event::Opened(Box::new(opened)),
                () = sleep_until(next_beat), if can_beat => Event::BeatDue,
                () = sleep(wake.saturating_sub(boot_time())) => Event::Look,
                () = self.supervisor.draining(), if !self.supervisor.is_draining() => Event::Look,
            };
            let lost = match event {
                Event::Opened(opened) => {
                    connection = Some(Arc::new(opened.0.with_limit(STATEMENT_LIMIT)));
                    (reopening, next_beat) = (Some(opened.1), Instant::now());
                    None
                }
                Event::Answer(answer) => {
                    let (answer, lost) =
                        answer.map_or_else(|error| (Answer::Lost, Some(error)), |answer| (answer, None));
                    lease.answered(answer, boot_time());
                    lost.map(|error| (awaited.answer_of.take(), error))
                }
                Event::BeatDue => {
                    awaited.beat = connection.clone().map(|connection| self.beat(connection));
                    awaited.beat_of.clone_from(&connection);
                    next_beat = Instant::now() + HEARTBEAT;
                    None
                }
                Event::Beat(Ok(now)) => {
                    others = now;
                    None
                }
                Event::Beat(Err(error)) => Some((awaited.beat_of.take(), error)),
                Event::Look => None,
            };
            if let Some((Some(of), error)) = lost
                && *error.kind() == ErrorKind::Lost
                && connection.take_if(|open| Arc::ptr_eq(open, &of)).is_some()
            {
                tracing::warn!(%error, "the connection for the lease is opened anew");
            }
        }
        if let Some(connection) = connection {
            // Without this row the others take this relay for one that died.
            let _ = connection.execute(LEAVE, &[(&self.relay, Type::INT8)]).await;
        }
    }

    /// Asks the lease what to do, and lets nothing be sent that it does not allow.
    fn step(&self, lease: &mut Lease, has_others: bool) -> Step {
        loop {
            let sight = Sight {
                gate_shut_for: (self.gate_shut_for)(),
                has_others,
                is_draining: self.supervisor.is_draining(),
                has_all_back: (self.has_all_back)(),
            };
            let step = lease.step(boot_time(), sight);
            match step.allowed {
                // The publisher or the deliverer ended this tenure.
                Some(Allowed { epoch, .. }) if !self.apply(step.allowed) => lease.ended(epoch, boot_time()),
                Some(_) => return step,
                None => {
                    self.apply(None);
                    return step;
                }
            }
        }
    }

    /// Tells the fence and the deliverer. False if the tenure has ended meanwhile.
    fn apply(&self, allowed: Option<Allowed>) -> bool {
        let is_allowed = match allowed {
            Some(Allowed { epoch, until }) => self.fence.allow(epoch, until),
            None => {
                self.fence.shut();
                true
            }
        };
        let tenure = allowed.filter(|_| is_allowed).map(|Allowed { epoch, .. }| Tenure { epoch });
        self.tenure.send_if_modified(|before| {
            let is_new = *before != tenure;
            if is_new {
                match tenure {
                    Some(Tenure { epoch }) => tracing::info!(epoch, "this relay delivers"),
                    None => tracing::info!("this relay does not deliver any more"),
                }
                *before = tenure;
            }
            is_new
        });
        is_allowed
    }

    fn ask(
        &self,
        statement: Statement,
        connection: Option<Arc<Connection>>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, DatabaseError>> + Send>> {
        let relay = self.relay;
        let terms = Terms::new(self.segment_timeout);
        let duration = i64::try_from(terms.duration.as_millis()).unwrap_or(i64::MAX);
        Box::pin(async move {
            // It is being opened.
            let Some(connection) = connection else { return Ok(Answer::Lost) };
            let by_epoch = |rows: u64| if rows > 0 { Answer::Done } else { Answer::NotOwner };
            match statement {
                Statement::Look => {
                    let rows = connection.query(LOOK, &[(&relay, Type::INT8)]).await?;
                    let lasts = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
                    let lasts = lasts.and_then(|milliseconds| u64::try_from(milliseconds).ok());
                    Ok(lasts.map_or(Answer::Lost, |lasts| Answer::Lasts(Duration::from_millis(lasts))))
                }
                Statement::Take => {
                    let rows = connection.query(TAKE, &[(&relay, Type::INT8), (&duration, Type::INT8)]).await?;
                    let epoch = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
                    Ok(epoch.map_or(Answer::NotOwner, |epoch| Answer::Taken { epoch }))
                }
                Statement::Renew { epoch } => {
                    let params = [(&relay as _, Type::INT8), (&duration as _, Type::INT8), (&epoch as _, Type::INT8)];
                    connection.execute(RENEW, &params).await.map(by_epoch)
                }
                Statement::Release { epoch } => {
                    let params = [(&relay as _, Type::INT8), (&epoch as _, Type::INT8)];
                    connection.execute(RELEASE, &params).await.map(by_epoch)
                }
            }
        })
    }

    fn beat(&self, connection: Arc<Connection>) -> Pin<Box<dyn Future<Output = Result<i64, DatabaseError>> + Send>> {
        let (relay, name) = (self.relay, self.name.clone());
        Box::pin(async move {
            let version = env!("CARGO_PKG_VERSION");
            let params = [(&relay as _, Type::INT8), (&name as _, Type::TEXT), (&version as _, Type::TEXT)];
            let rows = connection.query(BEAT, &params).await?;
            Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0))
        })
    }
}

/// The answer to what is awaited, which is not awaited any more then. For ever if nothing is.
async fn ended<T>(pending: &mut Pending<T>) -> T {
    match pending {
        Some(awaited) => {
            let answer = awaited.await;
            *pending = None;
            answer
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
