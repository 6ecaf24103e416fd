//! The command `segment-relay map-worker`: a process that runs filters and can do nothing else.
//!
//! It reads requests from its standard input and writes an answer to each to its standard output. What a filter takes too much of
//! ends the process, and the relay starts another one. The relay measures the time.

use std::fs::File;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::frame::{
    self, COMPILE, Content, DONE, FAILED, HEAD, MAX_REQUEST, OutputFrame, PROBLEMS, RUN, TOO_MANY, read_head,
};
use super::jq::{Failure, Head, Program};

/// The memory of a worker: what it allocates, and its stack. The program's own text is shared with the relay.
const MEMORY: u64 = 64 * 1024 * 1024;

/// The usual stack of a process, which some systems do not limit.
const STACK: u64 = 8 * 1024 * 1024;

/// A buffer that had to hold a large event is not kept for small ones: filters need the memory.
const KEPT_BUFFER: usize = 64 * 1024;

/// Serves until the relay closes the input.
pub fn run() -> ExitCode {
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    match output.and_then(|output| limit().and_then(|()| serve(&mut io::stdin().lock(), output))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("map-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes from this process whatever a filter does not need.
fn limit() -> io::Result<()> {
    lower(Resource::Stack, STACK)?;
    lower(Resource::Data, MEMORY - STACK)?;
    // A dump of the memory would hold customers.
    lower(Resource::Core, 0)?;
    // What is open stays open.
    lower(Resource::Nofile, 0)?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
        // Where dumps go to a program, their limit does not hold.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        // A filter that loops does not see that the input has ended.
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    Ok(())
}

fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let limit = getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
    Ok(setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?)
}

fn serve(input: &mut impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut programs = Vec::new();
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    output.write_all(&frame::frame(DONE, &[]))?;
    while !input.fill_buf()?.is_empty() {
        let mut head = [0; HEAD];
        input.read_exact(&mut head)?;
        let (kind, length) = read_head(head, MAX_REQUEST).ok_or(ErrorKind::InvalidData)?;
        request.clear();
        input.take(length as u64).read_to_end(&mut request)?;
        if request.len() < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        answer = respond(&mut programs, kind, &request, answer).ok_or(ErrorKind::InvalidData)?;
        output.write_all(&answer)?;
        request.shrink_to(KEPT_BUFFER);
        answer.shrink_to(KEPT_BUFFER);
    }
    Ok(())
}

/// The answer to a request, in `buffer`. `None`: it is none that the relay makes.
fn respond(programs: &mut Vec<Option<Program>>, kind: u8, request: &[u8], buffer: Vec<u8>) -> Option<Vec<u8>> {
    let mut request = Content(request);
    let slot = usize::from(request.byte()?);
    match kind {
        COMPILE => {
            programs.resize_with(programs.len().max(slot + 1), || None);
            let place = programs.get_mut(slot)?;
            // What was there before makes room first.
            *place = None;
            match Program::compile(std::str::from_utf8(request.0).ok()?) {
                Ok(program) => *place = Some(program),
                Err(problems) => return Some(frame::frame(PROBLEMS, problems.join("\n").as_bytes())),
            }
            Some(frame::frame(DONE, &[]))
        }
        RUN => {
            let program = programs.get(slot)?.as_ref()?;
            let received_at = request.integer()?;
            let headers = (0..request.length()?).map(|_| Some((request.text()?, request.text()?)));
            let head = Head { headers: headers.collect::<Option<_>>()?, received_at };
            let mut outputs = OutputFrame::new(buffer);
            Some(match program.run(&head, request.0, &mut outputs) {
                Ok(()) => outputs.finish(),
                Err(Failure::Failed(reason)) => frame::frame(FAILED, reason.as_bytes()),
                Err(Failure::TooMany) => frame::frame(TOO_MANY, &[]),
            })
        }
        _ => None,
    }
}
