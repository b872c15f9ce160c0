//! Who a node is to its WebRTC peers, and the DTLS that shows it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dimpl::{Dtls, DtlsCertificate};

use crate::{
    limits,
    proto::sdp::{Fingerprint, HashFunction},
};

/// What a node's sessions share: its certificate, and the handshakes that may run at once.
pub struct Identity {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    /// Held once by this, and once by each handshake that runs.
    handshakes: Arc<()>,
}

impl Identity {
    /// An identity with this certificate and PKCS #8 key (ECDSA P-256), both DER.
    pub fn new(certificate: Vec<u8>, private_key: Vec<u8>) -> Option<Self> {
        // The cookie would prove the address, which a connectivity check has done already.
        let config = dimpl::Config::builder()
            .use_server_cookie(false)
            .handshake_timeout(limits::WEBRTC_CONNECT_TIMEOUT)
            .flight_start_rto(DTLS_RETRANSMIT)
            .flight_retries(DTLS_RETRIES)
            .build()
            .ok()?;
        let certificate = DtlsCertificate { certificate, private_key };
        Some(Self { config: Arc::new(config), certificate, handshakes: Arc::new(()) })
    }

    /// The same node to others, who have handshakes of their own.
    pub fn to_others(&self) -> Self {
        Self { config: self.config.clone(), certificate: self.certificate.clone(), handshakes: Arc::default() }
    }

    pub(super) fn dtls(&self, now: Instant) -> Box<Dtls> {
        Box::new(Dtls::new_auto(self.config.clone(), self.certificate.clone(), now))
    }

    pub(super) fn begin_handshake(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.handshakes) <= limits::WEBRTC_HANDSHAKES_MAX).then(|| self.handshakes.clone())
    }

    /// What the SDP names it by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(HashFunction::Sha256, &self.certificate.certificate)
    }
}

/// Before a flight is sent again, at first; doubled each time.
const DTLS_RETRANSMIT: Duration = Duration::from_millis(200);
const DTLS_RETRIES: usize = 6;
