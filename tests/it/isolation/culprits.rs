//! One call among many fails, whatever the status: the others arrive, though nobody else comes.

use futures_util::future::join_all;

use super::start;
use crate::harness::{Fault, at_last, customer};
use crate::storing::store_all;

/// Customers at once: they travel in a few requests.
const CUSTOMERS: usize = 500;

/// One of them fails like this.
async fn all_arrive_but_one(fault: Fault) {
    let (durable, segment) = start(&[("SEGMENT_TIMEOUT", "500ms")]).await;
    segment.fail("stuck", fault);
    let users = (0..CUSTOMERS).map(|number| match number {
        250 => customer("stuck"),
        _ => customer(&format!("c-{number}")),
    });
    store_all(durable.relay(), 6, users).await;
    at_last(async || segment.users_arrived("c-") == CUSTOMERS - 1).await;
    assert_eq!(segment.users_arrived("stuck"), 0);
    assert!(durable.dead_letters().await.is_empty());
    segment.heal();
    at_last(async || segment.users_arrived("stuck") == 1).await;
}

#[tokio::test]
async fn of_500_customers_at_once_all_arrive_but_the_one_whose_call_gets_a_500() {
    all_arrive_but_one(Fault::Status(500)).await;
}

#[tokio::test]
async fn of_500_customers_at_once_all_arrive_but_the_one_whose_call_gets_a_403() {
    all_arrive_but_one(Fault::Status(403)).await;
}

#[tokio::test]
async fn of_500_customers_at_once_all_arrive_but_the_one_whose_call_gets_any_other_trouble() {
    let faults = [Fault::Status(404), Fault::Status(422), Fault::RetryAfter(503, 60), Fault::Reset, Fault::Hang];
    join_all(faults.map(all_arrive_but_one)).await;
}

#[tokio::test]
async fn of_500_customers_at_once_all_arrive_but_25_who_are_stuck() {
    let (durable, segment) = start(&[]).await;
    segment.fail("stuck", Fault::Status(500));
    let users = (0..CUSTOMERS).map(|number| match number % 20 {
        0 => customer(&format!("stuck-{number}")),
        _ => customer(&format!("c-{number}")),
    });
    store_all(durable.relay(), 6, users).await;
    at_last(async || segment.users_arrived("c-") == CUSTOMERS - 25).await;
    assert!(durable.dead_letters().await.is_empty());
    segment.heal();
    at_last(async || segment.users_arrived("stuck") == 25).await;
}
