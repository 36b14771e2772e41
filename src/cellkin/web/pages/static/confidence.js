// How sure: in words and numbers, as the server said them.

import { mark, title } from "./classes.js";
import { h, number } from "./dom.js";

export function confidencePanel(evidence) {
  const c = evidence.confidence;
  const votes = h("span", {}, c.votes.map((v) => [mark(v.label), ` ${v.title} ${v.count}  `]));
  return h("dl", { class: "confidence" },
    entry("Agreement of the kin", c.agreement, [votes, c.rest ? h("div", {}, c.rest) : null]),
    entry("Vote", c.state, c.clinical, c.state !== "decided"),
    entry("Prediction set", ...c.prediction_set),
    entry("What would flip it?", ...c.flip),
    entry("Mean distance to the kin", number(c.mean_distance), c.percentile),
    entry("Known kind?", ...c.novelty, c.novelty[0] === "of no known kind"),
    entry("Class head", ...c.head, c.head[0] === "disagrees"));
}

const entry = (name, short, more, off = false) => h("div", { class: off ? "off" : "" }, h("dt", {}, name), h("dd", {}, h("b", {}, short), more));

export function provenancePanel(evidence) {
  const rows = Object.entries(evidence.provenance).filter(([, v]) => v !== null && v !== "" && typeof v !== "object");
  return h("details", { class: "card" }, h("summary", {}, "Provenance: enough to make this again"),
    h("dl", { class: "pairs small" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", { class: "num" }, String(value))])));
}

/** What the cell looks like among the cells of the atlas, and reference cells worth a look beside its kin. */
export function looksPanel(evidence) {
  const { morphology: found, beside, copies } = evidence;
  const head = (words, span) => h("th", { scope: "col", class: span ? "num" : "" }, words);
  const row = (r) => h("tr", {}, h("th", { scope: "row" }, r.name, r.learned ? h("span", { class: "soft" }, " learned") : null), h("td", {}, r.value), h("td", { class: "num" }, r.own), found.other_title ? h("td", { class: "num" }, r.other) : null);
  const traits = found.absent ? [h("p", { class: "soft" }, `Not available: ${found.absent}`)] : [
    found.sentences.map((s) => h("p", {}, s)),
    h("details", {}, h("summary", {}, "All traits"), h("table", { class: "traits" },
      h("thead", {}, h("tr", {}, head("Trait"), head("This cell"), head(`Of ${found.own_title}`, true), found.other_title ? head(`Of ${found.other_title}`, true) : null)),
      h("tbody", {}, found.rows.map(row))),
    h("p", { class: "soft" }, `Percentiles tell what is usual here; they are no cause of the call and no diagnosis.${found.extrapolated ? " Learned words are extrapolated for this class." : ""}`))];
  const told = copies.map((words, i) => (words ? h("p", { class: "soft" }, `Kin ${i + 1}: ${words}.`) : null));
  const pictures = beside.map((n) => h("figure", { class: "beside" }, h("img", { src: n.image, alt: `${n.role}: ${title(n.label)}` }), h("figcaption", {}, h("span", { class: "soft" }, n.role), h("b", {}, mark(n.label), title(n.label)))));
  return [h("h2", {}, "What it looks like here"), traits, told, pictures.length ? h("div", { class: "besides" }, pictures) : null].flat(2).filter(Boolean);
}
