// The file that a cell was uploaded as: fetched when it is wanted, shown at full resolution.

import { api, imageOf } from "./api.js";
import { atlasFacts } from "./classes.js";
import { h, number } from "./dom.js";
import { compare, imageSource } from "./viewer.js";

const known = new Map(); // cell id -> promise of { facts, source }, null where it was not kept

/** Facts and picture of a cell's original; null where it was not kept. */
export function original(id) {
  if (!known.has(id)) {
    const asked = api(`/cells/${encodeURIComponent(id)}/original`, { quiet: true }).then(
      (facts) => ({ facts, source: imageSource(facts.picture, { ...facts, um: facts.um_per_pixel }) }),
      (error) => { if (error.status === 404) return null; known.delete(id); throw error; });
    known.set(id, asked);
    if (known.size > 8) known.delete(known.keys().next().value);
  }
  return known.get(id);
}

/** A picture as the network saw it: of a cell, or of the atlas. */
export function preparedSource(url) {
  const { size, um_per_pixel: um } = atlasFacts();
  return imageSource(url, { width: size, height: size, um });
}

/** The original of a cell as a pane of the viewer; as the network saw it where it was not kept. */
export async function paneOf(cell, words) {
  const found = await original(cell.id).catch(() => null);
  const source = found?.source ?? preparedSource(imageOf(cell.id));
  const told = found ? `${found.facts.kind}, ${found.facts.width} × ${found.facts.height} pixels${found.facts.um_per_pixel ? `, ${number(found.facts.um_per_pixel)} µm each` : ""}` : "original not kept: as the network saw it";
  return { source, label: cell.name, caption: [h("b", {}, words), h("span", { class: "soft" }, told), found ? h("a", { href: found.facts.file, download: "" }, "Save the file") : null] };
}

/** A cell closely, or beside another picture: pane or null. */
export async function lookClosely(cell, beside = null) {
  const own = await paneOf(cell, cell.name);
  return compare(beside ? "Side by side" : cell.name, beside ? [own, beside] : [own]);
}
