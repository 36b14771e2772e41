import { api, caseUrl, cellUrl, everyPage, imageOf, referenceImage } from "./api.js";
import { ClassGallery } from "./beside.js";
import { atlas, atlasFacts, title } from "./classes.js";
import { confidencePanel, looksPanel, provenancePanel } from "./confidence.js";
import { $, errorState, h, loading, memory, toast } from "./dom.js";
import { key } from "./keys.js";
import { lookClosely, original, preparedSource } from "./original.js";
import { Plot } from "./plot.js";
import { Review } from "./review.js";
import { begin, mayReview } from "./shell.js";
import { MODES, Strip } from "./strip.js";
import { ABOUT_ATLAS, flagClass, heldLong, signedWords } from "./words.js";

const content = $("#content");
const evidences = new Map(); // id -> promise, of this cell and the next
let cell = null;
let record = null;
let points = [];
let mapWords = "";
let order = { ids: [], what: "all" };
let strip = null;
let plot = null;
let mode = "contrast";
let turn = 0;
let ready = false; // the evidence of `cell` is on screen: before that nobody decides on it
let noted = Promise.resolve(); // that it was opened

const review = new Review({
  cell: () => cell, record: () => record, next: () => step(1),
  writable: () => mayReview() && record.status !== "signed",
  ready: () => ready, noted: () => noted,
  saved: (found, now) => { cell = found; record = now; },
  refresh: async (now) => { record = now; cell = await api(`/cells/${encodeURIComponent(cell.id)}`); drawTop(); },
  undone: (cells, now) => {
    record = now;
    const one = cells.find((c) => c.id === cell.id) ?? cells[0];
    toast(cells.length === 1 ? `Taken back: ${one.name}.` : `Taken back: ${cells.length} cells.`, "good");
    if (one && one.id !== cell.id && cells.length === 1) go(one.id); else { cell = one?.id === cell.id ? one : cell; drawTop(); review.draw(); }
  },
});

const beside = new ClassGallery((reference) => lookClosely(cell, { source: preparedSource(reference.image), label: title(reference.label), caption: [h("b", {}, `Reference cell: ${title(reference.label)}`), h("span", { class: "soft" }, `${reference.subject ? `subject ${reference.subject}, ` : ""}as the network saw it`)] }));

const idHere = () => decodeURIComponent(location.pathname.split("/")[2]);

begin(async () => {
  keys();
  addEventListener("popstate", () => show(idHere()));
  try { await atlas(); } catch (error) { return content.replaceChildren(errorState(error, () => location.reload())); }
  api("/atlas/map").then((found) => { ({ points } = found); mapWords = found.words ?? ""; drawMap(); }, () => {});
  await show(idHere());
});

/** `quiet`: only in case it is wanted next; nobody is asked to log in for that. */
const evidenceOf = (id, quiet = false) => {
  if (!evidences.has(id)) {
    const asked = api(`/cells/${encodeURIComponent(id)}/evidence`, { quiet });
    asked.catch(() => evidences.delete(id));
    evidences.set(id, asked);
    if (evidences.size > 6) evidences.delete(evidences.keys().next().value);
  }
  return evidences.get(id);
};

async function show(id) {
  const mine = ++turn;
  ready = false;
  const asked = evidenceOf(id);
  asked.catch(() => {});
  try {
    const found = await api(`/cells/${encodeURIComponent(id)}`);
    if (mine !== turn) return;
    cell = found;
    if (record?.id !== cell.case) { record = await api(`/cases/${encodeURIComponent(cell.case)}`); await loadOrder(); }
  } catch (error) {
    if (mine === turn) content.replaceChildren(errorState(error, () => location.reload()));
    return;
  }
  document.title = `${cell.name} · ${record.pseudonym} · cellkin`;
  build();
  try {
    const evidence = await asked.catch((error) => (error.status === 401 ? evidenceOf(id) : Promise.reject(error)));
    if (mine !== turn) return;
    drawEvidence(evidence);
  } catch (error) {
    if (mine !== turn) return;
    $("#evidence").replaceChildren(h("div", { class: "strip" }, h("figure", { class: "kin query" }, h("img", { src: imageOf(cell.id), alt: "The cell in question" }))), errorState(error, () => show(id)));
    return; // not opened, and not to be decided: there were no reasons to look at
  }
  noted = opened(id, mine);
  await noted;
  if (cell.held) await lookedAt();
  if (mine !== turn) return;
  ready = true;
  review.wake();
  const next = neighbor(1);
  if (next && mine === turn) evidenceOf(next, true).catch(() => {});
}

