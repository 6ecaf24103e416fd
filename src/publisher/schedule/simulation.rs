//! The schedule with a simulated Segment, a simulated store and a virtual clock: no runtime, no network, no waiting.
//!
//! [`run`] plays a [`Plan`] and checks what must hold at every moment: order, slots, pace, memory. The properties of whole
//! runs are in `properties` and `scenarios`.

mod callers;
mod checks;
mod fence;
mod plan;
mod properties;
mod scenarios;
mod segment;
mod sources;
mod store;
mod write_keys;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Request, Schedule, Step};
use crate::metrics::Metrics;
use crate::publisher::batch::PendingCall;
use crate::publisher::completion::Completion;
use crate::publisher::retry::ResponseClass;
use crate::segment::{CallOutcome, SettledCall};
use callers::Callers;
use fence::Fence;
use plan::{End, Log, Plan, Record, Sent};
use segment::Kind;
use store::{ParkedPace, Store};

/// From the end of a call to its settlement in the store.
const SETTLEMENT: Duration = Duration::from_millis(5);

/// When a run ends that does not settle its calls.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// Stored calls in memory: 8 MiB, 1 MiB of untried ones, and 32 parked ones of 32 KiB.
const MAX_STORED_BYTES: usize = 10 * 1024 * 1024;

enum Event {
    Arrival,
    Answer(u64),
    Settlement(Vec<SettledCall>),
    Deadline(i64),
    Restart,
    /// Other sources are configured.
    Keys,
    /// The store hears that the fence is shut.
    FenceShut,
    /// It opens the fence if it has all calls back.
    FenceOpens,
}

struct Simulation {
    plan: Plan,
    start: Instant,
    now: Duration,
    random: fastrand::Rng,
    names: Vec<Arc<str>>,
    kinds: Vec<Kind>,
    /// The users, each as often as its share of the calls.
    weighted: Vec<usize>,
    schedule: Schedule,
    /// Whether the loop asks the schedule now, and until when it waits otherwise.
    is_notified: bool,
    wake: Option<Duration>,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    planned: HashMap<u64, Event>,
    in_flight: HashMap<u64, (Request, ResponseClass)>,
    users_in_flight: HashSet<usize>,
    tickets: u64,
    store: Store,
    parked_pace: ParkedPace,
    parked_out: HashSet<i64>,
    fence: Fence,
    /// Users who are parked, and whose parking the publisher does not know to be confirmed.
    ended: mpsc::UnboundedReceiver<SettledCall>,
    end: mpsc::UnboundedSender<SettledCall>,
    callers: Callers,
    /// For each user the calls that have not ended.
    open: BTreeMap<usize, BTreeSet<i64>>,
    recent_starts: VecDeque<Duration>,
    log: Log,
}

/// Plays a plan until all calls have ended.
fn run(plan: &Plan) -> (Log, Vec<Kind>) {
    let mut simulation = Simulation::new(plan.clone());
    simulation.play();
    (simulation.log, simulation.kinds)
}

fn schedule_of(plan: &Plan, now: Duration) -> Schedule {
    let slots = NonZeroUsize::new(plan.slots).unwrap();
    let rate = NonZeroU32::new(plan.requests_per_second).unwrap();
    Schedule::new(slots, rate, &plan.write_keys(now), Arc::new(Metrics::new().unwrap()))
}

fn id_of(pending: &PendingCall) -> i64 {
    i64::from_le_bytes(pending.call.json()[..8].try_into().unwrap())
}

