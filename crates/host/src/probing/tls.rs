//! TLS for https:// probes: the handshake is measured and told whatever the certificate is worth. A prober sends no
//! secrets, and "not trusted" is a thing to say, no reason to see less.

use super::Job;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion, RootCertStore,
    SignatureScheme,
};
use std::sync::{Arc, Mutex, PoisonError};
use whydrop_model::{Phrase, text};

/// What the connections of one run have in common.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    judge: Arc<Judge>,
}

impl Tls {
    /// For `host`, a name or an address, judged by the root certificates of this machine.
    pub fn new(host: &str) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let provider = Arc::new(ring::default_provider());
        let judge = Arc::new(Judge::new(&provider));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&judge) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each handshake is to cost what a first one costs.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { config: Arc::new(config), name, judge })
    }

    /// A connection that has not begun its handshake.
    pub fn connection(&self) -> Result<ClientConnection, String> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(|e| e.to_string())
    }

    /// Why the last certificate is not trusted; none if it is, or if none came.
    pub fn distrust(&self) -> Option<String> {
        self.judge.distrust.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The error of a run that cannot use TLS.
pub fn refused(job: &Job<'_>, why: String) -> crate::Error {
    let operation = text!("prepare TLS for {object}", "为 {object} 准备 TLS");
    crate::Error::new(operation, &job.spec.url, Phrase::same(why))
}

/// `TLSv1.3`, as everybody writes it.
pub fn version(connection: &ClientConnection) -> String {
    match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Judges certificates, remembers the judgement, and lets the handshake go on. That the server holds the key of the
/// certificate it shows is not waived.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    /// None without root certificates; then why.
    roots: Result<Arc<WebPkiServerVerifier>, String>,
    distrust: Mutex<Option<String>>,
}

impl Judge {
    fn new(provider: &Arc<CryptoProvider>) -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map_err(|e| match found.errors.first() {
                Some(error) => format!("no root certificates could be read: {error}"),
                None => format!("no root certificates on this machine: {e}"),
            });
        Self { provider: Arc::clone(provider), roots, distrust: Mutex::new(None) }
    }
}

/// The name of what is wrong, as rustls and webpki have it, without what varies.
fn code(error: &Error) -> String {
    use rustls::CertificateError as C;
    match error {
        Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "Expired".to_owned(),
        Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => "NotValidYet".to_owned(),
        Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "NotValidForName".to_owned()
        }
        Error::InvalidCertificate(C::Other(other)) => other.0.to_string(),
        Error::InvalidCertificate(other) => format!("{other:?}"),
        other => other.to_string(),
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let distrust = match &self.roots {
            Ok(roots) => {
                roots.verify_server_cert(end_entity, intermediates, name, ocsp, now).err().map(|e| code(&e))
            }
            Err(reason) => Some(reason.clone()),
        };
        *self.distrust.lock().unwrap_or_else(PoisonError::into_inner) = distrust;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
