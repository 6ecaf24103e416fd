//! Runs with several write keys: one is refused for a while, or a source is not configured.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use proptest::test_runner::RngSeed;

use super::plan::{End, Log, Plan, Record};
use super::properties::{self, check_direct, check_stored};
use super::run;
use super::scenarios::{plan, seconds};
use super::segment::{Kind, Phase, Weather};
use super::sources::Source;
use crate::segment::ErrorCode;

/// Users of `POST /customers`, of two sources, and of one with another's key; 200 calls a second of 400 users.
fn several() -> Plan {
    let [shop, crm, pay] = ["shop", "crm", "pay"].map(Source::new);
    let pay = Source { key: crm.key.clone(), ..pay };
    let sources = vec![Source::customers(), shop, crm, pay];
    Plan { sources, users: vec![(Kind::Sound, 400)], until: seconds(60.0), ..plan() }
}

fn of_source<'a>(log: &'a Log, plan: &'a Plan, name: Option<&'a str>) -> impl Iterator<Item = &'a Record> {
    log.calls.iter().filter(move |call| plan.sources[call.source].name.as_deref() == name)
}

/// From the arrival of each call to its acceptance, or from `since` if that is later; in order.
fn delays<'a>(calls: impl Iterator<Item = &'a Record>, since: Duration) -> Vec<Duration> {
    let delay = |call: &Record| match call.end {
        Some((at, End::Accepted)) => at.saturating_sub(call.arrived.max(since)),
        end => panic!("a sound call ends {end:?}"),
    };
    let mut delays: Vec<Duration> = calls.map(delay).collect();
    delays.sort_unstable();
    delays
}

fn p99_and_max(delays: &[Duration]) -> (Duration, Duration) {
    (delays[delays.len() * 99 / 100], *delays.last().unwrap())
}

fn refused(from: f64, until: f64) -> Plan {
    let mut plan = several();
    plan.sources[1].refused = Some((seconds(from), seconds(until)));
    plan
}

#[test]
fn a_refused_key_delays_no_calls_of_other_keys_and_its_own_arrive_after_it() {
    for calls_per_second in [20, 200, 1_000] {
        for (from, until) in [(10.0, 40.0), (0.0, 55.0)] {
            let plan = Plan { calls_per_second, ..refused(from, until) };
            let (log, _) = run(&plan);
            for name in [None, Some("crm"), Some("pay")] {
                let (p99, max) = p99_and_max(&delays(of_source(&log, &plan, name), Duration::ZERO));
                assert!(p99 < seconds(0.2) && max < seconds(0.6), "{name:?}: {p99:?}, at most {max:?}");
            }
            assert!(log.shut.is_empty(), "the gate is everybody's: {:?}", log.shut);
            let asked = log.sent.iter().filter(|sent| sent.key == "key-of-shop");
            let asked = asked.filter(|sent| (seconds(from + 1.0)..seconds(until)).contains(&sent.at)).count();
            assert!(asked <= 5 + 55 / 4, "{asked} requests under a refused key");
            let last = *delays(of_source(&log, &plan, Some("shop")), seconds(until)).last().unwrap();
            assert!(last < seconds(25.0), "{calls_per_second}/s: the last call arrives {last:?} later");
        }
    }
}

#[test]
fn callers_of_a_refused_key_are_told_at_once_and_no_others() {
    for calls_per_second in [20, 200, 1_000] {
        let plan = Plan { patience: Some(seconds(10.0)), calls_per_second, ..refused(10.0, 40.0) };
        let (log, _) = run(&plan);
        for name in [None, Some("crm"), Some("pay")] {
            let (_, max) = p99_and_max(&delays(of_source(&log, &plan, name), Duration::ZERO));
            assert!(max < seconds(0.6), "{name:?}: {max:?}");
        }
        let refused = of_source(&log, &plan, Some("shop"));
        let mut waits: Vec<Duration> = Vec::new();
        for call in refused.filter(|call| (seconds(10.0)..seconds(34.0)).contains(&call.arrived)) {
            let (at, end) = call.end.unwrap();
            assert_eq!(end, End::Told(ErrorCode::Unauthorized), "at {:?}", call.arrived);
            waits.push(at - call.arrived);
        }
        waits.sort_unstable();
        // The one who is asked waits for its turn, and those who came in the first moments for the first answers.
        let most = waits.len() * 9 / 10;
        assert!(waits[most] < seconds(0.6), "{calls_per_second}/s: {:?}", waits[most]);
        let late = of_source(&log, &plan, Some("shop")).filter(|call| call.arrived > seconds(46.0));
        assert!(*delays(late, Duration::ZERO).last().unwrap() < seconds(0.6));
    }
}

