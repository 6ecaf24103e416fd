// The sentence, what Segment says, and the sources.

import { byId, count, element, foreign, say, time } from "./dom.js";

export function show(status) {
  const { summary, segment, outbox, fleet, sources, state, version, startedAt } = status;
  byId("summary").dataset.level = summary.level;
  say(byId("summary"), summary.text);
  document.title = `${{ well: "", notice: "! ", trouble: "!! " }[summary.level]}segment-relay`;
  const gate = segment.gate;
  const last = segment.lastTrouble;
  facts(byId("segment"), [
    ["Requests", gate.shut ? `paused since ${time(gate.since)}; the next try is at ${time(gate.until)} (${gate.code})` : "are sent"],
    ["Last trouble", last ? `${time(last.at)}: ${last.status ?? "no answer"}, ${last.why} (${last.code})` : "none since the start"],
    ["Refused write keys", segment.refusedSources.join(", ") || "none"],
    ["Address", segment.endpoint],
    ["Outbox", outbox ? `${bytes(outbox.bytes)} of ${bytes(outbox.maxBytes)}${outbox.trouble ? `: ${outbox.trouble}` : ""}` : "none is configured"],
    ["Relay", `version ${version}, ${state} since ${time(startedAt)}`],
    ...fleetFacts(fleet),
  ]);
  showSources(sources, outbox?.unconfiguredSources ?? []);
}

/** The relays that have the same outbox, and who of them delivers. */
function fleetFacts(fleet) {
  if (!fleet) return [];
  const { members, delivering, database } = fleet;
  const relay = ({ name, version: of, since, isThis }) => `${name}${isThis ? " (this one)" : ""}, version ${of} since ${time(since)}`;
  const who = delivering ? `${delivering.name ?? "one that was not seen lately"}${delivering.isThis ? " (this one)" : ""} since ${time(delivering.since)}` : "no relay";
  const oldest = Math.round(database.oldestTransactionSeconds);
  return [
    ["Delivers", who],
    ["Relays", members.map(relay).join("; ") || "none was seen lately"],
    ["Database", database.isReachable ? `the calls take ${bytes(database.callsBytes)} in it, its oldest transaction is ${count(oldest)} s old` : "cannot be reached"],
  ];
}

function facts(list, pairs) {
  pairs.forEach(([name, value], index) => {
    if (list.children.length <= index * 2) list.append(element("dt", {}, name), element("dd"));
    say(list.children[index * 2 + 1], value);
  });
}

function showSources(sources, unconfigured) {
  const rows = [
    ...sources.map(({ name, verify, waiting, events }) => [name, verify, count(waiting), outcomes(events)]),
    ...unconfigured.map(({ name, calls }) => [name, "not configured any more", count(calls), ""]),
  ];
  byId("sources-table").hidden = rows.length === 0;
  byId("no-sources").hidden = rows.length > 0;
  const shown = JSON.stringify(rows);
  const body = byId("sources-table").tBodies[0];
  if (body.dataset.shown === shown) return;
  body.dataset.shown = shown;
  const labels = ["Source", "Verified by", "Waiting", "Events"];
  const cell = (text, index) => element("td", { "data-label": labels[index] }, foreign(text));
  body.replaceChildren(...rows.map(row => element("tr", {}, ...row.map(cell))));
  byId("source-names").replaceChildren(...rows.map(([name]) => element("option", { value: name })));
}

const outcomes = events =>
  Object.entries(events).filter(([, number]) => number > 0).map(([outcome, number]) => `${count(number)} ${outcome}`).join(", ") || "none yet";

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = number > 0 ? Math.min(Math.floor(Math.log2(number) / 10), units.length - 1) : 0;
  const value = number / 1024 ** unit;
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
