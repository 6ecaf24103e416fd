// Parked customers: tried now and given up, one or all that fit the filters.

import { query } from "./ask.js";
import { act, confirm } from "./confirm.js";
import { byId, calls, count, element, foreign, time, tries, visible } from "./dom.js";
import { Listing, filterBy } from "./listing.js";

const listing = new Listing({
  table: "parked-table",
  more: "more-parked",
  heading: "parked-heading",
  path: "parked",
  member: "parked",
  filter: () => ({ userId: filter().userId }),
  allFilters: filter,
  fits: user => {
    const { status, source } = filter();
    return (!status || String(user.status) === status) && (!source || user.source === source);
  },
  cells,
  one: "parked customer",
  many: "parked customers",
  none: "No customer is parked",
});

export function start() {
  filterBy("parked-filter", listing);
  byId("retry-all").addEventListener("click", retryAll);
  byId("give-up-all").addEventListener("click", giveUpAll);
}

export function show({ outbox }) {
  listing.show(outbox?.parked.users ?? 0, outbox && outbox.parked);
}

/** Loads the users again: the time of their next try goes on. */
export const refresh = () => listing.refresh();

export const clear = () => listing.clear();

function filter() {
  return { status: byId("parked-status").value.trim(), source: byId("parked-source").value.trim(), userId: byId("parked-user").value };
}

const named = user => visible(user.userId).slice(0, 100);

function cells(user) {
  const verb = (name, does, attributes = {}) =>
    element("button", { type: "button", "aria-label": `${name} ${named(user)}`, onclick: does, ...attributes }, name);
  return [
    element("td", { class: "who" }, foreign(user.userId), element("small", {}, foreign(user.messageId))),
    element("td", { class: "reason" }, foreign(user.reason), user.source ? element("small", {}, foreign(user.source)) : null),
    element("td", { class: "number" }, count(user.calls)),
    element("td", {}, time(user.since), element("small", {}, tries(user.attempts))),
    element("td", {}, time(user.retryAt)),
    element("td", {}, verb("Retry", () => retry(listing.item(user.id) ?? user)),
      verb("Give up", () => giveUp(listing.item(user.id) ?? user), { class: "danger" })),
  ];
}

async function retry(user) {
  const question = `Retry the first call of ${named(user)} now, of ${calls(user.calls)} that wait.`;
  if ((await confirm({ question, action: "Retry" })) === null) return;
  await act("POST", `parked/${user.id}/retry`, () => `${named(user)} is tried now.`);
  listing.load();
}

async function giveUp(user) {
  const rest = user.calls > 1 ? ` The other ${calls(user.calls - 1)} of this customer go on.` : "";
  const question = `Give up the first call of ${named(user)}: it becomes a dead letter, which you can replay later.${rest}`;
  if ((await confirm({ question, action: "Give up", isDanger: true })) === null) return;
  await act("POST", `parked/${user.id}/give-up`, () => `The first call of ${named(user)} is a dead letter now.`);
  listing.load();
}

async function retryAll() {
  if (!byId("parked-filter").reportValidity()) return;
  const question = `Retry ${listing.meant}: the first call of each is due now, and goes at the pace of parked calls.`;
  if ((await confirm({ question, action: "Retry" })) === null) return;
  await act("POST", `parked/retry${query(filter())}`, ({ retried }) => `${count(retried)} are due now.`);
  listing.load();
}

async function giveUpAll() {
  if (!byId("parked-filter").reportValidity()) return;
  const question = `Give up the first call of ${listing.meant}: each becomes a dead letter, which you can replay later.`;
  if ((await confirm({ question, action: "Give up", isDanger: true })) === null) return;
  await act("POST", `parked/give-up${query(filter())}`, ({ gaveUp }) => `${count(gaveUp)} calls are dead letters now.`);
  listing.load();
}
