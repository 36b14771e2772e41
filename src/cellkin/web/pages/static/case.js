import { api, caseUrl, cellUrl, everyPage } from "./api.js";
import { atlas, isBlast, mark } from "./classes.js";
import { $, ask, errorState, formOf, h, loading, memory, plural, said, toast, when } from "./dom.js";
import { dropZone } from "./dropping.js";
import { Gallery } from "./gallery.js";
import { key } from "./keys.js";
import { begin, mayReview } from "./shell.js";
import { fitNote, signBar } from "./signing.js";
import { Sorting, current, saying } from "./sorting.js";
import { SPECIMENS, flagClass } from "./words.js";

const id = decodeURIComponent(location.pathname.split("/")[2]);
const content = $("#content");

let record = null; // the case
const cells = new Map();
let filter = kept();
let gallery = null;
let lastPicked = null;

const writable = () => mayReview() && record.status !== "signed";

begin(start);

async function start() {
  try {
    [record] = await Promise.all([api(`/cases/${encodeURIComponent(id)}`), atlas()]);
  } catch (error) {
    return content.replaceChildren(errorState(error, () => location.reload()));
  }
  document.title = `${record.pseudonym} · cellkin`;
  build();
  keys();
  await loadCells();
  const from = memory.get(`at:${id}`);
  if (from) { memory.set(`at:${id}`, null); gallery.focus(from); }
}

/** From where to where the gallery can be seen: between the bars that stick to the edges. */
function free() {
  const top = $(".sticky").getBoundingClientRect();
  const bottom = $("#sign").getBoundingClientRect();
  return [Math.max(0, Math.min(top.bottom, innerHeight)), getComputedStyle($("#sign")).position === "sticky" ? Math.min(innerHeight, bottom.top) : innerHeight];
}

/** What is shown: the address keeps it, and so does the way back from a cell. */
function kept() {
  const asked = Object.fromEntries(new URLSearchParams(location.search));
  return { show: "all", label: "", size: 1, ...memory.get(`filter:${id}`), ...asked };
}

const host = { id, change, writable: () => writable(), record: () => record };
const sorting = new Sorting({
  ...host, cells: (ids) => ids.map((i) => cells.get(i)).filter(Boolean), shown: () => filter.label, show: (label) => show({ label }),
  count: (name) => [...cells.values()].filter((c) => current(c) === name).length,
  changed: (found, now) => { record = now; for (const cell of found) cells.set(cell.id, cell); gallery.picked.clear(); drawAll(); drawGallery(); },
  failed: refused,
});

function build() {
  const grid = h("div", {});
  content.replaceChildren(
    h("div", { id: "head" }), h("div", { class: "uploads", id: "uploads" }), h("div", { id: "drop" }),
    h("div", { class: "sticky" }, sorting.node, h("div", { class: "tools", id: "tools" })), grid, h("div", { id: "sign" }));
  gallery = new Gallery(grid, { seen: report, pick, open: remember, sort: (ids, name) => sorting.sort(ids, name), size: () => Number(filter.size), free });
  dropZone({ id, box: () => $("#drop"), cards: () => $("#uploads"), record: () => record, writable, added: (found) => {
    for (const cell of found.added) cells.set(cell.id, cell);
    record = found.case;
    drawAll();
    drawGallery();
  }, changed: (now) => { record = now; drawAll(); } });
  drawAll();
}

function drawAll() {
  drawHead();
  drawTools();
  drawSign();
}

async function loadCells() {
  const grid = gallery.root;
  const wait = record.cells ? loading("Loading the cells …") : null;
  if (wait) grid.before(wait);
  try {
    await everyPage(`/cases/${encodeURIComponent(id)}/cells`, (items) => {
      for (const cell of items) cells.set(cell.id, cell);
      wait?.remove();
      drawGallery();
    }, { limit: 500 });
  } catch (error) {
    wait?.remove();
    grid.before(errorState(error, () => location.reload()));
  }
  drawTools();
}

// head ------------------------------------------------------------------------------------------

