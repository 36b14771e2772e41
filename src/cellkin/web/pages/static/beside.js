// Reference cells of any class beside the cell in question; each opens side by side with it.

import { api } from "./api.js";
import { classes, title } from "./classes.js";
import { errorState, h, loading, memory } from "./dom.js";

const SHOWN = 24; // pictures, spread over all cells of the class

/** on: open(reference cell). */
export class ClassGallery {
  constructor(open) {
    this.open = open;
    this.label = null;
    this.grid = h("div", { class: "refs" });
    this.node = h("section", { class: "card", id: "beside", "aria-label": "Cells of any class beside it" });
  }

  /** Begin with a class, unless one was chosen before. */
  show(label) {
    this.label = memory.get("beside") ?? label;
    this.node.replaceChildren(h("div", { class: "bar-line" }, h("h2", {}, "Beside it"),
      h("label", {}, h("span", { class: "hush" }, "Reference cells of the class"), h("select", { onchange: (e) => { memory.set("beside", e.target.value); this.label = e.target.value; this.load(); } },
        classes().map((c) => h("option", { value: c.name, selected: c.name === this.label }, c.title))))), this.grid);
    return this.load();
  }

  async load() {
    const { label } = this;
    this.grid.replaceChildren(loading("Loading its cells …"));
    try {
      const { items } = await api(`/atlas/cells?label=${encodeURIComponent(label)}&limit=500`);
      if (label !== this.label) return;
      const step = Math.max(1, items.length / SHOWN);
      const chosen = Array.from({ length: Math.min(SHOWN, items.length) }, (_, i) => items[Math.floor(i * step)]);
      this.grid.replaceChildren(...chosen.map((cell) => h("button", { type: "button", title: `${title(cell.label)}${cell.subject ? `, subject ${cell.subject}` : ""}: side by side`, "aria-label": `Reference cell, ${title(cell.label)}, side by side`, onclick: () => this.open(cell) },
        h("img", { src: cell.image, alt: "", loading: "lazy" }))));
    } catch (error) { this.grid.replaceChildren(errorState(error, () => this.load())); }
  }
}
