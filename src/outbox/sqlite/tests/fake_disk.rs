//! A fake disk: it fails at the n-th operation, or records all changes so that power cuts can be simulated.
//!
//! It is SQLite's default file system layer (VFS) with four functions replaced: open, write, truncate and sync. Locks
//! and the log's shared memory are unchanged. This is the only file with unsafe code, because SQLite calls it as C. A
//! file's methods are replaced after SQLite's own open, in a copy of the method table. [`FILES`] keeps the disk and the
//! original methods of each file, by the file's address.

#![expect(unsafe_code, reason = "SQLite calls a VFS as C")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use rusqlite::ffi;

/// Open files by address.
static FILES: LazyLock<Mutex<HashMap<usize, OpenFile>>> = LazyLock::new(Mutex::default);

/// Disks by the address of their VFS. They exist until the test process ends.
static DISKS: LazyLock<Mutex<HashMap<usize, Arc<FakeDisk>>>> = LazyLock::new(Mutex::default);

#[derive(Clone)]
struct OpenFile {
    disk: Arc<FakeDisk>,
    path: Arc<str>,
    own: &'static ffi::sqlite3_io_methods,
}

/// How an operation fails. Half of a failed write is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskFailure {
    IoError,
    /// The disk is full. Only writes fail.
    Full,
}

/// A change to a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
    /// The changes before this index of the record are durable.
    Sync(usize),
}

#[derive(Default)]
struct DiskState {
    operations: usize,
    /// Which operation fails and how, and whether all later ones fail too.
    fails: Option<(usize, DiskFailure, bool)>,
    record: Vec<(Arc<str>, Change)>,
    is_recording: bool,
    /// Syncs report success and do nothing.
    ignores_syncs: bool,
}

#[derive(Default)]
pub(super) struct FakeDisk {
    state: Mutex<DiskState>,
}

impl FakeDisk {
    /// A disk and the name of its VFS.
    pub(super) fn new() -> (Arc<Self>, &'static str) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("disk-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let disk = Arc::<Self>::default();
        let c_name = CString::new(name.clone()).unwrap().into_raw();
        // SAFETY: the default VFS exists until the process ends and is only read. The copy and its name are never
        // freed, as registering requires.
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

    /// Makes the n-th operation from now fail, and all later ones if `is_permanent`.
    pub(super) fn fail(&self, nth: usize, failure: DiskFailure, is_permanent: bool) {
        *self.state.lock() = DiskState { fails: Some((nth, failure, is_permanent)), ..DiskState::default() };
    }

    /// Ends the failures. Returns whether one happened.
    pub(super) fn heal(&self) -> bool {
        let mut state = self.state.lock();
        state.fails.take().is_some_and(|(nth, _, _)| state.operations >= nth)
    }

    /// Starts recording. If it `ignores_syncs`, syncs are not recorded.
    pub(super) fn record(&self, ignores_syncs: bool) {
        *self.state.lock() = DiskState { is_recording: true, ignores_syncs, ..DiskState::default() };
    }

    /// Length of the record.
    pub(super) fn recorded(&self) -> usize {
        self.state.lock().record.len()
    }

    /// Ends the recording.
    pub(super) fn take_record(&self) -> Vec<(Arc<str>, Change)> {
        std::mem::take(&mut *self.state.lock()).record
    }

    /// Counts an operation. Returns how it fails, if it does.
    fn next(&self) -> Option<DiskFailure> {
        let mut state = self.state.lock();
        state.operations += 1;
        let (nth, failure, is_permanent) = state.fails?;
        (state.operations == nth || (is_permanent && state.operations > nth)).then_some(failure)
    }

    fn record_change(&self, path: &Arc<str>, change: impl FnOnce() -> Change) {
        let mut state = self.state.lock();
        if state.is_recording {
            let change = change();
            if !(state.ignores_syncs && matches!(change, Change::Sync(_))) {
                state.record.push((path.clone(), change));
            }
        }
    }
}

fn opened(file: *mut ffi::sqlite3_file) -> OpenFile {
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
    // SAFETY: SQLite's arguments are passed on unchanged, and the default VFS exists. After the open the file's methods
    // are a static table of the default VFS.
    unsafe {
        if disk.next() == Some(DiskFailure::IoError) {
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
            FILES.lock().insert(file as usize, OpenFile { disk, path, own });
        }
        result
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let own = FILES.lock().remove(&(file as usize)).unwrap().own;
    // SAFETY: the file's original method is called on it. The table that `open` made is not used afterwards.
    unsafe {
        drop(Box::from_raw((*file).pMethods.cast_mut()));
        (*file).pMethods = own;
        own.xClose.unwrap()(file)
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, amount: c_int, offset: i64) -> c_int {
    let OpenFile { disk, path, own } = opened(file);
    let length = usize::try_from(amount).unwrap();
    // SAFETY: SQLite passes `amount` bytes, and half of them are within.
    unsafe {
        if let Some(failure) = disk.next() {
            own.xWrite.unwrap()(file, from, amount / 2, offset);
            return if failure == DiskFailure::Full { ffi::SQLITE_FULL } else { ffi::SQLITE_IOERR_WRITE };
        }
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), length);
        disk.record_change(&path, || Change::Write(usize::try_from(offset).unwrap(), bytes.to_vec()));
        own.xWrite.unwrap()(file, from, amount, offset)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    let OpenFile { disk, path, own } = opened(file);
    if disk.next() == Some(DiskFailure::IoError) {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    disk.record_change(&path, || Change::Truncate(usize::try_from(size).unwrap()));
    // SAFETY: the file's original method is called on it.
    unsafe { own.xTruncate.unwrap()(file, size) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    let OpenFile { disk, path, .. } = opened(file);
    if disk.next() == Some(DiskFailure::IoError) {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    // A sync does not cover changes that are made while it runs.
    let recorded = disk.recorded();
    disk.record_change(&path, || Change::Sync(recorded));
    // The tests use the record only, so a real sync is not needed.
    ffi::SQLITE_OK
}
