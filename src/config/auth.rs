//! How senders prove who they are (`RELAY_AUTH`), and the secrets that prove it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::http::HeaderName;
use data_encoding::BASE64_NOPAD;

use super::checks::Checks;
use super::{Environment, OutboxSettings};

/// How far the clock of a Standard Webhooks sender may be off, either way: what the specification's own libraries allow.
pub const WEBHOOK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The variable of the scheme.
const SCHEME: &str = "RELAY_AUTH";

/// The variable of the secrets.
const SECRETS: &str = "RELAY_AUTH_SECRETS";

/// The variable of the header that holds the signature of `hmac`.
const HEADER: &str = "RELAY_AUTH_HMAC_HEADER";

/// The variable of the encoding of that signature.
const ENCODING: &str = "RELAY_AUTH_HMAC_ENCODING";

/// The default header of `hmac`.
const SIGNATURE_256: HeaderName = HeaderName::from_static("x-signature-256");

/// Headers that have another meaning already: a signature there would be read as that.
const TAKEN: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "prefer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "x-request-id",
];

/// More secrets than any rotation needs. Each one costs a hash of the body for every request.
const MAX_SECRETS: usize = 16;

/// How senders prove who they are, with the secrets of which any one is accepted. `auth` builds its checks from this.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthSettings {
    pub scheme: AuthScheme,
    /// The keys of `standard-webhooks` (decoded) and `hmac`; the tokens of `bearer`; the `user:password` of `basic`.
    pub secrets: Vec<Vec<u8>>,
}

/// The schemes of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    /// Everyone may send customers.
    None,
    /// A signature over id, time and body: [Standard Webhooks](https://www.standardwebhooks.com).
    StandardWebhooks,
    /// HMAC-SHA256 of the body in `header`.
    Hmac { header: HeaderName, encoding: SignatureEncoding },
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Bearer,
    /// `Authorization: Basic BASE64(USER:PASSWORD)` (RFC 7617).
    Basic,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// In either case.
    Hex,
    /// The standard alphabet, padded or not.
    Base64,
}

impl SignatureEncoding {
    /// The name, as in `RELAY_AUTH_HMAC_ENCODING`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
        }
    }
}

impl AuthSettings {
    /// A scheme without secrets yet: nobody gets in, except with [`AuthScheme::None`].
    pub fn new(scheme: AuthScheme) -> Self {
        Self { scheme, secrets: Vec::new() }
    }

    /// Accepts one more secret.
    ///
    /// # Errors
    /// What a secret of this scheme must be. The message does not repeat the secret.
    pub fn accept(&mut self, secret: &str) -> Result<(), &'static str> {
        let secret = match self.scheme {
            AuthScheme::None => return Err("there is no scheme that asks for it"),
            AuthScheme::StandardWebhooks => {
                let key = secret.strip_prefix("whsec_").and_then(|text| decode_base64(text.as_bytes()));
                key.filter(|key| !key.is_empty()).ok_or("must be whsec_ and then the key in base64")?
            }
            AuthScheme::Hmac { .. } => secret.as_bytes().to_vec(),
            AuthScheme::Bearer => {
                let is_token = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
                is_token.then(|| secret.as_bytes().to_vec()).ok_or("must be visible ASCII characters")?
            }
            AuthScheme::Basic => {
                // RFC 7617, section 2.
                let has_both = secret.split_once(':').is_some_and(|(user, word)| !user.is_empty() && !word.is_empty());
                let is_sound = has_both && !secret.chars().any(char::is_control);
                is_sound
                    .then(|| secret.as_bytes().to_vec())
                    .ok_or("must be user:password, without control characters")?
            }
        };
        self.secrets.push(secret);
        Ok(())
    }

    /// Whether everyone may send customers.
    pub fn is_none(&self) -> bool {
        self.scheme == AuthScheme::None
    }

    /// The scheme's name, as in `RELAY_AUTH`.
    pub fn name(&self) -> &'static str {
        match self.scheme {
            AuthScheme::None => "none",
            AuthScheme::StandardWebhooks => "standard-webhooks",
            AuthScheme::Hmac { .. } => "hmac",
            AuthScheme::Bearer => "bearer",
            AuthScheme::Basic => "basic",
        }
    }

    /// For how long a captured request stays valid, from the earliest time of its sender's clock to the latest. `None`: it
    /// stays valid for ever, or the scheme has no signatures.
    pub fn signature_lifetime(&self) -> Option<Duration> {
        (self.scheme == AuthScheme::StandardWebhooks).then_some(2 * WEBHOOK_TOLERANCE)
    }
}

