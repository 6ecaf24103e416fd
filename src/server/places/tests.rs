//! Which connections make room, and when.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Candidate, LOOK_INTERVAL, MIN_STAY, Notice, Place, Places, choose, network};
use crate::metrics::Metrics;
use crate::server::activity::Turn;

const CROWD: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

fn places_of(limit: usize) -> Arc<Places> {
    Places::new(limit, Metrics::new().unwrap().of_listener("senders", limit))
}

fn candidate(arrival: u64, peer: &str, turn: Turn, last_used: u64) -> Candidate {
    Candidate { arrival, network: network(peer.parse().unwrap()), is_known: false, turn, is_new: false, last_used }
}

fn known(candidate: Candidate) -> Candidate {
    Candidate { is_known: true, ..candidate }
}

#[test]
fn of_one_peer_the_one_that_was_used_the_longest_time_ago_goes_first() {
    let all = vec![
        candidate(1, CROWD, Turn::Idle, 9),
        candidate(2, CROWD, Turn::Idle, 3),
        candidate(3, CROWD, Turn::Idle, 3),
        candidate(4, CROWD, Turn::Idle, 5),
    ];
    assert_eq!(choose(all.clone(), 3), [2, 3, 4]);
    assert_eq!(choose(all, 9), [2, 3, 4, 1]);
}

#[test]
fn one_on_which_a_request_is_being_answered_stays() {
    let all = vec![candidate(1, CROWD, Turn::Server, 1), candidate(2, CROWD, Turn::Server, 2)];
    assert_eq!(choose(all, 2), [0; 0]);
}

#[test]
fn idle_ones_go_before_those_whose_first_request_or_body_is_on_its_way() {
    let all = vec![
        candidate(1, CROWD, Turn::Peer, 1),
        candidate(2, CROWD, Turn::Idle, 8),
        candidate(3, CROWD, Turn::Peer, 3),
        candidate(4, CROWD, Turn::Idle, 7),
    ];
    assert_eq!(choose(all, 3), [4, 2, 1]);
}

#[test]
fn those_that_have_shown_a_secret_go_last() {
    let all = vec![
        known(candidate(1, CROWD, Turn::Idle, 1)),
        candidate(2, OTHER, Turn::Peer, 9),
        candidate(3, CROWD, Turn::Idle, 8),
    ];
    assert_eq!(choose(all, 3), [3, 2, 1]);
}

#[test]
fn a_new_one_does_not_go_nor_does_one_that_has_shown_a_secret_in_its_place() {
    let new = |candidate| Candidate { is_new: true, ..candidate };
    let all = vec![
        known(candidate(1, OTHER, Turn::Idle, 1)),
        new(candidate(2, CROWD, Turn::Peer, 2)),
        candidate(3, CROWD, Turn::Peer, 3),
    ];
    assert_eq!(choose(all.clone(), 3), [3]);
    assert_eq!(choose(all[..1].to_vec(), 3), [1]);
}

#[test]
fn the_peer_with_the_most_connections_loses_them_until_another_has_as_many() {
    let mut all: Vec<_> = (1..=5).map(|n| candidate(n, CROWD, Turn::Idle, 100 + n)).collect();
    all.extend([candidate(6, OTHER, Turn::Idle, 1), candidate(7, OTHER, Turn::Idle, 2)]);
    assert_eq!(choose(all, 5), [1, 2, 3, 6, 4]);
}

#[test]
fn a_request_that_is_being_answered_counts_among_its_peers_connections() {
    let all = vec![
        candidate(1, CROWD, Turn::Server, 1),
        candidate(2, CROWD, Turn::Server, 2),
        candidate(3, CROWD, Turn::Idle, 9),
        candidate(4, OTHER, Turn::Idle, 1),
    ];
    assert_eq!(choose(all, 1), [3]);
}

#[test]
fn an_ipv6_network_is_one_peer_and_a_mapped_ipv4_address_is_that_address() {
    let network = |address: &str| network(address.parse::<IpAddr>().unwrap());
    assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
    assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}

/// A newcomer, after room was made for it.
async fn enter(places: &Arc<Places>) -> (Place, Notice) {
    places.make_room();
    places.take(SocketAddr::from(([192, 0, 2, 1], 1))).await.unwrap()
}

/// How many were told to go, of those that are there.
fn told(guests: &mut [(Place, Notice)]) -> Vec<bool> {
    guests.iter_mut().map(|(_, notice)| notice.try_recv().is_ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_quarter_of_the_places_is_kept_free_and_several_make_room_at_once() {
    let places = places_of(16);
    let mut guests = Vec::new();
    for _ in 0..12 {
        guests.push(enter(&places).await);
        assert!(!places.are_short());
    }
    tokio::time::advance(MIN_STAY).await;
    guests.push(enter(&places).await);
    assert!(places.are_short());
    let oldest: Vec<_> = (0..13).map(|n| n < 2).collect();
    assert_eq!(told(&mut guests), oldest);
    let metrics = &places.metrics;
    assert_eq!((metrics.open.get(), metrics.accepted.get(), metrics.told_to_go.get()), (13, 13, 2));
    // There is room again for so many newcomers.
    guests.push(enter(&places).await);
    assert!(!told(&mut guests).contains(&true));
    guests.push(enter(&places).await);
    assert!(told(&mut guests).contains(&true));
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_stays_for_half_a_second_and_then_makes_room_unless_it_was_answered_before() {
    let places = places_of(4);
    let mut guests = Vec::new();
    for _ in 0..4 {
        guests.push(enter(&places).await);
    }
    assert!(places.make_room());
    assert!(!told(&mut guests).contains(&true));
    tokio::time::advance(LOOK_INTERVAL).await;
    drop(guests[2].0.activity.begin_request(places.clock()));
    assert!(places.make_room());
    assert_eq!(told(&mut guests), [false, false, true, false]);
    tokio::time::advance(MIN_STAY).await;
    assert!(places.make_room());
    assert_eq!(told(&mut guests), [true, false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn places_are_short_until_half_of_them_are_free() {
    let places = places_of(16);
    let mut guests = Vec::new();
    for _ in 0..13 {
        guests.push(enter(&places).await);
    }
    guests.truncate(9);
    assert_eq!((places.metrics.open.get(), places.metrics.accepted.get()), (9, 13));
    places.make_room();
    assert!(places.are_short());
    guests.truncate(7);
    places.make_room();
    assert!(!places.are_short());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_waits_while_no_place_is_free() {
    let places = places_of(1);
    let first = enter(&places).await;
    let second = enter(&places);
    tokio::pin!(second);
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    drop(first);
    second.await;
}
