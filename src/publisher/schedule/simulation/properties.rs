//! Properties of random runs: mixtures of users in trouble, weather and restarts.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use proptest::test_runner::RngSeed;

use super::plan::{End, Log, Plan, Record};
use super::run;
use super::segment::{Kind, Phase, TIMEOUT, Weather};
use super::sources::Source;
use crate::publisher::trouble::MAX_PROBE_PAUSE;
use crate::segment::ErrorCode;

const SECOND: Duration = Duration::from_secs(1);

/// From the end of an outage until all is delivered.
const RETURN: Duration = Duration::from_secs(25);

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        Just(Weather::Unavailable),
        Just(Weather::Busy),
        Just(Weather::Unauthorized),
        Just(Weather::Reset),
        Just(Weather::Hanging),
        Just(Weather::Limited(None)),
        Just(Weather::Limited(Some(300 * SECOND))),
        Just(Weather::Proxy),
        Just(Weather::Exhausted),
        (0.1..0.6).prop_map(Weather::Flaky),
    ]
}

fn phase() -> impl Strategy<Value = Phase> {
    let lasts = prop_oneof![100_u64..500, 5_000_u64..40_000];
    (weather(), 0_u64..20_000, lasts).prop_map(|(weather, from, lasts)| {
        let (from, lasts) = (Duration::from_millis(from), Duration::from_millis(lasts));
        Phase { from, until: from + lasts, weather }
    })
}

/// Up to 300 sound users and half as many in trouble, a handful of them slow to fail.
fn users() -> impl Strategy<Value = Vec<(Kind, usize)>> {
    let few = || prop_oneof![Just(0_usize), 1_usize..8];
    let shares = prop::array::uniform4(prop_oneof![Just(0.0), 0.0..1.0]);
    (20_usize..300, 0_usize..3, shares, few(), few()).prop_map(|(sound, hot, shares, slow, hanging)| {
        let sum = shares.iter().sum::<f64>().max(1.0);
        let [stuck, blocked, refused, busy] = shares.map(|share| (sound as f64 / 2.0 * share / sum) as usize);
        vec![
            (Kind::Sound, sound),
            (Kind::Hot, hot),
            (Kind::Stuck, stuck),
            (Kind::Blocked, blocked),
            (Kind::Refused, refused),
            (Kind::Busy, busy),
            (Kind::Slow, slow),
            (Kind::Hanging, hanging),
        ]
    })
}

pub(super) fn plan(patience: Option<Duration>) -> impl Strategy<Value = Plan> {
    let restarts = if patience.is_none() { 0..3_usize } else { 0..1 };
    let phases = prop_oneof![Just(Vec::new()), prop::collection::vec(phase(), 1..3)];
    let restarts = prop::collection::vec(1_000_u64..25_000, restarts);
    let sizes = prop_oneof![Just(500_usize), Just(20_000)];
    (any::<u64>(), users(), phases, restarts, prop_oneof![Just(200_u32), Just(900)], 5_u32..150, sizes).prop_map(
        move |(seed, users, phases, restarts, requests_per_second, calls_per_second, size)| Plan {
            seed,
            requests_per_second,
            slots: 256,
            latency: Duration::from_millis(50),
            users,
            sources: vec![Source::customers()],
            is_mixed: false,
            calls_per_second,
            size,
            until: 25 * SECOND,
            healed_at: 60 * SECOND,
            phases,
            restarts: restarts.into_iter().map(Duration::from_millis).collect(),
            fences: Vec::new(),
            patience,
        },
    )
}

/// The longest pause before a probe that may still run when the weather is fine again, with the probe's own time.
fn after(weather: Weather) -> Duration {
    match weather {
        Weather::Proxy => 61 * SECOND,
        Weather::Hanging => 6 * SECOND + TIMEOUT,
        // The pause of a request that held calls of every user: nobody else's acceptance can end it.
        Weather::Busy => 26 * SECOND,
        Weather::Exhausted => 61 * SECOND,
        _ => 6 * SECOND,
    }
}

/// When the relay knows at last that the weather is fine again that this call met.
fn met(plan: &Plan, call: &Record) -> Option<Duration> {
    let (end, _) = call.end.unwrap();
    let ends = plan.phases.iter().filter(|phase| phase.from <= end).map(|phase| phase.until + after(phase.weather));
    ends.filter(|end| call.arrived <= *end).max()
}

/// How long a request takes at most that fails because of its own calls.
fn slowest_failure(plan: &Plan) -> Duration {
    let has = |of: Kind| plan.users.iter().any(|(kind, count)| *kind == of && *count > 0);
    match () {
        () if has(Kind::Hanging) => TIMEOUT,
        () if has(Kind::Slow) => 3 * SECOND,
        () => Duration::ZERO,
    }
}

/// After an outage or a restart the users whose requests fail slowly may be probed before a sound one, when nobody else comes.
fn slow_probes(plan: &Plan) -> Duration {
    let slow = plan.users.iter().filter(|(kind, _)| matches!(kind, Kind::Slow | Kind::Hanging));
    let probes: usize =
        if plan.phases.is_empty() && plan.restarts.is_empty() { 0 } else { slow.map(|(_, count)| count).sum() };
    (TIMEOUT + 5 * SECOND) * u32::try_from(probes).unwrap()
}

