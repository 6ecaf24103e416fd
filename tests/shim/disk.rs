//! A library that is preloaded (`LD_PRELOAD`) into a relay under test. It records the process's disk operations and its
//! 202 answers, and makes the disk fail on request.
//!
//! `tests/harness/shim.rs` builds it with `rustc` alone, so it uses std and libc's symbols, and no crate. Settings:
//! `SHIM_OUTBOX`, the prefix of the paths of the outbox's files; `SHIM_DIRECTORY`, the prefix of the paths whose syncs
//! are recorded; `SHIM_LOG`, the file to which the trace is appended; `SHIM_CONTROL`, a file with the current faults.
//!
//! A record of the trace is a line `kind number length result path`, then `length` bytes, then a line break. Each
//! record is appended by one `write` with `O_APPEND`, so their order in the file is an order in time: `wrote` is
//! recorded after the write, `sync-begin` before and `sync-end` after the sync, `answer` before the first byte of a 202
//! is sent. So what the order proves is true, whatever the threads do between a system call and its record.
//!
//! Faults: `fail-sync N` makes the N-th sync under `SHIM_DIRECTORY` since the start of the process do nothing and fail
//! with EIO. `room N` allows N bytes of writes to the outbox's files since the start of the process; later writes fail
//! with ENOSPC. In-place writes count too, because they need space on a file system that copies on write. `no-shared-memory
//! 1` makes each write to SQLite's shared memory fail with ENOSPC.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(file: c_int) -> c_int;
    fn read(file: c_int, buffer: *mut c_void, length: usize) -> isize;
    fn readlink(path: *const c_char, buffer: *mut c_char, length: usize) -> isize;
    fn lseek(file: c_int, offset: i64, whence: c_int) -> i64;
    fn getenv(name: *const c_char) -> *const c_char;
    fn __errno_location() -> *mut c_int;
}

const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
const EIO: c_int = 5;
const ENOSPC: c_int = 28;
const SEEK_CUR: c_int = 1;
const O_RDONLY: c_int = 0;
/// `O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC`
const O_LOG: c_int = 0o1 | 0o100 | 0o2000 | 0o2_000_000;

#[repr(C)]
pub struct Piece {
    base: *const c_void,
    length: usize,
}

#[repr(C)]
pub struct Message {
    name: *const c_void,
    name_length: u32,
    pieces: *const Piece,
    count: usize,
}

static SYNCS: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);

type Write = unsafe extern "C" fn(c_int, *const c_void, usize) -> isize;

/// The real function, which this library's function of the same name replaces.
macro_rules! real {
    ($name:literal as $type:ty) => {{
        static REAL: AtomicUsize = AtomicUsize::new(0);
        let mut address = REAL.load(Ordering::Relaxed);
        if address == 0 {
            address = unsafe { dlsym(RTLD_NEXT, concat!($name, "\0").as_ptr().cast()) } as usize;
            REAL.store(address, Ordering::Relaxed);
        }
        unsafe { std::mem::transmute::<usize, $type>(address) }
    }};
}

fn errno() -> c_int {
    unsafe { *__errno_location() }
}

fn set_errno(value: c_int) {
    unsafe { *__errno_location() = value }
}

/// A setting, read without a copy of the environment.
fn setting(name: &'static str) -> Option<&'static [u8]> {
    let value = unsafe { getenv(name.as_ptr().cast()) };
    (!value.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(value) }.to_bytes())
}

fn path_of(file: c_int) -> Vec<u8> {
    let link = format!("/proc/self/fd/{file}\0");
    let mut path = vec![0_u8; 4096];
    let length = unsafe { readlink(link.as_ptr().cast(), path.as_mut_ptr().cast(), path.len()) };
    path.truncate(usize::try_from(length).unwrap_or(0));
    path
}

fn is_under(path: &[u8], name: &'static str) -> bool {
    setting(name).is_some_and(|prefix| path.starts_with(prefix))
}