function drawHead() {
  $("#head").replaceChildren(h("div", { class: "case-top" },
    h("div", {},
      h("div", { class: "title" }, h("h1", {}, record.pseudonym),
        h("span", { class: `badge ${record.status === "signed" ? "good" : ""}` }, record.status === "signed" ? `signed by ${record.signed_by}, ${when(record.signed)}` : record.status),
        record.revision > 1 ? h("span", { class: "badge" }, `version ${record.revision}`) : null,
        h("span", { class: "badges" }, record.flags.map((f) => h("span", { class: `badge ${flagClass(f)}` }, f)))),
      h("div", { class: "facts" },
        h("span", {}, plural(record.cells, "cell")),
        record.accession ? h("span", {}, `accession ${record.accession}`) : null,
        h("span", {}, record.specimen ?? "specimen not stated"),
        h("span", {}, record.consecutive ? "consecutive cells" : "selected cells: not a differential"),
        h("span", {}, `made ${when(record.created)}${record.created_by ? ` by ${record.created_by}` : ""}`),
        record.note ? h("span", {}, record.note) : null),
      record.conclusion ? h("p", { class: "facts" }, h("b", {}, "Conclusion"), record.conclusion) : null),
    h("div", { class: "actions" },
      writable() ? h("button", { type: "button", onclick: edit }, "Edit, conclude …") : null,
      record.cells ? h("a", { class: "button", href: `${caseUrl(id)}/report` }, "Report") : null,
      record.status === "signed" && mayReview() ? h("button", { type: "button", onclick: amend }, "Amend …") : null)),
  fitNote(record, [...cells.values()], host) ?? "");
}

async function edit() {
  const changed = await ask("Edit the case", (done) => h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      const given = new FormData(event.target);
      const text = Object.fromEntries(["pseudonym", "accession", "note", "remarks", "conclusion"].map((name) => [name, given.get(name).trim()]));
      done({ ...text, specimen: given.get("specimen") || null, consecutive: given.has("consecutive") });
    } },
  h("div", { class: "row" }, h("label", {}, "Pseudonym", h("input", { name: "pseudonym", required: true, maxlength: 80, value: record.pseudonym, autocomplete: "off" })),
    h("label", {}, "Accession number", h("input", { name: "accession", maxlength: 80, value: record.accession, autocomplete: "off" }))),
  h("label", {}, "Specimen", h("select", { name: "specimen" }, SPECIMENS.map(([v, t]) => h("option", { value: v, selected: (record.specimen ?? "") === v }, t)))),
  h("label", { class: "check" }, h("input", { type: "checkbox", name: "consecutive", checked: record.consecutive }), h("span", {}, "Consecutive cells: none was picked or left out.")),
  h("label", {}, "Remarks on red cells and platelets", h("textarea", { name: "remarks", rows: 2, maxlength: 4000 }, record.remarks)),
  h("label", {}, "Conclusion", h("textarea", { name: "conclusion", rows: 3, maxlength: 4000 }, record.conclusion)),
  h("label", {}, "Note (for colleagues; the report shows it)", h("textarea", { name: "note", rows: 2, maxlength: 500 }, record.note ?? "")),
  h("p", { class: "actions" }, h("button", { type: "button", onclick: () => done(null) }, "Cancel"), h("button", { class: "main", type: "submit" }, "Save"))));
  if (changed) await change((version) => api(`/cases/${encodeURIComponent(id)}`, { method: "PATCH", body: { version, ...changed } }));
}

async function amend() {
  const reason = await ask("Amend a signed case", (done) => h("form", {
    onsubmit: (event) => { event.preventDefault(); done(new FormData(event.target).get("reason").trim()); } },
  h("p", {}, `The signed version ${record.revision} stays as it is. A new version is opened, with your reason.`),
  h("label", {}, "Reason", h("textarea", { name: "reason", rows: 3, required: true, maxlength: 500, autofocus: true })),
  h("p", { class: "actions" }, h("button", { type: "button", onclick: () => done(null) }, "Cancel"), h("button", { class: "main", type: "submit" }, "Open a new version"))));
  if (reason && await change((version) => api(`/cases/${encodeURIComponent(id)}/amend`, { method: "POST", body: { version, reason } }))) await again();
}

/** A change of the case; a stale version is told, never written over unseen. */
async function change(send_) {
  try {
    const held = record.held;
    record = await send_(record.version);
    if (record.held !== held) await again(); else drawAll();
    return true;
  } catch (error) {
    return refused(error);
  }
}

async function refused(error) {
  if (error.status === 409 && error.data.current) {
      record = error.data.current;
      drawAll();
      await again();
      toast("Somebody else changed this case meanwhile. What you see now is the present state; look, and try again.", "bad");
  } else {
    await ask(error.message, (done) => [
      h("p", {}, error.mend),
      h("p", { class: "actions" }, h("button", { type: "button", class: "main", onclick: () => done(null) }, "Close"))]);
  }
  return false;
}

/** Fetch case and cells anew. */
async function again() {
  record = await api(`/cases/${encodeURIComponent(id)}`);
  cells.clear();
  await loadCells();
  drawAll();
}

// gallery ---------------------------------------------------------------------------------------

const KINDS = {
  all: ["all", () => true],
  held: ["held", (c) => c.held && (c.state === "proposed" || !c.opened)],
  unseen: ["not yet on screen", (c) => !c.held && !c.seen && !c.opened],
  changed: ["reclassified", (c) => c.state === "reclassified"],
};

