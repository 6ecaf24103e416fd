//! The HTTP client for Segment and for the receiver of notifications.
//!
//! It goes through the proxy of the settings and never past it, reads no variable itself, follows no redirect and retries
//! nothing: whoever uses it decides what an answer means.

use reqwest::{Client, ClientBuilder, Proxy, redirect};
use url::Url;

use crate::config::{self, uses_tls};

/// A client for this URL, on the way through this proxy.
///
/// # Errors
/// If the client cannot use the proxy.
pub fn client_builder(url: &Url, proxy: Option<&config::Proxy>) -> reqwest::Result<ClientBuilder> {
    // This fails if a provider is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder();
    // Nothing goes past the proxy of the settings, and the client looks for no other.
    let builder = match proxy {
        Some(proxy) => builder.proxy(reqwest_proxy(proxy)?),
        None => builder.no_proxy(),
    };
    // Without TLS on the way no certificate authorities are read.
    let builder = if uses_tls(url, proxy) { builder } else { builder.tls_certs_only([]) };
    Ok(builder
        .user_agent(concat!("segment-relay/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never()))
}

fn reqwest_proxy(proxy: &config::Proxy) -> reqwest::Result<Proxy> {
    let built = Proxy::all(proxy.to_string())?;
    Ok(match proxy.authorization() {
        Some(credentials) => built.custom_http_auth(credentials.clone()),
        None => built,
    })
}
