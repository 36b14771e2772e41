// Files from a drop, a folder, or a file dialog; and sending them in portions with progress.

import { uploadAgain } from "./api.js";
import { h, plural, said } from "./dom.js";

const PORTION = 24; // files in one request
const PORTION_BYTES = 24e6;
const PICTURE = /\.(png|jpe?g|bmp|tiff?|webp|zip)$/i;

/** All files of a drop, folders opened. */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found, true);
  return found;
}

async function walk(entry, found, top) {
  if (entry.isFile) {
    const file = await new Promise((ok, no) => entry.file(ok, no));
    if (top || PICTURE.test(file.name)) found.push(file); // in a folder other files are no mistake
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((ok, no) => reader.readEntries(ok, no));
    if (!part.length) return;
    for (const child of part) await walk(child, found, false);
  }
}

export const picturesOf = (files) => [...files].filter((file) => PICTURE.test(file.name));

function portions(files) {
  const made = [];
  let bytes = 0;
  for (const file of files) {
    if (!made.length || made.at(-1).length >= PORTION || bytes + file.size > PORTION_BYTES) { made.push([]); bytes = 0; }
    made.at(-1).push(file);
    bytes += file.size;
  }
  return made;
}

/**
 * Send files to a case; shows its own card with progress, duplicates and refusals.
 * Returns how many cells were added.
 */
export async function send(caseId, files, box, changed) {
  const total = { added: 0, duplicates: [], refused: [], done: 0 };
  const stop = new AbortController();
  const bar = h("progress", { max: files.length, value: 0, "aria-label": "Upload" });
  const say = h("p", {}, `Reading and deciding on ${plural(files.length, "file")} …`);
  const halt = h("button", { type: "button", onclick: () => stop.abort() }, "Stop");
  const list = h("div", {});
  const card = h("div", { class: "card", role: "status" }, h("div", { class: "bar" }, h("div", { class: "grow" }, say), halt), bar, list);
  box.prepend(card);
  try {
    for (const portion of portions(files)) {
      const form = new FormData();
      for (const file of portion) form.append("files", file, file.name);
      const progress = (sent, all) => { bar.value = total.done + (portion.length * sent / (all || 1)) * 0.4; };
      const found = await persistently(`/cases/${caseId}/cells`, form, { key: newKey(), progress, signal: stop.signal });
      total.done += portion.length;
      total.added += found.added.length;
      total.duplicates.push(...found.duplicates);
      total.refused.push(...found.refused);
      bar.value = total.done;
      say.textContent = `${total.done.toLocaleString("en")} of ${plural(files.length, "file")}, ${plural(total.added, "cell")} added …`;
      changed(found);
    }
  } catch (error) {
    total.fault = error.name === "AbortError" ? "Stopped. What was added before stays." : said(error);
  }
  bar.remove();
  halt.replaceWith(h("button", { type: "button", class: "quiet", "aria-label": "Close this note", onclick: () => card.remove() }, "✕"));
  say.replaceChildren(h("b", {}, `${plural(total.added, "cell")} added`), total.duplicates.length ? `, ${plural(total.duplicates.length, "duplicate")} noticed` : "", total.refused.length ? `, ${plural(total.refused.length, "file")} refused` : "", ".");
  list.replaceChildren(...result(total));
  if (!total.fault && !total.refused.length && !total.duplicates.length) setTimeout(() => card.remove(), 6000);
  return total.added;
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
  if (total.fault) made.push(h("p", { class: "fault" }, total.fault));
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
