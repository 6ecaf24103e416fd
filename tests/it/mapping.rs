//! The pool of mapping workers, with the built binary as its workers.

mod filters;
mod hostile;
mod killed;
mod process;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use segment_relay::metrics::Metrics;
use segment_relay::sources::mapping::{Event, Filter, MapError, Mapper};
use segment_relay::supervisor::Supervisor;
use tempfile::TempDir;

/// A pool that ends with this.
struct Pool {
    mapper: Arc<Mapper>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
    /// Holds a link to the binary. Its name tells this pool's workers from those of other tests.
    folder: TempDir,
    name: String,
}

impl Pool {
    fn start(workers: usize) -> Self {
        Self::with(workers, |link| symlink(env!("CARGO_BIN_EXE_segment-relay"), link).unwrap())
    }

    /// `make` makes the executable of the workers.
    fn with(workers: usize, make: impl FnOnce(&Path)) -> Self {
        let (supervisor, metrics, folder) =
            (Supervisor::new(), Arc::new(Metrics::new().unwrap()), TempDir::new().unwrap());
        // The system shows 15 characters of a name.
        let name = format!("map-{:08x}", fastrand::u32(..));
        let executable = folder.path().join(&name);
        make(&executable);
        let mapper = Mapper::with(&executable, workers, &supervisor, metrics.clone()).unwrap();
        Self { mapper, metrics, supervisor, folder, name }
    }

    /// The outputs as texts.
    async fn map(&self, source: &str, filter: &str, body: &str) -> Result<Vec<String>, MapError> {
        let outputs = self.mapper.map(source, &self::filter(filter), event(body)).await?;
        Ok(outputs.iter().map(|output| String::from_utf8(output.to_vec()).unwrap()).collect())
    }

    /// The numbers of workers that were replaced: out of time, out of memory, crashed.
    fn replaced(&self) -> [u64; 3] {
        let Metrics { map_workers_out_of_time, map_workers_out_of_memory, map_workers_crashed, .. } = &*self.metrics;
        [map_workers_out_of_time, map_workers_out_of_memory, map_workers_crashed].map(|counter| counter.get())
    }

    /// Waits until that many workers were replaced: an event's outcome comes before its worker's end is counted.
    async fn has_replaced(&self, numbers: [u64; 3]) {
        crate::harness::eventually(async || self.replaced() == numbers).await;
    }

    /// The process ids of its living workers.
    fn workers(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let is_worker = |entry: &fs::DirEntry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.contains(&format!("({}) ", self.name)) && !stat.contains(") Z ")
        };
        entries.filter(is_worker).filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.supervisor.cancel();
    }
}

fn filter(text: &str) -> Arc<Filter> {
    Arc::new(Filter { place: "sources.toml: shop.map".to_owned(), text: text.to_owned() })
}

/// An event with one header, received at 2026-11-26T18:00:00.137Z.
fn event(body: &str) -> Event {
    let headers = vec![("x-topic".to_owned(), b"customers/update".to_vec())];
    Event { headers, body: Bytes::copy_from_slice(body.as_bytes()), received_at: 1_795_716_000_137 }
}

/// Makes a script that runs `first` and then is a worker.
fn script(first: &'static str) -> impl FnOnce(&Path) {
    let text = format!("#!/bin/sh\n{first}\nexec {} map-worker\n", env!("CARGO_BIN_EXE_segment-relay"));
    move |path| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
