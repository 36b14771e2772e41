// Words for states and reasons, the same on every page.

import { HELD } from "./held.js"; // made of what the server knows

/** What a case may be a smear of: its name, and what is said for it. */
export const SPECIMENS = [["", "not stated"], ["peripheral blood", "peripheral blood"], ["bone marrow", "bone marrow"]];

export const heldShort = ([first, ...more]) => `${HELD[first]?.[0] ?? first}${more.length ? ` +${more.length}` : ""}`;
export const heldLong = (reason) => HELD[reason]?.[1] ?? reason;

export const DISPOSITION = {
  "smudge cell": "smudge cell",
  artefact: "artefact, not a cell",
  unidentifiable: "unidentifiable",
};

/** What a person made of a cell, in words; empty while only the proposal is there. */
export function signedWords(cell, title) {
  if (cell.state === "proposed") return "";
  if (cell.disposition !== "cell") return DISPOSITION[cell.disposition] ?? cell.disposition;
  return title(cell.final ?? cell.proposed);
}

export const agreementOf = (decision) => {
  const k = decision.neighbors?.length ?? 0;
  return k ? `${Math.round(decision.agreement * k)} of ${k} kin` : "";
};

export function missingForSigning(record) {
  return [
    { done: record.cells > 0, say: record.cells ? `${record.cells.toLocaleString("en")} cells` : "no cells yet", what: "cells" },
    { done: record.to_confirm === 0, say: record.to_confirm ? `${record.to_confirm.toLocaleString("en")} of ${record.held.toLocaleString("en")} held cells to open and confirm` : record.held ? `all ${record.held.toLocaleString("en")} held cells confirmed` : "no cell is held", what: "held" },
    { done: record.unseen === 0, say: record.unseen ? `${record.unseen.toLocaleString("en")} other cells not yet on screen` : "all other cells were on screen", what: "unseen" },
  ];
}
