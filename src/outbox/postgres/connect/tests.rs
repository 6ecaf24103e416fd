//! Tests of connections: TLS, time limits, warnings, and what errors say.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::{Connection, Connector};
use crate::outbox::postgres::database_error::{DatabaseError, ErrorKind};
use crate::outbox::postgres::test_cluster::{PASSWORD, TestCluster};

const HBA: &str = "hostssl all tls_only all scram-sha-256
hostnossl all tls_only all reject
hostssl all plain_only all reject
hostnossl all plain_only all scram-sha-256
hostssl all cert_only all cert";

const WITH_TLS: &[&str] =
    &["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key", "ssl_ca_file=../authority.pem"];

async fn cluster(settings: &[&str]) -> TestCluster {
    let cluster = TestCluster::start(settings, HBA).await;
    let admin = cluster.admin("postgres").await;
    for user in ["tls_only", "plain_only", "cert_only"] {
        admin.batch(&format!("CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
    }
    cluster
}

async fn open(url: &str) -> Result<Connection, String> {
    let connector = Connector::new(&url.parse().unwrap()).map_err(|error| format!("{error:#}"))?;
    let opened = connector.open("test").await;
    opened.map_err(|error| error.to_string())
}

/// Whether the connection is encrypted, or why there is none.
async fn is_encrypted(url: &str) -> Result<bool, String> {
    let connection = open(url).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(connection.query(sql, &[]).await.unwrap()[0].get(0))
}

fn certificate(name: &str) -> String {
    format!("{}/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn tls_has_the_meaning_of_libpq() {
    let cluster = cluster(WITH_TLS).await;
    let try_open = async |user: &str, parameters: &str| is_encrypted(&cluster.url(user, "postgres", parameters)).await;
    let [right, wrong] = ["authority.pem", "other-authority.pem"].map(certificate);
    assert_eq!(try_open("postgres", "sslmode=disable").await, Ok(false));
    assert_eq!(try_open("postgres", "sslmode=allow").await, Ok(false));
    assert_eq!(try_open("postgres", "").await, Ok(true));
    assert_eq!(try_open("postgres", "sslmode=require").await, Ok(true), "nothing is checked");
    assert_eq!(try_open("tls_only", "sslmode=allow").await, Ok(true));
    assert_eq!(try_open("plain_only", "sslmode=prefer").await, Ok(false));
    for refused in [try_open("tls_only", "sslmode=disable").await, try_open("plain_only", "sslmode=require").await] {
        assert!(refused.as_ref().unwrap_err().contains("pg_hba.conf"), "{refused:?}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let with = async |roots: &str| try_open("postgres", &format!("sslmode={mode}&sslrootcert={roots}")).await;
        assert_eq!(with(&right).await, Ok(true), "{mode}");
        assert_eq!(with(&certificate("server.pem")).await, Ok(true), "the certificate itself is trusted");
        let refused = with(&wrong).await.unwrap_err();
        assert!(refused.contains("TLS to the database fails (invalid peer certificate"), "{mode}: {refused}");
        let refused = with("/missing.pem").await.unwrap_err();
        assert!(refused.contains("/missing.pem"), "{refused}");
    }
    assert_eq!(try_open("postgres", &format!("sslmode=prefer&sslrootcert={wrong}")).await, Ok(false), "as libpq");
    let refused = try_open("postgres", "sslmode=verify-full&sslrootcert=system").await.unwrap_err();
    assert!(refused.contains("TLS to the database fails"), "{refused}");
}

#[tokio::test]
async fn the_host_of_a_certificate_is_checked_with_verify_full_alone() {
    let cluster = cluster(WITH_TLS).await;
    let named = async |host: &str, mode: &str| {
        let (port, roots) = (cluster.port(), certificate("authority.pem"));
        let parameters = format!("sslmode={mode}&sslrootcert={roots}&hostaddr=127.0.0.1");
        is_encrypted(&format!("postgres://postgres:{PASSWORD}@{host}:{port}/postgres?{parameters}")).await
    };
    assert_eq!(named("db.invalid", "verify-full").await, Ok(true));
    assert_eq!(named("127.0.0.1", "verify-full").await, Ok(true));
    assert_eq!(named("other.invalid", "verify-ca").await, Ok(true));
    for host in ["other.invalid", "127.0.0.2"] {
        let refused = named(host, "verify-full").await.unwrap_err();
        assert!(refused.contains("not valid for name"), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_of_the_relay_and_channel_binding_are_used() {
    let cluster = cluster(WITH_TLS).await;
    let try_open = async |user: &str, parameters: &str| is_encrypted(&cluster.url(user, "postgres", parameters)).await;
    let own = |certificate_of, key_of| {
        let [certificate, key] = [certificate_of, key_of].map(certificate);
        format!("sslmode=require&sslcert={certificate}&sslkey={key}")
    };
    assert_eq!(try_open("cert_only", &own("client.pem", "client.key")).await, Ok(true));
    assert!(try_open("cert_only", "sslmode=require").await.is_err());
    assert!(
        try_open("cert_only", &own("client.pem", "server.key")).await.unwrap_err().contains("do not belong together")
    );
    assert!(try_open("cert_only", &own("client.pem", "client.pem")).await.unwrap_err().contains("no key in PEM"));
    assert_eq!(try_open("postgres", "sslmode=require&channel_binding=require").await, Ok(true));
    assert!(try_open("postgres", "sslmode=disable&channel_binding=require").await.is_err());
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_if_the_url_allows_that() {
    let cluster = cluster(&[]).await;
    for (mode, expected) in [("disable", true), ("allow", true), ("prefer", true), ("require", false)] {
        let opened = is_encrypted(&cluster.url("postgres", "postgres", &format!("sslmode={mode}"))).await;
        assert_eq!(opened.as_ref().ok(), expected.then_some(&false), "{mode}: {opened:?}");
    }
    let socket = cluster.path("").display().to_string().replace('/', "%2F");
    let url = format!("postgres://postgres:{PASSWORD}@{socket}:{}/postgres?sslmode=require", cluster.port());
    assert_eq!(is_encrypted(&url).await, Ok(false), "a socket has no TLS, as with libpq");
}

#[tokio::test]
async fn a_connection_is_refused_with_a_reason_and_without_a_value() {
    let cluster = cluster(&["max_connections=20"]).await;
    let port = cluster.port();
    for (url, expected, is_final) in [
        (format!("postgres://postgres:wr0ng@127.0.0.1:{port}/postgres"), "refused the user's password", true),
        (cluster.url("postgres", "missing", ""), "has no such database (SQLSTATE 3D000)", true),
        (
            format!("postgres://postgres:{PASSWORD}@127.0.0.1:1/postgres"),
            "cannot be reached (Connection refused",
            false,
        ),
    ] {
        let error = Connector::new(&url.parse().unwrap()).unwrap().open("test").await.err().unwrap();
        assert!(error.to_string().contains(expected) && error.is_final() == is_final, "{error}");
        assert_eq!(*error.kind(), ErrorKind::Connect);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("wr0ng") && !shown.contains(PASSWORD) && !shown.contains("missing"), "{shown}");
    }
    let several = format!("postgres://postgres:{PASSWORD}@127.0.0.1:1,127.0.0.1:{port}/postgres");
    assert_eq!(is_encrypted(&several).await, Ok(false), "the second host is used");
    let connection = open(&cluster.url("postgres", "postgres", "")).await.unwrap();
    let name = connection.query("SELECT current_setting('application_name')", &[]).await.unwrap();
    assert_eq!(name[0].get::<_, String>(0), "segment-relay test");
    cluster.admin("postgres").await.batch("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    cluster.admin("postgres").await.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    let url = format!("{}target_session_attrs=read-write", cluster.url("postgres", "postgres", ""));
    while open(&url).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = open(&url).await.err().unwrap();
    assert_eq!(refused, "the server takes no writes: it is a standby");
}

#[tokio::test]
async fn a_statement_tells_whether_it_was_executed() {
    let cluster = cluster(&[]).await;
    let url = cluster.url("postgres", "postgres", "");
    let connection = open(&url).await.unwrap();
    let kind = |result: Result<u64, DatabaseError>| result.unwrap_err().kind().clone();
    let refused = connection.execute("SELECT 1 / $1", &[(&0_i32, Type::INT4)]).await;
    assert!(matches!(kind(refused), ErrorKind::Refused(code) if code.code() == "22012"));
    assert!(!connection.is_lost());
    let warn = "DO $$ BEGIN RAISE WARNING 'w'; RAISE NOTICE 'n'; END $$";
    assert_eq!(connection.warnings(), 0);
    connection.execute(warn, &[]).await.unwrap();
    assert_eq!(connection.warnings(), 1, "it is counted when the statement returns");
    let limited = open(&url).await.unwrap().with_limit(Duration::from_millis(50));
    assert_eq!(kind(limited.execute("SELECT pg_sleep(60)", &[]).await), ErrorKind::Lost);
    assert_eq!(kind(limited.execute("SELECT 1", &[]).await), ErrorKind::Lost, "the connection is given up");
    let pid: i32 = connection.query("SELECT pg_backend_pid()", &[]).await.unwrap()[0].get(0);
    let (waits, ended) = tokio::join!(connection.execute("SELECT pg_sleep(60)", &[]), async {
        let admin = cluster.admin("postgres").await;
        let is_waiting =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
        while admin.query(is_waiting, &[(&pid, Type::INT4)]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let () = ended;
    let error = waits.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Lost);
    assert_eq!(error.to_string(), "the server ended the connection (SQLSTATE 57P01)");
}

#[tokio::test]
async fn a_statement_that_is_given_up_ends_in_the_server() {
    for (settings, mode) in [(&[][..], "disable"), (WITH_TLS, "require")] {
        let cluster = cluster(settings).await;
        let url = cluster.url("postgres", "postgres", &format!("sslmode={mode}"));
        let limited = open(&url).await.unwrap().with_limit(Duration::from_millis(50));
        assert!(limited.execute("SELECT pg_sleep(3600)", &[]).await.is_err());
        let admin = cluster.admin("postgres").await;
        let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while !admin.query(sql, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn the_session_ends_with_its_connection() {
    let cluster = cluster(&[]).await;
    let connection = open(&cluster.url("postgres", "postgres", "")).await.unwrap();
    let pid: i32 = connection.query("SELECT pg_backend_pid()", &[]).await.unwrap()[0].get(0);
    drop(connection);
    let admin = cluster.admin("postgres").await;
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1";
    while !admin.query(sql, &[(&pid, Type::INT4)]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