/** A held cell is looked at for a while before it can be decided. */
const lookedAt = () => new Promise((done) => setTimeout(done, 1000 * atlasFacts().rules.least_view));

/** Its evidence was on screen: that counts as opened. */
async function opened(id, mine) {
  if (!mayReview() || record.status === "signed") return;
  try {
    const found = await api(`/cells/${encodeURIComponent(id)}/opened`, { method: "POST" });
    if (mine === turn && found.cell) cell = { ...cell, opened: found.cell.opened, seen: found.cell.seen };
  } catch (error) { toast(`Opening was not noted: ${error.message}`, "bad"); }
}

/** The order of the gallery that one came from; without it, the case's own, most worrying first. */
async function loadOrder() {
  const kept = memory.get(`order:${record.id}`);
  order = kept?.ids?.includes(cell.id) ? kept : { ids: [cell.id], what: "all" };
  if (order.ids.length > 1) return;
  const ids = [];
  const collect = everyPage(`/cases/${encodeURIComponent(record.id)}/cells`, (items) => ids.push(...items.map((c) => c.id)), { limit: 500 });
  collect.then(() => { order = { ids, what: "all" }; drawTop(); }, () => {});
}

const neighbor = (by) => order.ids[order.ids.indexOf(cell.id) + by];

function step(by) {
  const next = neighbor(by);
  if (next) return go(next);
  drawTop();
  review.draw();
  toast(by > 0 ? "That was the last cell of this list." : "This is the first cell of this list.");
}

function go(id) {
  memory.set(`at:${record.id}`, id);
  history.pushState(null, "", cellUrl(id));
  scrollTo({ top: 0 });
  return show(id);
}

// drawing ---------------------------------------------------------------------------------------

function build() {
  plot?.leave();
  plot = null;
  strip = null;
  content.replaceChildren(
    h("div", { id: "cell-top" }),
    h("div", { class: "desk" }, h("div", { id: "evidence" }, loading("Looking for its kin …")), h("div", { class: "side" }, review.node, beside.node)),
    h("div", { class: "below" }, h("section", { class: "card", id: "map", "aria-label": "Map" }), h("section", { class: "card", id: "sure", "aria-label": "How sure" })),
    h("section", { class: "card", id: "looks", "aria-label": "What it looks like" }),
    h("div", { id: "more" }));
  drawTop();
  review.open();
  beside.show(cell.final ?? cell.proposed);
}

function drawTop() {
  const at = order.ids.indexOf(cell.id);
  const signed = signedWords(cell, title);
  $("#cell-top").replaceChildren(h("div", { class: "cell-top" },
    h("span", { class: "where" }, h("a", { href: caseUrl(record.id) }, record.pseudonym), h("h1", {}, cell.name),
      signed ? h("span", { class: "badge good" }, signed) : cell.held ? h("span", { class: "badge warn" }, "held") : null,
      record.flags.filter((f) => ABOUT_ATLAS.includes(f)).map((f) => h("span", { class: `badge ${flagClass(f)}` }, f)),
      h("span", { class: "soft num" }, `${at + 1} of ${order.ids.length.toLocaleString("en")}${order.what === "all" ? "" : ` (${order.what})`}`)),
    h("span", { class: "group" },
      h("button", { type: "button", onclick: () => step(-1), disabled: at <= 0 }, h("kbd", {}, "P"), "Previous"),
      h("button", { type: "button", onclick: () => step(1), disabled: at < 0 || at + 1 >= order.ids.length }, "Next", h("kbd", {}, "N")),
      h("button", { type: "button", id: "back", class: signed && !neighbor(1) ? "main" : "", onclick: back }, h("kbd", {}, "B"), "Back to the case"))));
}