function drawTools() {
  const box = $("#tools");
  if (!cells.size) return box.replaceChildren();
  sorting.draw();
  const all = [...cells.values()];
  const picked = pickedCells();
  box.replaceChildren(
    h("span", { class: "group", role: "group", "aria-label": "Which cells" }, Object.entries(KINDS).map(([kind, [say, test]]) => h("button", {
      type: "button", "aria-pressed": String(filter.show === kind), onclick: () => show({ show: kind }) }, `${say} ${all.filter(test).length.toLocaleString("en")}`))),
    h("span", { class: "group", role: "group", "aria-label": "Size of the pictures" }, ["S", "M", "L"].map((say, size) => h("button", {
      type: "button", "aria-pressed": String(Number(filter.size) === size), "aria-label": ["small", "middle", "large"][size], onclick: () => show({ size }) }, say))),
    h("span", { class: "end" }, picked.length ? [
      h("span", {}, h("b", {}, `${picked.length} picked`), h("span", { class: "soft" }, ": a digit, or drag to a class")),
      h("button", { type: "button", onclick: () => { gallery.picked.clear(); gallery.refresh(); drawTools(); } }, "Let go"),
      h("button", { type: "button", class: "main", onclick: () => confirm(picked, "picked") }, "Confirm picked"),
    ] : [
      writable() ? h("button", { type: "button", onclick: undo, "aria-keyshortcuts": "Control+Z" }, "Undo") : null,
      h("button", { type: "button", onclick: openFirstHeld, disabled: !all.some(KINDS.held[1]) }, "Open the first held cell"),
    ]));
}

function show(change_) {
  filter = { ...filter, ...change_ };
  memory.set(`filter:${id}`, filter);
  const told = Object.entries(filter).filter(([name, value]) => value !== { show: "all", label: "", size: 1 }[name]);
  history.replaceState(null, "", told.length ? `?${new URLSearchParams(told)}` : location.pathname);
  drawTools();
  drawGallery();
}

/** Present classes as groups, those with the most worrying cells first; in each the most worrying first. */
function groupsOf({ show: kind, label } = filter) {
  const test = KINDS[kind][1];
  const by = new Map();
  for (const cell of cells.values()) {
    const name = current(cell);
    if (!test(cell) || (label && name !== label)) continue;
    if (!by.has(name)) by.set(name, []);
    by.get(name).push(cell);
  }
  const worst = ([first]) => first.worry;
  for (const list of by.values()) list.sort((a, b) => b.worry - a.worry || a.name.localeCompare(b.name));
  return [...by].sort(([a, x], [b, y]) => isBlast(b) - isBlast(a) || worst(y) - worst(x) || a.localeCompare(b));
}

function drawGallery() {
  const groups = groupsOf();
  gallery.root.nextElementSibling?.classList?.contains("none") && gallery.root.nextElementSibling.remove();
  if (!groups.length && cells.size) gallery.root.after(h("div", { class: "state none" }, h("h2", {}, "No cell here"), h("p", {}, filter.show === "held" ? "No held cell waits to be confirmed." : "No cell fits this filter.")));
  gallery.show(groups.map(([name, list]) => ({ id: name, cells: list, head: () => head(name, list) })));
}

function head(name, list) {
  const held = list.filter(KINDS.held[1]).length;
  const free = ready(list);
  return [h("h2", {}, name.startsWith("=") ? null : mark(name), saying(name), h("span", { class: "soft num" }, list.length.toLocaleString("en"))),
    held ? h("span", { class: "badge warn" }, `${held.toLocaleString("en")} held: each is opened and confirmed singly`) : null,
    writable() && free.length ? h("button", { type: "button", onclick: () => confirm(ready(list), saying(name)) }, `Confirm ${free.length.toLocaleString("en")} seen, not held`) : null];
}

const ready = (list) => list.filter((c) => !c.held && c.state === "proposed" && (c.seen || c.opened));

function pickedCells() { return [...gallery?.picked ?? []].map((i) => cells.get(i)).filter(Boolean); }

function pick(cellId, range) {
  const order = gallery.order();
  const ends = range && lastPicked ? [order.indexOf(lastPicked), order.indexOf(cellId)].sort((a, b) => a - b) : null;
  if (ends && ends[0] >= 0) for (const one of order.slice(ends[0], ends[1] + 1)) gallery.picked.add(one);
  else if (gallery.picked.has(cellId)) gallery.picked.delete(cellId);
  else gallery.picked.add(cellId);
  lastPicked = cellId;
  gallery.refresh();
  drawTools();
}

