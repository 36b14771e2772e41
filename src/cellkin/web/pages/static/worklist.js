import { api, caseUrl } from "./api.js";
import { $, $$, ask, errorState, formOf, h, loading, when } from "./dom.js";
import { key } from "./keys.js";
import { begin, mayReview } from "./shell.js";
import { FLAGS } from "./held.js";
import { SPECIMENS, flagClass } from "./words.js";

let shown = []; // records
let cursor = null;
let asked = 0;

const form = $("#filters");
const content = $("#content");

function query() {
  const given = Object.fromEntries(new FormData(form));
  const kept = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  history.replaceState(null, "", kept.size ? `?${kept}` : location.pathname);
  kept.set("limit", "50");
  return kept;
}

async function load({ more = false } = {}) {
  const turn = ++asked;
  const wanted = query();
  if (more && cursor !== null) wanted.set("cursor", cursor);
  else content.replaceChildren(loading("Loading the cases …"));
  try {
    const found = await api(`/cases?${wanted}`);
    if (turn !== asked) return;
    shown = more ? [...shown, ...found.items] : found.items;
    cursor = found.next ?? null;
    draw();
  } catch (error) {
    if (turn === asked) content.replaceChildren(errorState(error, () => load()));
  }
}

function draw() {
  if (!shown.length) return content.replaceChildren(empty());
  content.replaceChildren(h("table", { "aria-label": "Cases" },
    h("thead", {}, h("tr", {}, ["Pseudonym", "Status", "Cells", "Held, to confirm", "Flags", "Specimen", "Made"].map((t) => h("th", { scope: "col", class: ["Cells", "Held, to confirm"].includes(t) ? "num" : "" }, t)))),
    h("tbody", {}, shown.map(row))));
  if (cursor !== null) content.append(h("p", { class: "state" }, h("button", { type: "button", onclick: () => load({ more: true }) }, "More cases")));
}

function row(record) {
  const status = record.status === "signed" ? "good" : "";
  return h("tr", {},
    h("th", { scope: "row" }, h("a", { href: caseUrl(record.id) }, record.pseudonym), record.note ? h("div", { class: "soft small" }, record.note.slice(0, 90)) : null),
    h("td", {}, h("span", { class: `badge ${status}` }, record.status === "signed" ? `signed by ${record.signed_by ?? "–"}` : record.status), record.revision > 1 ? h("span", { class: "soft small" }, ` version ${record.revision}`) : null),
    h("td", { class: "num", "data-unit": "cells" }, record.cells.toLocaleString("en")),
    h("td", { class: "num", "data-unit": "held to confirm" }, record.held ? `${record.to_confirm} of ${record.held}` : "–"),
    h("td", { class: "wide" }, h("span", { class: "badges" }, record.flags.map((f) => h("span", { class: `badge ${flagClass(f)}` }, f)))),
    h("td", { class: "soft" }, record.specimen ?? ""),
    h("td", { class: "soft" }, when(record.created), record.created_by ? ` · ${record.created_by}` : ""));
}

function empty() {
  const filtered = [...new FormData(form).values()].some(Boolean);
  if (filtered) {
    return h("div", { class: "state" }, h("h2", {}, "No case fits"), h("p", {}, "No pseudonym, status and flag together match."),
      h("button", { type: "button", onclick: () => { form.reset(); load(); } }, "Show all cases"));
  }
  return h("div", { class: "state" }, h("h2", {}, "No cases yet"),
    h("p", {}, "A case is the cells of one smear under a pseudonym. Make one, drop its images, look, sign."),
    mayReview() ? h("button", { type: "button", class: "main", onclick: make }, "New case") : null);
}

let mine = []; // groups

/** The dialog of a new case. */
async function make() {
  const made = await formOf("New case", [
    h("label", {}, "Pseudonym (never a person’s name)", h("input", { name: "pseudonym", required: true, maxlength: 80, autocomplete: "off", autofocus: true })),
    h("label", {}, "Accession number", h("input", { name: "accession", maxlength: 80, autocomplete: "off" })),
    h("label", {}, "Specimen", h("select", { name: "specimen" }, SPECIMENS.map(([v, t]) => h("option", { value: v }, t)))),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "consecutive" }), h("span", {}, "Consecutive cells: none was picked or left out. Only then the report gives a differential.")),
    mine.length ? h("label", {}, "There for", h("select", { name: "group" }, [...mine.map((g) => [g, `${g} alone`]), ["", "everybody"]].map(([v, t]) => h("option", { value: v }, t)))) : null,
    h("label", {}, "Note", h("textarea", { name: "note", rows: 2, maxlength: 500 })),
  ].filter(Boolean), "Make the case", async (given) => (await alone(given.get("pseudonym").trim())) && api("/cases", { method: "POST", body: {
    pseudonym: given.get("pseudonym").trim(), specimen: given.get("specimen") || null,
    consecutive: given.has("consecutive"), note: given.get("note").trim(), accession: given.get("accession").trim(), ...(mine.length ? { group: given.get("group") } : {}) } }));
  if (made) location.href = caseUrl(made.id);
}

/** Whether a second case under a pseudonym is meant. */
async function alone(pseudonym) {
  const { items } = await api(`/cases?search=${encodeURIComponent(pseudonym)}&limit=500`);
  const same = items.filter((record) => record.pseudonym === pseudonym);
  if (!same.length) return true;
  return (await ask("This pseudonym has a case already", (done) => [
    h("p", {}, same.map((record) => [h("a", { href: caseUrl(record.id) }, record.pseudonym), `, ${record.cells} cells, made ${when(record.created)}. `])),
    h("p", { class: "actions" }, h("button", { type: "button", onclick: () => done(false) }, "Not again"), h("button", { type: "button", class: "main", onclick: () => done(true) }, "Make a second case"))])) === true;
}

begin(async (me) => {
  mine = me.groups;
  form.elements.flag.append(...FLAGS.map((f) => h("option", { value: f }, f)));
  for (const [name, value] of new URLSearchParams(location.search)) if (form.elements[name]) form.elements[name].value = value;
  let timer;
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(load, 250); });
  form.addEventListener("submit", (event) => { event.preventDefault(); load(); });
  $("#new").addEventListener("click", make);
  key("/", "search", () => form.elements.search.focus());
  if (mayReview()) key("n", "new case", () => { make(); });
  key(["ArrowDown", "j"], "next case", () => step(1));
  key(["ArrowUp", "k"], "previous case", () => step(-1));
  $("#new").hidden = !mayReview();
  await load();
});

function step(by) {
  const links = $$("tbody th a", content);
  const at = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus();
}
