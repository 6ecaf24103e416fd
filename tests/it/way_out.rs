//! The way to Segment, and the secrets of the settings: what cannot work, or would go another way than was asked, stops the
//! start.

mod certificates;
mod endpoint;
mod proxies;
mod sender_secrets;
mod witness;
mod write_key;

use crate::harness::{Process, WRITE_KEY};

/// Runs a command to its end: its exit code and all it printed.
async fn run(command: &str, settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let all = [&[("SEGMENT_WRITE_KEY", WRITE_KEY), ("RELAY_LISTEN", "127.0.0.1:0")], settings].concat();
    let mut process = Process::start(&[command], &all);
    let code = process.exit_code().await;
    (code, [process.stdout(), process.stderr()].concat())
}

/// That these settings stop the start with one line, which begins with this name and shows nothing of `hidden`. The line.
async fn stops(settings: &[(&str, &str)], name: &str, hidden: &[&str]) -> String {
    // `serve` would go on and on if it started.
    let (code, printed) = run("check", settings).await;
    assert_eq!((code, printed.len()), (Some(2), 1), "{settings:?}: {printed:?}");
    assert!(printed[0].starts_with(&format!("{name}: ")), "{settings:?}: {printed:?}");
    assert!(hidden.iter().all(|hidden| !printed[0].contains(hidden)), "{settings:?}: {printed:?}");
    assert_eq!(run("serve", settings).await, (code, printed.clone()), "{settings:?}");
    printed[0].clone()
}
