// What is known of a messageId or a userId.

import { Failure, ask, isOver, query } from "./ask.js";
import { byId, calls, count, element, foreign, time, tries } from "./dom.js";

/** Letters of a customer that are shown. */
const LETTERS = 20;

const OUTCOMES = {
  accepted: "accepted: Segment took it",
  waiting: "waiting: it is stored, and will be sent",
  parked: "parked: it fails on its own, and is tried again",
  refused: "refused by Segment: it is a dead letter",
  gave_up: "given up: it is a dead letter",
};

let searches = 0;

export function start() {
  byId("search").addEventListener("submit", async event => {
    event.preventDefault();
    const [result, what] = [byId("search-result"), byId("search-for").value];
    searches += 1;
    const search = searches;
    result.replaceChildren("Searching…");
    let shown;
    try {
      shown = await found(what);
    } catch (error) {
      if (isOver(error)) return;
      shown = [`The search failed: ${error.message}.`];
    }
    // A later search may have ended before.
    if (search === searches) result.replaceChildren(...shown);
  });
}

export const clear = () => byId("search-result").replaceChildren();

async function found(what) {
  const [call, parked, letters] = await Promise.all([
    // A browser takes these two out of a path.
    [".", ".."].includes(what) ? null : orNothing(ask("GET", `calls/${encodeURIComponent(what)}`)),
    orNothing(ask("GET", `parked${query({ userId: what })}`)),
    orNothing(ask("GET", `dead-letters${query({ userId: what, limit: LETTERS })}`)),
  ]);
  const shown = [];
  if (call) shown.push(element("h3", {}, "The call with this messageId"), aboutCall(call));
  for (const user of parked?.parked ?? []) {
    const text = `Parked since ${time(user.since)}: ${calls(user.calls)}, ${tries(user.attempts)}, ${user.status ?? "no answer"}, next try at ${time(user.retryAt)}. `;
    shown.push(element("h3", {}, "Parked customer"), element("p", {}, text, foreign(user.reason)));
  }
  const dead = letters?.deadLetters ?? [];
  if (dead.length) {
    const letter = one => element("li", {}, `${time(one.refusedAt)}, ${one.why}${one.status ? ` (${one.status})` : ""}: `, foreign(one.reason));
    const more = letters.next === null ? "" : ", and more";
    shown.push(element("h3", {}, `Dead letters of this customer: ${count(dead.length)}${more}`), element("ul", {}, ...dead.map(letter)));
  }
  if (shown.length) return shown;
  return [
    "Nothing is known of it: no call with this messageId waits or is remembered, and no customer with this User ID is parked or has a dead letter. "
      + "Calls that wait are found by their messageId alone, and an accepted call without a key is not remembered.",
  ];
}

/** `null` where there is no such thing, or no outbox. */
async function orNothing(asked) {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Failure && error.status === 404) return null;
    if (error instanceof Failure && [414, 431].includes(error.status)) throw new Failure(error.status, "it is too long to be looked up");
    throw error;
  }
}

function aboutCall(call) {
  const list = element("dl", {});
  const fact = (name, value) => value !== null && value !== undefined && list.append(element("dt", {}, name), element("dd", {}, foreign(value)));
  fact("Outcome", OUTCOMES[call.outcome] ?? call.outcome);
  fact("Customer", call.userId);
  fact("Stored", call.storedAt && time(call.storedAt));
  fact("Tries", call.attempts);
  fact("Status", call.status);
  fact("Reason", call.reason);
  return list;
}
