//! Signatures that the relay makes: [Standard Webhooks](https://www.standardwebhooks.com).

use data_encoding::BASE64;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use super::digest::keyed;

/// Signs with each of its keys, so that a receiver may know any one of them.
pub struct WebhookSigner(Vec<Hmac<Sha256>>);

impl WebhookSigner {
    pub fn new(keys: &[Vec<u8>]) -> Self {
        Self(keyed(keys))
    }

    /// The headers of a request with this id, which has no dot, and this body, sent now.
    pub fn headers(&self, id: &str, body: &[u8]) -> [(&'static str, String); 3] {
        let time = Timestamp::now().as_second().to_string();
        let sign = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            [id.as_bytes(), b".", time.as_bytes(), b".", body].iter().for_each(|part| mac.update(part));
            format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
        };
        let signatures: Vec<String> = self.0.iter().map(sign).collect();
        [("webhook-id", id.to_owned()), ("webhook-signature", signatures.join(" ")), ("webhook-timestamp", time)]
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::WebhookSigner;

    #[test]
    fn a_receiver_with_any_one_of_the_keys_verifies_the_headers() {
        let keys = [b"the key of yesterday".to_vec(), b"the key of today".to_vec()];
        let mut headers = HeaderMap::new();
        for (name, value) in WebhookSigner::new(&keys).headers("msg_1", b"{}") {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
        }
        for key in &keys {
            let webhook = standardwebhooks::Webhook::from_bytes(key.clone()).unwrap();
            webhook.verify(b"{}", &headers).unwrap();
            assert!(webhook.verify(b"{ }", &headers).is_err());
        }
    }
}
