//! The rows of what this machine gives a relay: open files, and addresses to listen on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpSocket;

use super::row::Row;
use crate::app;
use crate::cli::address::{http_client, reachable};
use crate::config::{Problems, Settings};
use crate::server::fd_limit::FEW_CONNECTIONS;

/// How long a program that has the address may take to say that it is a relay.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn rows(settings: &Settings, problems: &Problems) -> Vec<Row> {
    let (listen, operators) = ("listen", "operators");
    let senders = if problems.name_any(&["RELAY_LISTEN", "PORT"]) {
        Row::skipped(listen, "RELAY_LISTEN or PORT is wrong")
    } else {
        address(listen, settings.listen).await
    };
    let own = match settings.admin_listen {
        _ if problems.name_any(&["RELAY_ADMIN_LISTEN"]) => Row::skipped(operators, "RELAY_ADMIN_LISTEN is wrong"),
        None => Row::skipped(operators, "RELAY_ADMIN_LISTEN is not set: operators are served at RELAY_LISTEN"),
        Some(own) => address(operators, own).await,
    };
    vec![open_files(settings), senders, own]
}

fn open_files(settings: &Settings) -> Row {
    let name = "open-files";
    match app::max_connections(settings) {
        Ok(connections) if connections < FEW_CONNECTIONS => {
            Row::warning(name, format!("the limit of open files leaves only {connections} connections for senders"))
                .advise("Raise the limit: ulimit -n, LimitNOFILE= of systemd, or ulimits of compose.")
        }
        Ok(connections) => Row::ok(name, format!("the limit leaves {connections} connections for senders")),
        Err(error) => Row::failed(name, error.to_string())
            .advise("Raise the limit: ulimit -n, LimitNOFILE= of systemd, or ulimits of compose."),
    }
}

/// Whether a relay could listen there. The socket does not listen, so a relay that starts meanwhile is not disturbed.
async fn address(name: &'static str, address: SocketAddr) -> Row {
    match bind(address) {
        Ok(()) if address.port() == 0 => Row::ok(name, format!("{address}: the system chooses a free port")),
        Ok(()) => Row::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_relay(address).await => {
            Row::warning(name, format!("{address} is taken by a relay that runs")).advise(
                "Nothing, if that is the relay that is checked. A second one on this machine needs another address.",
            )
        }
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::AddrInUse => "Stop the program that has this address, or choose another one.",
                ErrorKind::PermissionDenied => "Choose a port from 1024 up, or give the program CAP_NET_BIND_SERVICE.",
                ErrorKind::AddrNotAvailable => "Choose an address of this machine, or 0.0.0.0 for all of them.",
                _ => "Choose another address.",
            };
            Row::failed(name, format!("cannot listen on {address}: {error}")).advise(advice)
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As a relay does it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// Whether the one who listens there answers as a relay does. Others have a `/healthz` too.
async fn is_relay(address: SocketAddr) -> bool {
    let url = format!("http://{}/healthz", reachable(address));
    let ask = async {
        let answer = http_client(&url).timeout(HEALTH_TIMEOUT).build()?.get(&url).send().await?;
        reqwest::Result::Ok(answer.status().is_success() && answer.headers().contains_key("x-request-id"))
    };
    ask.await.unwrap_or_default()
}
