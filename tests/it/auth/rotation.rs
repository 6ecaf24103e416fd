//! Several secrets: any of them opens, and one that is taken out opens no more.

use super::{BODY, SCHEMES, borrowed, credentials, guarded, refused, secret};
use crate::harness::{Durable, Process, WRITE_KEY};

#[tokio::test]
async fn any_of_several_secrets_opens_and_spaces_around_them_are_not_part_of_them() {
    for scheme in SCHEMES {
        let secrets = ["a", "b", "c"].map(|seed| secret(scheme, seed));
        for separator in [",", ", ", " , ", "\t,  "] {
            let app = guarded(scheme, &format!(" {} ", secrets.join(separator))).await;
            for secret in &secrets {
                let answer = app.post_with(&borrowed(&credentials(scheme, secret, "msg_1", BODY)), BODY).await;
                assert!(answer.is_accepted(), "{scheme}: {answer:?}");
            }
            let of_nobody = secret(scheme, "d");
            refused(&app.post_with(&borrowed(&credentials(scheme, &of_nobody, "msg_1", BODY)), BODY).await);
            assert_eq!(app.segment().received().await.len(), 3);
        }
    }
}

/// How many secrets `config/relay.env` allows.
const MOST: usize = 16;

#[tokio::test]
async fn as_many_secrets_as_there_may_be_are_all_accepted_and_one_more_stops_the_start() {
    for scheme in SCHEMES {
        let secrets: Vec<_> = (0..=MOST).map(|number| secret(scheme, &format!("{number:03}"))).collect();
        let app = guarded(scheme, &secrets[..MOST].join(",")).await;
        for secret in &secrets[..MOST] {
            let answer = app.post_with(&borrowed(&credentials(scheme, secret, "msg_1", BODY)), BODY).await;
            assert!(answer.is_accepted(), "{scheme}: {answer:?}");
        }
        let too_many = [("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &*secrets.join(","))];
        let own = [("SEGMENT_WRITE_KEY", WRITE_KEY), ("SEGMENT_ENDPOINT", "http://127.0.0.1:9")];
        let mut process = Process::start(&["check"], &[&own[..], &too_many].concat());
        let (code, stderr) = (process.exit_code().await, process.stderr());
        assert_eq!((code, stderr.len()), (Some(2), 1), "{stderr:?}");
        assert!(stderr[0].starts_with("RELAY_AUTH_SECRETS: "), "{stderr:?}");
    }
}

#[tokio::test]
async fn a_secret_that_was_taken_out_is_refused_after_a_restart() {
    for scheme in SCHEMES {
        let [old, new] = ["old", "new"].map(|seed| secret(scheme, seed));
        let mut durable = Durable::with(&[("RELAY_AUTH", scheme), ("RELAY_AUTH_SECRETS", &old)]).await;
        let mut posted = 0;
        // The old one alone, then both while the senders change over, then the new one alone.
        for (secrets, old_opens, new_opens) in
            [(old.clone(), true, false), (format!("{new},{old}"), true, true), (new.clone(), false, true)]
        {
            assert_eq!(durable.stop().await, Some(0));
            durable.set("RELAY_AUTH_SECRETS", &secrets);
            durable.start_relay().await;
            for (secret, opens) in [(&old, old_opens), (&new, new_opens)] {
                posted += 1;
                let headers = credentials(scheme, secret, &format!("msg_{posted}"), BODY);
                let answer = durable.post_with(&borrowed(&headers), BODY).await;
                if opens {
                    assert!(answer.is_stored() && !answer.is_replayed(), "{scheme}: {answer:?}");
                } else {
                    refused(&answer);
                }
            }
        }
    }
}