/** To the gallery, at this cell. */
function back() {
  memory.set(`at:${record.id}`, cell.id);
  location.href = caseUrl(record.id);
}

function drawEvidence(evidence) {
  const { line, sureness, because, verdict, left_out } = evidence.confidence;
  const why = [...because.slice(2), ...(cell.held ? [`Held: ${cell.held_reasons.map(heldLong).join("; ")}.`] : [])];
  strip = new Strip(evidence, { link: linkFromPicture, closely, spot: (words) => { $("#spot-words").textContent = words || rest_(); } }, atlasFacts().um_per_pixel);
  withOriginal(strip, cell.id);
  if (strip.offers(mode)) strip.mode = mode;
  const rest_ = () => (strip.tensorLimit ? "Move over a picture: what matches that spot shows at once in the others. Click to pin it." : "This network has no point-to-point map.");
  $("#evidence").replaceChildren(
    h("div", { class: "heads" }, h("p", { class: `verdict line ${sureness.replaceAll(" ", "-")}` }, line),
      h("p", { class: "verdict-more" }, [...verdict, left_out].filter(Boolean).join(" "))),
    why.length ? h("ul", { class: "why", "aria-label": "Cautions" }, why.map((w) => h("li", {}, w))) : "",
    strip.node,
    h("div", { class: "look" }, modeButtons(evidence), finerButton(evidence), strip.bar.node, h("p", { class: "say", id: "spot-words", role: "status" }, rest_())));
  $("#sure").replaceChildren(h("details", { open: memory.get("numbers") === true, ontoggle: (e) => memory.set("numbers", e.target.open) },
    h("summary", {}, h("h2", {}, "How sure: the numbers")), confidencePanel(evidence)));
  $("#looks").replaceChildren(...looksPanel(evidence));
  $("#more").replaceChildren(h("div", { class: "provenance" }, provenancePanel(evidence)));
  drawMap(evidence);
}

/** The cell in question at full resolution, once its file is here. */
async function withOriginal(own, id) {
  const found = await original(id).catch(() => null);
  if (!found || own !== strip) return;
  await found.source.ready.catch(() => null);
  if (own === strip && found.source.image.naturalWidth) strip.setOriginal(found.source.image, found.facts.square, found.facts.as_seen);
}

function closely(view) {
  if (!view || view.kind === "query") return lookClosely(cell);
  const words = `${view.kind === "kin" ? `Kin ${view.cell.rank}` : "Against it"}: ${title(view.cell.label)}`;
  return lookClosely(cell, { source: preparedSource(view.cell.image), label: words, caption: [h("b", {}, words), h("span", { class: "soft" }, "as the network saw it")] });
}

/** The contrast map from sixteen looks at the shifted picture, on request. */
function finerButton(evidence) {
  if (!evidence.contrast || evidence.contrast.query.refused) return null;
  if (evidence.contrast.looks) return h("span", { class: "soft" }, evidence.contrast.looks);
  const id = cell.id;
  return h("button", { type: "button", id: "finer", onclick: async (event) => {
    event.target.disabled = true;
    event.target.textContent = "Looking …";
    try {
      const found = await api(`/cells/${encodeURIComponent(id)}/evidence?fine=4`);
      if (cell.id === id) { mode = "contrast"; drawEvidence(found); }
    } catch (error) { toast(error.message, "bad"); event.target.disabled = false; event.target.textContent = "Finer"; }
  } }, "Finer");
}

function modeButtons(evidence) {
  const why = { gradcam: evidence.gradcam_absent, contrast: evidence.contrast_absent };
  const button = ([name, { say }], i) => h("button", {
    type: "button", "data-mode": name, "aria-pressed": String(strip.mode === name), disabled: !strip.offers(name), title: strip.offers(name) ? "" : why[name] ?? "", onclick: () => setMode(name),
  }, say, i === 0 ? h("kbd", {}, "V") : null);
  const all = Object.entries(MODES);
  return h("span", { class: "group", role: "group", "aria-label": "What is drawn over the pictures" },
    all.filter(([, m]) => !m.more).map(button),
    h("details", { class: "more-maps", open: Boolean(MODES[strip.mode].more) }, h("summary", {}, "More"), h("span", { class: "group" }, all.filter(([, m]) => m.more).map((m) => button(m)))));
}

