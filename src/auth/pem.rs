//! Keys in PEM (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::key_error::KeyError;
use super::public_key::PublicKey;

/// A block of PEM: the label of its first line, and its bytes.
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    pub(super) der: Vec<u8>,
}

/// The blocks of a text. What stands between them is a comment.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, KeyError> {
    let mut rest = std::str::from_utf8(text).map_err(|_| KeyError::NoPem)?;
    let mut blocks = Vec::new();
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, body) = begun.split_once("-----").ok_or(KeyError::DamagedPem)?;
        let end = format!("-----END {label}-----");
        let (body, after) = body.split_once(&end).ok_or(KeyError::DamagedPem)?;
        let base64: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|_| KeyError::DamagedPem)?;
        blocks.push(Block { label, der });
        rest = after;
    }
    Ok(blocks)
}

/// The public keys of a text, those of certificates included.
pub(super) fn public_keys(text: &[u8]) -> Result<Vec<PublicKey>, KeyError> {
    let mut keys = Vec::new();
    for block in blocks(text)? {
        let key = match block.label {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => PublicKey::from_der(&block.der),
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => of_certificate(block.der)?,
            label if label.ends_with("PRIVATE KEY") => return Err(KeyError::Private),
            // Such as the parameters of a curve.
            _ => continue,
        };
        keys.push(key.ok_or(KeyError::Kind)?);
    }
    if keys.is_empty() { Err(KeyError::NoPem) } else { Ok(keys) }
}

/// The key of a certificate. Nothing else of the certificate is asked: who lists it trusts its key.
fn of_certificate(der: Vec<u8>) -> Result<Option<PublicKey>, KeyError> {
    let certificate = der.into();
    let certificate = webpki::EndEntityCert::try_from(&certificate).map_err(|_| KeyError::Certificate)?;
    Ok(PublicKey::from_der(certificate.subject_public_key_info().as_ref()))
}
