// What is missing before a case can be signed, a case that does not fit its atlas, and signing.

import { api, caseUrl } from "./api.js";
import { classes } from "./classes.js";
import { ask, formOf, h, plural, toast } from "./dom.js";
import { mayReview } from "./shell.js";

export const MISFIT = "does not fit its atlas";
const NO_LEUKOCYTE = ["nothing", "platelet", "erythroblast"];
export const DISTANT = ["far", "no class fits"];

const n = (count) => count.toLocaleString("en");

/** What has to be done, by whom it was done or not. */
export function steps(record) {
  const kinds = new Map(classes().map((c) => [c.name, c.kind]));
  const white = Object.entries(record.finals).reduce((sum, [name, count]) => sum + (kinds.has(name) && !NO_LEUKOCYTE.includes(kinds.get(name)) ? count : 0), 0);
  const found = [{ done: record.cells > 0, say: record.cells ? plural(record.cells, "cell") : "no cells yet", what: "cells" }];
  if (record.flags.includes(MISFIT)) found.push({ done: Boolean(record.accepted_by), say: record.accepted_by ? `${record.accepted_by} went on though it does not fit its atlas` : "it does not fit its atlas: decide whether to go on", what: "fit" });
  found.push(
    { done: record.to_confirm === 0, say: record.to_confirm ? `${n(record.to_confirm)} of ${plural(record.held, "held cell")} for you to open and confirm` : record.held ? `all ${plural(record.held, "held cell")} opened and confirmed` : "no cell is held", what: "held" },
    { done: record.unseen === 0, say: record.unseen ? `${plural(record.unseen, "other cell")} not yet on your screen` : "all other cells were on screen", what: "unseen" });
  if (record.consecutive && record.cells) found.push({ done: white > 0, say: white ? `${plural(white, "white cell")} in the differential` : "no white cell: a differential over 0 cells says nothing", what: "white" });
  return found;
}

/** A case that does not fit its atlas: told once, and one decision. */
export function fitNote(record, cells, host) {
  if (!record.flags.includes(MISFIT)) return null;
  const far = cells.filter((c) => c.held_reasons.some((r) => DISTANT.includes(r))).length;
  const told = `${n(far)} of ${plural(cells.length, "cell")} are unlike the atlas; of a case like it about 5 % would be.`;
  const path = `/cases/${encodeURIComponent(record.id)}/fit`;
  if (record.accepted_by) {
    return h("div", { class: "note-line" }, h("b", {}, "Does not fit its atlas."), h("span", {}, `${told} ${record.accepted_by} went on: “${record.accepted_why}”. What only lies far is not held.`),
      host.writable() ? h("button", { type: "button", onclick: () => host.change((version) => api(`${path}/undo`, { method: "POST", body: { version } })) }, "Take back") : null);
  }
  const goOn = () => formOf("Go on with this atlas?", [
    h("p", {}, `${told} Its proposals may be wrong in ways that it cannot see. Cells that are held for nothing but their distance will be held no more; all others still are.`),
    h("label", {}, "Why you go on", h("input", { name: "reason", required: true, maxlength: 500, autocomplete: "off", autofocus: true })),
  ], "Go on", async (given) => (await host.change((version) => api(path, { method: "POST", body: { version, reason: given.get("reason").trim() } }))) || true);
  return h("div", { class: "note-line alarm", role: "alert" }, h("b", {}, "This case does not fit its atlas."), h("span", {}, `${told} Decide once whether to go on; cells of this place would help it (cellkin adopt).`),
    host.writable() ? h("button", { type: "button", id: "accept-fit", onclick: goOn }, "Decide …") : null);
}

/** The bar at the bottom; go: { what: () => shows it }. */
export function signBar(record, go, host) {
  if (record.status === "signed") return h("div", { class: "sign" }, h("span", { class: "badge good" }, `Signed by ${record.signed_by}`), h("span", {}, "Read-only. An amendment opens a new version."), h("a", { class: "button main", href: `${caseUrl(record.id)}/report` }, "To the report"));
  if (!record.cells) return "";
  const all = steps(record);
  const missing = all.filter((step) => !step.done);
  const press = () => (missing.length ? toast(`Not yet: ${missing.map((m) => m.say).join("; ")}.`, "bad") : sign(record, host));
  return h("div", { class: "sign", role: "region", "aria-label": "Signing" },
    h("ul", {}, all.map((step) => h("li", { class: step.done ? "done" : "" }, step.say, step.done || !go[step.what] ? null : [" ", h("button", { type: "button", class: "quiet", onclick: go[step.what] }, "show")]))),
    mayReview() ? h("button", { type: "button", class: "main", id: "sign-button", "aria-disabled": String(missing.length > 0), onclick: press }, "Sign …") : h("span", { class: "soft" }, "Viewers cannot sign."));
}

async function sign(record, host) {
  const sure = await ask(`Sign ${record.pseudonym}`, (done) => [
    h("p", {}, `You sign ${plural(record.cells, "cell")} under your name, all of which you saw. Cells that nobody changed are signed as proposed.`),
    h("p", { class: "soft" }, record.consecutive ? "Consecutive cells: the report gives a differential with intervals." : "Selected cells: the report says that this is no differential."),
    record.cells < 100 ? h("p", { class: "soft" }, "Fewer than 100 cells: the report warns.") : null,
    h("p", { class: "actions" }, h("button", { type: "button", onclick: () => done(false) }, "Not yet"), h("button", { type: "button", class: "main", autofocus: true, onclick: () => done(true) }, "Sign"))]);
  if (!sure) return;
  if (await host.change((version) => api(`/cases/${encodeURIComponent(record.id)}/sign`, { method: "POST", body: { version } }))) location.href = `${caseUrl(record.id)}/report`;
}
