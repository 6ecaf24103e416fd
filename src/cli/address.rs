//! Addresses to listen on and to connect to, and the client for them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, ensure};
use reqwest::{Client, ClientBuilder};
use tokio::net::{TcpListener, TcpSocket};
use url::Url;

use crate::config;
use crate::server::MAX_BACKLOG;

/// Listens on `address`.
pub(super) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As `TcpListener::bind` does: connections of an earlier process may still be closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(MAX_BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

/// The same, if there is an address.
pub(super) fn listen_if_set(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => listen(address).map(Some),
        None => Ok(None),
    }
}

/// The URL at which this process's settings let the running service be reached from this machine, for its operators.
pub(super) fn local_url() -> anyhow::Result<String> {
    Ok(format!("http://{}", reachable(config::local_address_from_environment()?)))
}

/// The URL that `--url` gives. No message repeats a wrong one: it may hold a password.
pub(super) fn given_url(text: &str) -> anyhow::Result<&str> {
    ensure!(!text.contains('@'), "--url must not hold a user name or password");
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    ensure!(url.is_some(), "--url must be a URL that begins with http:// or https://");
    Ok(text)
}

/// The address to connect to, for an address that a service listens on.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Begins a client for a running relay at this URL, which is reached without a proxy.
pub(super) fn http_client(url: &str) -> ClientBuilder {
    // This fails if a provider is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().no_proxy();
    // Without TLS no certificate authorities are read: there may be none.
    if url.starts_with("http://") { builder.tls_certs_only([]) } else { builder }
}
