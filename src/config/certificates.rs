//! The checks of `SSL_CERT_FILE` and `SSL_CERT_DIR`, from which the TLS library reads certificate authorities instead of the
//! system's. It would ignore what it cannot read, and then trust nobody.

use std::fs;
use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// A file that holds a certificate in PEM.
pub(super) fn certificate_file(path: &str) -> Result<(), String> {
    // The TLS library takes an empty value for the path of a file.
    if path.is_empty() {
        return Err("is empty; remove the variable to use the system's certificates".to_owned());
    }
    match holds_certificate(Path::new(path)) {
        Ok(true) => Ok(()),
        Ok(false) => Err("holds no certificate in PEM".to_owned()),
        Err(error) => Err(format!("cannot be read ({error})")),
    }
}

/// Directories, separated by colons, with a file that holds a certificate in PEM.
pub(super) fn certificate_directories(paths: &str) -> Result<(), String> {
    let mut is_any = false;
    for directory in std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()) {
        let entries = fs::read_dir(directory).map_err(|error| format!("cannot be read ({error})"))?;
        is_any = is_any || entries.flatten().any(|entry| holds_certificate(&entry.path()).unwrap_or(false));
    }
    if is_any { Ok(()) } else { Err("holds no file with a certificate in PEM".to_owned()) }
}

/// Reads as far as the first certificate. Of other things than files, such as `/dev/zero`, nothing is read.
fn holds_certificate(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path)?.is_file() {
        return Ok(false);
    }
    match CertificateDer::pem_file_iter(path) {
        Ok(mut found) => Ok(found.any(|found| found.is_ok_and(|found| RootCertStore::empty().add(found).is_ok()))),
        Err(pem::Error::Io(error)) => Err(error),
        Err(_) => Ok(false),
    }
}
