//! How an import proves to a relay who it is.

use anyhow::Context;
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use sha2::Sha256;
use uuid::Uuid;

use crate::auth::WebhookSigner;
use crate::config::{AuthScheme, Secret, SignatureEncoding, decode_base64};

/// What a sender of `POST /customers` shows.
pub struct Sender {
    pub scheme: AuthScheme,
    pub secret: Secret,
}

impl Sender {
    /// Adds what proves the sender of this body.
    pub(super) fn sign(&self, request: RequestBuilder, body: &[u8]) -> anyhow::Result<RequestBuilder> {
        let secret = self.secret.reveal();
        Ok(match &self.scheme {
            AuthScheme::None => request,
            AuthScheme::Bearer => request.bearer_auth(secret),
            AuthScheme::Basic => request.header("authorization", format!("Basic {}", BASE64.encode(secret.as_bytes()))),
            AuthScheme::Hmac { header, encoding } => {
                let mac = hmac(secret.as_bytes(), body)?;
                let text = match encoding {
                    SignatureEncoding::Hex => HEXLOWER.encode(&mac),
                    SignatureEncoding::Base64 => BASE64.encode(&mac),
                };
                request.header(header.as_str(), text)
            }
            AuthScheme::StandardWebhooks => {
                let key = secret.strip_prefix("whsec_").and_then(|text| decode_base64(text.as_bytes()));
                let key = key.context("RELAY_IMPORT_SECRET must be whsec_ and then the key in base64")?;
                // The relay's key for a request. The ids of customers are in the lines.
                let headers = WebhookSigner::new(&[key]).headers(&format!("import-{}", Uuid::new_v4()), body);
                headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
            }
        })
    }
}

fn hmac(key: &[u8], body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).context("cannot use RELAY_IMPORT_SECRET")?;
    mac.update(body);
    Ok(mac.finalize().into_bytes().to_vec())
}
