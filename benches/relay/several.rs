//! What a sender who has many customers gains by requests with a thousand of them.
//!
//! The same customers are sent a thousand at once on one connection, and one by one on one and on many connections, in turn.
//! Afterwards the sandbox must have as many calls as there were customers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, bail};

use super::drain::Drain;
use super::exchange::customer;
use super::load::{Amount, Load, PATIENCE, fill};
use super::options::Options;
use super::plan::{SEVERAL, Scene};
use super::report::middle;
use super::server::Server;
use super::store::Store;
use super::table::{table, thousands};

/// The customers of one request: the most that a request may have.
const TOGETHER: u64 = 1_000;

/// Connections of a sender who sends one by one and wants to be fast.
const MANY: usize = 64;

/// Measures it and prints its table, if it is wanted.
///
/// # Errors
/// If a process cannot be started, an answer is no success, or calls are lost or made up.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.wants(Scene::Several, SEVERAL.callers) {
        return Ok(());
    }
    let head = ["customers/s", "1,000 a request", "one a request", "ratio", "one a request, 64 connections", "ratio"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut customers = 0;
    for (name, has_outbox) in [("relay, Segment at once", false), ("relay with outbox, Segment at once", true)] {
        let store = has_outbox.then(|| Store::new(&options.disk)).transpose()?;
        let sandbox = Server::sandbox(&options.relay)?;
        let relay = Server::relay(&options.relay, &sandbox, store.as_ref().map(Store::url).as_deref(), None)?;
        relay.wait_until_ready()?;
        let success = if has_outbox { 202 } else { 200 };
        let (requests, alone) = options.several();
        let mut speeds = [Vec::new(), Vec::new(), Vec::new()];
        let mut sent = 0;
        for _ in 0..options.rounds() {
            for (speeds, callers) in speeds.iter_mut().zip([0, 1, MANY]) {
                // With many connections it takes more customers to see a speed.
                let count = if callers == 0 { requests * TOGETHER } else { alone * callers.min(10) as u64 };
                let speed = match callers {
                    0 => send_together(relay.address, success, requests)?,
                    callers => send_alone(Load { server: relay.address, callers, success }, count)?,
                };
                speeds.push(speed);
                sent += count;
            }
        }
        Drain::watch(&sandbox, sent)?;
        customers += sent;
        let middles = speeds.map(middle);
        let [together, on_one, on_many] = middles;
        let ratio = |other: f64| format!("{:.1}", together / other);
        let cells = [thousands(together), thousands(on_one), ratio(on_one), thousands(on_many), ratio(on_many)];
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    println!();
    table(&rows);
    println!("\n- checked: {} customers, as many different calls accepted by the sandbox", thousands(customers as f64));
    Ok(())
}

/// Sends so many requests with a thousand customers, one after the other. Returns the customers a second.
fn send_together(server: SocketAddr, success: u16, requests: u64) -> anyhow::Result<f64> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    let body: String = (0..TOGETHER).map(|number| customer(number) + "\n").collect();
    let request = format!(
        "POST /customers HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let began = Instant::now();
    for _ in 0..requests {
        stream.get_mut().write_all(request.as_bytes())?;
        read_answer(&mut stream, success)?;
    }
    Ok((requests * TOGETHER) as f64 / began.elapsed().as_secs_f64())
}

fn read_answer(stream: &mut BufReader<TcpStream>, success: u16) -> anyhow::Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.starts_with(&format!("HTTP/1.1 {success} ")) {
        bail!("not {success}: {line}");
    }
    let mut length = None;
    // The head ends with an empty line.
    while line.len() > 2 {
        line.clear();
        stream.read_line(&mut line)?;
        length = line.strip_prefix("content-length: ").map(|length| length.trim().parse()).transpose()?.or(length);
    }
    io::copy(&mut stream.take(length.context("an answer without its length")?), &mut io::sink())?;
    Ok(())
}

/// Sends so many customers, each in a request of its own. Returns the customers a second.
fn send_alone(load: Load, customers: u64) -> anyhow::Result<f64> {
    let (tally, took) = fill(load, Amount { requests: customers, users: u64::MAX })?;
    if tally.succeeded != customers {
        bail!("{} of {customers} requests were answered {}", tally.succeeded, load.success);
    }
    Ok(customers as f64 / took.as_secs_f64())
}
