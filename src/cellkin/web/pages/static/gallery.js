// A gallery of thousands of cells: only the rows near the screen are in the page.

import { cellUrl, imageOf } from "./api.js";
import { title } from "./classes.js";
import { h } from "./dom.js";
import { carry, dropped } from "./sorting.js";
import { agreementOf, heldLong, heldShort, signedWords } from "./words.js";

const GAP = 8;
const HEAD = 46;
const TILES = [110, 172, 262]; // width of a picture
const OVERSCAN = 700; // pixels above and below the screen
const DWELL = 500; // milliseconds on screen until a cell counts as seen

/**
 * groups: [{ id, head: () => Node, cells: [cell] }].
 * on: { seen(ids), pick(id, range), open(id), sort(ids, group id), size(), free() }: 0, 1, 2 for small to large pictures.
 */
export class Gallery {
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.groups = [];
    this.rows = [];
    this.nodes = new Map(); // key -> node in the page
    this.picked = new Set();
    this.focused = null;
    this.since = new Map(); // cell id -> when it came on screen
    root.classList.add("gallery");
    root.addEventListener("focusin", (e) => { this.focused = e.target.closest(".tile")?.dataset.id ?? null; });
    root.addEventListener("keydown", (e) => this.move(e));
    this.later = () => { this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.draw(); }); };
    addEventListener("scroll", this.later, { passive: true });
    new ResizeObserver(() => this.layout()).observe(root);
    setInterval(() => this.report(), 250);
  }

  show(groups) {
    this.groups = groups;
    this.layout({ fresh: true });
  }

  /** The same cells in new states: redraw what is in the page. */
  refresh() {
    const focus = this.root.contains(document.activeElement) ? this.focused : null;
    for (const node of this.nodes.values()) node.remove();
    this.nodes.clear();
    this.draw();
    if (focus) this.root.querySelector(`[data-id="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  }

  layout({ fresh = false } = {}) {
    const width = this.root.clientWidth;
    if (!width || (!fresh && width === this.width)) return;
    this.width = width;
    const target = TILES[this.on.size()] * (width > 1700 ? 1.2 : width > 700 ? 1 : 0.8);
    this.columns = Math.max(2, Math.floor((width + GAP) / (target + GAP)));
    this.tile = (width - GAP * (this.columns - 1)) / this.columns;
    this.caption = Math.ceil(parseFloat(getComputedStyle(document.body).fontSize) * 0.82 * 3.1) + 4;
    const rowHeight = Math.ceil(this.tile + this.caption);
    this.rows = [];
    let top = 0;
    for (const group of this.groups) {
      this.rows.push({ key: `head-${group.id}`, top, height: HEAD, group });
      top += HEAD + GAP;
      for (let i = 0; i < group.cells.length; i += this.columns) {
        this.rows.push({ key: `${group.id}-${i}`, top, height: rowHeight, group, from: i, to: i + this.columns });
        top += rowHeight + GAP;
      }
      top += 14;
    }
    this.root.style.height = `${top}px`;
    this.refresh();
  }

  draw() {
    const above = this.root.getBoundingClientRect().top;
    const from = -above - OVERSCAN;
    const to = -above + innerHeight + OVERSCAN;
    const wanted = new Set();
    for (let i = this.first(from); i < this.rows.length && this.rows[i].top < to; i++) {
      const row = this.rows[i];
      wanted.add(row.key);
      if (!this.nodes.has(row.key)) this.place(row);
    }
    const held = this.focused && this.root.contains(document.activeElement) ? document.activeElement.closest(".row") : null;
    for (const [key, node] of this.nodes) {
      if (wanted.has(key) || node === held) continue;
      node.remove();
      this.nodes.delete(key);
    }
  }

  first(y) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].top + this.rows[middle].height < y) low = middle + 1; else high = middle;
    }
    return low;
  }

  place(row) {
    const node = row.from === undefined ? h("div", { class: "row head" }, row.group.head()) : this.tiles(row);
    dropped(node, (ids) => this.on.sort(ids, row.group.id));
    node.style.transform = `translateY(${row.top}px)`;
    node.style.height = `${row.height}px`;
    // keyboard and screen readers meet the rows in their order
    const after = [...this.root.children].find((other) => Number(other.dataset.top) > row.top);
    node.dataset.top = row.top;
    this.root.insertBefore(node, after ?? null);
    this.nodes.set(row.key, node);
  }

  tiles(row) {
    const list = h("ul", { class: "tiles" }, row.group.cells.slice(row.from, row.to).map((cell) => h("li", {}, this.node(cell))));
    list.style.gridTemplateColumns = `repeat(${this.columns},minmax(0,1fr))`;
    list.style.height = "100%";
    return h("div", { class: "row" }, list);
  }

  node(cell) {
    const signed = signedWords(cell, title);
    const toOpen = cell.held && (!signed || !cell.opened);
    const changed = cell.state === "reclassified";
    const words = toOpen ? heldShort(cell.held_reasons) : agreementOf(cell.decision);
    const label = `${cell.name}: proposed ${title(cell.proposed)}${signed ? `, signed as ${signed}` : ""}${cell.held && !signed ? `, held: ${cell.held_reasons.map(heldLong).join(", ")}` : ""}`;
    const tile = h("a", {
      class: `tile${cell.held ? " held" : ""}${signed && !toOpen ? " done" : ""}${this.picked.has(cell.id) ? " picked" : ""}`,
      href: cellUrl(cell.id), "data-id": cell.id, draggable: "true", title: label,
      onclick: (event) => this.click(event, cell.id), ondragstart: (event) => carry(event, this.picked.has(cell.id) ? [...this.picked] : [cell.id]),
    },
    h("img", { class: "pic", src: imageOf(cell.id), alt: "", decoding: "async" }),
    h("span", { class: "cap" }, h("b", {}, signed || cell.name), h("span", { class: "hush" }, label), h("span", { class: toOpen ? "heldwords" : "" }, changed && !toOpen ? `proposed ${title(cell.proposed)}` : words)),
    signed ? h("span", { class: `tick${changed ? " changed" : ""}` }, changed ? "≠" : "✓") : cell.seen || cell.opened ? null : h("span", { class: "fresh", title: "not yet on screen" }));
    return tile;
  }

  click(event, id) {
    if (!event.shiftKey && !event.ctrlKey && !event.metaKey) { this.on.open(id); return; }
    event.preventDefault();
    this.on.pick(id, event.shiftKey);
  }

  order() { return this.groups.flatMap((group) => group.cells.map((cell) => cell.id)); }

  /** Arrow keys walk over the tiles, Space picks. */
  move(event) {
    const id = event.target.closest?.(".tile")?.dataset.id;
    if (!id || event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns }[event.key];
    if (event.key === " ") { event.preventDefault(); this.on.pick(id, event.shiftKey); return; }
    if (by === undefined) return;
    event.preventDefault();
    const order = this.order();
    const at = order.indexOf(id);
    this.focus(order[Math.max(0, Math.min(order.length - 1, at + by))]);
  }

  focus(id) {
    const row = this.rows.find((r) => r.from !== undefined && r.group.cells.slice(r.from, r.to).some((c) => c.id === id));
    if (!row) return;
    const above = this.root.getBoundingClientRect().top;
    const top = above + row.top;
    const [from, to] = this.on.free();
    if (top < from || top + row.height > to) scrollTo({ top: scrollY + top - innerHeight / 3 });
    this.focused = id;
    this.draw();
    this.root.querySelector(`[data-id="${CSS.escape(id)}"]`)?.focus({ preventScroll: true });
  }

  /** Cells whose whole picture stayed on screen, loaded, for a while: they count as seen. */
  report() {
    if (document.hidden || document.querySelector("dialog[open]")) return;
    const now = performance.now();
    const found = [];
    const still = new Set();
    const fresh = this.fresh();
    for (const [cell, picture] of fresh) {
      if (!picture.complete || !picture.naturalWidth) continue;
      still.add(cell.id);
      const since = this.since.get(cell.id);
      if (since === undefined) this.since.set(cell.id, now);
      else if (now - since >= DWELL) found.push(cell);
    }
    for (const id of this.since.keys()) if (!still.has(id)) this.since.delete(id);
    if (!found.length) return;
    for (const cell of found) { cell.seen = true; this.since.delete(cell.id); }
    this.on.seen(found.map((cell) => cell.id));
  }

  /** Cells not yet seen whose row lies wholly on screen, with their pictures. */
  fresh() {
    const above = this.root.getBoundingClientRect().top;
    const [from, to] = this.on.free(); // nothing lies over the page there
    const found = [];
    for (const row of this.rows.slice(this.first(from - above))) {
      if (row.top + above > to) break;
      if (row.from === undefined || row.top + above < from || row.top + above + this.tile > to) continue;
      const pictures = this.nodes.get(row.key)?.querySelectorAll("img.pic") ?? [];
      row.group.cells.slice(row.from, row.to).forEach((cell, i) => {
        if (!cell.seen && pictures[i]) found.push([cell, pictures[i]]);
      });
    }
    return found;
  }

  /** Take the dots off cells that were reported. */
  markSeen(ids) {
    for (const id of ids) this.root.querySelector(`[data-id="${CSS.escape(id)}"] .fresh`)?.remove();
  }
}