#[test]
fn calls_of_a_source_that_is_not_configured_are_never_sent_and_arrive_once_it_is() {
    for restarts in [vec![], vec![seconds(20.0)]] {
        let mut plan = Plan { restarts, ..several() };
        plan.sources[1].configured_at = seconds(50.0);
        let (log, _) = run(&plan);
        for name in [None, Some("crm"), Some("pay")] {
            let (p99, max) = p99_and_max(&delays(of_source(&log, &plan, name), Duration::ZERO));
            assert!(p99 < seconds(0.2) && max < seconds(0.6), "{name:?}: {p99:?}, at most {max:?}");
        }
        let last = *delays(of_source(&log, &plan, Some("shop")), seconds(50.0)).last().unwrap();
        assert!(last < seconds(25.0), "the last call arrives {last:?} after the source is configured");
    }
}

#[test]
fn a_busy_key_leaves_every_second_request_to_another_one() {
    let [busy, quiet] = ["busy", "quiet"].map(Source::new);
    let (sources, users) = (vec![Source { share: 20, ..busy }, quiet], vec![(Kind::Sound, 3_000)]);
    let plan = Plan { sources, users, is_mixed: true, calls_per_second: 150, requests_per_second: 5, ..plan() };
    // The busy one fills every request: it holds 24 calls of this size.
    let plan = Plan { size: 20_000, until: seconds(10.0), patience: Some(seconds(10.0)), ..plan };
    let (log, _) = run(&plan);
    // A user's call may wait behind an earlier one.
    let mut calls = HashMap::new();
    log.calls.iter().for_each(|call| *calls.entry(call.user).or_insert(0) += 1);
    let quiet = delays(of_source(&log, &plan, Some("quiet")).filter(|call| calls[&call.user] == 1), Duration::ZERO);
    assert!(p99_and_max(&quiet).1 < seconds(0.8), "{:?}", p99_and_max(&quiet));
}

/// Up to four sources with up to four keys, each refused for a while or configured late, or neither.
fn sources() -> impl Strategy<Value = Vec<Source>> {
    let span = (0_u64..20_000, prop_oneof![100_u64..2_000, 5_000_u64..40_000]);
    let trouble = prop_oneof![
        span.prop_map(|(from, lasts)| (Some((from, from + lasts)), 0)),
        (1_000_u64..50_000).prop_map(|at| (None, at)),
        proptest::prelude::Just((None, 0)),
    ];
    let of_one = (trouble, 0_usize..4, 1_usize..20);
    prop::collection::vec(of_one, 1..5).prop_map(|troubles| {
        let mut sources = vec![Source::customers()];
        for (index, ((refused, configured_at), key, share)) in troubles.into_iter().enumerate() {
            let refused = refused.map(|(from, until)| (Duration::from_millis(from), Duration::from_millis(until)));
            // Key 0 is that of `POST /customers`, which is not refused here.
            let key = if key == 0 && refused.is_none() { "wk".to_owned() } else { format!("key-{key}") };
            let configured_at = Duration::from_millis(configured_at);
            sources.push(Source { key, share, refused, configured_at, ..Source::new(&format!("source-{index}")) });
        }
        // A source whose key is refused for another one is in trouble, too.
        for at in 0..sources.len() {
            let same = sources.iter().find(|other| other.key == sources[at].key && other.refused.is_some());
            sources[at].refused = same.and_then(|other| other.refused);
        }
        sources
    })
}

fn plans(patience: Option<Duration>) -> impl Strategy<Value = Plan> {
    (properties::plan(patience), sources(), any::<bool>()).prop_map(|(plan, sources, is_mixed)| Plan {
        sources,
        is_mixed,
        ..plan
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 64,
        rng_seed: RngSeed::Fixed(11),
        ..ProptestConfig::default()
    })]

    #[test]
    fn stored_calls_of_sound_sources_arrive_soon_in_order_whichever_source_is_in_trouble(plan in plans(None)) {
        check_stored(&plan);
    }

    #[test]
    fn callers_of_sound_sources_hear_of_success_whichever_source_is_in_trouble(plan in plans(Some(seconds(10.0)))) {
        check_direct(&plan);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 256, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "takes minutes"]
    fn a_thousand_mixtures_of_sources(plan in plans(None), direct in plans(Some(seconds(10.0)))) {
        check_stored(&plan);
        check_direct(&direct);
    }
}

#[test]
fn an_outage_is_everybodys_though_a_key_is_refused_meanwhile() {
    let mut plan = refused(5.0, 45.0);
    plan.phases = vec![Phase { from: seconds(20.0), until: seconds(30.0), weather: Weather::Unavailable }];
    let (log, _) = run(&plan);
    let last = *delays(of_source(&log, &plan, None), seconds(30.0)).last().unwrap();
    assert!(last < seconds(7.0), "the last call arrives {last:?} after the outage");
    let within = log.sent.iter().filter(|sent| (seconds(20.0)..seconds(30.0)).contains(&sent.at)).count();
    assert!(within < 40, "{within} requests in an outage");
}
