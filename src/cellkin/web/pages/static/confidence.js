// How sure: in words and numbers, as the server said them.

import { mark } from "./classes.js";
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
