// The query, its kin and the opposite class side by side at equal scale, with maps over them, and
// the spot under the pointer matched in all of them at once.

import { mark, title } from "./classes.js";
import { h, number } from "./dom.js";
import { EMPTY, colorBar, limitOf, overlay } from "./heat.js";
import { decode, flat, onQuery, onReference, peakOf } from "./tensors.js";
import { drawScaleBar } from "./viewer.js";

export const MODES = {
  contrast: { say: "Why", ends: ["for the other side", "for the verdict"] },
  image: { say: "Image", ends: ["", ""] },
  gradcam: { more: true, say: "Grad-CAM", ends: ["against the class", "for the class"] },
  pair: { more: true, say: "Alike", ends: ["unlike", "alike"] },
  difference: { more: true, say: "Different", ends: ["together", "apart"] },
};
const TWO_SIDED = ["pair", "difference"]; // a map of the query with one other cell
const MATCH = { ends: ["unlike this spot", "like this spot"] };

export class Strip {
  /** on: { link(id | null), spot(words), closely(view) }; um: micrometres per pixel of the pictures, where known. */
  constructor(evidence, on, um = null) {
    this.evidence = evidence;
    this.um = um;
    this.on = on;
    this.grid = evidence.grid ?? [1, 1];
    this.mode = evidence.contrast ? "contrast" : "image";
    this.spot = null; // { of: index in views, i, j }
    this.pinned = false;
    this.views = this.collect();
    this.tensorLimit = limitOf(this.views.map((v) => v.tensor).filter(Boolean));
    this.node = h("div", { class: "strip" }, this.views.map((v) => v.figure));
    this.node.style.setProperty("--n", this.views.length);
    this.bar = this.makeBar();
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  collect() {
    const { evidence } = this;
    const counter = evidence.counter ?? { neighbors: [], pairs: [] };
    const own = { ...this.alone(0), onQuery: {}, insideQuery: {} };
    const query = this.view({ id: evidence.query.id, image: evidence.query.image }, "query", own);
    const kin = evidence.neighbors.map((n, i) => this.view(n, "kin", this.maps(evidence.pairs[i], 1 + i)));
    const against = counter.neighbors.map((n, i) => this.view(n, i ? "opposed" : "opposed first", this.maps(counter.pairs[i], 1 + kin.length + i)));
    return [query, ...kin, ...against];
  }

  /** What is drawn over the picture at this place by itself, where its cell lies, what is inside. */
  alone(place) {
    const { contrast, gradcam, outlines } = this.evidence;
    const why = place ? contrast?.references[place - 1] : contrast?.query;
    const cam = place ? gradcam?.references[place - 1] : gradcam?.query;
    return {
      contrast: flat(why?.values), contrastGrid: why?.values ? [why.values.length, why.values[0].length] : this.grid, gradcam: flat(cam), margin: why?.margin, outline: outlines?.[place] ?? null,
      noContrast: why?.refused ?? "", inside: { contrast: why?.inside ?? "", gradcam: cam ? gradcam.inside[place] : "" },
    };
  }

  maps(pair, place) {
    const own = this.alone(place);
    return {
      ...own,
      pair: flat(pair?.on_reference),
      difference: flat(pair?.difference_on_reference),
      tensor: pair?.tensor ? decode(pair.tensor) : null,
      onQuery: { pair: flat(pair?.on_query), difference: flat(pair?.difference_on_query) },
      inside: { ...own.inside, pair: pair?.inside_on_reference ?? "", difference: pair?.difference_inside_on_reference ?? "" },
      insideQuery: { pair: pair?.inside_on_query ?? "", difference: pair?.difference_inside_on_query ?? "" },
      refused: pair?.refused ?? "",
    };
  }

  view(cell, kind, maps) {
    const at = () => this.views.findIndex((v) => v.canvas === canvas);
    const canvas = h("canvas", { tabindex: 0, role: "img", "data-id": cell.id, "aria-label": this.label(cell, kind), "aria-describedby": "spot-words" });
    canvas.addEventListener("pointermove", (e) => { if (!this.pinned) this.point(at(), e); });
    canvas.addEventListener("pointerleave", () => { if (!this.pinned) this.leave(); });
    canvas.addEventListener("pointerdown", (e) => { this.pinned = false; this.point(at(), e); this.pinned = true; });
    canvas.addEventListener("keydown", (e) => this.walk(at(), e));
    canvas.addEventListener("dblclick", () => this.on.closely(this.views[at()]));
    canvas.addEventListener("focus", () => this.on.link(kind === "query" ? null : cell.id));
    canvas.addEventListener("pointerenter", () => this.on.link(kind === "query" ? null : cell.id));
    const picture = new Image();
    picture.addEventListener("load", () => this.draw());
    picture.src = cell.image;
    const state = h("span", { class: "state-of" });
    const bar = h("span", { class: "scale-bar" });
    const closely = h("button", { type: "button", class: "closely", title: kind === "query" ? "Look closely: every pixel, zoom, light, magnifier" : "Side by side with the cell in question", onclick: () => this.on.closely(this.views[at()]) }, kind === "query" ? [h("kbd", {}, "O"), "Look closely"] : "Beside");
    const figure = h("figure", { class: `kin ${kind}`, "data-id": cell.id }, h("div", { class: "shot" }, canvas, bar, closely), this.caption(cell, kind, state));
    return { ...maps, cell, kind, canvas, picture, figure, state, bar };
  }

  label(cell, kind) {
    if (kind === "query") return "The cell in question. Arrow keys move a spot that is matched in its kin.";
    return `${kind === "kin" ? `Kin ${cell.rank}` : "Against it"}: ${title(cell.label)}, distance ${number(cell.distance)}. Arrow keys move a spot that is matched in the cell in question.`;
  }

  caption(cell, kind, state) {
    if (kind === "query") return h("figcaption", {}, h("b", {}, "This cell"), state);
    const about = `distance ${number(cell.distance)}${cell.subject ? ` · subject ${cell.subject}` : ""}${cell.place ? ` · place ${cell.place}` : ""}`;
    return h("figcaption", {},
      h("b", {}, kind === "kin" ? h("span", { class: "rank" }, String(cell.rank)) : null, mark(cell.label), title(cell.label)),
      h("span", { class: "num" }, about),
      kind === "kin" ? h("span", { class: "num" }, `share in the verdict ${cell.share_words ?? "–"}`) : h("span", { class: "against" }, "against the verdict"), state);
  }

  makeBar() {
    const canvas = h("canvas", { "aria-hidden": "true" });
    colorBar(canvas);
    const [low, high] = [h("span", {}), h("span", {})];
    const ticks = h("span", { class: "ticks", "aria-hidden": "true" });
    const node = h("div", { class: "scale", role: "img", "aria-label": "Colour bar", hidden: true }, low, canvas, high, ticks);
    return { node, low, high, ticks };
  }

  /** Which maps there are; the others say why not. */
  offers(mode) {
    if (mode === "image") return true;
    if (!TWO_SIDED.includes(mode)) return Boolean(this.evidence[mode]);
    return this.views.some((v) => v[mode]);
  }

  setMode(mode) { this.mode = mode; this.release(); }

  release() { this.pinned = false; this.leave(); }

  leave() { if (this.spot) { this.spot = null; } this.draw(); this.on.spot(""); }

  point(index, event) {
    const box = event.currentTarget.getBoundingClientRect();
    const [rows, columns] = this.grid;
    const i = Math.max(0, Math.min(rows - 1, Math.floor(((event.clientY - box.top) / box.height) * rows)));
    const j = Math.max(0, Math.min(columns - 1, Math.floor(((event.clientX - box.left) / box.width) * columns)));
    this.choose(index, i, j);
  }

  walk(index, event) {
    if (event.key === "Escape" && this.spot) { this.release(); event.stopPropagation(); return; }
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const [rows, columns] = this.grid;
    const here = this.spot?.of === index ? this.spot : { i: Math.floor(rows / 2) - by[0], j: Math.floor(columns / 2) - by[1] };
    this.pinned = true;
    this.choose(index, Math.max(0, Math.min(rows - 1, here.i + by[0])), Math.max(0, Math.min(columns - 1, here.j + by[1])));
  }

  choose(index, i, j) {
    if (!this.tensorLimit || this.spot?.of === index && this.spot.i === i && this.spot.j === j) return;
    this.spot = { of: index, i, j };
    this.draw();
    this.on.spot(this.spotWords());
  }

  /** Of every view the values that belong over it now. */
  values(index) {
    const { spot, grid } = this;
    const view = this.views[index];
    if (spot) {
      if (spot.of === 0) return index && view.tensor ? onReference(view.tensor, grid, spot.i, spot.j) : null;
      const tensor = this.views[spot.of].tensor;
      return index === 0 && tensor ? onQuery(tensor, grid, spot.i, spot.j) : null;
    }
    if (this.mode === "image") return null;
    if (index === 0 && TWO_SIDED.includes(this.mode)) return this.views[this.partner()]?.onQuery?.[this.mode] ?? null;
    return view[this.mode] ?? null;
  }

  /** Whose pair with the query is drawn on the query: the nearest kin, or the one last looked at. */
  partner() { return this.shown ?? 1; }

  setPartner(id) {
    const found = this.views.findIndex((v, i) => i && v.cell.id === id);
    if (found > 0 && found !== this.shown) { this.shown = found; if (!this.spot && TWO_SIDED.includes(this.mode)) this.draw(); }
  }

  limit() {
    if (this.spot) return this.tensorLimit;
    return this.evidence.limits[this.mode] ?? 0; // of "image" there is none
  }

  draw() {
    if (!this.node.clientWidth) return;
    const limit = this.limit();
    this.views.forEach((view, index) => this.drawOne(view, index, limit));
    this.drawBar(limit);
  }

  drawOne(view, index, limit) {
    const side = Math.round(view.canvas.clientWidth * Math.min(devicePixelRatio || 1, 2));
    if (!side) return;
    if (view.canvas.width !== side) { view.canvas.width = side; view.canvas.height = side; }
    const ctx = view.canvas.getContext("2d");
    ctx.imageSmoothingQuality = "high";
    this.drawPicture(ctx, view, side);
    if (index < 2) drawScaleBar(view.bar, this.um, view.canvas.clientWidth / this.evidence.size, view.canvas.clientWidth);
    const values = this.values(index);
    const outline = this.spot || this.mode === "image" ? null : view.outline;
    if (values) overlay(ctx, values, this.mode === "contrast" && !this.spot ? view.contrastGrid : this.grid, limit, outline);
    this.drawSpot(ctx, index, side, values);
    view.state.textContent = this.stateOf(view, index, values);
    const peak = this.spot && values ? peakOf(values, this.grid[1]) : null;
    view.canvas.dataset.match = peak ? `${peak.i},${peak.j}` : "";
  }

  /** All pixels of the original stand for the picture as the network saw it: the same square of it. */
  setOriginal(image, [left, top, side], alike) {
    this.original = { image, square: [left, top, side, side], alike };
    this.draw();
  }

  drawPicture(ctx, view, side) {
    const { original } = this;
    if (view.kind === "query" && original && (original.alike || this.mode === "image")) ctx.drawImage(original.image, ...original.square, 0, 0, side, side);
    else if (view.picture.complete && view.picture.naturalWidth) ctx.drawImage(view.picture, 0, 0, side, side);
  }

  drawSpot(ctx, index, side, values) {
    if (!this.spot) return;
    const [rows, columns] = this.grid;
    if (this.spot.of === index) {
      frame(ctx, [(this.spot.j * side) / columns, (this.spot.i * side) / rows, side / columns, side / rows], side);
    } else if (values) {
      const peak = peakOf(values, columns);
      if (peak.value > 0) ring(ctx, ((peak.j + 0.5) * side) / columns, ((peak.i + 0.5) * side) / rows, side);
    }
  }

  stateOf(view, index, values) {
    if (this.spot || this.mode === "image") return "";
    const two = TWO_SIDED.includes(this.mode);
    const refused = two ? view.refused : this.mode === "contrast" ? view.noContrast : "";
    if (refused) return refused;
    if (!values) return "no map";
    if (!values.some(Boolean)) return EMPTY;
    const partner = this.views[this.partner()];
    const inside = two && index === 0 ? partner?.insideQuery[this.mode] : view.inside[this.mode];
    const about = two && index === 0 ? `with ${partner?.kind === "kin" ? `kin ${this.partner()}` : "the one against it"}` : this.mode === "contrast" ? `margin ${number(view.margin)}` : "";
    return [about, inside].filter(Boolean).join(" · ");
  }

  drawBar(limit) {
    const { node, low, high, ticks } = this.bar;
    node.hidden = !this.spot && this.mode === "image";
    if (node.hidden) return;
    const ends = (this.spot ? MATCH : MODES[this.mode]).ends;
    low.textContent = ends[0];
    high.textContent = ends[1];
    ticks.replaceChildren(...[-1, 0, 1].map((share) => h("span", {}, limit ? number(share * limit, 2) : share ? "" : "empty")));
    node.setAttribute("aria-label", `Colours from ${number(-limit, 2)} (${ends[0]}) over zero to ${number(limit, 2)} (${ends[1]}), the same for all pictures`);
  }

  spotWords() {
    const { spot, grid } = this;
    const where = `Row ${spot.i + 1}, column ${spot.j + 1} of ${grid[0]} × ${grid[1]}`;
    const found = this.views.map((v, index) => ({ v, values: this.values(index) })).filter(({ values }) => values)
      .map(({ v, values }) => ({ v, peak: peakOf(values, grid[1]) })).sort((a, b) => b.peak.value - a.peak.value)[0];
    if (!found) return `${where}: nothing to match it with.`;
    const name = found.v.kind === "query" ? "this cell" : found.v.kind === "kin" ? `kin ${found.v.cell.rank}` : "the one against it";
    return `${where}: most alike in ${name}, row ${found.peak.i + 1}, column ${found.peak.j + 1} (${number(found.peak.value, 2)}).`;
  }

  link(id) {
    for (const view of this.views) view.figure.classList.toggle("linked", Boolean(id) && view.cell.id === id && view.kind !== "query");
  }
}

function frame(ctx, [x, y, w, h_], side) {
  for (const [width, style] of [[4.5, "#fff"], [2, "#111"]]) {
    ctx.lineWidth = (width * side) / 320;
    ctx.strokeStyle = style;
    ctx.strokeRect(x, y, w, h_);
  }
}

function ring(ctx, x, y, side) {
  for (const [width, style] of [[4.5, "#fff"], [2, "#111"]]) {
    ctx.lineWidth = (width * side) / 320;
    ctx.strokeStyle = style;
    ctx.beginPath();
    ctx.arc(x, y, side / 24, 0, 7);
    ctx.stroke();
  }
}
