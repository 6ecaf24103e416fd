//! A server of TLS with a certificate of an authority of these tests.

use std::io::{Read, Write, copy};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(super) const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/check/authority.pem");

/// For localhost, *.segment.invalid and 127.0.0.1, until 2119-12-31.
pub(super) const CERTIFICATE: &str = "MIIBpTCCAUugAwIBAgIBAjAKBggqhkjOPQQDAjAdMRswGQYDVQQDDBJhdXRob3JpdHkgb2YgdGVzdHMwIBcNMjAwMTAxMDAwMDAwWhgPMjExOT\
    EyMzEwMDAwMDBaMBsxGTAXBgNVBAMMEHNlZ21lbnQgb2YgdGVzdHMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATeaXGiFiyLoqPfX4ff3HlN\
    dtQADANzzU8yejKF36kVBUU5cRihnhdoBJGytMWNY/Jyrr8HbfHlDqaNYyzpHunwo3wwejAtBgNVHREEJjAkgglsb2NhbGhvc3SCESouc2VnbW\
    VudC5pbnZhbGlkhwR/AAABMAkGA1UdEwQCMAAwHQYDVR0OBBYEFPxtTbG+FmrPwMjYx9/ejFwzxNhZMB8GA1UdIwQYMBaAFILHZujR8Gw6QNNQ\
    2Bw1OCsE7xLnMAoGCCqGSM49BAMCA0gAMEUCICV7SnnkvMMMjafZ89cxqHG1Re2fg7ElL7WHdydcc8ctAiEAmNc3JtWdGhaSfWW7V8hDDqjH73\
    GxVSBC+fsaYYT6+WU=";

/// The same, until 2021-01-01.
pub(super) const OLD: &str = "MIIBozCCAUmgAwIBAgIBAzAKBggqhkjOPQQDAjAdMRswGQYDVQQDDBJhdXRob3JpdHkgb2YgdGVzdHMwHhcNMjAwMTAxMDAwMDAwWhcNMjEwMT\
    AxMDAwMDAwWjAbMRkwFwYDVQQDDBBzZWdtZW50IG9mIHRlc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE3mlxohYsi6Kj31+H39x5TXbU\
    AAwDc81PMnoyhd+pFQVFOXEYoZ4XaASRsrTFjWPycq6/B23x5Q6mjWMs6R7p8KN8MHowLQYDVR0RBCYwJIIJbG9jYWxob3N0ghEqLnNlZ21lbn\
    QuaW52YWxpZIcEfwAAATAJBgNVHRMEAjAAMB0GA1UdDgQWBBT8bU2xvhZqz8DI2Mff3oxcM8TYWTAfBgNVHSMEGDAWgBSCx2bo0fBsOkDTUNgc\
    NTgrBO8S5zAKBggqhkjOPQQDAgNIADBFAiEA8uklNbwo8QsqBMSnKluPQqoYaYu4CVvvzx5OvUl+A7sCIFyT0AxEv0eOpFeQWn60R8Y+CAGus8\
    69Z/f4qzWCjUEW";

const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgyNiAatYgO6WMqhFMDhsgsY/A14MU6UBK+tAbOLNpXt+hRANCAATeaXGiFiyLoq\
    PfX4ff3HlNdtQADANzzU8yejKF36kVBUU5cRihnhdoBJGytMWNY/Jyrr8HbfHlDqaNYyzpHunw";

/// The port of a server that shows this certificate, and accepts every batch.
pub(super) fn server(certificate: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream, certificate));
        }
    });
    port
}

fn answer(stream: TcpStream, certificate: &str) {
    let certificate = BASE64_STANDARD.decode(certificate).unwrap().into();
    let key = PrivatePkcs8KeyDer::from(BASE64_STANDARD.decode(KEY).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key.into()).unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
    // The request is small, and comes at once.
    if stream.read(&mut [0; 16 * 1024]).is_ok_and(|read| read > 0) {
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{\"success\":true}");
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

/// The port of a proxy whose tunnels lead to another port of this machine.
pub(super) fn tunnel(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || pass_on(stream, port));
        }
    });
    own
}

fn pass_on(mut stream: TcpStream, port: u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut from, mut to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || copy(&mut from, &mut to));
    let _ = copy(&mut server, &mut stream);
    let _ = stream.shutdown(std::net::Shutdown::Both);
}
