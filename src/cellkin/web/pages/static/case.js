import { api, caseUrl, cellUrl, everyPage } from "./api.js";
import { atlas, classes, isBlast, mark, title } from "./classes.js";
import { $, ask, errorState, h, loading, memory, plural, said, toast, when } from "./dom.js";
import { filesOf, picturesOf, send } from "./dropping.js";
import { Gallery } from "./gallery.js";
import { UNFIT } from "./held.js";
import { key } from "./keys.js";
import { begin, mayReview } from "./shell.js";
import { SPECIMENS, missingForSigning } from "./words.js";

const id = decodeURIComponent(location.pathname.split("/")[2]);
const content = $("#content");

let record = null; // the case
const cells = new Map();
let filter = { show: "all", label: "" };
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

function build() {
  const grid = h("div", {});
  content.replaceChildren(
    h("div", { id: "head" }), h("div", { class: "uploads", id: "uploads" }), h("div", { id: "drop" }),
    h("div", { class: "tools", id: "tools" }), grid, h("div", { id: "sign" }));
  gallery = new Gallery(grid, { seen: report, pick, open: remember });
  dropping();
  drawAll();
}

function drawAll() {
  drawHead();
  drawDrop();
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
  const bad = (flag) => (flag === "lymphoblast proposed" ? "bad" : flag === "fewer than 100 cells" ? "" : "warn");
  $("#head").replaceChildren(h("div", { class: "case-top" },
    h("div", {},
      h("div", { class: "title" }, h("h1", {}, record.pseudonym),
        h("span", { class: `badge ${record.status === "signed" ? "good" : ""}` }, record.status === "signed" ? `signed by ${record.signed_by}, ${when(record.signed)}` : record.status),
        record.revision > 1 ? h("span", { class: "badge" }, `version ${record.revision}`) : null,
        h("span", { class: "badges" }, record.flags.map((f) => h("span", { class: `badge ${bad(f)}` }, f)))),
      h("div", { class: "facts" },
        h("span", {}, plural(record.cells, "cell")),
        h("span", {}, record.specimen ?? "specimen not stated"),
        h("span", {}, record.consecutive ? "consecutive cells" : "selected cells: not a differential"),
        h("span", {}, `made ${when(record.created)}${record.created_by ? ` by ${record.created_by}` : ""}`),
        record.note ? h("span", {}, record.note) : null),
      record.flags.includes(UNFIT[0]) ? h("p", { class: "verdict line does-not-fit" }, UNFIT[1]) : null),
    h("div", { class: "actions" },
      writable() ? h("button", { type: "button", onclick: edit }, "Edit") : null,
      record.cells ? h("a", { class: "button", href: `${caseUrl(id)}/report` }, "Report") : null,
      record.status === "signed" && mayReview() ? h("button", { type: "button", onclick: amend }, "Amend …") : null)));
}

