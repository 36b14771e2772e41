// The map of the atlas on canvas: zoom, pan, lasso, class filter, and points linked to pictures.

import { referenceImage } from "./api.js";
import { classes, color, mark, shape, title } from "./classes.js";
import { h, plural } from "./dom.js";

const NEAR = 12; // pixels from the pointer to a point

export class Plot {
  /**
   * points: [{ id, label, x, y, subject }]; query: [x, y] or null; kin: [{ id, words, rank }].
   * on: { link(id | null), lasso(points), pick(id) }.
   */
  constructor({ points, query = null, kin = [], words = "" }, on) {
    Object.assign(this, { points, query, on, words });
    this.kin = new Map(kin.map((k) => [k.id, k]));
    this.hidden = new Set();
    this.linked = null;
    this.lasso = null;
    this.build();
    this.life = new AbortController();
    document.addEventListener("colours", () => { this.legend.replaceWith(this.legend = this.makeLegend()); this.draw(); }, { signal: this.life.signal });
    new ResizeObserver(() => { if (!this.moved) this.fit(); this.draw(); }).observe(this.frame);
  }

  build() {
    const about = `Map of ${plural(this.points.length, "reference cell")}${this.query ? " with this cell and its kin" : ""}. Keys: plus and minus zoom, arrows move, 0 shows all, N the next of the kin, L the lasso.`;
    this.canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": about });
    this.tip = h("div", { class: "tip", hidden: true });
    const button = (text, say, run) => h("button", { type: "button", "aria-label": say, title: say, onclick: run }, text);
    this.lassoButton = h("button", { type: "button", "aria-pressed": "false", "aria-label": "Lasso: draw around cells", title: "Lasso: draw around cells", onclick: () => this.toggleLasso() }, "◌");
    this.frame = h("div", { class: "frame" }, this.canvas, h("div", { class: "zoom" },
      button("+", "Zoom in", () => this.zoom(1.5)), button("−", "Zoom out", () => this.zoom(1 / 1.5)), button("⤢", "Show all", () => { this.moved = false; this.fit(); this.draw(); }),
      this.query ? button("◎", "Around this cell and its kin", () => this.closeUp()) : null, this.lassoButton), this.tip);
    this.legend = this.makeLegend();
    this.node = h("div", { class: "plot" }, this.frame, this.legend, this.words ? h("p", { class: "small soft" }, this.words) : null);
    this.listen();
  }

  /** The map is taken off the page. */
  leave() { this.life.abort(); }

  makeLegend() {
    const counts = new Map();
    for (const p of this.points) counts.set(p.label, (counts.get(p.label) ?? 0) + 1);
    return h("div", { class: "legend", role: "group", "aria-label": "Classes on the map" }, classes().filter((c) => counts.has(c.name)).map((c) => {
      const node = h("button", { type: "button", "aria-pressed": String(!this.hidden.has(c.name)), onclick: () => {
        if (!this.hidden.delete(c.name)) this.hidden.add(c.name);
        node.setAttribute("aria-pressed", String(!this.hidden.has(c.name)));
        this.draw();
      } }, mark(c.name), `${title(c.name)} ${counts.get(c.name)}`);
      return node;
    }));
  }

  visible() { return this.points.filter((p) => !this.hidden.has(p.label) || this.kin.has(p.id)); }

  box(list) {
    const xs = list.map((p) => p[0]);
    const ys = list.map((p) => p[1]);
    const [a, b] = [Math.min(...xs), Math.max(...xs)];
    const [c, d] = [Math.min(...ys), Math.max(...ys)];
    return { x: (a + b) / 2, y: (c + d) / 2, w: Math.max(b - a, 1e-6), h: Math.max(d - c, 1e-6) };
  }

  fit(list = null, padding = 22) {
    const all = list ?? [...this.points.map((p) => [p.x, p.y]), ...(this.query ? [this.query] : [])];
    if (!all.length) return;
    const box = this.box(all);
    const [w, height] = [this.frame.clientWidth, this.frame.clientHeight];
    this.scale = Math.min((w - 2 * padding) / box.w, (height - 2 * padding) / box.h);
    this.left = w / 2 - box.x * this.scale;
    this.top = height / 2 - box.y * this.scale;
  }

  closeUp() {
    const near = this.points.filter((p) => this.kin.get(p.id)?.rank).map((p) => [p.x, p.y]);
    this.moved = true;
    const whole = this.scale;
    this.fit([this.query, ...near], 60);
    this.scale = Math.min(this.scale, whole * 30);
    this.left = this.frame.clientWidth / 2 - this.box([this.query, ...near]).x * this.scale;
    this.top = this.frame.clientHeight / 2 - this.box([this.query, ...near]).y * this.scale;
    this.draw();
  }

