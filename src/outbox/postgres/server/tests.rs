//! Tests of what a server must be.

use super::{Server, inspect_server, refuse_unsafe};
use crate::outbox::postgres::connect::Connector;
use crate::outbox::postgres::schema::{self, MIGRATIONS};
use crate::outbox::postgres::test_cluster::{PASSWORD, TestCluster};

async fn inspect(url: &str) -> Server {
    inspect_server(&url.parse().unwrap()).await.unwrap().0
}

async fn refusal(url: &str) -> Option<String> {
    let connection = Connector::new(&url.parse().unwrap()).unwrap().open("test").await.unwrap();
    refuse_unsafe(&connection).await.err().map(|error| error.to_string())
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_stored_is_refused() {
    let cluster = TestCluster::start(&[], "").await;
    let admin = cluster.admin("postgres").await;
    let url = cluster.url("postgres", "postgres", "");
    assert_eq!(refusal(&url).await, None);
    for (setting, word) in [("fsync", "fsync = off"), ("full_page_writes", "full_page_writes = off")] {
        admin.batch(&format!("ALTER SYSTEM SET {setting} = off")).await.unwrap();
        admin.query("SELECT pg_reload_conf()", &[]).await.unwrap();
        // The signal comes after the answer.
        let mut found = refusal(&url).await;
        while found.is_none() {
            found = refusal(&url).await;
        }
        assert!(found.as_ref().unwrap().contains(word), "{found:?}");
        admin.batch(&format!("ALTER SYSTEM RESET {setting}")).await.unwrap();
        admin.query("SELECT pg_reload_conf()", &[]).await.unwrap();
        while refusal(&url).await.is_some() {}
    }
    admin.batch("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await.unwrap();
    assert!(refusal(&cluster.url("postgres", "latin", "")).await.unwrap().contains("LATIN1, and must be UTF8"));
    admin.batch("ALTER ROLE postgres SET default_transaction_read_only = on").await.unwrap();
    assert!(refusal(&url).await.unwrap().contains("default_transaction_read_only"));
    let old = Server { version: 120_020, version_text: "12.20".to_owned(), ..inspect(&url).await };
    assert_eq!(old.problem().unwrap(), "the server is PostgreSQL 12.20, and must be 13 or newer");
}

#[tokio::test]
async fn a_standby_is_refused() {
    let cluster = TestCluster::start_with(&["hot_standby=on"], "", &["standby.signal"]).await;
    let url = cluster.url("postgres", "postgres", "");
    assert!(inspect(&url).await.is_standby);
    assert!(refusal(&url).await.unwrap().contains("is a standby"));
}

#[tokio::test]
async fn a_user_must_be_able_to_make_the_tables_or_own_them() {
    let cluster = TestCluster::start(&[], "").await;
    let admin = cluster.admin("postgres").await;
    for user in ["relay", "other"] {
        admin.batch(&format!("CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
    }
    let url = cluster.url("relay", "postgres", "");
    let missing = refusal(&url).await.unwrap();
    assert!(missing.contains("may not make the schema") && missing.contains("AUTHORIZATION relay"), "{missing}");
    admin.batch("CREATE SCHEMA segment_relay").await.unwrap();
    assert!(refusal(&url).await.unwrap().contains("ALTER SCHEMA segment_relay OWNER TO relay"));
    admin.batch("ALTER SCHEMA segment_relay OWNER TO relay").await.unwrap();
    assert_eq!(refusal(&url).await, None);
    let connection = Connector::new(&url.parse().unwrap()).unwrap().open("test").await.unwrap();
    schema::prepare(&connection, MIGRATIONS).await.unwrap();
    assert_eq!(refusal(&url).await, None, "the user owns the tables");
    let (server, content) = inspect_server(&url.parse().unwrap()).await.unwrap();
    assert!(server.has_tables && server.owns_tables && content.unwrap().version == 1);
    let others = cluster.url("other", "postgres", "");
    assert!(refusal(&others).await.unwrap().contains("does not own the tables"));
    admin.batch("GRANT relay TO other").await.unwrap();
    assert_eq!(refusal(&others).await, None, "a member of the role that made them");
}
