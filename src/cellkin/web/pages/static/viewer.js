// A picture at full resolution: zoom to single pixels, pan, light, a magnifier, a scale bar.

import { h, number } from "./dom.js";

const MOST = 64; // screen pixels of one pixel of the picture
const STEP = 1.25;
const CRISP = 3; // from here on pixels are drawn as squares
const LENS = 84; // radius of the magnifier
const LENS_POWER = 4;
const BAR = 0.28; // of the width, at most

/** A whole picture as one image: { width, height, um, ready, paint }. */
export function imageSource(url, { width, height, um = null }) {
  const image = new Image();
  const ready = new Promise((ok, no) => { image.onload = ok; image.onerror = () => no(new Error("This picture cannot be loaded.")); });
  image.src = url;
  return { image, width, height, um, ready, paint: (ctx) => { if (image.complete && image.naturalWidth) ctx.drawImage(image, 0, 0, width, height); } };
}

/**
 * source: { width, height, um, ready, paint(ctx, seen, scale), changed? }, all in pixels of the picture.
 * on: { marks(ctx, scale), click(x, y, event), hover(x, y), key(event), moved() }, each may be missing.
 */
export class Viewer {
  constructor(source, label, on = {}) {
    this.source = source;
    this.on = on;
    this.view = null; // { x, y: what lies in the middle, scale: screen pixels per pixel }
    this.lens = false;
    this.at = null; // pointer
    this.light = { brightness: 100, contrast: 100 };
    this.canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": `${label}. Plus and minus zoom, 0 shows all, 1 shows its own pixels, arrows move, G is the magnifier.` });
    this.bar = h("span", { class: "scale-bar" });
    this.zoomed = h("span", { class: "num soft", "aria-live": "polite" });
    this.frame = h("div", { class: "viewer-frame" }, this.canvas, this.bar);
    this.node = h("div", { class: "viewer" }, this.frame, this.tools());
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.frame);
    source.changed = () => this.draw();
    source.ready?.then(() => this.draw(), (error) => { this.zoomed.textContent = error.message; });
  }

  tools() {
    const button = (say, title, run) => h("button", { type: "button", title, "aria-label": title, onclick: run }, say);
    const slide = (name) => h("label", { class: "slide small" }, name, h("input", { type: "range", min: 40, max: 220, value: 100, name, oninput: (e) => this.lit(name, Number(e.target.value)) }));
    this.sliders = [slide("brightness"), slide("contrast")];
    this.lensButton = h("button", { type: "button", "aria-pressed": "false", title: "Magnifier (G)", onclick: () => this.magnify() }, "Magnifier");
    return h("div", { class: "viewer-tools" },
      h("span", { class: "group" }, button("−", "Smaller (−)", () => this.zoom(1 / STEP)), button("+", "Larger (+)", () => this.zoom(STEP)), button("All", "The whole picture (0)", () => this.fit()), button("1 : 1", "One pixel is one pixel (1)", () => this.zoomTo(1))),
      this.zoomed, this.lensButton, this.sliders,
      button("Reset light", "Brightness and contrast as they are in the file", () => this.plain()));
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(e.deltaY < 0 ? STEP : 1 / STEP, this.spot(e)); }, { passive: false });
    canvas.addEventListener("pointerdown", (e) => { if (e.button) return; canvas.setPointerCapture(e.pointerId); this.drag = { x: e.clientX, y: e.clientY, far: false }; });
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => { const { drag } = this; this.drag = null; if (drag && !drag.far) { const [x, y] = this.spot(e); this.on.click?.(x, y, e); } });
    canvas.addEventListener("pointerleave", () => { this.at = null; if (this.lens) this.draw(); });
    canvas.addEventListener("keydown", (e) => this.key(e));
  }

  move(event) {
    const [x, y] = this.spot(event);
    this.at = [x, y];
    if (this.drag) {
      const [dx, dy] = [event.clientX - this.drag.x, event.clientY - this.drag.y];
      if (Math.hypot(dx, dy) > 3 || this.drag.far) { this.drag = { x: event.clientX, y: event.clientY, far: true }; this.pan(-dx, -dy); }
    } else if (this.lens) this.draw();
    this.on.hover?.(x, y);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = 60;
    const known = {
      "+": () => this.zoom(STEP), "=": () => this.zoom(STEP), "-": () => this.zoom(1 / STEP), 0: () => this.fit(), 1: () => this.zoomTo(1), g: () => this.magnify(),
      ArrowLeft: () => this.pan(-far, 0), ArrowRight: () => this.pan(far, 0), ArrowUp: () => this.pan(0, -far), ArrowDown: () => this.pan(0, far),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (known) known(); else if (!this.on.key?.(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Pixel of the picture under the pointer. */
  spot(event) {
    const box = this.canvas.getBoundingClientRect();
    const view = this.seen();
    return [view.x + (event.clientX - box.left - box.width / 2) / view.scale, view.y + (event.clientY - box.top - box.height / 2) / view.scale];
  }

  seen() {
    if (!this.view) this.view = this.whole();
    return this.view;
  }

  whole() {
    const { width, height } = this.source;
    const scale = Math.min((this.frame.clientWidth || 1) / width, (this.frame.clientHeight || 1) / height);
    return { x: width / 2, y: height / 2, scale, all: true };
  }

  fit() { this.view = null; this.draw(); this.on.moved?.(this); }

  zoomTo(scale, spot) { this.zoom(scale / this.seen().scale, spot); }

  zoom(by, spot = null) {
    const { x, y, scale } = this.seen();
    const least = Math.min(this.whole().scale, 1);
    const next = Math.max(least, Math.min(MOST, scale * by));
    const [sx, sy] = spot ?? [x, y];
    this.show({ x: sx + ((x - sx) * scale) / next, y: sy + ((y - sy) * scale) / next, scale: next });
  }

  pan(dx, dy) {
    const { x, y, scale } = this.seen();
    this.show({ x: x + dx / scale, y: y + dy / scale, scale });
  }

  show({ x, y, scale }) {
    const { width, height } = this.source;
    this.view = { x: Math.max(0, Math.min(width, x)), y: Math.max(0, Math.min(height, y)), scale };
    this.draw();
    this.on.moved?.(this);
  }

  magnify() {
    this.lens = !this.lens;
    this.lensButton.setAttribute("aria-pressed", String(this.lens));
    this.draw();
  }

  lit(name, value) {
    this.light[name] = value;
    this.canvas.style.filter = `brightness(${this.light.brightness / 100}) contrast(${this.light.contrast / 100})`;
  }

  plain() {
    for (const label of this.sliders) { const input = label.querySelector("input"); input.value = 100; this.lit(input.name, 100); }
  }

  draw() {
    const { clientWidth: w, clientHeight: t } = this.frame;
    if (!w || !t) return;
    if (this.view?.all) this.view = null;
    const dots = Math.min(devicePixelRatio || 1, 2);
    if (this.canvas.width !== Math.round(w * dots) || this.canvas.height !== Math.round(t * dots)) { this.canvas.width = Math.round(w * dots); this.canvas.height = Math.round(t * dots); }
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const view = this.seen();
    this.paint(ctx, view, dots, [w, t]);
    if (this.lens) this.drawLens(ctx, view, dots, [w, t]);
    this.zoomed.textContent = `${number(100 * view.scale)} %`;
    this.canvas.dataset.scale = view.scale;
    this.drawBar(view.scale, w);
  }

  paint(ctx, view, dots, [w, t]) {
    const scale = view.scale * dots;
    ctx.setTransform(scale, 0, 0, scale, (w * dots) / 2 - view.x * scale, (t * dots) / 2 - view.y * scale);
    ctx.imageSmoothingEnabled = view.scale < CRISP;
    ctx.imageSmoothingQuality = "high";
    const seen = { left: view.x - w / 2 / view.scale, top: view.y - t / 2 / view.scale, right: view.x + w / 2 / view.scale, bottom: view.y + t / 2 / view.scale };
    this.source.paint(ctx, seen, scale);
    this.on.marks?.(ctx, scale / dots);
  }

  /** What lies under the pointer, some times larger, in a ring. */
  drawLens(ctx, view, dots, size) {
    const [px, py] = this.at ?? [view.x, view.y];
    const [w, t] = size;
    const cx = (w / 2 + (px - view.x) * view.scale) * dots;
    const cy = (t / 2 + (py - view.y) * view.scale) * dots;
    ctx.save();
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.beginPath();
    ctx.arc(cx, cy, LENS * dots, 0, 7);
    ctx.clip();
    const scale = view.scale * LENS_POWER * dots;
    ctx.setTransform(scale, 0, 0, scale, cx - px * scale, cy - py * scale);
    ctx.imageSmoothingEnabled = scale / dots < CRISP;
    const half = (LENS * dots) / scale;
    this.source.paint(ctx, { left: px - half, top: py - half, right: px + half, bottom: py + half }, scale);
    ctx.restore();
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    for (const [width, style] of [[5, "#fff"], [2, "#111"]]) { ctx.lineWidth = width * dots; ctx.strokeStyle = style; ctx.beginPath(); ctx.arc(cx, cy, LENS * dots, 0, 7); ctx.stroke(); }
  }

  drawBar(scale, width) { drawScaleBar(this.bar, this.source.um, scale, width); }
}

/** A bar of a round number of micrometres, or that the scale is not known; pixels: of the screen per pixel. */
export function drawScaleBar(node, um, pixels, width) {
  if (!um) { node.classList.add("unknown"); node.replaceChildren("scale unknown"); return; }
  const most = (BAR * width * um) / pixels;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most) ?? power;
  const bar = h("i", {});
  bar.style.width = `${(length * pixels) / um}px`;
  node.classList.remove("unknown");
  node.replaceChildren(bar, `${length >= 1 ? length.toFixed(0) : number(length, 1)} µm`);
}

/** Viewers side by side in a dialog; zoom and place of one are those of all, at equal scale where it is known. */
export function compare(title, panes) {
  const box = h("dialog", { class: "viewing", "aria-label": title });
  let following = false;
  const viewers = panes.map(({ source, label }) => new Viewer(source, label, { moved: (moved) => follow(moved) }));
  const follow = (moved) => {
    if (following || viewers.length < 2) return;
    following = true;
    for (const other of viewers) if (other !== moved) other.show(matched(moved, other));
    following = false;
  };
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => box.close() }, "✕");
  box.append(h("div", { class: "bar-line" }, h("h2", {}, title), close),
    h("div", { class: "panes" }, panes.map(({ caption }, i) => h("section", {}, caption ? h("p", { class: "pane-head" }, caption) : null, viewers[i].node))));
  const back = document.activeElement;
  box.addEventListener("close", () => { box.remove(); back?.focus?.(); });
  document.body.append(box);
  box.showModal();
  viewers[0].canvas.focus();
  return { box, viewers };
}

function matched(moved, other) {
  const { x, y, scale } = moved.seen();
  const [a, b] = [moved.source, other.source];
  const both = a.um && b.um;
  return { x: (x / a.width) * b.width, y: (y / a.height) * b.height, scale: both ? (scale * b.um) / a.um : (scale * a.width) / b.width };
}
