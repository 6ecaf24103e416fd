//! TLS to the database, with libpq's meaning of `sslmode` and the parameters beside it.
//!
//! The files are read each time a connection is opened, so that a certificate can be replaced while the relay runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{PostgresTls, RootCertificates, TlsMode};

/// What makes a TLS connection.
///
/// # Errors
/// If a file cannot be used. The error names its path.
pub(super) fn connector(settings: &PostgresTls) -> anyhow::Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let verifier: Arc<dyn ServerCertVerifier> = match &settings.roots {
        Some(RootCertificates::System) => Arc::new(Verifier::new(provider)?),
        Some(RootCertificates::File(path)) => {
            let trusted = Some(Trusted::read(path)?);
            Arc::new(ServerCertificate { trusted, is_host_checked: settings.mode == TlsMode::VerifyFull, provider })
        }
        None => Arc::new(ServerCertificate { trusted: None, is_host_checked: false, provider }),
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match &settings.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let own = PrivateKeyDer::from_pem_file(key);
            let own = own.map_err(|_| anyhow!("{} holds no key in PEM without a password", key.display()))?;
            let paths = || format!("{} and {} do not belong together", certificate.display(), key.display());
            builder.with_client_auth_cert(chain, own).with_context(paths)?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// The certificates of a file in PEM, one at least.
fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    // The error says no more than this, and may hold a part of the file.
    let found = CertificateDer::pem_file_iter(path).map_err(|_| anyhow!("{shown} cannot be read as PEM"))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|_| anyhow!("{shown} is not valid PEM"))?;
    ensure!(!found.is_empty(), "{shown} holds no certificate in PEM");
    Ok(found)
}

/// The certificates that are trusted.
#[derive(Debug)]
struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
}

impl Trusted {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let (certificates, mut roots) = (certificates(path)?, RootCertStore::empty());
        let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        ensure!(usable > 0, "{} holds no certificate that can be used", path.display());
        Ok(Self { certificates, roots })
    }
}

/// Checks a server's certificate as far as the settings ask for it.
#[derive(Debug)]
struct ServerCertificate {
    /// `None`: any certificate will do. The connection is encrypted, and the other end may be anybody.
    trusted: Option<Trusted>,
    is_host_checked: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerCertificate {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trusted) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        // A server's own certificate may be the trusted one: then nothing signs it but itself.
        if !trusted.certificates.contains(certificate) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &trusted.roots, intermediates, now, algorithms)?;
        }
        if self.is_host_checked {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
