//! The rows of an outbox in PostgreSQL.

use super::Report;
use crate::harness::Segment;
use crate::harness::postgres::Cluster;

const ROWS: [&str; 5] = ["outbox", "outbox-version", "outbox-server", "outbox-rights", "outbox-standby"];

#[tokio::test]
async fn a_database_can_be_used_or_not_and_its_password_is_not_shown() {
    let segment = Segment::start().await;
    let cluster = Cluster::start(&["max_connections=20"]);
    let check = async |url: &str| {
        let report = Report::of(&[("SEGMENT_ENDPOINT", segment.url()), ("RELAY_OUTBOX_URL", url)]).await;
        assert!(!format!("{report:?}").contains("s3cret"), "{report:#?}");
        assert_eq!(report.results(["outbox-space", "outbox-disk"]), ["skipped"; 2], "{report:#?}");
        report
    };
    let url = |user: &str| format!("postgres://{user}:s3cret@127.0.0.1:{}/postgres", cluster.port());
    let report = check(&url("postgres")).await;
    assert_eq!((report.code, report.results(ROWS)), (Some(0), ["ok", "ok", "ok", "ok", "warning"]), "{report:#?}");
    let reached = format!("postgres://postgres@127.0.0.1:{}/postgres can be reached", cluster.port());
    assert_eq!(report.row("outbox").1, reached);
    assert!(report.row("outbox-version").1.contains("there are no tables yet"), "{report:#?}");
    assert!(report.row("outbox-standby").1.contains("there is no standby"), "{report:#?}");

    cluster.execute("postgres", "CREATE ROLE relay LOGIN").await;
    let report = check(&url("relay")).await;
    assert_eq!((report.code, report.result("outbox-rights")), (Some(1), "failed"), "{report:#?}");
    let report = check(&url("nobody")).await;
    assert_eq!(
        (report.code, report.results(ROWS)),
        (Some(1), ["failed", "skipped", "skipped", "skipped", "skipped"]),
        "{report:#?}"
    );
    let report = check("postgres://relay:s3cret@127.0.0.1:1/calls").await;
    assert!(report.row("outbox").1.contains("cannot be reached (Connection refused"), "{report:#?}");

    cluster.set(&["synchronous_standby_names=there", "fsync=off"]);
    cluster.reload();
    let mut report = check(&url("postgres")).await;
    // The signal comes after the answer.
    while report.result("outbox-server") == "ok" {
        report = check(&url("postgres")).await;
    }
    assert_eq!((report.code, report.row("outbox-server").1.contains("fsync = off")), (Some(1), true), "{report:#?}");
    assert!(report.row("outbox-standby").1.contains("no call can be stored"), "{report:#?}");
    cluster.set(&["synchronous_standby_names=", "fsync=on"]);
    cluster.reload();
    let standby = cluster.standby("there");
    let report = check(&url("postgres")).await;
    assert!(report.row("outbox-standby").1.contains("none of them synchronous"), "{report:#?}");
    cluster.set(&["synchronous_standby_names=there"]);
    cluster.reload();
    while check(&url("postgres")).await.result("outbox-standby") != "ok" {}
    let report = check(&format!("postgres://postgres@127.0.0.1:{}/postgres", standby.port())).await;
    assert_eq!(report.results(["outbox-server", "outbox-standby"]), ["failed", "skipped"], "{report:#?}");
}
