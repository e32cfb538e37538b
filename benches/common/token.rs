//! Tokens for the clients of a suite, each for another user.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::auth::Signer;
use rcgen::{KeyPair, RsaKeySize};

use super::support::process::TempDir;

/// How long tokens are valid: longer than any suite runs.
const VALID: Duration = Duration::from_secs(24 * 3600);

/// A key that signs tokens.
pub(crate) struct Issuer {
    /// What an engine has to be told, to accept its tokens.
    pub(crate) configuration: String,
    signer: Signer,
    expires: u64,
    /// Where the public key is, if there is one.
    _files: Option<TempDir>,
}

impl Issuer {
    /// HS256.
    pub(crate) fn with_secret(secret: &str) -> Self {
        let configuration = format!("[tokens]\nhmac_keys = ['{secret}']\n");
        Self::new(configuration, Signer::with_secret(secret.as_bytes()).expect("a secret"), None)
    }

    /// RS256, with a new key of 2,048 bits.
    pub(crate) fn rs256() -> Self {
        let algorithm = &rcgen::PKCS_RSA_SHA256;
        let pair = KeyPair::generate_rsa_for(algorithm, RsaKeySize::_2048).expect("a pair of keys");
        let files = TempDir::new("issuer");
        let public = files.write("public.pem", &pair.public_key_pem());
        let configuration = format!("[tokens]\npublic_keys = ['{}']\n", public.display());
        let signer = Signer::from_pem(pair.serialize_pem().as_bytes()).expect("a private key");
        Self::new(configuration, signer, Some(files))
    }

    fn new(configuration: String, signer: Signer, files: Option<TempDir>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { configuration, signer, expires: (now + VALID).as_secs(), _files: files }
    }

    /// The token of a client, whose user id has 20 bytes.
    pub(crate) fn token(&self, client: usize) -> String {
        let claims = format!(r#"{{"sub":"user-{client:015}","exp":{}}}"#, self.expires);
        self.signer.sign(&claims).expect("it signs")
    }
}
