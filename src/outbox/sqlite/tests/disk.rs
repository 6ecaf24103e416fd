//! A disk that does what a test tells it: fails at the n-th operation, or keeps a record from which a power cut can be
//! played.
//!
//! It is SQLite's own way to the files (the default VFS), with four functions replaced: open, write, truncate and sync.
//! Locks and the shared memory of the log go on as they are. This is the one file with unsafe code: SQLite calls it as C.
//! A file's methods are replaced after SQLite's own open has filled it in, in a copy of the table that says which they
//! are; which disk a file is on, and what its own methods were, stands in [`FILES`] under the address SQLite gave it.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use rusqlite::ffi;

/// Files that are open, by address.
static FILES: LazyLock<Mutex<HashMap<usize, Opened>>> = LazyLock::new(Mutex::default);

/// Disks, by the address of their VFS. They stay for the life of the test process.
static DISKS: LazyLock<Mutex<HashMap<usize, Arc<Disk>>>> = LazyLock::new(Mutex::default);

#[derive(Clone)]
struct Opened {
    disk: Arc<Disk>,
    path: Arc<str>,
    own: &'static ffi::sqlite3_io_methods,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The disk says that it could not: half of a write is there.
    Broken,
    /// There is no room: the same, and only writes say so.
    Full,
}

/// What was done to a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
    /// What stands in the record before this place is on the disk for good.
    Sync(usize),
}

#[derive(Default)]
struct State {
    operations: usize,
    /// Which operation fails and how, and whether all after it do.
    fails: Option<(usize, Failure, bool)>,
    record: Vec<(Arc<str>, Change)>,
    records: bool,
    /// A sync says that it is done, and does nothing.
    lies: bool,
}

#[derive(Default)]
pub(super) struct Disk {
    state: Mutex<State>,
}

impl Disk {
    /// A disk, and the name by which SQLite knows it.
    pub(super) fn new() -> (Arc<Self>, &'static str) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("disk-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let disk = Arc::<Self>::default();
        let c_name = CString::new(name.clone()).unwrap().into_raw();
        // SAFETY: the default VFS is there for the life of the process and is only read; the copy, and its name, are never
        // freed, as registering asks for.
        unsafe {
            let mut vfs = *ffi::sqlite3_vfs_find(std::ptr::null());
            vfs.zName = c_name;
            vfs.pNext = std::ptr::null_mut();
            vfs.xOpen = Some(open);
            let vfs = Box::into_raw(Box::new(vfs));
            DISKS.lock().insert(vfs as usize, disk.clone());
            assert_eq!(ffi::sqlite3_vfs_register(vfs, 0), ffi::SQLITE_OK);
        }
        (disk, Box::leak(name.into_boxed_str()))
    }

    /// The n-th operation from now fails, and all after it if it is `for_good`.
    pub(super) fn fail(&self, nth: usize, failure: Failure, for_good: bool) {
        *self.state.lock() = State { fails: Some((nth, failure, for_good)), ..State::default() };
    }

    /// Nothing fails any more. Whether something did.
    pub(super) fn heal(&self) -> bool {
        let mut state = self.state.lock();
        state.fails.take().is_some_and(|(nth, _, _)| state.operations >= nth)
    }

    /// Everything is kept from now on; if it `lies`, no sync is among it.
    pub(super) fn record(&self, lies: bool) {
        *self.state.lock() = State { records: true, lies, ..State::default() };
    }

    /// How much is in the record.
    pub(super) fn recorded(&self) -> usize {
        self.state.lock().record.len()
    }

    /// The record, which ends.
    pub(super) fn take_record(&self) -> Vec<(Arc<str>, Change)> {
        std::mem::take(&mut *self.state.lock()).record
    }

    /// Counts an operation, and says whether it fails.
    fn next(&self) -> Option<Failure> {
        let mut state = self.state.lock();
        state.operations += 1;
        let (nth, failure, for_good) = state.fails?;
        (state.operations == nth || (for_good && state.operations > nth)).then_some(failure)
    }

    fn keep(&self, path: &Arc<str>, change: impl FnOnce() -> Change) {
        let mut state = self.state.lock();
        if state.records {
            let change = change();
            if !(state.lies && matches!(change, Change::Sync(_))) {
                state.record.push((path.clone(), change));
            }
        }
    }
}

fn opened(file: *mut ffi::sqlite3_file) -> Opened {
    FILES.lock()[&(file as usize)].clone()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let disk = DISKS.lock()[&(vfs as usize)].clone();
    // SAFETY: SQLite calls with its own arguments, which are handed on as they are; the default VFS is there. Once a file
    // is open its methods are a static table of the default VFS.
    unsafe {
        if disk.next() == Some(Failure::Broken) {
            (*file).pMethods = std::ptr::null();
            return ffi::SQLITE_CANTOPEN;
        }
        let own = (*ffi::sqlite3_vfs_find(std::ptr::null())).xOpen.unwrap();
        let result = own(vfs, path, file, flags, out);
        if result == ffi::SQLITE_OK {
            let own = &*(*file).pMethods;
            let methods = ffi::sqlite3_io_methods {
                xClose: Some(close),
                xWrite: Some(write),
                xTruncate: Some(truncate),
                xSync: Some(sync),
                ..*own
            };
            (*file).pMethods = Box::into_raw(Box::new(methods));
            let path = if path.is_null() { Arc::from("") } else { Arc::from(CStr::from_ptr(path).to_str().unwrap()) };
            FILES.lock().insert(file as usize, Opened { disk, path, own });
        }
        result
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let own = FILES.lock().remove(&(file as usize)).unwrap().own;
    // SAFETY: the file's own method is called on it; the table that `open` made is not used after it.
    unsafe {
        drop(Box::from_raw((*file).pMethods.cast_mut()));
        (*file).pMethods = own;
        own.xClose.unwrap()(file)
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, amount: c_int, offset: i64) -> c_int {
    let Opened { disk, path, own } = opened(file);
    let length = usize::try_from(amount).unwrap();
    // SAFETY: SQLite hands over `amount` bytes; a part of them is within.
    unsafe {
        if let Some(failure) = disk.next() {
            own.xWrite.unwrap()(file, from, amount / 2, offset);
            return if failure == Failure::Full { ffi::SQLITE_FULL } else { ffi::SQLITE_IOERR_WRITE };
        }
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), length);
        disk.keep(&path, || Change::Write(usize::try_from(offset).unwrap(), bytes.to_vec()));
        own.xWrite.unwrap()(file, from, amount, offset)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let Opened { disk, path, own } = opened(file);
    if disk.next() == Some(Failure::Broken) {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    disk.keep(&path, || Change::Truncate(usize::try_from(size).unwrap()));
    // SAFETY: the file's own method is called on it.
    unsafe { own.xTruncate.unwrap()(file, size) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    let Opened { disk, path, .. } = opened(file);
    if disk.next() == Some(Failure::Broken) {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    // What comes while it works is not promised.
    let recorded = disk.recorded();
    disk.keep(&path, || Change::Sync(recorded));
    // The record is what counts: the real disk need not be waited for.
    ffi::SQLITE_OK
}
