//! The way to Segment, and the secrets of the settings: what cannot work, or would go another way than was asked, stops the
//! start.

mod certificates;
mod endpoint;
mod notify;
mod proxies;
mod sender_secrets;
mod witness;
mod write_key;

use crate::harness::{Process, WRITE_KEY};

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Runs a command to its end.
async fn ended(command: &str, settings: &[(&str, &str)]) -> (Option<i32>, Process) {
    let own = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("SEGMENT_ENDPOINT", NOWHERE)];
    let mut process = Process::start(&[command], &[&own, settings].concat());
    (process.exit_code().await, process)
}

/// Runs a command to its end: its exit code and all it printed.
async fn run(command: &str, settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let (code, process) = ended(command, settings).await;
    (code, [process.stdout(), process.stderr()].concat())
}

/// That these settings stop the start with one line, which begins with this name and shows nothing of `hidden`. The line.
async fn stops(settings: &[(&str, &str)], name: &str, hidden: &[&str]) -> String {
    // `serve` would go on and on if it started.
    let (code, check) = ended("check", settings).await;
    let (printed, shown) = (check.stderr(), check.stdout().concat());
    assert_eq!((code, printed.len()), (Some(2), 1), "{settings:?}: {printed:?}");
    assert!(shown.contains(&printed[0]), "{settings:?}: {shown}");
    assert!(printed[0].starts_with(&format!("{name}: ")), "{settings:?}: {printed:?}");
    assert!(hidden.iter().all(|hidden| !printed[0].contains(hidden)), "{settings:?}: {printed:?}");
    assert_eq!(run("serve", settings).await, (code, printed.clone()), "{settings:?}");
    printed[0].clone()
}