async function edit() {
  const changed = await ask("Edit the case", (done) => h("form", {
    onsubmit: (event) => {
      event.preventDefault();
      const given = new FormData(event.target);
      done({ specimen: given.get("specimen") || null, consecutive: given.has("consecutive"), note: given.get("note").trim() });
    } },
  h("label", {}, "Specimen", h("select", { name: "specimen" }, SPECIMENS.map(([v, t]) => h("option", { value: v, selected: (record.specimen ?? "") === v }, t)))),
  h("label", { class: "check" }, h("input", { type: "checkbox", name: "consecutive", checked: record.consecutive }), h("span", {}, "Consecutive cells: none was picked or left out.")),
  h("label", {}, "Note", h("textarea", { name: "note", rows: 3, maxlength: 500 }, record.note ?? "")),
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
    record = await send_(record.version);
    drawAll();
    return true;
  } catch (error) {
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
}

/** Fetch case and cells anew. */
async function again() {
  record = await api(`/cases/${encodeURIComponent(id)}`);
  cells.clear();
  await loadCells();
  drawAll();
}

// dropping --------------------------------------------------------------------------------------

function drawDrop() {
  const box = $("#drop");
  if (!writable()) return box.replaceChildren();
  const pick_ = (attributes) => h("input", { type: "file", multiple: true, hidden: true, ...attributes, onchange: (e) => { take(picturesOf(e.target.files).length ? picturesOf(e.target.files) : [...e.target.files]); e.target.value = ""; } });
  const files = pick_({ accept: "image/*,.zip,.tif,.tiff,.bmp", id: "files", "aria-label": "Choose images or a zip" });
  const folder = pick_({ webkitdirectory: true, id: "folder", "aria-label": "Choose a folder" });
  const empty = record.cells === 0;
  box.replaceChildren(h("div", { class: `drop${empty ? " large" : ""}` },
    empty ? h("h2", {}, "Drop the images of this case here") : null,
    h("span", { class: "soft" }, empty ? "One cell in each image: single files, a folder or a zip. Every image is checked, decided on and put into the gallery; nothing leaves this server." : "Drop more images, a folder or a zip anywhere on this page."),
    h("span", { class: "group" },
      h("button", { type: "button", class: empty ? "main" : "", onclick: () => files.click() }, "Choose images or zip"),
      h("button", { type: "button", onclick: () => folder.click() }, "Choose a folder")),
    files, folder));
}

function dropping() {
  let depth = 0;
  const mark_ = (on) => $("#drop .drop")?.classList.toggle("over", on);
  addEventListener("dragenter", (e) => { e.preventDefault(); depth += 1; mark_(true); });
  addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) mark_(false); });
  addEventListener("dragover", (e) => e.preventDefault());
  addEventListener("drop", async (e) => {
    e.preventDefault();
    depth = 0;
    mark_(false);
    if (!writable()) return toast("This case is read-only.", "bad");
    take(await filesOf(e.dataTransfer));
  });
}

let queue = Promise.resolve();
function take(files) {
  if (!files.length) return toast("There is no image in that.", "bad");
  queue = queue.then(() => send(encodeURIComponent(id), files, $("#uploads"), (found) => {
    for (const cell of found.added) cells.set(cell.id, cell);
    record = found.case;
    drawAll();
    drawGallery();
  }));
}

// gallery ---------------------------------------------------------------------------------------

const KINDS = {
  all: ["all", () => true],
  held: ["held", (c) => c.held && c.state === "proposed"],
  unseen: ["not yet on screen", (c) => !c.held && !c.seen && !c.opened && c.state === "proposed"],
  changed: ["reclassified", (c) => c.state === "reclassified"],
};

function drawTools() {
  const box = $("#tools");
  if (!cells.size) return box.replaceChildren();
  const all = [...cells.values()];
  const picked = pickedCells();
  box.replaceChildren(
    h("span", { class: "group", role: "group", "aria-label": "Which cells" }, Object.entries(KINDS).map(([kind, [say, test]]) => h("button", {
      type: "button", "aria-pressed": String(filter.show === kind), onclick: () => show({ show: kind }) }, `${say} ${all.filter(test).length.toLocaleString("en")}`))),
    h("label", {}, h("span", { class: "hush" }, "Proposed class"), h("select", { onchange: (e) => show({ label: e.target.value }) },
      h("option", { value: "" }, "every class"), classes().map((c) => h("option", { value: c.name, selected: c.name === filter.label }, title(c.name))))),
    h("span", { class: "end" }, picked.length ? [
      h("span", { class: "soft" }, `${picked.length} picked`),
      h("button", { type: "button", onclick: () => { gallery.picked.clear(); gallery.refresh(); drawTools(); } }, "Let go"),
      h("button", { type: "button", class: "main", onclick: () => confirm(picked, "picked") }, "Confirm picked"),
    ] : [
      writable() ? h("button", { type: "button", onclick: undo, "aria-keyshortcuts": "Control+Z" }, "Undo") : null,
      h("button", { type: "button", onclick: openFirstHeld, disabled: !all.some(KINDS.held[1]) }, "Open the first held cell"),
    ]));
}

function show(change_) {
  filter = { ...filter, ...change_ };
  drawTools();
  drawGallery();
}