impl Simulation {
    fn new(plan: Plan) -> Self {
        fastrand::seed(plan.seed);
        let kinds: Vec<Kind> = plan.users.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count)).collect();
        let times = |kind: &Kind| if *kind == Kind::Hot { 20 } else { 1 };
        let weighted =
            kinds.iter().enumerate().flat_map(|(user, kind)| std::iter::repeat_n(user, times(kind))).collect();
        let (end, ended) = mpsc::unbounded_channel();
        let mut simulation = Self {
            start: Instant::now(),
            now: Duration::ZERO,
            random: fastrand::Rng::with_seed(plan.seed),
            names: (0..kinds.len()).map(|user| user.to_string().into()).collect(),
            kinds,
            weighted,
            schedule: schedule_of(&plan, Duration::ZERO),
            is_notified: true,
            wake: None,
            events: BinaryHeap::new(),
            planned: HashMap::new(),
            in_flight: HashMap::new(),
            users_in_flight: HashSet::new(),
            tickets: 0,
            store: Store::default(),
            parked_pace: ParkedPace::new(plan.requests_per_second, Duration::ZERO),
            parked_out: HashSet::new(),
            fence: Fence::default(),
            ended,
            end,
            callers: Callers::default(),
            open: BTreeMap::new(),
            recent_starts: VecDeque::new(),
            log: Log::default(),
            plan,
        };
        simulation.plan_event(Duration::ZERO, Event::Arrival);
        for at in simulation.plan.restarts.clone() {
            simulation.plan_event(at, Event::Restart);
        }
        simulation.open_fence();
        for source in simulation.plan.sources.clone() {
            simulation.plan_event(source.configured_at, Event::Keys);
        }
        simulation
    }

    fn plan_event(&mut self, at: Duration, event: Event) {
        self.tickets += 1;
        self.events.push(Reverse((at, self.tickets)));
        self.planned.insert(self.tickets, event);
    }

    fn play(&mut self) {
        loop {
            self.deliver();
            self.ask();
            self.note_gate();
            let is_stored = self.plan.patience.is_none();
            let may_wake = is_stored && !self.fence.is_known_shut && self.store.has_parked();
            let next_parked = may_wake.then_some(self.parked_pace.next_at.max(self.now));
            let next_event = self.events.peek().map(|Reverse((at, _))| *at);
            let is_over = next_event.is_none() && next_parked.is_none() && self.schedule.queue.len() == 0;
            if is_over && self.open.is_empty() && self.store.is_empty() {
                break;
            }
            let next = [next_event, next_parked, self.wake].into_iter().flatten().min();
            let next = next.unwrap_or_else(|| panic!("at {:?}: calls wait, and nothing happens", self.now));
            assert!(next < MAX_TIME, "{} users' calls do not end", self.open.len());
            self.now = next;
            if Some(next) == next_event
                && let Some(Reverse((_, ticket))) = self.events.pop()
            {
                let event = self.planned.remove(&ticket).unwrap();
                self.happen(event);
            } else if Some(next) == next_parked {
                for (id, user) in self.parked_pace.take(&mut self.store, self.now) {
                    self.parked_out.insert(id);
                    self.push_stored(id, user, true);
                }
            }
        }
        self.log.shut.extend(self.log.shut_since.map(|since| (since, self.now)));
        let queue = &self.schedule.queue;
        assert_eq!((queue.len(), queue.memory.all, self.schedule.in_flight()), (0, 0, 0), "something is left");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrive(),
            Event::Answer(ticket) => self.answer(ticket),
            Event::Settlement(settled) => {
                let users = self.store.settle(settled, self.now);
                users.iter().for_each(|user| self.schedule.queue.confirm_parked(&self.names[*user]));
            }
            Event::Deadline(id) => {
                if self.callers.leave(id) {
                    self.finish(id, End::Left);
                }
            }
            Event::Restart => self.restart(),
            Event::FenceShut => self.hear_of_fence(),
            Event::FenceOpens => self.open_fence(),
            Event::Keys => {
                self.schedule.replace_keys(&self.plan.write_keys(self.now));
                self.is_notified = true;
            }
        }
    }

    fn arrive(&mut self) {
        if self.now < self.plan.until {
            let pause = Duration::from_secs_f64(2.0 * self.random.f64() / f64::from(self.plan.calls_per_second));
            self.plan_event(self.now + pause, Event::Arrival);
        }
        let user = self.weighted[self.random.usize(0..self.weighted.len())];
        let id = i64::try_from(self.log.calls.len()).unwrap();
        let source = self.plan.source_of(user, &mut self.random);
        self.log.calls.push(Record { user, source, arrived: self.now, end: None });
        self.open.entry(user).or_default().insert(id);
        match self.plan.patience {
            None => self.store.append(id, user),
            Some(patience) => {
                let completion = self.callers.add(id, self.start + self.now + patience);
                match self.schedule.push(PendingCall::new(self.call(id, user), completion)) {
                    Ok(is_news) => {
                        self.is_notified |= is_news;
                        self.plan_event(self.now + patience, Event::Deadline(id));
                    }
                    Err(error) => {
                        self.callers.leave(id);
                        self.finish(id, End::Told(error.code));
                    }
                }
            }
        }
    }

    fn push_stored(&mut self, id: i64, user: usize, is_parked: bool) {
        let pending = PendingCall::new(self.call(id, user), Completion::Stored { id, delivered: self.end.clone() });
        let pending = if is_parked { pending.parked() } else { pending };
        self.is_notified |= self.schedule.push(pending).expect("there is room for a stored call");
        self.gather();
    }

    /// Moves calls from the store to the schedule.
    fn deliver(&mut self) {
        while !self.fence.is_known_shut
            && let Some(room) = self.schedule.room()
        {
            let calls = self.store.next(room / self.plan.size.max(8));
            if calls.is_empty() {
                break;
            }
            calls.into_iter().for_each(|(id, user)| self.push_stored(id, user, false));
        }
        assert!(
            self.plan.patience.is_some() || self.schedule.queue.memory.all <= MAX_STORED_BYTES,
            "memory: {} bytes",
            self.schedule.queue.memory.all
        );
    }

    /// Does what the loop of `dispatch` does.
    fn ask(&mut self) {
        while std::mem::take(&mut self.is_notified) || self.wake.is_some_and(|at| at <= self.now) {
            let now = self.start + self.now;
            match self.schedule.next(now) {
                Step::Send(request) => {
                    self.send(request);
                    self.is_notified = true;
                }
                Step::Wait(until) => {
                    assert!(until.is_none_or(|until| until > now), "a wait until now or before is a hot loop");
                    self.wake = until.map(|until| until - self.start);
                }
            }
        }
        self.gather();
        self.hear();
    }

    fn send(&mut self, request: Request) {
        let Some(request) = self.start(request) else { return };
        let users: Vec<usize> = request.batch.iter().map(|pending| pending.call.user_id().parse().unwrap()).collect();
        let distinct: BTreeSet<usize> = users.iter().copied().collect();
        for user in &distinct {
            assert!(self.users_in_flight.insert(*user), "at {:?}: user {user} is in two requests", self.now);
        }
        assert!(!request.is_probe && !request.is_key_probe || users.len() == 1, "a probe holds one call");
        let key = request.write_key.reveal();
        request.batch.iter().for_each(|pending| self.check_key(id_of(pending), key));
        let (now, healed_at) = (self.now, self.plan.healed_at);
        let kind = |user: &usize| match self.kinds[*user] {
            kind if now < healed_at || kind == Kind::Refused => kind,
            _ => Kind::Sound,
        };
        let random = self.random.f64();
        let latency = self.plan.latency.mul_f64(0.5 + self.random.f64());
        let is_refused = self.plan.is_refused(key, now);
        let kinds = users.iter().map(kind);
        let (pause, class) = segment::answer(kinds, now, &self.plan.phases, is_refused, latency, random);
        self.note_start();
        let (users, is_probe) = (distinct.into_iter().collect(), request.is_probe || request.is_key_probe);
        self.log.sent.push(Sent { at: now, users, is_probe, key: key.to_owned() });
        self.plan_event(now + pause, Event::Answer(self.tickets + 1));
        self.in_flight.insert(self.tickets, (request, class));
        assert!(self.in_flight.len() <= self.plan.slots, "{} requests in flight", self.in_flight.len());
    }

    fn answer(&mut self, ticket: u64) {
        // A request of a process that was killed: Segment has it, and nobody hears of it.
        let Some((request, class)) = self.in_flight.remove(&ticket) else { return };
        for pending in request.batch.iter() {
            let (id, user) = (id_of(pending), pending.call.user_id().parse().unwrap());
            self.users_in_flight.remove(&user);
            if matches!(class, ResponseClass::Accepted) {
                let first = self.open.get(&user).and_then(|open| open.first());
                assert!(
                    first.is_none_or(|first| *first >= id),
                    "at {:?}: user {user}: {id} before {first:?}",
                    self.now
                );
                self.finish(id, End::Accepted);
            }
        }
        self.schedule.answered(request, class, self.start + self.now);
        self.is_notified = true;
        self.gather();
        self.hear();
    }

    fn hear(&mut self) {
        for (id, end) in self.callers.heard() {
            self.finish(id, end);
        }
    }

    /// A call has ended: at Segment, or for its caller. The first end counts.
    fn finish(&mut self, id: i64, end: End) {
        let record = &mut self.log.calls[usize::try_from(id).unwrap()];
        record.end.get_or_insert((self.now, end));
        if let Some(open) = self.open.get_mut(&record.user) {
            open.remove(&id);
            if open.is_empty() {
                self.open.remove(&record.user);
            }
        }
    }

    /// Takes the outcomes of stored calls to the store.
    fn gather(&mut self) {
        let mut settled = Vec::new();
        while let Ok(call) = self.ended.try_recv() {
            match &call.outcome {
                CallOutcome::Refused(_) => self.finish(call.id, End::Refused),
                CallOutcome::Parked(trouble) => {
                    let is_configured = self.source(call.id).configured_at <= self.now;
                    assert!(is_configured || !trouble.is_own, "the call of a source that is not configured counts");
                    self.log.parked.insert(call.id);
                }
                CallOutcome::TakenBack => self.log.taken_back += 1,
                CallOutcome::Accepted | CallOutcome::Behind => {}
            }
            if self.parked_out.remove(&call.id) {
                self.parked_pace.ended(&call.outcome, self.now);
            }
            settled.push(call);
        }
        if !settled.is_empty() {
            self.plan_event(self.now + SETTLEMENT, Event::Settlement(settled));
        }
    }

    fn restart(&mut self) {
        self.planned.values_mut().for_each(|event| {
            if let Event::Settlement(settled) = event {
                settled.clear();
            }
        });
        (self.end, self.ended) = mpsc::unbounded_channel();
        self.schedule = schedule_of(&self.plan, self.now);
        self.schedule.set_fence(self.fence.fence.clone());
        (self.is_notified, self.wake) = (true, None);
        self.in_flight.clear();
        self.users_in_flight.clear();
        self.parked_out.clear();
        self.recent_starts.clear();
        self.parked_pace = ParkedPace::new(self.plan.requests_per_second, self.now);
        self.store.restart();
    }
}
