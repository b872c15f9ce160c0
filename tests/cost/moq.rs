//! MoQ: peers that have shown their address and set nothing up. They are another process, whose heap doesn't count.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use hawker::{limits, proto::moq::lite05::ALPN, task};
use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Cost, server};

/// The bound for a peer without SETUP.
const SETUP_BYTES_MAX: usize = 128 * 1024;
const PEERS: usize = 50;
/// What a greedy peer has at least been kept waiting with.
const GREEDY_BYTES: usize = 32 * 1024;

#[test]
fn a_moq_peer_that_sets_nothing_up_costs_little_and_is_gone_in_time() {
    let quiet = server();
    let strangers = || {
        let mut command = Command::new(env::current_exe().expect("this test"));
        command.args(["--ignored", "--exact", "moq::strangers", "--nocapture"]).env(TO, quiet.at.moq.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("another process");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        (child, stdout)
    };
    let (mut first, mut said) = strangers();
    while said.read_line(&mut String::new()).expect("read") > 0 {}
    first.wait().expect("it ends");

    let cost = Cost::of("MoQ, before SETUP");
    let (mut child, mut said) = strangers();
    let mut line = String::new();
    while !line.contains("all have sent") {
        line.clear();
        assert!(said.read_line(&mut line).expect("read") > 0, "the strangers ended");
    }
    cost.each(PEERS, GREEDY_BYTES..=SETUP_BYTES_MAX);
    while said.read_line(&mut String::new()).expect("read") > 0 {}
    assert!(child.wait().expect("it ends").success(), "all were closed");
    cost.forgotten(PEERS, limits::MOQ_HANDSHAKE_TIMEOUT + limits::MOQ_SETUP_TIMEOUT);
}

/// Where the strangers go.
const TO: &str = "HAWKER_COST_MOQ";

/// The other process: each sends all it may on all the streams it may open, and waits for its end.
#[test]
#[ignore = "it is run by the test above"]
fn strangers() {
    let Some(to) = env::var(TO).ok().and_then(|to| to.parse::<SocketAddr>().ok()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        endpoint.set_default_client_config(client());
        let mut connections = Vec::new();
        for _ in 0..PEERS {
            connections.push(endpoint.connect(to, "localhost").expect("good").await.expect("accepted"));
        }
        for connection in &connections {
            let ways = limits::MOQ_SETUP_STREAMS_MAX;
            for _ in 0..ways {
                let uni = connection.open_uni().await.expect("within the bound");
                let (bi, _recv) = connection.open_bi().await.expect("within the bound");
                for (mut stream, bytes) in [(uni, 16_000), (bi, 64 * 1024)] {
                    task::spawn("peer", async move {
                        // SETUP, of 16,383 bytes by its varint, which doesn't end; requests as long as they may be.
                        let mut bytes = vec![0; bytes];
                        bytes[..3].copy_from_slice(&[1, 0x7f, 0xff]);
                        let _ = stream.write_all(&bytes).await;
                        std::future::pending::<()>().await;
                    });
                }
            }
        }
        // What is in flight has arrived when nothing more is acknowledged.
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("all have sent");
        for connection in connections {
            connection.closed().await;
        }
    });
}

fn client() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let anyone = Arc::new(Anyone);
    let mut tls = tls.expect("TLS 1.3").dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a suite for Initials")))
}

/// Believes every certificate.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]
    }
}
