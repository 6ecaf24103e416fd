//! Tests of the URLs of an outbox in PostgreSQL.

use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, Host, TargetSessionAttrs};

use super::read::{KEY, problem, settings};
use crate::config::{OutboxPlace, PostgresUrl, RootCertificates, TlsMode};

fn url(text: &str) -> PostgresUrl {
    text.parse().unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn tcp(name: &str) -> Host {
    Host::Tcp(name.to_owned())
}

fn hosts(url: &PostgresUrl) -> Vec<(Host, u16)> {
    url.hosts().iter().map(|config| (config.get_hosts()[0].clone(), config.get_ports()[0])).collect()
}

#[test]
fn a_url_names_user_password_hosts_and_database() {
    let full = url("postgres://relay:s3%40cr%2Fet@db.example:5433/calls");
    assert_eq!(full.hosts()[0].get_user(), Some("relay"));
    assert_eq!(full.hosts()[0].get_password(), Some(&b"s3@cr/et"[..]));
    assert_eq!(full.hosts()[0].get_dbname(), Some("calls"));
    assert_eq!(hosts(&full), [(tcp("db.example"), 5433)]);
    assert_eq!(url("postgresql://relay@db").hosts()[0].get_dbname(), Some("relay"), "as libpq");
    assert_eq!(hosts(&url("postgres://relay@[::1]:5434/x")), [(tcp("::1"), 5434)]);
    assert_eq!(hosts(&url("postgres://relay@%2Frun%2Fpostgresql/x")), [(Host::Unix("/run/postgresql".into()), 5432)]);
    assert_eq!(hosts(&url("postgres://relay@/x?host=/run/postgresql")), [(Host::Unix("/run/postgresql".into()), 5432)]);
    assert_eq!(url("postgres://db/x?user=relay&password=p").hosts()[0].get_password(), Some(&b"p"[..]));
}

#[test]
fn several_hosts_are_tried_in_turn_and_the_one_that_takes_writes_is_used() {
    let several = url("postgres://relay@a,b:5433,[::1]:5434/calls");
    assert_eq!(hosts(&several), [(tcp("a"), 5432), (tcp("b"), 5433), (tcp("::1"), 5434)]);
    let attrs = |url: &PostgresUrl| url.hosts()[0].get_target_session_attrs();
    assert_eq!(attrs(&several), TargetSessionAttrs::ReadWrite);
    assert_eq!(attrs(&url("postgres://relay@a/x")), TargetSessionAttrs::Any);
    assert_eq!(attrs(&url("postgres://relay@a/x?target_session_attrs=primary")), TargetSessionAttrs::ReadWrite);
    assert_eq!(attrs(&url("postgres://relay@a,b/x?target_session_attrs=any")), TargetSessionAttrs::Any);
    assert!(!several.is_random() && url("postgres://relay@a,b/x?load_balance_hosts=random").is_random());
    let ports = url("postgres://relay@/x?host=a,b&port=1,2&hostaddr=127.0.0.1,127.0.0.2");
    assert_eq!(hosts(&ports), [(tcp("a"), 1), (tcp("b"), 2)]);
    assert_eq!(ports.hosts()[1].get_hostaddrs()[0].to_string(), "127.0.0.2");
}

#[test]
fn parameters_have_the_meaning_of_libpq() {
    assert_eq!(url("postgres://relay@db").tls().mode, TlsMode::Prefer, "as libpq");
    for (name, mode) in [("disable", TlsMode::Disable), ("allow", TlsMode::Allow), ("require", TlsMode::Require)] {
        assert_eq!(url(&format!("postgres://relay@db?sslmode={name}")).tls().mode, mode);
    }
    let full = url("postgres://relay@db?sslmode=verify-full&sslrootcert=%2Fca.pem&sslcert=/c.pem&sslkey=/k.pem");
    assert_eq!(full.tls().roots, Some(RootCertificates::File("/ca.pem".into())));
    assert_eq!(full.tls().own, Some(("/c.pem".into(), "/k.pem".into())));
    let system = url("postgres://relay@db?sslmode=verify-full&sslrootcert=system&gssencmode=prefer");
    assert_eq!(system.tls().roots, Some(RootCertificates::System));
    let more =
        url("postgres://relay@db?channel_binding=require&connect_timeout=3&keepalives_idle=5&options=-c%20a%3Db");
    assert_eq!(more.hosts()[0].get_channel_binding(), ChannelBinding::Require);
    assert_eq!(more.hosts()[0].get_connect_timeout(), Some(&Duration::from_secs(3)));
    assert_eq!(more.hosts()[0].get_options(), Some("-c a=b"));
}

#[test]
fn the_password_is_never_shown() {
    let text = "postgres://relay:s3cret@a,b:5433/calls?sslmode=require&password=s3cret2";
    let shown = "postgres://relay@a:5432,b:5433/calls";
    assert_eq!(url(text).to_string(), shown);
    assert_eq!(format!("{:?}", url(text)), format!("PostgresUrl({shown})"));
    assert_eq!(url(text).reveal(), text);
    let settings = settings(&[KEY, ("RELAY_OUTBOX_URL", text)]).unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"));
    assert_eq!(settings.outbox.unwrap().place.to_string(), shown);
}

#[test]
fn a_url_that_is_wrong_is_refused_and_not_repeated() {
    for url in [
        "postgres:relay:s3cret@db/relay",
        "postgres://",
        "postgres://s3cret",
        "postgres:///s3cret",
        "postgres://relay:s3cret@/x",
        "postgres://:s3cret@db/x",
        "postgres://relay:s3cret@db:0/x",
        "postgres://relay:s3cret@db:65536/x",
        "postgres://relay:s3cret@db:s3cret/x",
        "postgres://relay:s3c@ret@db/x",
        "postgres://relay:s3cret/s3cret@db/x",
        "postgres://relay:s3cret?s3cret@db/x",
        "postgres://relay:s3cret#s3cret@db/x",
        "postgres://relay:s3cret%@db/x",
        "postgres://relay:s3cret%zz@db/x",
        "postgres://relay%00:s3cret@db/x",
        "postgres://relay:s3 cret@db/x",
        "postgres://relay:s3cret@d b/x",
        "postgres://relay:s3cret@-db-/x",
        "postgres://relay:s3cret@[::1/x",
        "postgres://relay:s3cret@a,,b/x",
        "postgres://relay:s3cret@1,2,3,4,5,6,7,8,9/x",
        "postgres://relay@db/x?s3cret",
        "postgres://relay@db/x?s3cret=1",
        "postgres://relay@db/x?sslmode=s3cret",
        "postgres://relay@db/x?sslmode=verify-full",
        "postgres://relay@db/x?sslmode=verify-ca&sslrootcert=system",
        "postgres://relay@db/x?sslrootcert=system",
        "postgres://relay@db/x?sslcert=s3cret",
        "postgres://relay@db/x?sslkey=s3cret",
        "postgres://relay@db/x?channel_binding=s3cret",
        "postgres://relay@db/x?connect_timeout=s3cret",
        "postgres://relay@db/x?gssencmode=require",
        "postgres://relay@db/x?target_session_attrs=standby",
        "postgres://relay@db/x?host=s3cret",
        "postgres://relay@a,b/x?hostaddr=127.0.0.1",
        "postgres://relay@a,b/x?hostaddr=s3cret",
        "postgres://relay@a,b/x?port=1,2,3",
    ] {
        let problem = problem("RELAY_OUTBOX_URL", url);
        assert!(!problem.contains("s3cret") && !problem.contains("s3c"), "{problem}");
    }
}

#[test]
fn an_unknown_parameter_is_named_if_it_looks_like_one() {
    let parameter =
        |parameter| problem("RELAY_OUTBOX_URL", &format!("postgres://relay@db/x?sslmode=disable&{parameter}"));
    assert!(parameter("sslmod=require").ends_with("the parameter sslmod is not known; is it sslmode?"));
    assert!(parameter("passfile=/x").ends_with("the parameter passfile is not supported"));
    assert!(parameter("s3cret=1").ends_with("the name of parameter 2 is not known"));
}

#[test]
fn an_attempt_takes_at_most_30_seconds_with_an_outbox_in_postgresql() {
    let with = |url, timeout| settings(&[KEY, ("RELAY_OUTBOX_URL", url), ("SEGMENT_TIMEOUT", timeout)]);
    let postgres = "postgres://relay@db/x";
    assert!(with(postgres, "30s").is_ok() && with("sqlite:///x.db", "31s").is_ok());
    let expected = "SEGMENT_TIMEOUT: must be at most 30s with an outbox in PostgreSQL";
    assert_eq!(with(postgres, "30001ms").unwrap_err(), [expected]);
}

#[test]
fn a_connection_that_others_may_read_is_a_warning() {
    let is_warned = |url| {
        let settings = settings(&[KEY, ("RELAY_OUTBOX_URL", url)]).unwrap();
        assert!(matches!(settings.outbox, Some(ref outbox) if matches!(outbox.place, OutboxPlace::Postgres(_))));
        settings.warnings().iter().any(|warning| warning.starts_with("RELAY_OUTBOX_URL"))
    };
    for url in [
        "postgres://relay@localhost/x",
        "postgres://relay@127.0.0.1,[::1]/x?sslmode=disable",
        "postgres://relay@%2Frun/x",
        "postgres://relay@db/x?sslmode=verify-full&sslrootcert=/ca.pem",
    ] {
        assert!(!is_warned(url), "{url}");
    }
    for url in ["postgres://relay@db/x", "postgres://relay@localhost,db/x?sslmode=require"] {
        assert!(is_warned(url), "{url}");
    }
}
