//! Reads the lines of a file or of standard input, in a thread of its own: a pipe may give nothing for hours.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::supervisor::Supervisor;

/// The longest line, in bytes, as for a customer of `POST /customers`.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// Bytes of lines that are handed over at once, roughly.
const CHUNK: usize = 256 * 1024;

/// Chunks that wait: 1 MiB, so that the reader is never waited for.
const CHUNKS: usize = 4;

const BUFFER: usize = 256 * 1024;

/// A line that is not blank, without its end.
pub(super) struct Line {
    /// From 1. Blank lines count.
    pub(super) number: u64,
    /// Longer than [`MAX_LINE`] if the line is too long: then this is its beginning.
    pub(super) text: Vec<u8>,
    /// Bytes of the file up to the end of the line.
    pub(super) end: u64,
}

pub(super) type Chunk = io::Result<Vec<Line>>;

/// The SHA-256 of a file, in hex.
pub(super) fn digest(path: &Path) -> anyhow::Result<String> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot_read)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer).with_context(cannot_read)? {
            0 => return Ok(HEXLOWER.encode(&hash.finalize())),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}

/// Starts to read the lines behind line `after`. The channel closes at the end.
pub(super) fn read(
    source: impl Read + Send + 'static,
    after: u64,
    supervisor: &Supervisor,
) -> io::Result<mpsc::Receiver<Chunk>> {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    supervisor.thread("import lines", move || {
        if let Err(error) = read_all(BufReader::with_capacity(BUFFER, source), after, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    })?;
    Ok(chunks)
}

fn read_all(mut source: BufReader<impl Read>, after: u64, sender: &mpsc::Sender<Chunk>) -> io::Result<()> {
    let (mut number, mut end) = (0, 0);
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    loop {
        let mut text = Vec::new();
        let read = read_line(&mut source, &mut text)?;
        if read == 0 {
            let _ = sender.blocking_send(Ok(chunk));
            return Ok(());
        }
        number += 1;
        end += read;
        if number == 1 && text.starts_with(b"\xEF\xBB\xBF") {
            text.drain(..3);
        }
        if number > after && !text.trim_ascii().is_empty() {
            bytes += text.len();
            chunk.push(Line { number, text, end });
        }
        // What a pipe has given is not kept back until more comes.
        if bytes >= CHUNK || !chunk.is_empty() && source.buffer().is_empty() {
            bytes = 0;
            if sender.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
                return Ok(());
            }
        }
    }
}

/// Appends a line without its end, at most one byte more than [`MAX_LINE`]. Returns how many bytes of the file it took.
fn read_line(source: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<u64> {
    let mut read = 0;
    loop {
        let buffer = match source.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        if buffer.is_empty() {
            return Ok(read);
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let of_line = &buffer[..newline.unwrap_or(buffer.len())];
        let room = (MAX_LINE + 1).saturating_sub(text.len());
        text.extend_from_slice(&of_line[..of_line.len().min(room)]);
        let used = of_line.len() + usize::from(newline.is_some());
        source.consume(used);
        read += used as u64;
        if newline.is_some() {
            return Ok(read);
        }
    }
}
