// Four numbers, each with what it was in the last 15 minutes.

import { byId, count, drawn, duration, element, say } from "./dom.js";

const POINTS = 180;

const rate = value => (value === null || value === undefined ? "–" : count(value < 10 ? value : Math.round(value)));

const milliseconds = value => {
  if (value === null || value === undefined) return "–";
  return value < 1000 ? `${value < 10 ? value : Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
};

const TILES = [
  { id: "tile-stored", title: "Stored a second", series: "stored", shown: rate },
  { id: "tile-delivered", title: "Delivered a second", series: "delivered", shown: rate },
  { id: "tile-oldest", title: "Oldest waits for", series: "oldestSeconds", shown: value => duration(value ?? 0) },
  { id: "tile-segment", title: "Time to Segment (p99)", series: "segmentP99Ms", shown: milliseconds },
];

const history = {};

/** Draws the tiles, empty. */
export function start() {
  const tiles = TILES.map(({ id, title }) =>
    element("div", { class: "tile", id },
      element("h2", {}, title),
      element("p", { class: "number" }, "–"),
      element("p", { class: "second" }),
      drawn("svg", { viewBox: `0 0 ${POINTS} 40`, preserveAspectRatio: "none", role: "img", "aria-label": "No history yet" })));
  byId("tiles").replaceChildren(...tiles);
}

export function takeHistory(data) {
  for (const { series } of TILES) history[series] = data[series];
  history.refused = data.refused;
  draw();
}

export function takePoint(point) {
  for (const series of Object.keys(history)) history[series] = [...history[series].slice(1), point[series]];
  draw();
}

/** Shows the numbers of now. */
export function show({ rates, outbox }) {
  const now = {
    stored: rates.storedPerSecond,
    delivered: rates.deliveredPerSecond,
    oldestSeconds: outbox?.oldestSeconds ?? 0,
    segmentP99Ms: rates.segmentP99Ms,
  };
  for (const { id, series, shown } of TILES) say(byId(id).querySelector(".number"), shown(now[series]));
  const second = (id, text) => say(byId(id).querySelector(".second"), text);
  second("tile-stored", outbox ? `${count(outbox.storedTotal)} since the start` : "no outbox is configured");
  second("tile-delivered", `${rate(rates.refusedPerSecond)} refused or given up`);
  second("tile-oldest", outbox ? `${calls(outbox.waiting)}` : "");
  second("tile-segment", "how long its answers take");
}

const calls = waiting => (waiting === 1 ? "1 call waits" : `${count(waiting)} calls wait`);

function draw() {
  for (const { id, series, title, shown } of TILES) {
    const values = history[series] ?? [];
    const known = values.filter(value => value !== null);
    const most = Math.max(0, ...known);
    const lines = [drawn("line", { x1: 0, y1: 39, x2: POINTS, y2: 39 })];
    for (const part of parts(values)) {
      const points = part.map(([x, value]) => `${x},${(38 - (most > 0 ? value / most : 0) * 36).toFixed(1)}`);
      lines.push(drawn("polyline", { points: points.join(" ") }));
    }
    const drawing = byId(id).querySelector("svg");
    drawing.replaceChildren(...lines);
    const said = known.length ? `${title}, last 15 minutes: at most ${shown(most)}, last ${shown(known.at(-1))}` : "No history yet";
    drawing.setAttribute("aria-label", said);
  }
}

/** The stretches in which a value is known, each as points. */
function parts(values) {
  const found = [];
  values.forEach((value, x) => {
    if (value === null) return;
    if (x > 0 && values[x - 1] !== null && found.length) found.at(-1).push([x, value]);
    else found.push([[x - 1, value], [x, value]]);
  });
  return found;
}