fn is_outbox(path: &[u8]) -> bool {
    is_under(path, "SHIM_OUTBOX\0")
}

fn record(kind: &str, number: i64, result: i64, path: &[u8], bytes: &[u8]) {
    static LOG: AtomicI32 = AtomicI32::new(-1);
    let Some(name) = setting("SHIM_LOG\0") else { return };
    let before = errno();
    if LOG.load(Ordering::Relaxed) < 0 {
        // Two threads may both open it. Then one descriptor leaks, and no record is lost.
        LOG.store(unsafe { open(name.as_ptr().cast(), O_LOG, 0o600) }, Ordering::Relaxed);
    }
    let mut text = format!("{kind} {number} {} {result} ", bytes.len()).into_bytes();
    for part in [path, b"\n", bytes, b"\n"] {
        text.extend_from_slice(part);
    }
    let write = real!("write" as Write);
    let written = unsafe { write(LOG.load(Ordering::Relaxed), text.as_ptr().cast(), text.len()) };
    if usize::try_from(written).ok() != Some(text.len()) {
        // An incomplete trace proves nothing.
        std::process::abort();
    }
    set_errno(before);
}

/// The value of a current fault.
fn fault(name: &str) -> Option<u64> {
    let control = setting("SHIM_CONTROL\0")?;
    let before = errno();
    let mut text = [0_u8; 256];
    let file = unsafe { open(control.as_ptr().cast(), O_RDONLY) };
    let length = unsafe { read(file, text.as_mut_ptr().cast(), text.len()) };
    unsafe { close(file) };
    set_errno(before);
    let text = std::str::from_utf8(&text[..usize::try_from(length).ok()?]).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// How many of these bytes may be written.
fn room_for(length: usize) -> usize {
    let so_far = WRITTEN.load(Ordering::Relaxed);
    let room = fault("room ").map_or(length as u64, |room| room.saturating_sub(so_far).min(length as u64));
    WRITTEN.fetch_add(room, Ordering::Relaxed);
    room as usize
}

/// Performs a write to a file and records it: `real` writes the given number of bytes. Without an `offset` it writes at
/// the file's position.
fn write_recorded(
    file: c_int,
    buffer: *const c_void,
    length: usize,
    offset: Option<i64>,
    real: impl Fn(usize) -> isize,
) -> isize {
    let path = path_of(file);
    if !is_outbox(&path) {
        return real(length);
    }
    let is_refused = path.ends_with(b"-shm") && fault("no-shared-memory ").is_some();
    let room = if is_refused { 0 } else { room_for(length) };
    if room == 0 && length > 0 {
        record("full", 0, -1, &path, b"");
        set_errno(ENOSPC);
        return -1;
    }
    let offset = offset.unwrap_or_else(|| unsafe { lseek(file, 0, SEEK_CUR) });
    let result = real(room);
    let count = usize::try_from(result).unwrap_or(0);
    record("wrote", offset, result as i64, &path, unsafe { std::slice::from_raw_parts(buffer.cast(), count) });
    result
}

/// Records bytes that are about to be sent through a socket, if they hold a 202.
fn record_answer(file: c_int, bytes: &[u8]) {
    if bytes.windows(12).any(|part| part == b"HTTP/1.1 202") {
        record("answer", 0, 0, &path_of(file), bytes);
    }
}

unsafe fn joined(pieces: *const Piece, count: usize) -> Vec<u8> {
    let pieces = unsafe { std::slice::from_raw_parts(pieces, count) };
    let bytes = |piece: &Piece| unsafe { std::slice::from_raw_parts(piece.base.cast::<u8>(), piece.length) }.to_vec();
    pieces.iter().filter(|piece| piece.length > 0).flat_map(bytes).collect()
}

fn sync(file: c_int, real: impl Fn() -> c_int) -> c_int {
    let path = path_of(file);
    if !is_under(&path, "SHIM_DIRECTORY\0") {
        return real();
    }
    let number = SYNCS.fetch_add(1, Ordering::Relaxed) + 1;
    record("sync-begin", number as i64, 0, &path, b"");
    let fails = fault("fail-sync ") == Some(number);
    let result = if fails { -1 } else { real() };
    record("sync-end", number as i64, result.into(), &path, b"");
    if fails {
        set_errno(EIO);
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, buffer: *const c_void, length: usize) -> isize {
    let real = real!("write" as Write);
    if length > 0 {
        record_answer(file, unsafe { std::slice::from_raw_parts(buffer.cast(), length) });
    }
    write_recorded(file, buffer, length, None, |length| unsafe { real(file, buffer, length) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(file: c_int, buffer: *const c_void, length: usize, offset: i64) -> isize {
    let real = real!("pwrite" as unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize);
    write_recorded(file, buffer, length, Some(offset), |length| unsafe { real(file, buffer, length, offset) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(file: c_int, buffer: *const c_void, length: usize, offset: i64) -> isize {
    let real = real!("pwrite64" as unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize);
    write_recorded(file, buffer, length, Some(offset), |length| unsafe { real(file, buffer, length, offset) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(file: c_int, length: i64) -> c_int {
    let real = real!("ftruncate" as unsafe extern "C" fn(c_int, i64) -> c_int);
    let result = unsafe { real(file, length) };
    let path = path_of(file);
    if is_outbox(&path) {
        record("cut", length, result.into(), &path, b"");
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(file: c_int, length: i64) -> c_int {
    unsafe { ftruncate(file, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(name: *const c_char) -> c_int {
    let real = real!("unlink" as unsafe extern "C" fn(*const c_char) -> c_int);
    let result = unsafe { real(name) };
    let path = unsafe { std::ffi::CStr::from_ptr(name) }.to_bytes();
    if is_outbox(path) {
        record("gone", 0, result.into(), path, b"");
    }
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    let real = real!("fsync" as unsafe extern "C" fn(c_int) -> c_int);
    sync(file, || unsafe { real(file) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    let real = real!("fdatasync" as unsafe extern "C" fn(c_int) -> c_int);
    sync(file, || unsafe { real(file) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(file: c_int, pieces: *const Piece, count: c_int) -> isize {
    let bytes = unsafe { joined(pieces, usize::try_from(count).unwrap_or(0)) };
    record_answer(file, &bytes);
    if is_outbox(&path_of(file)) {
        // One write has the same effect on the file.
        return unsafe { write(file, bytes.as_ptr().cast(), bytes.len()) };
    }
    let real = real!("writev" as unsafe extern "C" fn(c_int, *const Piece, c_int) -> isize);
    unsafe { real(file, pieces, count) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(socket: c_int, buffer: *const c_void, length: usize, flags: c_int) -> isize {
    if length > 0 {
        record_answer(socket, unsafe { std::slice::from_raw_parts(buffer.cast(), length) });
    }
    let real = real!("send" as unsafe extern "C" fn(c_int, *const c_void, usize, c_int) -> isize);
    unsafe { real(socket, buffer, length, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    socket: c_int,
    buffer: *const c_void,
    length: usize,
    flags: c_int,
    to: *const c_void,
    to_length: u32,
) -> isize {
    if length > 0 {
        record_answer(socket, unsafe { std::slice::from_raw_parts(buffer.cast(), length) });
    }
    type SendTo = unsafe extern "C" fn(c_int, *const c_void, usize, c_int, *const c_void, u32) -> isize;
    let real = real!("sendto" as SendTo);
    unsafe { real(socket, buffer, length, flags, to, to_length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(socket: c_int, message: *const Message, flags: c_int) -> isize {
    if let Some(message) = unsafe { message.as_ref() } {
        record_answer(socket, &unsafe { joined(message.pieces, message.count) });
    }
    let real = real!("sendmsg" as unsafe extern "C" fn(c_int, *const Message, c_int) -> isize);
    unsafe { real(socket, message, flags) }
}
