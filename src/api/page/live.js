// The stream of events. It is read by fetch, because EventSource cannot send the token.

import { Failure, send } from "./ask.js";

/** A stream that is silent for so long is lost: there is an event each second. */
const SILENCE_MS = 10_000;

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

/** Calls `on[event](data)` for each event, and `on.connected()`, `on.lost(why)`, `on.unauthorized()`. Returns how to end it. */
export function follow(on) {
  const ended = new AbortController();
  run(on, ended.signal);
  return () => ended.abort();
}

async function run(on, ended) {
  let pause = FIRST_PAUSE_MS;
  while (!ended.aborted) {
    let why = "";
    try {
      await read(ended, (event, data) => {
        pause = FIRST_PAUSE_MS;
        on.connected();
        on[event]?.(data);
      });
    } catch (error) {
      if (ended.aborted) return;
      if (error instanceof Failure && error.status === 401) return on.unauthorized();
      why = error.message;
    }
    if (ended.aborted) return;
    on.lost(why);
    await new Promise(done => setTimeout(done, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function read(ended, take) {
  const stream = new AbortController();
  const stop = () => stream.abort();
  const silent = () => stream.abort(new Failure(0, `nothing came for ${SILENCE_MS / 1000} s`));
  ended.addEventListener("abort", stop);
  let silence = setTimeout(silent, SILENCE_MS);
  try {
    const answer = await send("GET", "status/events", stream.signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(silent, SILENCE_MS);
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const line = name => event.split("\n").find(line => line.startsWith(name))?.slice(name.length);
        const [name, data] = [line("event: "), line("data: ")];
        if (name && data) take(name, JSON.parse(data));
      }
    }
  } finally {
    clearTimeout(silence);
    ended.removeEventListener("abort", stop);
  }
}
