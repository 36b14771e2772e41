// Single keys and what they do; every page registers its own, and `?` lists them.

import { $, ask, h, memory } from "./dom.js";

const known = []; // { keys, say, run, when }

const enabled = () => memory.get("single-keys", localStorage) !== false;

/** keys: "n", "ArrowRight", "ctrl+z"; say: for the help; run(event, key). */
export function key(keys, say, run, { always = false } = {}) {
  known.push({ keys: [keys].flat(), say, run, always });
}

const typing = (node) => node?.closest?.("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select, [contenteditable]");

function named(event) {
  const mods = (event.ctrlKey || event.metaKey ? "ctrl+" : "") + (event.altKey ? "alt+" : "");
  return mods + (event.key.length === 1 ? event.key.toLowerCase() : event.key);
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.repeat || document.querySelector("dialog[open]")) return; // a held key acts once
  const name = named(event);
  const single = name.length === 1 && name !== "?";
  if (single && !enabled()) return;
  for (const entry of known) {
    if (!entry.keys.includes(name)) continue;
    if (typing(event.target) && !entry.always) continue;
    if (["Enter", " "].includes(name) && event.target.closest("button, a, summary, input")) continue;
    if (entry.run(event, name) !== false) { event.preventDefault(); return; }
  }
});

/** A held Enter or Space presses no button a second time. */
document.addEventListener("keydown", (event) => {
  if (event.repeat && ["Enter", " "].includes(event.key) && !typing(event.target)) event.preventDefault();
}, { capture: true });

const SHOWN = { ArrowRight: "→", ArrowLeft: "←", ArrowUp: "↑", ArrowDown: "↓", "ctrl+z": "Ctrl Z", "ctrl+Enter": "Ctrl Enter", Escape: "Esc", " ": "Space" };

export function keyTable() {
  return h("table", { class: "keys" }, h("tbody", {}, known.filter((e) => e.say).map((e) => h("tr", {},
    h("th", { scope: "row" }, shownKeys(e.keys).map((k, i) => [i ? " " : "", h("kbd", {}, k)])),
    h("td", {}, e.say)))));
}

function shownKeys(keys) {
  const digits = keys.filter((k) => /^\d$/.test(k));
  if (digits.length > 2) return [`${digits[0]} … ${digits.at(-1)}`];
  return keys.map((k) => SHOWN[k] ?? (k.length === 1 ? k.toUpperCase() : k));
}

export function showKeys() {
  return ask("Keys on this page", (done) => [
    keyTable(),
    h("p", {}, h("label", { class: "check" },
      h("input", { type: "checkbox", checked: enabled(), onchange: (e) => memory.set("single-keys", e.target.checked, localStorage) }),
      "Single letters and digits act as keys")),
    h("p", { class: "actions" }, h("a", { href: "/help" }, "All of the help"), h("button", { type: "button", class: "main", onclick: () => done(null) }, "Close")),
  ]);
}

key("?", "this list", () => { showKeys(); });
key("g", "to the worklist", () => { location.href = "/"; });