impl fmt::Debug for AuthSettings {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({})", self.name())
    }
}

/// Base64 of the standard alphabet, padded or not.
pub fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    BASE64_NOPAD.decode(unpadded).ok()
}

impl Checks {
    /// A scheme with its secrets. A setting that would count for nothing is a problem: whoever made it believes that the
    /// door is shut.
    pub(super) fn auth(&mut self, environment: &Environment) -> AuthSettings {
        let header = environment.relay_auth_hmac_header.as_deref();
        let encoding = environment.relay_auth_hmac_encoding.as_deref();
        let name_of_scheme = environment.relay_auth.as_deref().unwrap_or("none");
        let scheme = match name_of_scheme {
            "none" => AuthScheme::None,
            "standard-webhooks" => AuthScheme::StandardWebhooks,
            "hmac" => AuthScheme::Hmac { header: self.header(header), encoding: self.encoding(encoding) },
            "bearer" => AuthScheme::Bearer,
            "basic" => AuthScheme::Basic,
            _ => {
                self.problem(SCHEME, "no such scheme; there are none, standard-webhooks, hmac, bearer and basic");
                return AuthSettings::new(AuthScheme::None);
            }
        };
        for (name, _) in [(HEADER, header), (ENCODING, encoding)].iter().filter(|(_, value)| value.is_some()) {
            if name_of_scheme != "hmac" {
                self.problem(name, "counts only with RELAY_AUTH=hmac");
            }
        }
        let mut auth = AuthSettings::new(scheme);
        self.secrets(&mut auth, environment.relay_auth_secrets.as_deref());
        auth
    }

    /// A signed request that is sent again is told by its key, so the key has to be remembered for as long as the signature
    /// is fresh.
    pub(super) fn replays(&mut self, auth: &AuthSettings, outbox: Option<&OutboxSettings>) {
        if let (Some(fresh), Some(outbox)) = (auth.signature_lifetime(), outbox)
            && outbox.window < fresh
        {
            let fresh = humantime::format_duration(fresh);
            self.problem(
                "RELAY_IDEMPOTENCY_WINDOW",
                format_args!("must be {fresh} at least: so long is a signature fresh"),
            );
        }
    }

    fn secrets(&mut self, auth: &mut AuthSettings, secrets: Option<&str>) {
        let Some(secrets) = secrets else {
            if !auth.is_none() {
                self.problem(SECRETS, format_args!("required with RELAY_AUTH={}", auth.name()));
            }
            return;
        };
        if auth.is_none() {
            return self.problem(SECRETS, "nobody is asked for them while RELAY_AUTH is none");
        }
        let secrets: Vec<&str> = secrets.split(',').map(str::trim_ascii).collect();
        if secrets.len() > MAX_SECRETS {
            return self.problem(SECRETS, format_args!("more than {MAX_SECRETS}"));
        }
        for (number, secret) in (1..).zip(&secrets) {
            let accepted = if secret.is_empty() { Err("is empty") } else { auth.accept(secret) };
            if let Err(fault) = accepted {
                self.problem(SECRETS, format_args!("secret {number} of {} {fault}", secrets.len()));
            }
        }
    }

    fn header(&mut self, name: Option<&str>) -> HeaderName {
        let Some(name) = name else { return SIGNATURE_256 };
        match HeaderName::from_str(name.trim_ascii()) {
            Ok(name) if !TAKEN.contains(&name.as_str()) => return name,
            Ok(_) => self.problem(HEADER, "this header means something else"),
            Err(_) => self.problem(HEADER, "not a name that a header can have"),
        }
        SIGNATURE_256
    }