/** Classes as groups, those with the most worrying cells first; in each the most worrying first. */
function groupsOf() {
  const test = KINDS[filter.show][1];
  const by = new Map();
  for (const cell of cells.values()) {
    if (!test(cell) || (filter.label && cell.proposed !== filter.label)) continue;
    if (!by.has(cell.proposed)) by.set(cell.proposed, []);
    by.get(cell.proposed).push(cell);
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
  const held = list.filter((c) => c.held && c.state === "proposed").length;
  const free = ready(list);
  return [h("h2", {}, mark(name), title(name), h("span", { class: "soft num" }, list.length.toLocaleString("en"))),
    held ? h("span", { class: "badge warn" }, `${held.toLocaleString("en")} held: each is opened and confirmed singly`) : null,
    writable() && free.length ? h("button", { type: "button", onclick: () => confirm(ready(list), title(name)) }, `Confirm ${free.length.toLocaleString("en")} seen, not held`) : null];
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
function remember(cellId) {
  memory.set(`order:${id}`, { ids: gallery.order(), what: KINDS[filter.show][0] });
  memory.set(`at:${id}`, cellId);
}

function openFirstHeld() {
  filter = { show: "held", label: "" };
  drawGallery();
  const first = gallery.order()[0];
  if (!first) return toast("No held cell waits to be confirmed.");
  remember(first);
  location.href = cellUrl(first);
}

// signing ---------------------------------------------------------------------------------------

function drawSign() {
  const box = $("#sign");
  if (record.status === "signed" || !record.cells) {
    return box.replaceChildren(record.status === "signed" ? h("div", { class: "sign" }, h("span", { class: "badge good" }, `Signed by ${record.signed_by}`), h("span", {}, "Read-only. An amendment opens a new version."), h("a", { class: "button main", href: `${caseUrl(id)}/report` }, "To the report")) : "");
  }
  const steps = missingForSigning(record);
  const missing = steps.filter((step) => !step.done);
  const go = { held: openFirstHeld, unseen: () => { show({ show: "unseen", label: "" }); scrollTo({ top: 0 }); } };
  box.replaceChildren(h("div", { class: "sign", role: "region", "aria-label": "Signing" },
    h("ul", {}, steps.map((step) => h("li", { class: step.done ? "done" : "" }, step.say, step.done || !go[step.what] ? null : [" ", h("button", { type: "button", class: "quiet", onclick: go[step.what] }, "show")]))),
    mayReview() ? h("button", { type: "button", class: "main", id: "sign-button", "aria-disabled": String(missing.length > 0), onclick: () => (missing.length ? toast(`Not yet: ${missing.map((m) => m.say).join("; ")}.`, "bad") : sign()) }, "Sign …") : h("span", { class: "soft" }, "Viewers cannot sign.")));
}

async function sign() {
  const sure = await ask(`Sign ${record.pseudonym}`, (done) => [
    h("p", {}, `You sign ${plural(record.cells, "cell")} under your name. Cells that you did not change are signed as proposed.`),
    h("p", { class: "soft" }, record.consecutive ? "Consecutive cells: the report gives a differential with intervals." : "Selected cells: the report says that this is no differential."),
    record.cells < 100 ? h("p", { class: "soft" }, "Fewer than 100 cells: the report warns.") : null,
    h("p", { class: "actions" }, h("button", { type: "button", onclick: () => done(false) }, "Not yet"), h("button", { type: "button", class: "main", autofocus: true, onclick: () => done(true) }, "Sign"))]);
  if (!sure) return;
  if (await change((version) => api(`/cases/${encodeURIComponent(id)}/sign`, { method: "POST", body: { version } }))) location.href = `${caseUrl(id)}/report`;
}

function keys() {
  key("h", "open the first held cell", openFirstHeld);
  key("s", "sign", () => { $("#sign-button")?.click(); });
  key(["z", "ctrl+z"], "undo your last review", () => { if (writable()) undo(); });
  key("r", "report", () => { location.href = `${caseUrl(id)}/report`; });
  key("u", "choose images to upload", () => { $("#files")?.click(); });
  key("Home", "first cell", () => { const first = gallery.order()[0]; if (first) gallery.focus(first); });
  key(["ArrowRight", "ArrowDown"], "into the gallery; then the arrows walk, Enter opens, Space picks", () => {
    if (gallery.root.contains(document.activeElement) || !gallery.order().length) return false;
    gallery.focus(gallery.focused ?? gallery.order()[0]);
  });
  key("c", "confirm the picked cells", () => { const picked = pickedCells(); if (picked.length) confirm(picked, "picked"); });
}
