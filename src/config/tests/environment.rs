//! Tests of names, defaults and values of the environment.

use std::time::Duration;

use super::read::{KEY, problem, settings};
use crate::config::LogFormat;

#[test]
fn only_the_write_key_is_required_and_every_other_setting_has_its_default() {
    let settings = settings(&[KEY]).unwrap();
    assert_eq!(settings.segment.endpoint.as_str(), "https://api.segment.io/");
    assert_eq!(settings.segment.timeout, Duration::from_secs(5));
    assert_eq!(settings.segment.max_requests_per_second.get(), 900);
    assert_eq!(settings.segment.max_concurrency.get(), 256);
    assert!(!settings.segment.gzip);
    assert_eq!((settings.listen.to_string().as_str(), settings.admin_listen), ("0.0.0.0:8080", None));
    assert_eq!(settings.request_timeout, Duration::from_secs(10));
    assert_eq!(settings.keep_alive, Duration::from_secs(620));
    assert_eq!(settings.max_in_flight, 2048);
    assert_eq!(settings.shutdown_delay, Duration::from_secs(1));
    assert_eq!(settings.shutdown_grace, Duration::from_secs(25));
    assert_eq!((settings.logs.filter.as_str(), settings.logs.format), ("info", None));
}

#[test]
fn every_setting_is_read() {
    let settings = settings(&[
        KEY,
        ("SEGMENT_ENDPOINT", "https://events.eu1.segmentapis.com"),
        ("SEGMENT_TIMEOUT", "250ms"),
        ("SEGMENT_MAX_REQUESTS_PER_SECOND", "10"),
        ("SEGMENT_MAX_CONCURRENCY", "2"),
        ("SEGMENT_GZIP", "true"),
        ("RELAY_LISTEN", "[::1]:9000"),
        ("RELAY_ADMIN_LISTEN", "[::1]:9001"),
        ("RELAY_REQUEST_TIMEOUT", "2m"),
        ("RELAY_KEEP_ALIVE", "4000s"),
        ("RELAY_MAX_IN_FLIGHT", "7"),
        ("RELAY_SHUTDOWN_DELAY", "0s"),
        ("RELAY_SHUTDOWN_GRACE", "5s"),
        ("RELAY_LOG", "segment_relay=debug"),
        ("RELAY_LOG_FORMAT", "text"),
        ("RELAY_AUTH", "none"),
    ])
    .unwrap();
    assert_eq!(settings.segment.endpoint.host_str(), Some("events.eu1.segmentapis.com"));
    assert_eq!(settings.segment.timeout, Duration::from_millis(250));
    assert_eq!(settings.segment.max_requests_per_second.get(), 10);
    assert_eq!(settings.segment.max_concurrency.get(), 2);
    assert!(settings.segment.gzip);
    assert_eq!(settings.listen.to_string(), "[::1]:9000");
    assert_eq!(settings.admin_listen.unwrap().to_string(), "[::1]:9001");
    assert_eq!(settings.request_timeout, Duration::from_secs(120));
    assert_eq!(settings.keep_alive, Duration::from_secs(4_000));
    assert_eq!(settings.max_in_flight, 7);
    assert_eq!(settings.shutdown_delay, Duration::ZERO);
    assert_eq!(settings.logs.format, Some(LogFormat::Text));
}

#[test]
fn port_is_used_unless_relay_listen_is_set() {
    assert_eq!(settings(&[KEY, ("PORT", "5000")]).unwrap().listen.to_string(), "0.0.0.0:5000");
    let both = settings(&[KEY, ("PORT", "5000"), ("RELAY_LISTEN", "127.0.0.1:1")]).unwrap();
    assert_eq!(both.listen.to_string(), "127.0.0.1:1");
}

#[test]
fn all_problems_are_reported_together_and_none_shows_a_secret() {
    let problems = settings(&[
        ("SEGMENT_WRITE_KEY", "secret with space"),
        ("SEGMENT_ENDPOINT", "https://user:secret@example.com"),
        ("SEGMENT_TIMEOUT", "5"),
        ("RELAY_MAX_INFLIGHT", "10"),
    ])
    .unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(!problems.concat().contains("secret"), "{problems:?}");
}

