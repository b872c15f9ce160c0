//! TLS identities: from PEM files, or made for development; and whom a client trusts.
//!
//! One crypto provider (aws-lc-rs), TLS 1.3 only for QUIC, no 0-RTT. Every listener shows the same certificate, which
//! can be replaced while they run.

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::clock;

/// SHA-256 of a certificate in DER: what WebTransport's `serverCertificateHashes` and our pins compare.
pub type Fingerprint = [u8; 32];

/// A certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file can't be read, or has nothing of use in it.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A development certificate could not be made.
    #[error("making a development certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// Certificate and key don't go together, or a trust anchor is none.
    #[error("unusable certificate or key: {0}")]
    Unusable(#[from] rustls::Error),
}

/// A certificate chain and its key, for all servers made of it; a new pair is shown from the next handshake on.
#[derive(Debug, Clone)]
pub struct Identity {
    shown: Arc<Shown>,
    /// Of the certificate made here, which another one may have taken the place of.
    development: Option<Fingerprint>,
}

/// What the next handshake shows.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Identity {
    /// A self-signed identity for loopback. Browsers accept it by its fingerprint, for which it must be ECDSA
    /// and valid for at most 14 days (WebTransport, "serverCertificateHashes").
    pub fn development() -> Result<Self, TlsError> {
        let mut params = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
        let now = time::OffsetDateTime::from_unix_timestamp(clock::unix_ms() / 1000)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        params.not_before = now - time::Duration::hours(1);
        params.not_after = params.not_before + time::Duration::days(DEVELOPMENT_DAYS);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let made = Self::new(pair(vec![certificate.der().clone()], key.into())?);
        Ok(Self { development: Some(made.fingerprint()), ..made })
    }

    /// Reads a chain and its key from PEM files.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self::new(read_pair(chain, key)?))
    }

    /// Shows another pair from the next handshake on; one that is of no use changes nothing.
    pub fn replace(&self, chain: &Path, key: &Path) -> Result<(), TlsError> {
        let pair = read_pair(chain, key)?;
        let now = clock::unix_ms() / 1000;
        match validity(&pair) {
            Some((_, until)) if until <= now => return Err(bad_file(chain, &"the certificate has expired")),
            Some((from, _)) if from > now => return Err(bad_file(chain, &"the certificate is not valid yet")),
            _ => self.shown.0.store(Arc::new(pair)),
        }
        Ok(())
    }

    /// The fingerprint of the server's own certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.shown.0.load().cert.first().map(|certificate| fingerprint(certificate)).unwrap_or_default()
    }

    /// The fingerprint by which browsers have to know it; `None` once the certificate is an authority's.
    pub fn pin(&self) -> Option<Fingerprint> {
        self.development.filter(|development| *development == self.fingerprint())
    }

    /// When the certificate expires, in UTC seconds since 1970; `None` if it doesn't say.
    pub fn expires_unix_s(&self) -> Option<i64> {
        validity(&self.shown.0.load()).map(|(_, until)| until)
    }

    /// A configuration for QUIC servers of these application protocols.
    pub fn server(&self, protocols: &[&str]) -> Result<ServerConfig, TlsError> {
        self.server_to(WebPkiClientVerifier::no_client_auth(), protocols)
    }

    /// The same for one that knows `clients` by their certificates.
    pub fn server_to(
        &self,
        clients: Arc<dyn ClientCertVerifier>,
        protocols: &[&str],
    ) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = wire(protocols);
        Ok(config)
    }

    /// The same over TCP, where TLS 1.2 is still in use. Without protocols, whatever the client asks for is let be.
    pub fn tcp_server(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = wire(protocols);
        Ok(Arc::new(config))
    }

    fn new(pair: CertifiedKey) -> Self {
        Self { shown: Arc::new(Shown(ArcSwap::from_pointee(pair))), development: None }
    }
}

fn read_pair(chain: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let certificates = read_certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad_file(key, &error))?;
    pair(certificates, private).map_err(|error| bad_file(key, &error))
}