    fn encoding(&mut self, name: Option<&str>) -> SignatureEncoding {
        match name {
            None | Some("hex") => SignatureEncoding::Hex,
            Some("base64") => SignatureEncoding::Base64,
            Some(_) => {
                self.problem(ENCODING, "must be hex or base64");
                SignatureEncoding::Hex
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY, settings};
    use super::AuthSettings;

    const SCHEMES: [(&str, &str); 4] = [
        ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("hmac", "It's a Secret to Everybody"),
        ("bearer", "t0ken"),
        ("basic", "relay:pa55word"),
    ];

    fn auth(variables: &[(&str, &str)]) -> Result<AuthSettings, Vec<String>> {
        settings(&[&[KEY], variables].concat()).map(|settings| settings.auth)
    }

    #[test]
    fn every_scheme_is_read_and_no_secret_is_shown() {
        assert_eq!(auth(&[]).unwrap().name(), "none");
        assert_eq!(auth(&[("RELAY_AUTH", "none")]).unwrap().name(), "none");
        for (scheme, secret) in SCHEMES {
            let two = format!("{secret}, {secret}2");
            for secrets in [secret, &two] {
                let auth = auth(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", secrets)]);
                // whsec_ and 33 characters are no base64.
                let Ok(auth) = auth else {
                    assert!(scheme == "standard-webhooks" && secrets == two, "{scheme} {auth:?}");
                    continue;
                };
                assert_eq!(format!("{auth:?}"), format!("Auth({scheme})"));
            }
        }
    }

    #[test]
    fn a_scheme_without_secrets_and_secrets_without_a_scheme_stop_the_start() {
        for (scheme, secret) in SCHEMES {
            let problems = auth(&[("RELAY_AUTH", scheme)]).unwrap_err();
            assert_eq!(problems, [format!("RELAY_AUTH_SECRETS: required with RELAY_AUTH={scheme}")]);
            let problems = auth(&[("RELAY_AUTH_SECRETS", secret)]).unwrap_err();
            assert_eq!(problems, ["RELAY_AUTH_SECRETS: nobody is asked for them while RELAY_AUTH is none"]);
        }
    }

    #[test]
    fn each_wrong_secret_is_named_by_its_number_and_never_shown() {
        for (scheme, wrong) in [
            ("standard-webhooks", "s3cret"),
            ("standard-webhooks", "whsec_"),
            ("standard-webhooks", "whsec_s3cret!"),
            ("standard-webhooks", "whpk_s3cretaa"),
            ("bearer", "s3cret token"),
            ("bearer", "s3crét"),
            ("basic", "s3cret"),
            ("basic", ":s3cret"),
            ("basic", "s3cret:"),
            ("basic", "s3cret:\u{7}"),
            ("hmac", ""),
        ] {
            let (_, right) = SCHEMES.iter().find(|(name, _)| *name == scheme).unwrap();
            let problems = auth(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &format!("{right},{wrong},"))]);
            let problems = problems.unwrap_err();
            assert_eq!(problems.len(), 2, "{problems:?}");
            assert!(problems[0].starts_with("RELAY_AUTH_SECRETS: secret 2 of 3 "), "{problems:?}");
            assert_eq!(problems[1], "RELAY_AUTH_SECRETS: secret 3 of 3 is empty");
            assert!(!format!("{problems:?}").contains("s3cr"), "{problems:?}");
        }
        let many = vec!["t0ken"; 17].join(",");
        assert_eq!(auth(&[("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", &many)]).unwrap_err().len(), 1);
    }

    #[test]
    fn keys_are_remembered_for_as_long_as_a_signature_is_fresh() {
        let outbox = ("RELAY_OUTBOX_URL", "sqlite:///tmp/outbox.db");
        let [webhooks, hmac] = [SCHEMES[0], SCHEMES[1]].map(|(scheme, secret)| {
            move |window| {
                [("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", secret), ("RELAY_IDEMPOTENCY_WINDOW", window), outbox]
            }
        });
        assert!(auth(&webhooks("10m")).is_ok());
        assert!(auth(&hmac("1s")).is_ok());
        let problems = auth(&webhooks("599s")).unwrap_err();
        assert_eq!(problems, ["RELAY_IDEMPOTENCY_WINDOW: must be 10m at least: so long is a signature fresh"]);
    }

    #[test]
    fn what_hmac_alone_heeds_is_a_problem_elsewhere() {
        let hmac = [("RELAY_AUTH", "hmac"), ("RELAY_AUTH_SECRETS", "k")];
        let chosen = [("RELAY_AUTH_HMAC_HEADER", "X-Hub-Signature-256"), ("RELAY_AUTH_HMAC_ENCODING", "base64")];
        assert!(auth(&[hmac, chosen].concat()).is_ok());
        let bearer = [("RELAY_AUTH", "bearer"), ("RELAY_AUTH_SECRETS", "k")];
        assert_eq!(auth(&[bearer, chosen].concat()).unwrap_err().len(), 2);
        let wrong = [("RELAY_AUTH_HMAC_HEADER", "X Hub"), ("RELAY_AUTH_HMAC_ENCODING", "base32")];
        assert_eq!(auth(&[hmac, wrong].concat()).unwrap_err().len(), 2);
        assert_eq!(auth(&[&hmac[..], &[("RELAY_AUTH_HMAC_HEADER", "Content-Length")]].concat()).unwrap_err().len(), 1);
        assert_eq!(auth(&[("RELAY_AUTH", "magic"), chosen[0]]).unwrap_err().len(), 1);
    }
}
