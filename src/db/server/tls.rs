//! Encryption on the way to a server: who it must prove to be, and what to say where it does not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError,
    RootCertStore, SignatureScheme,
};

use super::super::error::Error;
use super::super::location::{Endpoint, Tls, TlsMode};

/// Whether a server that gets through has proved who it is.
pub(super) const fn is_verified(mode: TlsMode) -> bool {
    matches!(mode, TlsMode::Verified | TlsMode::Identity)
}

/// A new session with the server at `endpoint`; nothing has been sent.
pub(super) fn session(tls: &Tls, endpoint: &Endpoint) -> Result<ClientConnection, Error> {
    let host = match endpoint {
        Endpoint::Tcp(host, _) => host.as_str(),
        Endpoint::Socket(_) => "localhost",
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_bad| Error::Other(format!("`{host}` is no name of a host that TLS could be asked for")))?;
    let config = match tls.config.get() {
        Some(config) => Arc::clone(config),
        None => {
            let made = config(tls)?;
            Arc::clone(tls.config.get_or_init(|| made))
        }
    };
    ClientConnection::new(config, name).map_err(|err| Error::Other(format!("TLS cannot begin: {err}")))
}

fn config(tls: &Tls) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::Other(format!("TLS cannot begin: {err}")))?;
    let verifier: Arc<dyn ServerCertVerifier> = if is_verified(tls.mode) {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), Arc::clone(&provider))
            .build()
            .map_err(|err| Error::Other(format!("the authorities of TLS cannot be used: {err}")))?;
        // Of an authority that signs for the whole world, a certificate without the right name proves nothing.
        let is_name_open = tls.mode == TlsMode::Verified && tls.ca.is_some();
        Arc::new(Verifier { inner: Some(inner), is_name_open, provider })
    } else {
        Arc::new(Verifier { inner: None, is_name_open: true, provider })
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "ssl_cert")?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|err| unreadable("ssl_key", key, &err))?;
            builder.with_client_auth_cert(chain, secret).map_err(|err| {
                Error::Other(format!("ssl_key `{}` does not fit ssl_cert: {err}", key.display()))
            })?
        }
    };
    Ok(Arc::new(config))
}

fn roots(tls: &Tls) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path, "ssl_ca")? {
                roots.add(certificate).map_err(|err| unreadable("ssl_ca", path, &err))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::Other(
            "this system has no certificates of authorities (Debian's package ca-certificates); name the server's with ssl_ca"
                .to_owned(),
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|err| unreadable(option, path, &err))?;
    if found.is_empty() { Err(unreadable(option, path, &"no certificate in PEM in it")) } else { Ok(found) }
}

fn unreadable(option: &str, path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Other(format!("{option} `{}` cannot be used for TLS: {why}", path.display()))
}

/// Says of a handshake that failed, or of a connection that broke, what was wrong with it.
pub(super) fn refused(err: &io::Error) -> Error {
    let Some(inner) = err.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return Error::Away(format!("TLS with the server broke off: {err}"));
    };
    let hint = match inner {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "; name the authority that has signed it with ssl_ca"
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "; it must name the host as a subject alternative name, or use ssl_mode=verify_ca with an ssl_ca that signs this server only"
        }
        TlsError::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("Version") =>
        {
            "; sign it as X.509 version 3 (openssl x509 -req with -extfile)"
        }
        TlsError::AlertReceived(_) => {
            "; the server wants a certificate of this side (ssl_cert, ssl_key), or refuses it"
        }
        _ => "",
    };
    Error::Away(format!("TLS with the server failed: {inner}{hint}"))
}

/// Compares a certificate's chain and, unless that is left open, its name; or nothing, where nothing was asked for.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    is_name_open: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is compared last, when all else has been found good.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.is_name_open => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        match &self.inner {
            Some(inner) => inner.verify_tls12_signature(message, certificate, signature),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        match &self.inner {
            Some(inner) => inner.verify_tls13_signature(message, certificate, signature),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
