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

/** Offered where a reason is asked. */
export const REASONS = ["chromatin", "nucleoli", "nuclear shape", "nucleus to cytoplasm", "cytoplasm colour", "granules", "size", "broken cell", "stain precipitate", "picture quality"];

const BAD = { "lymphoblast proposed": "bad", "does not fit its atlas": "bad", "fewer than 100 cells": "", duplicates: "" };
/** How much a flag of a case alarms. */
export const flagClass = (flag) => BAD[flag] ?? "warn";
/** Flags that belong to all that is said about a case: also to each of its cells and to its report. */
export const ABOUT_ATLAS = ["does not fit its atlas", "other specimen", "drawn atlas"];
