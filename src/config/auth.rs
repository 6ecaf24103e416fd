//! Who may send customers, and the secrets that show it.

use std::str::FromStr;

use axum::http::HeaderName;

use super::checks::Checks;
use super::{Environment, OutboxSettings};
use crate::http::auth::{Auth, Encoding};

/// Where the scheme comes from.
const SCHEME: &str = "RELAY_AUTH";

/// Where the secrets come from.
const SECRETS: &str = "RELAY_AUTH_SECRETS";

/// In which header the signature is, for `hmac`.
const HEADER: &str = "RELAY_AUTH_HMAC_HEADER";

/// How the signature is written, for `hmac`.
const ENCODING: &str = "RELAY_AUTH_HMAC_ENCODING";

/// The header of `hmac` by default.
const SIGNATURE_256: HeaderName = HeaderName::from_static("x-signature-256");

/// Headers that mean something else already: a signature there would be taken for that.
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

/// More secrets than any rotation needs; each costs a hash of the body for every request.
const MOST: usize = 16;

impl Checks {
    /// A scheme with its secrets. A setting that would count for nothing is a problem: whoever made it believes that the
    /// door is shut.
    pub(super) fn auth(&mut self, environment: &Environment) -> Auth {
        let header = environment.relay_auth_hmac_header.as_deref();
        let encoding = environment.relay_auth_hmac_encoding.as_deref();
        let scheme = environment.relay_auth.as_deref().unwrap_or("none");
        let mut auth = match scheme {
            "none" => Auth::none(),
            "standard-webhooks" => Auth::standard_webhooks(),
            "hmac" => Auth::hmac(self.header(header), self.encoding(encoding)),
            "bearer" => Auth::bearer(),
            "basic" => Auth::basic(),
            _ => {
                self.problem(SCHEME, "no such scheme; there are none, standard-webhooks, hmac, bearer and basic");
                return Auth::none();
            }
        };
        for (name, _) in [(HEADER, header), (ENCODING, encoding)].iter().filter(|(_, value)| value.is_some()) {
            if scheme != "hmac" {
                self.problem(name, "counts only with RELAY_AUTH=hmac");
            }
        }
        self.secrets(&mut auth, environment.relay_auth_secrets.as_deref());
        auth
    }

    /// A signed request that is sent again is told by its key, so the key has to be remembered for as long as the signature
    /// is fresh.
    pub(super) fn replays(&mut self, auth: &Auth, outbox: Option<&OutboxSettings>) {
        if let (Some(fresh), Some(outbox)) = (auth.signatures_stay_fresh(), outbox)
            && outbox.window < fresh
        {
            let fresh = humantime::format_duration(fresh);
            self.problem(
                "RELAY_IDEMPOTENCY_WINDOW",
                format_args!("must be {fresh} at least: so long is a signature fresh"),
            );
        }
    }

    fn secrets(&mut self, auth: &mut Auth, secrets: Option<&str>) {
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
        if secrets.len() > MOST {
            return self.problem(SECRETS, format_args!("more than {MOST}"));
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

    fn encoding(&mut self, name: Option<&str>) -> Encoding {
        match name {
            None | Some("hex") => Encoding::Hex,
            Some("base64") => Encoding::Base64,
            Some(_) => {
                self.problem(ENCODING, "must be hex or base64");
                Encoding::Hex
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY, settings};
    use crate::http::auth::Auth;

    const SCHEMES: [(&str, &str); 4] = [
        ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("hmac", "It's a Secret to Everybody"),
        ("bearer", "t0ken"),
        ("basic", "relay:pa55word"),
    ];

    fn auth(variables: &[(&str, &str)]) -> Result<Auth, Vec<String>> {
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
