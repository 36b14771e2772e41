// Cells to classes: drag, digit keys, many at once with one reason; and undo of all of it.

import { api } from "./api.js";
import { atlasFacts, classes, clinical, dispositions, mark, title } from "./classes.js";
import { ask, h, memory, plural, toast } from "./dom.js";
import { DISPOSITION, REASONS } from "./words.js";

export const LETTERS = { "smudge cell": "x", artefact: "a", unidentifiable: "u" };
const CELLS = "application/x-cellkin-cells";

/** What a cell is taken for now: its class, or "=disposition". */
export const current = (cell) => (cell.disposition !== "cell" ? `=${cell.disposition}` : cell.final ?? cell.proposed);
export const saying = (name) => (name.startsWith("=") ? DISPOSITION[name.slice(1)] ?? name.slice(1) : title(name));
export const places = () => [...classes().map((c, i) => ({ name: c.name, key: i < 9 ? String(i + 1) : "" })), ...dispositions().map((d) => ({ name: `=${d}`, key: LETTERS[d] ?? "" }))];

/**
 * host: { id, record(), writable(), cells(ids), shown() -> the name shown alone or "", show(name),
 * count(name), changed(cells, record), failed(error) }.
 */
export class Sorting {
  constructor(host) {
    this.host = host;
    this.node = h("div", { class: "classes", role: "group", "aria-label": "Classes: press to show one alone, drop cells on one to sort them" });
  }

  draw() {
    const { host } = this;
    const focus = this.node.contains(document.activeElement) ? document.activeElement.dataset.place : null;
    this.node.replaceChildren(...places().map(({ name, key }) => {
      const n = host.count(name);
      return dropped(h("button", {
        type: "button", class: `place${n ? "" : " empty"}`, "data-place": name, "aria-pressed": String(host.shown() === name), onclick: () => host.show(host.shown() === name ? "" : name),
      }, key ? h("kbd", {}, key.toUpperCase()) : null, name.startsWith("=") ? null : mark(name), saying(name), h("b", { class: "num" }, n.toLocaleString("en"))), (ids) => this.sort(ids, name));
    }));
    if (focus) this.node.querySelector(`[data-place="${CSS.escape(focus)}"]`)?.focus();
  }

  byKey(key, ids) {
    const place = places().find((p) => p.key === key);
    if (!place || !ids.length) return false;
    this.sort(ids, place.name);
    return true;
  }

  /** Many cells to one class or disposition: those of it already are confirmed. */
  async sort(ids, name) {
    const { host } = this;
    if (!host.writable()) return toast("This case is read-only.", "bad");
    const all = host.cells(ids);
    const able = all.filter((cell) => !cell.held || cell.opened);
    const left = all.length - able.length;
    if (!able.length) return toast(left === 1 ? "This cell is held: open it and look at it first." : "These cells are held: open each of them first.", "bad");
    const reason = await this.reason(able, name, left);
    if (reason === null) return;
    const verdict = name.startsWith("=") ? { disposition: name.slice(1) } : { label: name };
    try {
      const found = await api(`/cases/${encodeURIComponent(host.id)}/review`, { method: "POST", body: { version: host.record().version, cells: able.map((c) => c.id), reason, ...verdict } });
      host.changed(found.cells, found.case);
      toast(`${able.length === 1 ? able[0].name : plural(able.length, "cell")}: ${saying(name)}.${left ? ` ${plural(left, "held cell")} left out: open them first.` : ""}`, "good");
    } catch (error) { host.failed(error); }
  }

  /** The reason for a change: "" where none is asked, null where it was called off. */
  async reason(list, name, left) {
    const changed = list.filter((cell) => name.startsWith("=") || cell.proposed !== name);
    if (!changed.length || !needed(changed, name)) return "";
    const last = memory.get("reason") ?? "";
    const given = await ask(`${plural(list.length, "cell")} to ${saying(name)}`, (done) => {
      const field = h("input", { name: "reason", value: last, list: "why-so", required: true, maxlength: 500, autocomplete: "off", autofocus: true });
      return h("form", { onsubmit: (event) => { event.preventDefault(); if (field.value.trim()) done(field.value.trim()); } },
        left ? h("p", { class: "soft" }, `${plural(left, "held cell")} not opened yet: left out.`) : null,
        h("label", {}, "One reason for all", field), h("datalist", { id: "why-so" }, REASONS.map((r) => h("option", { value: r }))),
        h("p", { class: "quick" }, REASONS.map((r) => h("button", { type: "button", onclick: () => done(r) }, r))),
        h("p", { class: "actions" }, h("button", { type: "button", onclick: () => done(null) }, "Cancel"), h("button", { class: "main", type: "submit" }, "Save")));
    });
    if (given) memory.set("reason", given);
    return given;
  }
}

/** Whether the house asks a reason for this change. */
export function needed(changed, name) {
  if (atlasFacts().rules.routine_reasons) return true;
  const blast = (label) => clinical(label) === "lymphoblast";
  return blast(name) || changed.some((cell) => cell.held || blast(cell.proposed));
}

export function carry(event, ids) {
  event.dataTransfer.setData(CELLS, JSON.stringify(ids));
  event.dataTransfer.effectAllowed = "move";
}

/** Let cells be dropped on a node. */
export function dropped(node, take) {
  const over = (on) => (event) => { if (!event.dataTransfer.types.includes(CELLS)) return; event.preventDefault(); node.classList.toggle("over", on); };
  node.addEventListener("dragover", over(true));
  node.addEventListener("dragleave", over(false));
  node.addEventListener("drop", (event) => {
    if (!event.dataTransfer.types.includes(CELLS)) return;
    event.preventDefault();
    event.stopPropagation();
    node.classList.remove("over");
    take(JSON.parse(event.dataTransfer.getData(CELLS)));
  });
  return node;
}