  zoom(by, x = this.frame.clientWidth / 2, y = this.frame.clientHeight / 2) {
    this.moved = true;
    this.left = x - (x - this.left) * by;
    this.top = y - (y - this.top) * by;
    this.scale *= by;
    this.draw();
  }

  at(p) { return [p.x * this.scale + this.left, p.y * this.scale + this.top]; }

  draw() {
    this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.paint(); });
  }

  paint() {
    const [w, height] = [this.frame.clientWidth, this.frame.clientHeight];
    if (!w || !this.scale) return;
    const dense = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = w * dense;
    this.canvas.height = height * dense;
    const ctx = this.canvas.getContext("2d");
    ctx.scale(dense, dense);
    const style = getComputedStyle(document.body);
    this.ink = style.getPropertyValue("--ink");
    this.ground = style.getPropertyValue("--ground");
    const edge = style.getPropertyValue("--point-edge");
    const size = Math.max(0.32, Math.min(0.75, 9 / Math.sqrt(this.points.length)));
    for (const p of this.visible()) if (!this.kin.has(p.id)) this.mark(ctx, p, size, edge, this.chosen && !this.chosen.has(p.id) ? 0.25 : 0.9);
    this.paintKin(ctx, edge);
    this.paintLinked(ctx);
    if (this.lasso) this.paintLasso(ctx);
  }

  mark(ctx, p, size, edge, alpha) {
    const [x, y] = this.at(p);
    if (x < -20 || y < -20 || x > this.frame.clientWidth + 20 || y > this.frame.clientHeight + 20) return;
    ctx.save();
    ctx.translate(x, y);
    ctx.scale(size, size);
    ctx.globalAlpha = alpha;
    ctx.fillStyle = color(p.label);
    ctx.fill(shape(p.label));
    ctx.strokeStyle = edge;
    ctx.lineWidth = 1;
    ctx.stroke(shape(p.label));
    ctx.restore();
  }

  paintKin(ctx, edge) {
    if (!this.query) return;
    const [qx, qy] = this.at({ x: this.query[0], y: this.query[1] });
    ctx.strokeStyle = this.ink;
    for (const p of this.points.filter((one) => this.kin.has(one.id))) {
      const [x, y] = this.at(p);
      const { rank } = this.kin.get(p.id);
      ctx.lineWidth = 1;
      ctx.setLineDash(rank ? [] : [3, 3]);
      ctx.beginPath(); ctx.moveTo(qx, qy); ctx.lineTo(x, y); ctx.stroke();
      this.mark(ctx, p, 0.9, edge, 1);
      ctx.lineWidth = 1.6;
      ctx.beginPath(); ctx.arc(x, y, 10, 0, 7); ctx.stroke();
      ctx.setLineDash([]);
      const angle = -Math.PI / 4 + (rank - 1) * 2.1; // kin often lie on one another: their numbers do not
      if (rank) this.text(ctx, String(rank), x + 19 * Math.cos(angle), y + 19 * Math.sin(angle));
    }
    ctx.lineWidth = 2.6;
    ctx.fillStyle = this.ground;
    ctx.globalAlpha = 0.75; ctx.fillRect(qx - 7, qy - 7, 14, 14); ctx.globalAlpha = 1;
    ctx.strokeRect(qx - 7, qy - 7, 14, 14);
  }

  text(ctx, text, x, y) {
    ctx.font = "700 12px system-ui, sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineWidth = 3;
    ctx.strokeStyle = this.ground;
    ctx.strokeText(text, x, y);
    ctx.fillStyle = this.ink;
    ctx.fillText(text, x, y);
    ctx.strokeStyle = this.ink;
  }

  paintLinked(ctx) {
    const p = this.points.find((one) => one.id === this.linked);
    if (!p) return;
    const [x, y] = this.at(p);
    ctx.strokeStyle = this.ink;
    ctx.lineWidth = 3;
    ctx.beginPath(); ctx.arc(x, y, 14, 0, 7); ctx.stroke();
  }

  paintLasso(ctx) {
    ctx.beginPath();
    this.lasso.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    ctx.closePath();
    ctx.setLineDash([5, 4]);
    ctx.lineWidth = 1.5;
    ctx.strokeStyle = this.ink;
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.globalAlpha = 0.08; ctx.fillStyle = this.ink; ctx.fill(); ctx.globalAlpha = 1;
  }

  // pointer and keys ------------------------------------------------------------------------------

  listen() {
    const { canvas } = this;
    const place = (e) => { const b = canvas.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
    let drag = null;
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(e.deltaY < 0 ? 1.2 : 1 / 1.2, ...place(e)); }, { passive: false });
    canvas.addEventListener("pointerdown", (e) => {
      canvas.setPointerCapture(e.pointerId);
      drag = { from: place(e), far: false };
      if (this.lassoing || e.shiftKey) { this.lasso = [place(e)]; drag.lasso = true; }
    });
    canvas.addEventListener("pointermove", (e) => {
      const at = place(e);
      if (!drag) return this.hover(at);
      if (drag.lasso) this.lasso.push(at);
      else if (drag.far || Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > 4) {
        this.left += at[0] - drag.from[0]; this.top += at[1] - drag.from[1];
        drag = { from: at, far: true };
        this.moved = true;
      }
      this.draw();
    });
    canvas.addEventListener("pointerup", (e) => {
      const ended = drag;
      drag = null;
      if (ended?.lasso) return this.endLasso();
      if (ended && !ended.far) { const p = this.nearest(place(e)); if (p) this.on.pick?.(p.id); }
    });
    canvas.addEventListener("pointerleave", () => { if (!drag) this.hover(null); });
    canvas.addEventListener("keydown", (e) => this.key(e));
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const pan = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    const done = { "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => { this.moved = false; this.fit(); }, l: () => this.toggleLasso(), n: () => this.nextKin(), Enter: () => this.linked && this.on.pick?.(this.linked) }[event.key];
    if (pan) { this.left += pan[0]; this.top += pan[1]; this.moved = true; } else if (done) done(); else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  nextKin() {
    const ids = this.kin.size ? [...this.kin.keys()] : this.visible().map((p) => p.id);
    const next = ids[(ids.indexOf(this.linked) + 1) % ids.length];
    this.link(next);
    this.on.link(next);
    this.showTip(this.points.find((p) => p.id === next));
  }

  nearest([x, y]) {
    let best = null;
    let near = NEAR;
    for (const p of this.visible()) {
      const [px, py] = this.at(p);
      const away = Math.hypot(px - x, py - y) - (this.kin.has(p.id) ? 3 : 0);
      if (away < near) { best = p; near = away; }
    }
    return best;
  }

  hover(at) {
    const p = at ? this.nearest(at) : null;
    if ((p?.id ?? null) === this.linked) return;
    this.link(p?.id ?? null);
    this.on.link(p?.id ?? null);
    this.showTip(p);
  }

  showTip(p) {
    this.tip.hidden = !p;
    if (!p) return;
    const [x, y] = this.at(p);
    this.tip.replaceChildren(h("img", { src: referenceImage(p.id), alt: "", width: 96, height: 96 }), h("b", {}, title(p.label)),
      p.subject ? h("div", { class: "soft" }, `subject ${p.subject}`) : "", this.kin.get(p.id)?.words ? h("div", {}, this.kin.get(p.id).words) : "");
    const w = this.frame.clientWidth;
    const tall = this.frame.clientHeight;
    this.tip.style.left = `${x > w / 2 ? x - 126 : x + 16}px`;
    this.tip.style.top = `${Math.max(2, Math.min(tall - 165, y - 50))}px`;
  }

  /** From outside: ring the point of a picture. */
  link(id) {
    if (this.linked === id) return;
    this.linked = id;
    this.canvas.dataset.linked = id ?? "";
    if (!id) this.tip.hidden = true;
    this.draw();
  }

  toggleLasso() {
    this.lassoing = !this.lassoing;
    this.lassoButton.setAttribute("aria-pressed", String(this.lassoing));
    this.canvas.classList.toggle("lasso", this.lassoing);
    if (!this.lassoing) { this.chosen = null; this.lasso = null; this.on.lasso?.([]); this.draw(); }
  }

  endLasso() {
    const line = this.lasso;
    this.lasso = null;
    const found = line.length > 2 ? this.visible().filter((p) => inside(this.at(p), line)) : [];
    this.chosen = found.length ? new Set(found.map((p) => p.id)) : null;
    this.on.lasso?.(found);
    this.draw();
  }
}

function inside([x, y], line) {
  let found = false;
  for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
    const [xi, yi] = line[i];
    const [xj, yj] = line[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) found = !found;
  }
  return found;
}
