//! The settings of the outbox: where it is, how much it holds, how long it remembers keys.
//!
//! The URL is never repeated: one for a server holds a password, and someone may give one here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;

use super::Environment;
use super::checks::Checks;

/// The default of `RELAY_OUTBOX_MAX_SIZE`.
const MAX_SIZE: ByteSize = ByteSize::gib(10);

/// Room for 32 of the largest calls. With less the outbox would be full again and again under any load, which is a slip of
/// the pen (10, meant as GiB) rather than a wish.
const LEAST_SIZE: ByteSize = ByteSize::mib(1);

/// No file of SQLite can be larger.
const GREATEST_SIZE: ByteSize = ByteSize::tib(256);

/// Keys cost disk for as long as they are remembered, and nobody repeats a request after a year.
const LONGEST_WINDOW: (Duration, &str) = (Duration::from_secs(365 * 24 * 60 * 60), "365days");

/// What the outbox has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// The file of the store: absolute.
    pub path: PathBuf,
    /// How much calls, keys and dead letters may take on disk.
    pub max_bytes: u64,
    /// How long a key is remembered after its call was settled.
    pub window: Duration,
}

impl Checks {
    /// None without `RELAY_OUTBOX_URL`: the other two are checked all the same, and mean nothing then.
    pub(super) fn outbox(&mut self, environment: &Environment) -> Option<OutboxSettings> {
        let path = environment.relay_outbox_url.as_deref().map(|url| self.sqlite_path(url));
        let max_bytes = self.size("RELAY_OUTBOX_MAX_SIZE", environment.relay_outbox_max_size.as_deref());
        let window = environment.relay_idempotency_window.as_deref();
        let window = self.duration_up_to(LONGEST_WINDOW, "RELAY_IDEMPOTENCY_WINDOW", window, "24h");
        Some(OutboxSettings { path: path??, max_bytes, window })
    }

    fn sqlite_path(&mut self, url: &str) -> Option<PathBuf> {
        let fault = match url.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sqlite") => match file(rest) {
                Ok(path) => return Some(path),
                Err(fault) => fault,
            },
            Some(("postgres" | "postgresql", _)) => "this version does not have that yet, only sqlite:///absolute/path",
            _ => "must be sqlite:// and an absolute path, as in sqlite:///var/lib/segment-relay/outbox.db",
        };
        self.problem("RELAY_OUTBOX_URL", fault);
        None
    }

    fn size(&mut self, name: &str, text: Option<&str>) -> u64 {
        let size = text.map_or(Ok(MAX_SIZE), |text| text.trim().parse::<ByteSize>());
        match size {
            Ok(size) if (LEAST_SIZE..=GREATEST_SIZE).contains(&size) => return size.as_u64(),
            Ok(_) => self.problem(name, "must be from 1MiB to 256TiB"),
            Err(_) => self.problem(name, "must be a size such as 64MiB or 10GiB, or a number of bytes"),
        }
        MAX_SIZE.as_u64()
    }
}

/// The path of what stands behind `sqlite:`, taken as it is written: some programs unescape a `%20` in such a URL and some
/// do not, so there must be none, and nobody's calls end up in another file than they think.
fn file(rest: &str) -> Result<PathBuf, &'static str> {
    const ABSOLUTE: &str = "the path must be absolute, with three slashes before it: sqlite:///var/lib/...";
    let path = rest.strip_prefix("//").ok_or(ABSOLUTE)?;
    match path {
        "" | "/" => Err("the path of the file is missing, as in sqlite:///var/lib/segment-relay/outbox.db"),
        _ if path.contains(['?', '#', '%']) => Err("the path must not hold ?, # or %: there are no options"),
        // What stands for bytes that are no text.
        _ if path.contains(char::REPLACEMENT_CHARACTER) => Err("the path must be valid UTF-8"),
        _ if !path.starts_with('/') => Err(ABSOLUTE),
        _ if path.ends_with('/') || Path::new(path).file_name().is_none() => Err("the path must be that of a file"),
        _ => Ok(path.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY, problem, settings};
    use std::path::Path;
    use std::time::Duration;

    const URL: (&str, &str) = ("RELAY_OUTBOX_URL", "sqlite:///var/lib/segment-relay/outbox.db");

    #[test]
    fn there_is_an_outbox_if_its_url_is_set_and_only_then() {
        assert_eq!(settings(&[KEY]).unwrap().outbox, None);
        let others = [KEY, ("RELAY_OUTBOX_MAX_SIZE", "64MiB"), ("RELAY_IDEMPOTENCY_WINDOW", "1h")];
        assert_eq!(settings(&others).unwrap().outbox, None, "compose passes defaults");
        let outbox = settings(&[KEY, URL]).unwrap().outbox.unwrap();
        assert_eq!(outbox.path, Path::new("/var/lib/segment-relay/outbox.db"));
        assert_eq!(outbox.max_bytes, 10 * 1024 * 1024 * 1024);
        assert_eq!(outbox.window, Duration::from_secs(24 * 60 * 60));
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        let max_bytes =
            |size| settings(&[KEY, URL, ("RELAY_OUTBOX_MAX_SIZE", size)]).unwrap().outbox.unwrap().max_bytes;
        assert_eq!(max_bytes("64MiB"), 64 * 1024 * 1024);
        assert_eq!(max_bytes("1GiB"), 1024 * 1024 * 1024);
        assert_eq!(max_bytes("5MB"), 5_000_000);
        assert_eq!(max_bytes("1048576"), 1024 * 1024);
        for wrong in
            ["10", "1048575", "0", "-1", "-64MiB", "257TiB", "99999999999999999999GiB", "inf", "NaN", "much", "64 bits"]
        {
            problem("RELAY_OUTBOX_MAX_SIZE", wrong);
        }
    }

    #[test]
    fn keys_are_remembered_for_up_to_a_year() {
        let window = |text| settings(&[KEY, URL, ("RELAY_IDEMPOTENCY_WINDOW", text)]).unwrap().outbox.unwrap().window;
        assert_eq!(window("250ms"), Duration::from_millis(250));
        assert_eq!(window("30days"), Duration::from_secs(30 * 24 * 60 * 60));
        assert!(problem("RELAY_IDEMPOTENCY_WINDOW", "366days").ends_with("at most 365days"));
        for wrong in ["0s", "24", "for ever"] {
            problem("RELAY_IDEMPOTENCY_WINDOW", wrong);
        }
    }

    #[test]
    fn another_url_is_refused_and_never_repeated() {
        for url in ["postgres://relay:s3cret@db/relay", "postgresql://relay:s3cret@db/relay"] {
            let problem = problem("RELAY_OUTBOX_URL", url);
            assert!(problem.contains("does not have that yet") && !problem.contains("s3cret"), "{problem}");
        }
        for url in [
            "sqlite:",
            "sqlite://",
            "sqlite:///",
            "sqlite::memory:",
            "sqlite:outbox-s3cret.db",
            "sqlite:/var/outbox-s3cret.db",
            "sqlite://var/outbox-s3cret.db",
            "sqlite:///var/outbox-s3cret/",
            "sqlite:///var/s3cret/..",
            "sqlite:///var/outbox.db?mode=s3cret",
            "sqlite:///var/outbox.db#s3cret",
            "sqlite:///var/out%20box-s3cret.db",
            "sqlite:///var/\u{fffd}.db",
            "mysql://relay:s3cret@db/relay",
            "/var/lib/s3cret.db",
        ] {
            let problem = problem("RELAY_OUTBOX_URL", url);
            assert!(!problem.contains("s3cret"), "{problem}");
        }
    }
}
