//! Whoever signs certificates in a test.

use std::{fs, path::Path};

use hawker::{clock, net::tls::Identity, secret::Digest};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// An authority; its own certificate is `<name>.ca` in each folder that it writes to.
pub(crate) struct Authority {
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new(name: &'static str) -> Self {
        let (key, mut params) = (new_key(), CertificateParams::new([]).unwrap());
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { name, issuer: Issuer::new(params, key), pem }
    }

    /// Writes a server's `cert.pem` and `key.pem`, for loopback; gives the fingerprint.
    pub(crate) fn issue(&self, folder: &Path) -> [u8; 32] {
        self.sign(folder, CertificateParams::new(["127.0.0.1".into(), "localhost".into()]).unwrap())
    }

    /// The certificate of an edge, which is valid up to so many days from now.
    pub(crate) fn edge(&self, folder: &Path, days: i64) -> Identity {
        let mut params = CertificateParams::new(["edge".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = time::OffsetDateTime::from_unix_timestamp(clock::unix_ms() / 1000).unwrap();
        (params.not_before, params.not_after) = (now - time::Duration::days(9), now + time::Duration::days(days));
        self.sign(folder, params);
        Identity::load(&folder.join("cert.pem"), &folder.join("key.pem")).unwrap()
    }

    fn sign(&self, folder: &Path, params: CertificateParams) -> [u8; 32] {
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(folder.join(format!("{}.ca", self.name)), &self.pem).unwrap();
        *Digest::of(certificate.der()).as_bytes()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}