/// A sound call is accepted within two seconds, one pause between probes (a quiet relay meets three users in trouble in a row by
/// chance, and takes them for an outage until it knows their share), and six steps of a search whose requests fail slowly. After
/// an outage, within [`RETURN`].
fn check_delays(plan: &Plan, log: &Log, kinds: &[Kind], is_excused: impl Fn(&Record) -> bool) {
    for call in log.calls.iter().filter(|call| kinds[call.user].is_sound() && !is_excused(call)) {
        let (at, end) = call.end.unwrap();
        assert_eq!(end, End::Accepted, "of a call of a sound user that came at {:?}", call.arrived);
        let own = call.arrived + 2 * SECOND + MAX_PROBE_PAUSE + 6 * slowest_failure(plan) + slow_probes(plan);
        let bound = met(plan, call).map_or(own, |known| own.max(known + RETURN + slow_probes(plan)));
        assert!(at <= bound, "a sound call that came at {:?} is accepted at {at:?}, not by {bound:?}", call.arrived);
    }
}

pub(super) fn check_stored(plan: &Plan) {
    let (log, kinds) = run(plan);
    let user_of = |id: &i64| log.calls[usize::try_from(*id).unwrap()].user;
    let parked: HashSet<usize> = log.parked.iter().map(user_of).collect();
    let of_troubled_sources = of_troubled_sources(plan, &log);
    for id in &log.parked {
        let call = &log.calls[usize::try_from(*id).unwrap()];
        let is_in_trouble = !kinds[call.user].is_sound() || of_troubled_sources.contains(&call.user);
        assert!(is_in_trouble || met(plan, call).is_some(), "a sound call is parked that came at {:?}", call.arrived);
    }
    for call in &log.calls {
        let (_, end) = call.end.unwrap();
        let expected = if kinds[call.user] == Kind::Refused { End::Refused } else { End::Accepted };
        assert_eq!(end, expected);
    }
    check_delays(plan, &log, &kinds, |call| parked.contains(&call.user) || of_troubled_sources.contains(&call.user));
}

/// Users who have a call of a source that is not configured, or whose write key is refused.
fn of_troubled_sources(plan: &Plan, log: &Log) -> HashSet<usize> {
    let calls = log.calls.iter().filter(|call| plan.sources[call.source].is_in_trouble());
    calls.map(|call| call.user).collect()
}

pub(super) fn check_direct(plan: &Plan) {
    let (log, kinds) = run(plan);
    // Three failures in a row come by chance until the share of users in trouble is known. A caller hears of them at once.
    let is_shut = |call: &Record| {
        let (at, _) = call.end.unwrap();
        let of_key = log.refused.iter().filter(|(key, ..)| *key == plan.sources[call.source].key);
        let of_key = of_key.map(|(_, from, until)| (*from, *until));
        log.shut.iter().copied().chain(of_key).any(|(from, until)| from <= at && at <= until)
    };
    let of_troubled_sources = of_troubled_sources(plan, &log);
    for call in log.calls.iter().filter(|call| !of_troubled_sources.contains(&call.user)) {
        let (_, end) = call.end.unwrap();
        match end {
            End::Refused => assert_eq!(kinds[call.user], Kind::Refused),
            End::Told(ErrorCode::Unauthorized) => {
                let is_own = kinds[call.user] == Kind::Blocked;
                let is_known = is_own || is_shut(call) || met(plan, call).is_some();
                assert!(is_known, "{:?} hears of another's 403", kinds[call.user]);
            }
            _ => {}
        }
    }
    if plan.phases.is_empty() && slowest_failure(plan).is_zero() {
        let arrivals = log.shut.iter().filter(|(from, _)| *from < plan.until);
        let shut: Duration = arrivals.map(|(from, until)| *until.min(&plan.until) - *from).sum();
        assert!(shut < 3 * SECOND, "the gate is shut for {shut:?}");
    }
    // A caller waits for ten seconds: too short for a search whose requests fail slowly.
    check_delays(plan, &log, &kinds, |call| {
        let is_excused = of_troubled_sources.contains(&call.user);
        is_excused || is_shut(call) || met(plan, call).is_some() || !slowest_failure(plan).is_zero()
    });
}

/// Whatever the fence does, every call ends as it would without, and [`run`] checks that none starts while it is shut.
fn check_fenced(plan: &Plan) {
    let (log, kinds) = run(plan);
    for call in &log.calls {
        let (_, end) = call.end.unwrap();
        assert_eq!(end, if kinds[call.user] == Kind::Refused { End::Refused } else { End::Accepted });
    }
}

/// Up to five ends of the fence's time, of which the store hears at once or later.
fn fenced() -> impl Strategy<Value = Plan> {
    let fences = prop::collection::vec((1_000_u64..40_000, prop_oneof![Just(0_u64), 0_u64..300]), 1..6);
    (plan(None), fences).prop_map(|(plan, mut fences)| {
        fences.sort_unstable();
        let in_ms = |(end, unheard)| (Duration::from_millis(end), Duration::from_millis(unheard));
        Plan { fences: fences.into_iter().map(in_ms).collect(), ..plan }
    })
}

proptest! {
    // The same cases each time: `a_thousand_mixtures` looks for others.
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 64,
        rng_seed: RngSeed::Fixed(10),
        ..ProptestConfig::default()
    })]

    #[test]
    fn stored_calls_of_sound_users_arrive_soon_in_order_whoever_is_in_trouble(plan in plan(None)) {
        check_stored(&plan);
    }

    #[test]
    fn no_request_starts_while_the_fence_is_shut_all_calls_come_back_and_order_holds(plan in fenced()) {
        check_fenced(&plan);
    }

    #[test]
    fn sound_users_callers_hear_of_success_whoever_is_in_trouble(plan in plan(Some(10 * SECOND))) {
        check_direct(&plan);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 256, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "takes minutes"]
    fn a_thousand_mixtures(plan in plan(None), direct in plan(Some(10 * SECOND)), fenced in fenced()) {
        check_stored(&plan);
        check_fenced(&fenced);
        check_direct(&direct);
    }
}
