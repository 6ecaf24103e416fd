//! Tests of settlements that come when another relay delivers.

use std::time::Duration;

use super::cluster::Cluster;
use super::{Relay, Tenure, accepted, connect, database, parked, refused, texts};

const LEFT: &str = "SELECT count(*) FROM segment_relay.calls";

#[tokio::test]
async fn a_settlement_of_an_old_epoch_changes_nothing() {
    let relay = Relay::start().await;
    let ids = relay.store(&[("a", "a0"), ("b", "b0"), ("c", "c0")]).await;
    relay.take(3).await;
    let other = "UPDATE segment_relay.lease SET owner = 1, epoch = epoch + 1";
    relay.appender.batch(other).await.unwrap();
    // Each kind alone: one is a single statement.
    for settled in [accepted(ids[0]), refused(ids[1]), parked(ids[2])] {
        relay.settle(vec![settled]).await.unwrap();
    }
    assert_eq!(relay.number(LEFT).await, 3);
    let others =
        "SELECT (SELECT count(*) FROM segment_relay.dead_letters) + (SELECT count(*) FROM segment_relay.parked)
                  + (SELECT count(*) FROM segment_relay.settled_keys)";
    assert_eq!(relay.number(others).await, 0);
    relay.check_counts().await;
    assert!(!relay.shared.fence.is_open(), "nothing is sent any more");
    // In a new tenure the calls are handed out again.
    relay.take_lease().await;
    assert_eq!(texts(&relay.take(3).await), ["a0", "b0", "c0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_waits_for_a_take_over_changes_nothing() {
    let relay = Relay::start().await;
    for (several, text) in [(false, "0"), (true, "1")] {
        let ids = relay.store(&[("a", text), ("b", text)]).await;
        relay.take(2).await;
        let other = connect(&relay.url).await;
        other.batch("BEGIN; UPDATE segment_relay.lease SET owner = 1, epoch = epoch + 1").await.unwrap();
        let second = if several { refused(ids[1]) } else { accepted(ids[1]) };
        let settlement = relay.settle(vec![accepted(ids[0]), second]);
        let waits = async {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'segment-relay deliverer'
                AND wait_event_type = 'Lock' AND datname = current_database()";
            while relay.number(waiting).await == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other.batch("COMMIT").await.unwrap();
        };
        tokio::join!(settlement, waits).0.unwrap();
        assert_eq!(relay.number(LEFT).await, 2, "several: {several}");
        relay.take_lease().await;
        relay.take(2).await;
        relay.settle(ids.into_iter().map(accepted).collect()).await.unwrap();
        assert_eq!(relay.number(LEFT).await, 0);
    }
}

#[tokio::test]
async fn a_tenure_begins_when_every_call_of_the_one_before_is_settled() {
    let relay = Relay::start().await;
    let ids = relay.store(&[("a", "a0"), ("b", "b0")]).await;
    relay.take(2).await;
    relay.tenure.send_replace(None::<Tenure>);
    relay.shared.fence.shut();
    relay.take_lease().await;
    relay.store(&[("c", "c0")]).await;
    relay.settle(vec![accepted(ids[0])]).await.unwrap();
    assert!(relay.handle.next_parked(1, true).await.unwrap().is_empty());
    assert!(!relay.shared.fence.is_open(), "a call of the tenure before is out");
    relay.settle(vec![accepted(ids[1])]).await.unwrap();
    // Both were named in the tenure that had ended, and are there still.
    assert_eq!(texts(&relay.take(3).await), ["a0", "b0", "c0"]);
}

#[tokio::test]
async fn what_a_shut_fence_gives_back_is_handed_out_again_in_order() {
    let relay = Relay::start().await;
    let ids = relay.store(&[("a", "a0"), ("a", "a1"), ("b", "b0")]).await;
    relay.take(3).await;
    relay.shared.fence.shut();
    let taken_back = |id| crate::segment::SettledCall { id, outcome: crate::segment::CallOutcome::TakenBack };
    relay.settle(vec![taken_back(ids[0]), taken_back(ids[1]), accepted(ids[2])]).await.unwrap();
    assert_eq!(relay.number("SELECT count(*) FROM segment_relay.parked_calls").await, 0);
    relay.take_lease().await;
    assert_eq!(texts(&relay.take(2).await), ["a0", "a1"]);
}

#[tokio::test]
async fn nothing_set_for_the_database_makes_the_commit_of_a_settlement_weaker() {
    let url = database(Cluster::shared()).await;
    let name = url.reveal().rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
    let admin = connect(&url).await;
    admin
        .batch(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = off;
             CREATE TABLE seen (level text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO seen SELECT current_setting('synchronous_commit'); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER note AFTER DELETE ON segment_relay.calls DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION note()"
        ))
        .await
        .unwrap();
    let relay = Relay::start_at(&url, &url).await;
    let ids = relay.store(&[("a", "1"), ("b", "2")]).await;
    relay.take(2).await;
    relay.settle(vec![accepted(ids[0]), refused(ids[1])]).await.unwrap();
    assert_eq!(relay.number("SELECT count(*) FROM seen WHERE level = 'on'").await, 2);
    relay.shared.close().await;
}
