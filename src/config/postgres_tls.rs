//! How a connection to PostgreSQL is encrypted: the parameters `sslmode`, `sslrootcert`, `sslcert` and `sslkey` of its URL.

use std::path::PathBuf;

/// How a connection to PostgreSQL is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresTls {
    pub mode: TlsMode,
    /// The authorities that may sign the server's certificate.
    pub roots: Option<RootCertificates>,
    /// The files of the relay's own certificate and of its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// `sslmode`, with libpq's meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Without TLS.
    Disable,
    /// Without TLS, and with it if the server refuses that.
    Allow,
    /// With TLS, and without it if the server has none.
    #[default]
    Prefer,
    /// With TLS. The server's certificate is checked only if there is `sslrootcert`.
    Require,
    /// With TLS, and a certificate that an authority signed.
    VerifyCa,
    /// With TLS, and a certificate that an authority signed for this host.
    VerifyFull,
}

/// `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// `system`: those that the other connections trust.
    System,
    File(PathBuf),
}

impl PostgresTls {
    /// As libpq: what could not be checked is refused.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.roots {
            None if self.mode >= TlsMode::VerifyCa => {
                Err("sslmode=verify-ca and verify-full need sslrootcert, a file of certificates or system".to_owned())
            }
            // Any authority of the world would do, for any host.
            Some(RootCertificates::System) if self.mode != TlsMode::VerifyFull => {
                Err("sslrootcert=system needs sslmode=verify-full".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// `sslmode`.
pub(super) fn tls_mode(text: &str) -> Result<TlsMode, String> {
    let modes = [
        ("disable", TlsMode::Disable),
        ("allow", TlsMode::Allow),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];
    one_of(text, &modes)
}

/// The value of one of these names.
pub(super) fn one_of<T: Copy>(text: &str, values: &[(&str, T)]) -> Result<T, String> {
    let found = values.iter().find(|(name, _)| *name == text);
    let names = || values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| *value).ok_or_else(|| format!("must be one of {}", names()))
}