#[test]
fn a_missing_or_empty_write_key_is_reported() {
    for variables in [&[][..], &[("SEGMENT_WRITE_KEY", "")]] {
        let problems = settings(variables).unwrap_err();
        assert!(problems[0].starts_with("SEGMENT_WRITE_KEY: required"), "{problems:?}");
    }
}

#[test]
fn a_misspelt_setting_is_refused_with_a_suggestion() {
    assert!(problem("SEGMENT_WRITEKEY", "x").ends_with("is it SEGMENT_WRITE_KEY?"));
    assert!(problem("RELAY_REQUEST_TIMEOUTS", "1s").ends_with("is it RELAY_REQUEST_TIMEOUT?"));
    assert_eq!(problem("RELAY_ZZZ", "1"), "RELAY_ZZZ: no such setting");
}

#[test]
fn variables_made_by_kubernetes_are_ignored() {
    let kubernetes = [
        "RELAY_PORT",
        "RELAY_ADMIN_PORT",
        "RELAY_PORT_8080_TCP_ADDR",
        "RELAY_SERVICE_HOST",
        "SEGMENT_RELAY_SERVICE_PORT",
        "SEGMENT_RELAY_PORT",
        "RELAY_POSTGRES_PORT_5432_TCP_PROTO",
    ];
    let mut variables = vec![KEY];
    variables.extend(kubernetes.map(|name| (name, "tcp://10.0.0.1:8080")));
    settings(&variables).unwrap();
    for variable in [
        ("RELAY_PORT", "8080"),
        ("RELAY_SERVICE_PORT_HTTP", "80"),
        ("RELAY_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("RELAY_ADMIN_SERVICE_PORT", "80"),
        ("RELAY_ADMIN_SERVICE_PORT_HTTP", "80"),
        ("RELAY_ADMIN_PORT", "udp://10.0.0.1:80"),
        ("RELAY_ADMIN_PORT", "sctp://[fd00::1]:80"),
        ("RELAY_ADMIN_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("RELAY_ADMIN_PORT_80_UDP_PROTO", "udp"),
        ("RELAY_ADMIN_PORT_80_SCTP_PORT", "80"),
        ("SEGMENT_RELAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ] {
        settings(&[KEY, variable]).unwrap();
    }
}

#[test]
fn a_wrong_name_that_only_resembles_those_of_kubernetes_is_refused() {
    for (name, value) in [
        ("RELAY_ADMIN_PORT", "9000"),
        ("RELAY_ADMIN_PORT", "0.0.0.0:9000"),
        ("RELAY_ADMIN_PORT", "http://10.0.0.1:80"),
        ("RELAY_LISTEN_PORT", "8080"),
        ("SEGMENT_PORT", "443"),
        ("RELAY_PORTS", "8080"),
        ("RELAY_LISTEN_PORT_FILE", "/port"),
        ("RELAY_ADMIN_PORT_80", "80"),
        ("RELAY_ADMIN_PORT_HTTP_TCP", "80"),
        ("RELAY_ADMIN_PORT_80_TCP_NAME", "80"),
        ("RELAY_ADMIN_PORT_80_TCP_ADDR_FILE", "80"),
        ("RELAY_ADMIN_SERVICE_HOSTS", "10.0.0.1"),
        ("RELAY_ADMIN_SERVICE_PORTS", "80"),
        ("RELAY_ADMIN_SERVICE_HOST_NAME", "relay"),
    ] {
        assert!(problem(name, value).contains("no such setting"));
    }
}

#[test]
fn each_problem_is_one_line_whatever_a_name_or_value_holds() {
    for (name, value) in [
        ("RELAY_A\nSEGMENT_B: all is well", "x"),
        ("RELAY_\u{1b}[2J", "x"),
        ("RELAY_\u{85}X", "x"),
        ("RELAY_LOG", "a\nb"),
    ] {
        let problems = settings(&[KEY, (name, value)]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(!problems[0].contains(char::is_control), "{problems:?}");
    }
}

#[test]
fn operators_have_an_address_of_their_own_in_any_notation() {
    for (senders, operators) in [
        ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080"),
        ("[::ffff:10.0.0.1]:8080", "10.0.0.1:8080"),
        ("10.0.0.1:8080", "[::ffff:0.0.0.0]:8080"),
    ] {
        let problems = settings(&[KEY, ("RELAY_LISTEN", senders), ("RELAY_ADMIN_LISTEN", operators)]).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with("RELAY_ADMIN_LISTEN: "), "{problems:?}");
    }
    settings(&[KEY, ("RELAY_LISTEN", "127.0.0.1:1"), ("RELAY_ADMIN_LISTEN", "[::ffff:127.0.0.2]:1")]).unwrap();
}

#[test]
fn the_protocol_of_traces_counts_only_with_a_receiver() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert!(settings(&[KEY, grpc]).unwrap().traces.is_none());
    let receiver = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    let problems = settings(&[KEY, receiver, grpc]).unwrap_err();
    assert!(problems.len() == 1 && problems[0].starts_with("OTEL_EXPORTER_OTLP_PROTOCOL: "), "{problems:?}");
    assert!(settings(&[KEY, receiver]).unwrap().traces.is_some());
    assert!(settings(&[KEY, receiver, ("OTEL_SDK_DISABLED", "true")]).unwrap().traces.is_none());
}

#[test]
fn wrong_values_are_refused() {
    for (name, value) in [
        ("SEGMENT_ENDPOINT", "api.segment.io"),
        ("SEGMENT_ENDPOINT", "ftp://api.segment.io"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("SEGMENT_ENDPOINT", "https://api.segment.io/?a=b"),
        ("SEGMENT_TIMEOUT", "0s"),
        ("SEGMENT_TIMEOUT", "25h"),
        ("SEGMENT_TIMEOUT", "-1s"),
        ("SEGMENT_MAX_REQUESTS_PER_SECOND", "0"),
        ("SEGMENT_MAX_REQUESTS_PER_SECOND", "1.5"),
        ("SEGMENT_MAX_CONCURRENCY", "10001"),
        ("SEGMENT_GZIP", "yes"),
        ("PORT", "70000"),
        ("RELAY_LISTEN", "8080"),
        ("RELAY_MAX_IN_FLIGHT", "0"),
        ("RELAY_SHUTDOWN_GRACE", "soon"),
        ("RELAY_LOG", "segment_relay=loud"),
        ("RELAY_LOG", "warning"),
        ("RELAY_LOG", "segment_relay=debug,inf"),
        ("RELAY_LOG_FORMAT", "xml"),
        ("RELAY_AUTH", "magic"),
    ] {
        problem(name, value);
    }
}

#[test]
fn a_setting_that_is_not_in_capitals_is_refused() {
    let problems = settings(&[KEY, ("SEGMENT_Write_Key", "another-secret")]).unwrap_err();
    assert_eq!(problems, ["SEGMENT_Write_Key: no such setting; settings are in capital letters"]);
    let problems = settings(&[KEY, ("relay_auth", "bearer")]).unwrap_err();
    assert_eq!(problems, ["relay_auth: no such setting; settings are in capital letters"]);
    settings(&[KEY, ("port", "nobody's")]).unwrap();
}

#[test]
fn misspelt_names_and_wrong_values_are_reported_together() {
    let problems = settings(&[("RELAY_ZZZ", "1"), ("relay_auth", "bearer"), ("SEGMENT_GZIP", "yes")]).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn a_setting_that_is_set_twice_is_refused() {
    let problems = settings(&[KEY, ("RELAY_LOG", "info"), ("RELAY_LOG", "warn")]).unwrap_err();
    assert_eq!(problems, ["RELAY_LOG: set more than once"]);
}
