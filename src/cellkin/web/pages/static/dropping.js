// Files from a drop, a folder, or a file dialog; announced, sent in portions, stopped and gone on with.

import { api, uploadAgain } from "./api.js";
import { $, h, plural, said, toast } from "./dom.js";

const PORTION = 24; // files in one request
const PORTION_BYTES = 24e6;
const PICTURE = /\.(png|jpe?g|bmp|tiff?|zip)$/i;
const JUNK = /^(\.|Thumbs\.db$|desktop\.ini$)/i; // of file managers
const FORMATS = "PNG, JPEG, BMP, TIFF, or a zip of these";

/** All files of a drop, folders opened. */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) { found.push(await new Promise((ok, no) => entry.file(ok, no))); return; }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((ok, no) => reader.readEntries(ok, no));
    if (!part.length) return;
    for (const child of part) await walk(child, found);
  }
}

/** Pictures, and by name what is none, however they came: by dialog, folder or drop. */
function sorted(files) {
  const wanted = files.filter((file) => !JUNK.test(file.name));
  return {
    pictures: wanted.filter((file) => PICTURE.test(file.name)),
    refused: wanted.filter((file) => !PICTURE.test(file.name)).map((file) => ({ name: file.name, what: "this is no picture that is read here", mend: `send ${FORMATS}` })),
  };
}

function portions(list) {
  const made = [];
  let bytes = 0;
  for (const one of list) {
    if (!made.length || made.at(-1).length >= PORTION || bytes + one.file.size > PORTION_BYTES) { made.push([]); bytes = 0; }
    made.at(-1).push(one);
    bytes += one.file.size;
  }
  return made;
}

let sending = 0; // uploads of this page that are under way
addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });

/**
 * The places of a case page where files come in.
 * host: { id, box(), cards(), record(), writable(), added(found), changed(record) }.
 */
export function dropZone(host) {
  const zone = { host, queue: Promise.resolve() };
  zone.take = (files) => {
    const { pictures, refused } = sorted(files);
    if (!pictures.length && !refused.length) return toast("There is no file in that.", "bad");
    zone.queue = zone.queue.then(() => start(zone, pictures, refused));
  };
  draw(zone);
  dragging(zone);
  unfinished(zone);
}

function draw(zone) {
  const { host } = zone;
  const box = host.box();
  if (!host.writable()) return box.replaceChildren();
  const chooser = (attributes) => h("input", { type: "file", multiple: true, hidden: true, ...attributes, onchange: (e) => { zone.take([...e.target.files]); e.target.value = ""; } });
  const files = chooser({ id: "files", "aria-label": "Choose images or a zip" }); // of any kind: what is none is named
  const folder = chooser({ webkitdirectory: true, id: "folder", "aria-label": "Choose a folder" });
  const empty = host.record().cells === 0;
  box.replaceChildren(h("div", { class: `drop${empty ? " large" : ""}` },
    empty ? h("h2", {}, "Drop the images of this case here") : null,
    h("span", { class: "soft" }, empty ? `One cell in each image: ${FORMATS}. Every image is checked, decided on and put into the gallery; nothing leaves this server.` : "Drop more images, a folder or a zip anywhere on this page."),
    h("span", { class: "group" },
      h("button", { type: "button", class: empty ? "main" : "", onclick: () => files.click() }, "Choose images or zip"),
      h("button", { type: "button", onclick: () => folder.click() }, "Choose a folder")),
    files, folder));
}

function dragging(zone) {
  let depth = 0;
  const files = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (on) => $(".drop")?.classList.toggle("over", on);
  addEventListener("dragenter", (e) => { if (!files(e)) return; e.preventDefault(); depth += 1; mark(true); });
  addEventListener("dragleave", (e) => { if (!files(e)) return; depth -= 1; if (depth <= 0) mark(false); });
  addEventListener("dragover", (e) => { if (files(e)) e.preventDefault(); });
  addEventListener("drop", async (e) => {
    if (!files(e)) return;
    e.preventDefault();
    depth = 0;
    mark(false);
    if (!zone.host.writable()) return toast("This case is read-only.", "bad");
    zone.take(await filesOf(e.dataTransfer));
  });
}

/** Announce an upload and send it. */
async function start(zone, pictures, refused) {
  const path = `/cases/${encodeURIComponent(zone.host.id)}/uploads`;
  let batch = null;
  if (pictures.length) {
    try {
      batch = await api(path, { method: "POST", body: { files: pictures.map((file) => ({ name: file.name, bytes: file.size })) } });
    } catch (error) { return toast(said(error), "bad"); }
  }
  const total = { added: 0, duplicates: [], refused, batch };
  await go(zone, pictures.map((file, slot) => ({ file, slot })), total);
}

/** Uploads that somebody began and did not end: this page can end them. */
async function unfinished(zone) {
  const { host } = zone;
  const { items } = await api(`/cases/${encodeURIComponent(host.id)}/uploads`).catch(() => ({ items: [] }));
  for (const batch of items.filter((one) => one.state === "open")) {
    const again = h("input", { type: "file", multiple: true, hidden: true, "aria-label": "Choose the missing files again", onchange: (e) => { const found = rest(batch, [...e.target.files]); if (found.length) { card.remove(); zone.queue = zone.queue.then(() => go(zone, found, { added: 0, duplicates: [], refused: [], batch })); } else toast("None of these files is missing here.", "bad"); } });
    const card = h("div", { class: "card", role: "status" }, h("div", { class: "bar" },
      h("div", { class: "grow" }, h("b", {}, `An upload of ${batch.opened_by} did not end: ${batch.received.length} of ${plural(batch.files.length, "file")} came.`), h("div", { class: "soft small" }, `Missing: ${missingNames(batch)}`)),
      host.writable() ? [h("button", { type: "button", class: "main", onclick: () => again.click() }, "Choose them again and go on"), h("button", { type: "button", onclick: () => close(zone, batch, card) }, "Close as incomplete"), again] : null));
    host.cards().append(card);
  }
}