function setMode(name) {
  if (!strip?.offers(name)) return;
  mode = name;
  strip.setMode(name);
  if (MODES[name].more) $(".more-maps").open = true;
  for (const button of content.querySelectorAll("[data-mode]")) button.setAttribute("aria-pressed", String(button.dataset.mode === name));
}

function nextMode() {
  const names = Object.keys(MODES).filter((m) => strip?.offers(m));
  setMode(names[(names.indexOf(strip.mode) + 1) % names.length]);
}

let latest = null;
function drawMap(evidence = latest) {
  latest = evidence;
  const box = $("#map");
  if (!box || !evidence || evidence.query.id !== cell?.id) return;
  if (!points.length) return box.replaceChildren(h("h2", {}, "Place on the map"), loading("Loading the map …"));
  const kin = [
    ...evidence.neighbors.map((n) => ({ id: n.id, rank: n.rank, words: `kin ${n.rank}` })),
    ...(evidence.counter?.neighbors ?? []).map((n) => ({ id: n.id, rank: 0, words: "against it" })),
  ];
  const chosen = h("div", { class: "chosen", id: "chosen" });
  plot?.leave();
  plot = new Plot({ points, query: evidence.map.query_xy, kin, words: mapWords }, {
    link: (id) => { strip.link(id); linkChosen(id); },
    pick: (id) => { const view = strip.views.find((v) => v.cell.id === id && v.kind !== "query"); view?.canvas.focus(); view?.figure.scrollIntoView({ block: "nearest" }); },
    lasso: (found) => drawChosen(chosen, found),
  });
  box.replaceChildren(h("h2", {}, "Place on the map"), plot.node, chosen);
}

function drawChosen(box, found) {
  box.replaceChildren(...found.slice(0, 200).map((p) => {
    const on = () => { plot.link(p.id); strip.link(p.id); };
    return h("button", { type: "button", "data-id": p.id, "aria-label": `${title(p.label)}, ${p.id}`, title: `${title(p.label)}${p.subject ? `, subject ${p.subject}` : ""}`, onpointerenter: on, onfocus: on, onpointerleave: () => plot.link(null) },
      h("img", { src: referenceImage(p.id), alt: "", loading: "lazy" }));
  }));
  if (found.length > 200) box.append(h("span", { class: "soft" }, `and ${found.length - 200} more`));
}

const linkChosen = (id) => { for (const b of content.querySelectorAll("#chosen button")) b.classList.toggle("linked", b.dataset.id === id); };

/** A picture under the pointer: ring its point, and draw its pair with the query. */
function linkFromPicture(id) {
  plot?.link(id);
  strip.link(id);
  strip.setPartner(id);
}

function keys() {
  key(["n", "ArrowRight"], "next cell", () => step(1));
  key(["p", "ArrowLeft"], "previous cell", () => step(-1));
  key("c", "confirm the proposed class", () => review.choose(cell.proposed));
  key(["1", "2", "3", "4", "5", "6", "7", "8", "9"], "another class, in the order of the buttons; then a reason, Enter", (_, k) => review.digit(k));
  key("x", "smudge cell", (_, k) => review.letter(k));
  key("a", "artefact, not a cell", (_, k) => review.letter(k));
  key("u", "unidentifiable", (_, k) => review.letter(k));
  key(["z", "ctrl+z"], "undo your last review", () => review.undo());
  key("v", "why, image; then Grad-CAM, alike, different", nextMode);
  key("m", "to the map; there + and − zoom, N walks over the kin, L is the lasso", () => plot?.canvas.focus());
  key("q", "to the picture; there the arrows move the spot that is matched", () => strip?.views[0].canvas.focus());
  key("Escape", "let go: of a spot, of a field", () => { strip?.release(); document.activeElement?.blur(); }, { always: true });
  key("o", "look closely: every pixel, zoom, light, magnifier", () => { closely(null); });
  key("b", "back to the case", back);
}
