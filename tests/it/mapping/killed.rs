//! Workers that die, or cannot start.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use segment_relay::sources::mapping::MapError;
use tokio::task::JoinSet;

use super::{Pool, event, filter, script};
use crate::harness::eventually;

#[tokio::test]
async fn an_event_whose_worker_is_killed_is_tried_again() {
    let pool = Pool::start(2);
    let filter = filter("{n: .n, sum: (reduce range(3000) as $i (0; . + $i))}");
    for round in 0..10 {
        eventually(async || pool.map("source-0", ".", "1").await.is_ok() && pool.workers().len() == 2).await;
        let mut events = JoinSet::new();
        for number in 0..100 {
            let (mapper, filter) = (pool.mapper.clone(), filter.clone());
            let source = format!("source-{}", number % 3);
            events.spawn(async move {
                let outputs = mapper.map(&source, &filter, event(&format!("{{\"n\":{number}}}"))).await;
                (number, outputs.map(|outputs| String::from_utf8(outputs.concat()).unwrap()))
            });
        }
        let mut ended = Vec::new();
        while let Some(outcome) = events.join_next().await {
            ended.push(outcome.unwrap());
            // One worker a round, so that no event meets this twice.
            if ended.len() == 10 {
                let worker = pool.workers()[round % 2];
                kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
            }
        }
        ended.sort_by_key(|(number, _)| *number);
        let expected = (0..100).map(|number| (number, Ok(format!("{{\"n\":{number},\"sum\":4498500}}"))));
        assert_eq!(ended, expected.collect::<Vec<_>>());
    }
    let [time, memory, crash] = pool.replaced();
    assert!(time + memory == 0 && (1..=10).contains(&crash), "{:?}", pool.replaced());
}

#[tokio::test]
async fn an_event_whose_worker_dies_twice_has_crashed_and_its_source_goes_on() {
    // A worker that is ready, and dies of the first line that it reads.
    let pool = Pool::with(
        2,
        script(r#"if [ -e "$0.bad" ]; then printf '\0\0\0\0d'; read line; echo >> "$0.read"; exit 1; fi"#),
    );
    let file = |name: &str| pool.folder.path().join(format!("{}.{name}", pool.name));
    fs::write(file("bad"), "").unwrap();
    assert_eq!(pool.map("shop", ".\n", "1").await, Err(MapError::Crashed));
    assert_eq!(fs::read(file("read")).unwrap().len(), 2);
    fs::remove_file(file("bad")).unwrap();
    // What started before still dies.
    eventually(async || pool.map("shop", ".\n", "1").await == Ok(vec!["1".to_owned()])).await;
}

#[tokio::test]
async fn an_event_waits_until_a_worker_can_start() {
    let pool = Pool::with(2, script(r#"echo >> "$0.starts"; if [ -e "$0.bad" ]; then exit 1; fi"#));
    let file = |name: &str| pool.folder.path().join(format!("{}.{name}", pool.name));
    fs::write(file("bad"), "").unwrap();
    let mend = async {
        eventually(async || fs::read(file("starts")).is_ok_and(|starts| starts.len() > 3)).await;
        fs::remove_file(file("bad")).unwrap();
    };
    let (outcome, ()) = tokio::join!(pool.map("shop", ".", "1"), mend);
    assert_eq!(outcome, Ok(vec!["1".to_owned()]));
}