const missing = (batch) => batch.files.map(([name, bytes], slot) => ({ name, bytes, slot })).filter(({ slot }) => !batch.received.includes(slot));
const missingNames = (batch) => { const all = missing(batch).map((m) => m.name); return `${all.slice(0, 6).join(", ")}${all.length > 6 ? ` and ${all.length - 6} more` : ""}`; };

/** Of files that were chosen again those that did not come yet, with their places. */
function rest(batch, files) {
  const left = missing(batch);
  return files.flatMap((file) => {
    const at = left.findIndex((m) => m.bytes === file.size && (m.name === file.name || m.name.endsWith(`/${file.name}`)));
    return at < 0 ? [] : [{ file, slot: left.splice(at, 1)[0].slot }];
  });
}

async function close(zone, batch, card) {
  try {
    await api(`/cases/${encodeURIComponent(zone.host.id)}/uploads/${batch.id}/close`, { method: "POST" });
    zone.host.changed(await api(`/cases/${encodeURIComponent(zone.host.id)}`));
    card.remove();
  } catch (error) { toast(said(error), "bad"); }
}

/** Send files of an announced upload in portions; the card tells what came, and goes on after a stop. */
async function go(zone, list, total) {
  const { host } = zone;
  const all = total.batch?.files.length ?? 0;
  const before = all - list.length;
  const stop = new AbortController();
  const bar = h("progress", { max: all, value: before, "aria-label": "Upload" });
  const say = h("p", {}, `Reading and deciding on ${plural(list.length, "file")} …`);
  const halt = h("button", { type: "button", onclick: () => stop.abort() }, "Stop");
  const card = h("div", { class: "card", role: "status" }, h("div", { class: "bar" }, h("div", { class: "grow" }, say), halt), bar);
  host.cards().prepend(card);
  let left = list;
  sending += 1;
  try {
    for (const portion of portions(list)) {
      const form = new FormData();
      for (const { file } of portion) form.append("files", file, file.name);
      const done = all - left.length;
      const progress = (sent, bytes) => { bar.value = done + (portion.length * sent / (bytes || 1)) * 0.4; };
      const part = `${total.batch.id}:${portion.map((one) => one.slot).join(",")}`;
      const found = await persistently(`/cases/${encodeURIComponent(host.id)}/cells?part=${part}`, form, { key: newKey(), progress, signal: stop.signal });
      left = left.filter((one) => !portion.includes(one));
      total.added += found.added.length;
      total.duplicates.push(...found.duplicates);
      total.refused.push(...found.refused);
      bar.value = all - left.length;
      say.textContent = `${(all - left.length).toLocaleString("en")} of ${plural(all, "file")} received, ${plural(total.added, "cell")} added …`;
      host.added(found);
    }
  } catch (error) {
    total.fault = error.name === "AbortError" ? "Stopped." : said(error);
  }
  sending -= 1;
  card.remove();
  if (!left.length && total.batch) await close(zone, total.batch, card);
  draw(zone);
  tell(zone, left, total);
}

/** What became of an upload. */
function tell(zone, left, total) {
  const all = total.batch?.files.length ?? 0;
  const card = h("div", { class: "card", role: "status" });
  const words = h("p", { class: "grow" }, h("b", {}, `${plural(total.added, "cell")} added`), total.duplicates.length ? `, ${plural(total.duplicates.length, "duplicate")} noticed` : "", total.refused.length ? `, ${plural(total.refused.length, "file")} refused` : "", ".",
    left.length ? [h("br", {}), h("span", { class: "fault" }, `${total.fault ?? ""} ${all - left.length} of ${plural(all, "file")} received; the case waits for the others.`)] : null);
  const goOn = () => { card.remove(); zone.queue = zone.queue.then(() => go(zone, left, { ...total, fault: null })); };
  card.append(h("div", { class: "bar" }, words,
    left.length ? [h("button", { type: "button", class: "main", onclick: goOn }, "Go on"), h("button", { type: "button", onclick: () => close(zone, total.batch, card) }, "Close as incomplete")]
      : h("button", { type: "button", class: "quiet", "aria-label": "Close this note", onclick: () => card.remove() }, "✕")), ...result(total));
  zone.host.cards().prepend(card);
  if (!left.length && !total.refused.length && !total.duplicates.length) setTimeout(() => card.remove(), 6000);
}

const newKey = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // no UUIDs without TLS

/** Where the connection breaks, the same upload under the same key: nothing is added twice. */
async function persistently(path, form, options, left = 2) {
  try {
    return await uploadAgain(path, form, options);
  } catch (error) {
    if (error.status !== 0 || !left) throw error;
    await new Promise((done) => setTimeout(done, 2000));
    return persistently(path, form, options, left - 1);
  }
}

function result(total) {
  const made = [];
  if (total.duplicates.length) {
    made.push(h("details", {}, h("summary", {}, `${plural(total.duplicates.length, "picture")} in this case already, not added again`),
      h("ul", {}, total.duplicates.slice(0, 200).map((d) => h("li", {}, d)))));
  }
  if (total.refused.length) {
    made.push(h("details", { open: true, class: "refused" }, h("summary", {}, `${plural(total.refused.length, "file")} refused`),
      h("ul", {}, total.refused.slice(0, 200).map((r) => h("li", {}, h("b", {}, r.name), `: ${r.what}`, r.mend ? h("span", { class: "soft" }, ` (${r.mend})`) : null)))));
  }
  return made;
}
