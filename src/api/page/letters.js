// Dead letters: shown, replayed and discarded, one or all that fit the filters; and what a filter makes of an event now.

import { ask, isOver, query } from "./ask.js";
import { act, confirm, notice } from "./confirm.js";
import { byId, count, element, foreign, time, tries, visible } from "./dom.js";
import { Listing, filterBy } from "./listing.js";

const WHY = { refused: "refused", gave_up: "given up", operator: "given up by an operator", unmapped: "unmapped event" };

const listing = new Listing({
  table: "letters-table",
  more: "more-letters",
  heading: "letters-heading",
  path: "dead-letters",
  member: "deadLetters",
  filter,
  cells,
  one: "dead letter",
  many: "dead letters",
  none: "There is no dead letter",
});

export function start() {
  filterBy("letters-filter", listing);
  byId("replay-all").addEventListener("click", replayAll);
  byId("discard-all").addEventListener("click", discardAll);
}

/** Loads the letters again if their number or what became of calls is another one. */
export function show({ outbox }) {
  listing.show(outbox?.deadLetters ?? 0, outbox && [outbox.deadLetters, outbox.refusedTotal, outbox.gaveUpTotal]);
}

export const clear = () => listing.clear();

function filter() {
  const value = name => byId(`letters-${name}`).value.trim();
  const moment = name => (value(name) ? new Date(value(name)).toISOString() : "");
  return {
    why: value("why"),
    source: value("source"),
    status: value("status"),
    userId: byId("letters-user").value,
    since: moment("since"),
    until: moment("until"),
  };
}

/** A letter in words. */
const named = letter => (letter.why === "unmapped" ? `the event of ${letter.source}` : `the call of ${visible(letter.userId).slice(0, 100)}`);

function cells(letter) {
  const isEvent = letter.why === "unmapped";
  const who = isEvent ? `event of ${letter.source}` : letter.userId;
  const verb = (name, does, attributes = {}) =>
    element("button", { type: "button", "aria-label": `${name} ${named(letter)}`, onclick: does, ...attributes }, name);
  return [
    element("td", { class: "who" }, foreign(who), letter.messageId ? element("small", {}, foreign(letter.messageId)) : null),
    element("td", { class: "why" }, WHY[letter.why] ?? letter.why, element("small", {}, letter.source && !isEvent ? foreign(letter.source) : "")),
    element("td", { class: "reason" }, foreign(letter.reason)),
    element("td", {}, time(letter.refusedAt), element("small", {}, `stored ${time(letter.storedAt)}, ${tries(letter.attempts)}`)),
    element("td", {},
      verb("Replay", () => replay(letter)),
      verb("Discard", () => discard(letter), { class: "danger" }),
      isEvent ? verb("Preview", event => preview(letter, event.target), { "aria-expanded": "false" }) : null),
  ];
}

async function replay(letter) {
  const what = letter.why === "unmapped"
    ? "its source's filter runs on it again, and what it makes is stored and sent."
    : "it is stored behind what waits of this customer, and sent under the same messageId. Newer values may be overwritten.";
  const answer = await confirm({ question: `Replay ${named(letter)}: ${what}`, action: "Replay" });
  if (answer === null) return;
  const told = ({ replayed }) => (replayed ? `Replayed ${named(letter)}.` : `Replayed nothing: ${named(letter)} is still a dead letter.`);
  await act("POST", `dead-letters/${letter.id}/replay`, told);
  listing.load();
}

async function discard(letter) {
  const question = `Discard ${named(letter)} for ever: it never reaches Segment, and a repeat of it is a new call.`;
  const answer = await confirm({ question, action: "Discard", isDanger: true });
  if (answer === null) return;
  await act("DELETE", `dead-letters/${letter.id}`, () => `Discarded ${named(letter)}.`);
  listing.load();
}

async function replayAll() {
  if (!byId("letters-filter").reportValidity()) return;
  const question = `Replay ${listing.meant}: the oldest first, each behind what waits of its customer. Newer values may be overwritten.`;
  const pace = await confirm({ question, action: "Replay", hasPace: true });
  if (pace === null) return;
  const told = ({ replayed }) => `Replayed ${count(replayed)}${pace ? `, at most ${count(pace)} a second: they go on in the background` : ""}.`;
  await act("POST", `dead-letters/replay${query({ ...filter(), perSecond: pace })}`, told);
  listing.load();
}

async function discardAll() {
  if (!byId("letters-filter").reportValidity()) return;
  // What becomes a dead letter while the question is open is not meant.
  const newest = await newestId();
  if (newest === null) return notice("There is no dead letter.", false);
  const question = `Discard ${listing.meant} for ever: they never reach Segment.`;
  const answer = await confirm({ question, action: "Discard", isDanger: true });
  if (answer === null) return;
  const path = `dead-letters${query({ ...filter(), before: newest + 1 })}`;
  await act("DELETE", path, ({ discarded }) => `Discarded ${count(discarded)}.`);
  listing.load();
}

/** The greatest id of a dead letter now. */
async function newestId() {
  try {
    const { deadLetters } = await ask("GET", "dead-letters?limit=1");
    return deadLetters[0]?.id ?? null;
  } catch (error) {
    return listing.newest;
  }
}

/** Shows an event beside what its source's filter makes of it now. */
async function preview(letter, button) {
  let made = null;
  try {
    made = await ask("GET", `dead-letters/${letter.id}/preview`);
  } catch (error) {
    if (isOver(error)) return;
    made = { customers: [], problems: [{ message: error.message }] };
  }
  const row = button.closest("tr");
  if (!row?.isConnected) return;
  const old = row.nextElementSibling;
  if (old?.classList.contains("preview")) old.remove();
  const json = value => element("pre", {}, visible(typeof value === "string" ? value : JSON.stringify(value, null, 2), true));
  const problem = ({ field, message }) => element("li", {}, field ? `${visible(field)}: ` : "", foreign(message));
  const close = () => {
    shown.remove();
    button.setAttribute("aria-expanded", "false");
    button.focus();
  };
  const shown = element("tr", { class: "preview" },
    element("td", { colspan: row.cells.length },
      element("div", { class: "sides" },
        element("div", {}, element("h3", {}, "The event"), json(pretty(letter.event ?? letter.eventBase64))),
        element("div", {}, element("h3", {}, "What the filter makes of it now"),
          made.customers.length === 0 && made.problems.length === 0 ? element("p", {}, "No customer: it would be taken as done.") : null,
          ...made.customers.map(json),
          made.problems.length ? element("ul", {}, ...made.problems.map(problem)) : null)),
      element("button", { type: "button", onclick: close }, "Close")));
  row.after(shown);
  button.setAttribute("aria-expanded", "true");
}

/** JSON with line breaks; anything else as it is. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
