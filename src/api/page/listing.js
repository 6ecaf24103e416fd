// A table that is a page of a list of the relay: loaded, loaded again when it changes, and longer on request.

import { Failure, ask, isOver, query } from "./ask.js";
import { byId, count, element, say, visible } from "./dom.js";
import { notice } from "./confirm.js";

const PAGE = 100;

/** Rows at most: a browser shows them at once. Filters lead to the others. */
const MOST = 1000;

/** Answers for one table at most: where few fit a filter, an answer may have none of them. */
const MOST_ANSWERS = 20;

/** The list is not loaded again sooner than this after it was. */
const REST_MS = 1_000;

export class Listing {
  #next = null;
  #wanted = PAGE;
  #isLoading = false;
  #isStale = false;
  #items = [];

  /** The filters that the items fit. */
  #filtered = "";

  /** How many items the relay has, whatever the filters say. */
  #total = 0;

  /** What `show` was told last. */
  #seen = "";

  /**
   * `path` is asked for a page whose member `member` has the items. `filter()` gives the parameters, `allFilters()` those and what
   * the relay does not filter itself, of which `fits(item)` tells. `cells(item)` makes the cells of a row, the last of which has its buttons. `one` and `many` name
   * the items, `none` says that there is none. `heading` gets the focus when the last row with the focus goes.
   */
  constructor({ table, more, heading, path, member, filter, allFilters, fits, cells, one, many, none }) {
    Object.assign(this, { path, member, filter, allFilters: allFilters ?? filter, fits: fits ?? (() => true), cells, one, many, none });
    this.table = byId(table);
    this.more = byId(more);
    this.heading = byId(heading);
    this.more.addEventListener("click", () => {
      this.#wanted = Math.min(this.#wanted + PAGE, MOST);
      this.load();
    });
  }

  /** How many items fit the filters, if all of them are shown. */
  get known() {
    return this.#next === null && this.#filtered === this.#filters() ? this.#items.length : null;
  }

  /** The greatest id of all that is shown, if anything is. */
  get newest() {
    return this.#items[0]?.id ?? null;
  }

  /** The item as it is now. */
  item(id) {
    return this.#items.find(item => item.id === id);
  }

  #filters() {
    return JSON.stringify(this.allFilters());
  }

  /** Shows the first page of what the filters say now. */
  restart() {
    this.#wanted = PAGE;
    return this.load();
  }

  /** Loads the rows again if `what`, the numbers of the status that concern them, is not what it was. `null`: there is no outbox. */
  show(total, what) {
    this.#total = total;
    const now = JSON.stringify(what);
    if (now === this.#seen) return;
    this.#seen = now;
    if (what) this.load();
  }

  /** Loads the rows again, if there are any: what is shown of them goes on. */
  refresh() {
    if (this.#total > 0) this.load();
  }

  /** Which items fit the filters, in words, with their number as far as it is known. */
  get meant() {
    const filters = this.allFilters();
    const words = inWords(filters.userId ? { ...filters, userId: visible(filters.userId).slice(0, 100) } : filters);
    if (words) return `${this.known === null ? "all" : count(this.known)} ${this.many}${words}`;
    return this.#total === 1 ? `the one ${this.one}` : `all ${count(this.#total)} ${this.many}`;
  }

  #title() {
    const shown = this.#items.length;
    if (shown === 0) return inWords(this.allFilters()) ? `No ${this.one} fits the filters` : this.none;
    return `${count(shown)} shown${this.#next === null ? "" : ", there are more"}, the newest first; ${count(this.#total)} in all`;
  }

  clear() {
    this.#isStale = false;
    this.#seen = "";
    [this.#items, this.#next, this.#filtered] = [[], null, ""];
    this.#draw();
  }

  /** Loads the rows again. */
  async load() {
    if (this.#isLoading) {
      this.#isStale = true;
      return;
    }
    this.#isLoading = true;
    try {
      await this.#read();
      this.#draw();
    } catch (error) {
      if (isOver(error)) return;
      // The stream of events notices the same, and asks for the token or says that the connection is lost.
      if (!(error instanceof Failure) || ![0, 401].includes(error.status)) notice(`The list was not read: ${error.message}.`, true);
    } finally {
      setTimeout(() => {
        this.#isLoading = false;
        if (this.#isStale) {
          this.#isStale = false;
          this.load();
        }
      }, REST_MS);
    }
  }

  async #read() {
    const [filter, filtered] = [this.filter(), this.#filters()];
    let [items, before] = [[], null];
    for (let answers = 0; answers < MOST_ANSWERS && items.length < this.#wanted; answers += 1) {
      const limit = this.#wanted - items.length;
      const page = await ask("GET", this.path + query({ ...filter, limit, before }));
      items.push(...page[this.member].filter(item => this.fits(item)));
      before = page.next;
      if (before === null) break;
    }
    [this.#items, this.#next, this.#filtered] = [items, before, filtered];
  }

  /** Changes the rows that changed, so that the focus and the scroll stay where they are. */
  #draw() {
    const body = this.table.tBodies[0];
    const old = new Map([...body.querySelectorAll("[data-id]")].map(row => [row.dataset.id, row]));
    const rows = this.#items.map(item => this.#row(item, old.get(String(item.id))));
    const kept = new Set(rows);
    const focused = document.activeElement?.closest?.("tr");
    const isLosing = focused && body.contains(focused) && !kept.has(focused) && !kept.has(focused.previousElementSibling);
    const place = isLosing ? [...body.children].indexOf(focused) : 0;
    for (const row of [...body.children]) {
      const owner = row.dataset.id ? row : row.previousElementSibling;
      if (!kept.has(owner)) row.remove();
    }
    let last = null;
    for (const row of rows) {
      const follower = last ? last.nextElementSibling : body.firstElementChild;
      if (follower !== row) body.insertBefore(row, follower);
      last = row.nextElementSibling?.dataset.id === undefined && row.nextElementSibling ? row.nextElementSibling : row;
    }
    this.more.hidden = this.#next === null || this.#wanted >= MOST;
    say(this.table.caption, this.#title());
    if (isLosing) (body.children[Math.min(place, body.children.length - 1)]?.querySelector("button") ?? this.heading).focus();
  }

  #row(item, row) {
    const shown = JSON.stringify(item);
    if (row?.dataset.shown === shown) return row;
    const labels = [...this.table.tHead.rows[0].cells].map(cell => cell.textContent);
    const cells = this.cells(item);
    cells.forEach((cell, index) => (cell.dataset.label = labels[index]));
    cells.at(-1).removeAttribute("data-label");
    if (!row) row = element("tr", { "data-id": item.id }, ...cells);
    // The buttons stay: one of them may have the focus.
    else cells.slice(0, -1).forEach((cell, index) => row.cells[index].replaceWith(cell));
    row.dataset.shown = shown;
    return row;
  }
}

/** Loads the listing again when its form is sent, or one of its fields is changed. */
export function filterBy(form, listing) {
  byId(form).addEventListener("submit", event => {
    event.preventDefault();
    listing.restart();
  });
  byId(form).addEventListener("change", () => byId(form).reportValidity() && listing.restart());
}

/** The filters in words, for a question. */
function inWords(filter) {
  const set = Object.entries(filter).filter(([, value]) => value);
  return set.length ? ` with ${set.map(([name, value]) => `${name} ${value}`).join(", ")}` : "";
}