/// A key and the chain that it belongs to.
fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsError> {
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

/// From when to when a certificate is valid, in UTC seconds since 1970.
fn validity(pair: &CertifiedKey) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(pair.cert.first()?).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

// --- Nodes know each other by certificates ---------------------------------------------------------

/// Knows clients by certificates that the authorities of a PEM file signed. Who shows none is let in as a stranger.
pub fn known_clients(authorities: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(authorities)? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated();
    verifier.build().map_err(|error| bad_file(authorities, &error))
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A certificate for DTLS, which peers know by the fingerprint that their SDP names (RFC 8827 §6.5): itself and its
/// PKCS #8 key, both DER.
pub fn session_certificate() -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

/// Debian's ca-certificates.
pub const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The authorities of a PEM file.
pub fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// Whom a client takes for the server it meant.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whoever shows a certificate with one of these fingerprints; names and dates don't matter.
    Pinned(Vec<Fingerprint>),
    /// Whoever has a valid certificate of one of these authorities for the name dialled.
    Roots(Arc<RootCertStore>),
}

impl Trust {
    /// Trusts the authorities of a PEM file.
    pub fn from_authorities(path: &Path) -> Result<Self, TlsError> {
        Ok(Self::Roots(Arc::new(authorities(path)?)))
    }

    /// A configuration for clients of these application protocols, who show `identity` if they have one.
    pub fn client(&self, protocols: &[&str], identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match self {
            Self::Pinned(pins) => {
                let verifier = Pinned { pins: pins.clone(), provider: provider() };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Self::Roots(roots) => builder.with_root_certificates(roots.clone()),
        };
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.shown.clone()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = wire(protocols);
        Ok(config)
    }
}

/// Accepts a server by its certificate's fingerprint; the handshake still proves that it has the key.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pins.contains(&fingerprint(end_entity)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the certificate is not the pinned one".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

fn wire(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(bad_file(path, &"no certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad_file(path, &error)),
    }
}

fn bad_file(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.to_string() }
}

/// A day less than browsers allow, so that clocks may differ.
const DEVELOPMENT_DAYS: i64 = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_files_are_read_and_problems_name_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&chain, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let identity = Identity::load(&chain, &key).expect("an identity");
        assert_eq!(identity.fingerprint(), fingerprint(made.cert.der()));
        assert!(identity.server(&["h3"]).is_ok());
        assert!(matches!(Trust::from_authorities(&chain), Ok(Trust::Roots(_))));
        assert!(identity.tcp_server(&["http/1.1"]).is_ok());
        let error = Identity::load(&key, &key).map(drop).expect_err("no certificate there").to_string();
        assert!(error.contains("key.pem") && error.contains("no certificate"), "{error}");
    }

    #[test]
    fn a_pair_is_replaced_by_a_good_one_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let made = |days: i64| {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
            let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
            params.not_before = time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(365 * 30);
            params.not_after = params.not_before + time::Duration::days(days);
            (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
        };
        let ((chain, key), (other_chain, other_key)) = (made(365 * 100), made(365 * 100));
        let (old_chain, old_key) = made(1);
        let (chain, key) = (file("chain.pem", &chain), file("key.pem", &key));
        let identity = Identity::load(&chain, &key).expect("an identity");
        let first = identity.fingerprint();
        let other_key = file("other-key.pem", &other_key);
        for (bad_chain, bad_key, why) in [
            (&chain, &other_key, "other-key.pem: unusable certificate or key"),
            (&file("old.pem", &old_chain), &file("old-key.pem", &old_key), "old.pem: the certificate has expired"),
            (&file("garbage.pem", "garbage"), &key, "garbage.pem: no certificate in it"),
        ] {
            let error = identity.replace(bad_chain, bad_key).expect_err("refused").to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(identity.fingerprint(), first);
        }
        identity.replace(&file("other.pem", &other_chain), &other_key).expect("replaced");
        assert_ne!(identity.fingerprint(), first);
        assert_eq!(identity.expires_unix_s(), Some((365 * 130) * 24 * 3600));
    }

    #[test]
    fn development_identities_differ_and_are_short_lived() {
        let (one, other) = (Identity::development().expect("made"), Identity::development().expect("made"));
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(one.pin(), Some(one.fingerprint()));
        assert!(one.server(&["h3", "moq-lite-05"]).is_ok());
    }
}
