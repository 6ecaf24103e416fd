//! A worker as a process: what it has, and when it ends.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use super::{Pool, script};
use crate::harness::at_last;

/// A worker of nobody's, when it is ready.
fn worker() -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segment-relay"));
    command.arg("map-worker").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ready = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"\0\0\0\0d");
    child
}

#[tokio::test]
async fn no_worker_starts_before_there_is_a_filter_and_all_end_with_the_relay() {
    let pool = Pool::start(3);
    let other = Pool::start(2);
    assert!(other.map("shop", ".", "1").await.is_ok());
    assert!(pool.workers().is_empty());
    assert!(pool.mapper.check(&[]).await.is_empty() && pool.workers().is_empty());
    assert!(pool.mapper.check(&[super::filter(".")]).await.is_empty());
    at_last(async || pool.workers().len() == 3).await;
    pool.supervisor.cancel();
    at_last(async || pool.workers().is_empty()).await;
    assert!(other.map("shop", ".", "1").await.is_ok());
}

#[tokio::test]
async fn a_worker_sees_nothing_of_the_environment() {
    let pool = Pool::with(2, script(r#"env > "$0.env""#));
    assert!(pool.map("shop", ".", "1").await.is_ok());
    let environment = fs::read_to_string(pool.folder.path().join(format!("{}.env", pool.name))).unwrap();
    let names: Vec<_> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    // The last two are the shell's own.
    assert!(names.contains(&"MIMALLOC_DISALLOW_ARENA_ALLOC"), "{environment}");
    assert!(
        names.iter().all(|name| ["MIMALLOC_DISALLOW_ARENA_ALLOC", "PWD", "OLDPWD", "SHLVL", "_"].contains(name)),
        "{environment}"
    );
}

#[test]
fn a_worker_ends_when_its_input_ends() {
    let mut worker = worker();
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}

#[test]
fn a_worker_ends_when_it_is_sent_what_no_relay_sends() {
    use std::io::Write;
    for request in [&b"\xff\xff\xff\xffr"[..], b"\x01\0\0\0x\0", b"\x01\0\0\0r\x07", b"\0\0\0\0c", b"\x02\0\0\0c\0\xff"]
    {
        let mut worker = worker();
        worker.stdin.as_mut().unwrap().write_all(request).unwrap();
        assert_eq!(worker.wait().unwrap().code(), Some(1), "{request:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_dies_with_what_started_it_even_if_its_input_stays_open() {
    // The thread stands for a relay that is killed.
    let mut worker = std::thread::spawn(worker).join().unwrap();
    assert_eq!(worker.wait().unwrap().signal(), Some(9));
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_can_open_nothing_and_leaves_no_dump() {
    let mut worker = worker();
    let limits = fs::read_to_string(format!("/proc/{}/limits", worker.id())).unwrap();
    for (name, limit) in [
        ("Max open files", "0"),
        ("Max core file size", "0"),
        ("Max data size", "58720256"),
        ("Max stack size", "8388608"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [limit, limit], "{limits}");
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
}