/** Many at once: never a held cell, never one that was not on screen. */
async function confirm(list, what) {
  const free = ready(list);
  const left = list.length - free.length;
  if (!free.length) return toast("None of these can be confirmed together: held cells are opened singly, others must have been on screen.", "bad");
  const made = await change((version) => api(`/cases/${encodeURIComponent(id)}/confirm`, { method: "POST", body: { version, cells: free.map((c) => c.id) } }));
  if (!made) return;
  for (const cell of free) Object.assign(cell, { state: "confirmed", final: cell.proposed });
  gallery.picked.clear();
  drawGallery();
  drawTools();
  toast(`${plural(free.length, "cell")} (${what}) confirmed.${left ? ` ${plural(left, "cell")} left: held, done, or not yet on screen.` : ""}`, "good");
}

async function undo() {
  try {
    const found = await api(`/cases/${encodeURIComponent(id)}/undo`, { method: "POST", body: { version: record.version } });
    record = found.case;
    for (const cell of found.cells) cells.set(cell.id, cell);
    drawAll();
    drawGallery();
    toast("Your last review was taken back.", "good");
  } catch (error) {
    if (error.data?.current) await again();
    toast(said(error), "bad");
  }
}

let waiting = [];
let reporting = null;
function report(ids) {
  if (!mayReview()) return;
  waiting.push(...ids);
  gallery.markSeen(ids);
  reporting ??= setTimeout(async () => {
    reporting = null;
    const sent = waiting;
    waiting = [];
    try {
      const fresh = await api(`/cases/${encodeURIComponent(id)}/seen`, { method: "POST", body: { cells: sent } });
      record = fresh.version === record.version ? fresh : { ...record, unseen: fresh.unseen };
      drawSign();
      drawTools();
      redrawHeads();
    } catch {
      for (const one of sent) if (cells.has(one)) cells.get(one).seen = false; // reported again
    }
  }, 700);
}

function redrawHeads() {
  for (const row of gallery.rows) {
    if (row.from !== undefined) continue;
    const node = gallery.nodes.get(row.key);
    if (node && !node.contains(document.activeElement)) node.replaceChildren(...row.group.head().filter(Boolean));
  }
}

/** The order on screen is the order of "next" on the page of a cell. */
function remember(cellId, ids = gallery.order(), what = KINDS[filter.show][0]) {
  memory.set(`order:${id}`, { ids, what });
  memory.set(`at:${id}`, cellId);
}

function openFirstHeld() {
  const ids = groupsOf({ show: "held", label: "" }).flatMap(([, list]) => list.map((cell) => cell.id));
  if (!ids.length) return toast("No held cell waits to be confirmed.");
  remember(ids[0], ids, "held");
  location.href = cellUrl(ids[0]);
}

// signing ---------------------------------------------------------------------------------------

function drawSign() {
  const go = { held: openFirstHeld, unseen: () => { show({ show: "unseen", label: "" }); scrollTo({ top: 0 }); }, fit: () => $("#accept-fit")?.click() };
  $("#sign").replaceChildren(signBar(record, go, host));
}

/** What a key sorts: the picked cells, else the one that has the focus. */
const chosen = () => {
  const picked = pickedCells().map((c) => c.id);
  const here = gallery.root.contains(document.activeElement) ? gallery.focused : null;
  return picked.length ? picked : here ? [here] : [];
};

function keys() {
  key("h", "open the first held cell", openFirstHeld);
  key("s", "sign", () => { $("#sign-button")?.click(); });
  key(["z", "ctrl+z"], "undo your last review", () => { if (writable()) undo(); });
  key("r", "report", () => { location.href = `${caseUrl(id)}/report`; });
  key(["1", "2", "3", "4", "5", "6", "7", "8", "9"], "the picked cells, or the one in focus, to a class, in the order of the bar", (_, k) => sorting.byKey(k, chosen()));
  key(["x", "a"], "them: smudge cell, artefact", (_, k) => sorting.byKey(k, chosen()));
  key("u", "them: unidentifiable; without a choice: choose images to upload", (_, k) => { if (!sorting.byKey(k, chosen())) $("#files")?.click(); });
  key("Home", "first cell", () => { const first = gallery.order()[0]; if (first) gallery.focus(first); });
  key(["ArrowRight", "ArrowDown"], "into the gallery; then the arrows walk, Enter opens, Space picks", () => {
    if (gallery.root.contains(document.activeElement) || !gallery.order().length) return false;
    gallery.focus(gallery.focused ?? gallery.order()[0]);
  });
  key("c", "confirm the picked cells", () => { const picked = pickedCells(); if (picked.length) confirm(picked, "picked"); });
}
