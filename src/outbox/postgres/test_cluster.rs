//! A PostgreSQL cluster of one test, which asks for a password, and may have TLS.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::connect::{Connection, Connector};
use super::tests::cluster::{Cluster, NOBODY, Stop, is_root};

/// The password of every user.
pub(super) const PASSWORD: &str = "s3cret-of-tests";

pub(super) struct TestCluster(Cluster);

impl TestCluster {
    /// Starts a cluster whose superuser is `postgres`, with these settings, each `name=value`, and these lines in `pg_hba.conf`. The
    /// server's certificate is in its directory.
    pub(super) async fn start(settings: &[&str], hba: &str) -> Self {
        Self::start_with(settings, hba, &[]).await
    }

    /// The same with empty files of these names in the data directory.
    pub(super) async fn start_with(settings: &[&str], hba: &str, files: &[&str]) -> Self {
        let cluster = Self(Cluster::start(&[]));
        cluster.0.execute("postgres", &format!("ALTER ROLE postgres PASSWORD '{PASSWORD}'")).await;
        cluster.0.stop(Stop::Fast);
        let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        for name in ["server.pem", "server.key", "authority.pem"] {
            cluster.write(name, &fs::read(certificates.join(name)).unwrap());
        }
        let hba = format!("{hba}\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n");
        cluster.write("data/pg_hba.conf", hba.as_bytes());
        for name in files {
            cluster.write(&format!("data/{name}"), &[]);
        }
        cluster.0.set(settings);
        cluster.0.restart();
        cluster
    }

    /// Writes a file that the server alone reads: it takes no other one for its key.
    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// The URL of a user, with the password of all, and further parameters.
    pub(super) fn url(&self, user: &str, database: &str, parameters: &str) -> String {
        format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/{database}?{parameters}", self.port())
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port()
    }

    /// A file of the cluster. Its sockets are here, too.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.directory().join(name)
    }

    /// A connection of the superuser.
    pub(super) async fn admin(&self, database: &str) -> Connection {
        let url = self.url("postgres", database, "sslmode=disable").parse().unwrap();
        Connector::new(&url).unwrap().open("test").await.unwrap()
    }
}
