//! Whom the client trusts.

use std::path::Path;
use std::sync::Arc;

use futures_rustls::pki_types::CertificateDer;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::rustls::crypto::aws_lc_rs;
use futures_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::AuthoritiesError;

/// TLS 1.2 and 1.3, and certificates of the authorities in a file, or of those that this host trusts.
pub(super) fn config(authorities: Option<&Path>) -> Result<ClientConfig, AuthoritiesError> {
    let roots = match authorities {
        Some(path) => of_file(path)?,
        None => of_this_host(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(AuthoritiesError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Those of a file, all of which must be usable.
fn of_file(path: &Path) -> Result<RootCertStore, AuthoritiesError> {
    let pem =
        std::fs::read(path).map_err(|error| AuthoritiesError::Unreadable { path: path.to_owned(), error })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate =
            certificate.map_err(|error| AuthoritiesError::Damaged { path: path.to_owned(), error })?;
        let added = roots.add(certificate);
        added.map_err(|error| AuthoritiesError::Unusable { path: path.to_owned(), error })?;
    }
    if roots.is_empty() { Err(AuthoritiesError::None { path: path.to_owned() }) } else { Ok(roots) }
}

/// Those of this host. There may be none in a container, and then no certificate is accepted. Some of them may be of a
/// kind that is not known here, and the others count.
fn of_this_host() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
