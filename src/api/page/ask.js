// Requests to the relay. The token is in sessionStorage and in one header, and nowhere else.

const KEY = "segment-relay-admin-token";

export const token = () => sessionStorage.getItem(KEY);
export const keepToken = token => sessionStorage.setItem(KEY, token);

/** Whether a text can be a token: a header holds nothing else. */
export const canBeToken = text => /^[\x21-\x7e]+$/.test(text);

export const forgetToken = () => sessionStorage.removeItem(KEY);

let session = new AbortController();

/** Ends the requests of the session before. */
export function newSession() {
  session.abort();
  session = new AbortController();
}

/** Whether a request ended because its session did: there is nobody to tell. */
export const isOver = error => error.name === "AbortError";

/** An answer that is no success. `status` is 0 without an answer. */
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Sends a request, and returns the answer if it is a success. The path is relative to the page. */
export async function send(method, path, signal) {
  const headers = { authorization: `Bearer ${token() ?? ""}` };
  let answer;
  try {
    const signals = AbortSignal.any([session.signal, ...(signal ? [signal] : [])]);
    answer = await fetch(path, { method, headers, signal: signals, cache: "no-store", redirect: "error" });
  } catch (error) {
    if (isOver(error)) throw error;
    throw new Failure(0, "the relay does not answer");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  throw new Failure(answer.status, body?.error?.message ?? `the answer is ${answer.status}`);
}

/** The same, with the answer's JSON; `null` if it has none. */
export async function ask(method, path) {
  const answer = await send(method, path);
  return answer.status === 204 ? null : answer.json();
}

/** A query of what is set. */
export function query(parameters) {
  const set = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return set.length ? `?${new URLSearchParams(set)}` : "";
}
