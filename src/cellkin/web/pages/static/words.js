// Words for states and reasons, the same on every page.

/** What a case may be a smear of: its name, and what is said for it. */
export const SPECIMENS = [["", "not stated"], ["peripheral blood", "peripheral blood"], ["bone marrow", "bone marrow"]];

/** Why a cell is held: short for a tile, and as it is said on its own page. */
const HELD = {
  "lymphoblast proposed": ["lymphoblast?", "a lymphoblast is proposed"],
  "lymphoblast among neighbours": ["lymphoblast among its kin", "a lymphoblast is among its closest kin"],
  "lymphoblast in set": ["lymphoblast not ruled out", "a lymphoblast is in its prediction set"],
  "failed quality": ["poor picture", "the picture failed the quality gate"],
  "nothing proposed": ["no cell?", "no cell is seen in it"],
  "immature granulocyte proposed": ["immature granulocyte?", "an immature granulocyte is proposed"],
  "erythroblast proposed": ["erythroblast?", "an erythroblast is proposed"],
  "no class fits": ["unlike every class", "no class of the atlas is like it"],
  "set disagrees": ["set disagrees", "the prediction set does not hold the class of the vote alone"],
  "head disagrees": ["head disagrees", "the class head says another class than the vote"],
  tied: ["tied vote", "the vote was tied"],
  far: ["far from its kin", "it lies far from its kin"],
  "distance not judged": ["distance not judged", "how far it lies cannot be judged: too few held-out cells"],
};
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
