import { api, caseUrl, cellUrl } from "./api.js";
import { atlas, isBlast, mark, title } from "./classes.js";
import { $, errorState, h, percent, plural, s, when } from "./dom.js";
import { key } from "./keys.js";
import { begin } from "./shell.js";
import { ABOUT_ATLAS, DISPOSITION, flagClass, heldLong, signedWords } from "./words.js";

const id = decodeURIComponent(location.pathname.split("/")[2]);
const content = $("#content");
const wanted = new URLSearchParams(location.search).get("revision");

begin(async () => {
  key("b", "back to the case", () => { location.href = caseUrl(id); });
  key("d", "the PDF", () => { $("#pdf")?.click(); });
  try {
    const [report, record] = await Promise.all([api(`/cases/${encodeURIComponent(id)}/report.json${wanted ? `?revision=${encodeURIComponent(wanted)}` : ""}`), api(`/cases/${encodeURIComponent(id)}`), atlas()]);
    document.title = `Report ${report.case.pseudonym} · cellkin`;
    draw(report, record.flags.filter((f) => ABOUT_ATLAS.includes(f)));
  } catch (error) {
    content.replaceChildren(errorState(error, () => location.reload()));
  }
});

function draw(report, about) {
  const c = report.case;
  const changed = report.cells.filter((cell) => cell.state === "reclassified");
  const decisive = report.cells.filter((cell) => cell.held && cell.state !== "reclassified");
  content.replaceChildren(h("div", { class: "sheet" },
    h("div", { class: "case-top" },
      h("div", {}, h("div", { class: "title" }, h("h1", {}, "Report on ", h("a", { href: caseUrl(id) }, c.pseudonym)), status(report), about.map((f) => h("span", { class: `badge ${flagClass(f)}` }, f))),
        h("div", { class: "facts" }, h("span", {}, plural(report.cells.length, "object")), c.accession ? h("span", {}, `accession ${c.accession}`) : null, h("span", {}, c.specimen ?? "specimen not stated"), h("span", {}, c.consecutive ? "consecutive cells" : "selected cells"), c.note ? h("span", {}, c.note) : null)),
      h("div", { class: "actions" }, files())),
    said(c),
    differential(report),
    table("Reclassified: proposed beside signed", changed, "No cell was reclassified."),
    table(report.signed ? "Held cells, opened and confirmed singly" : "Held cells", decisive, "No other cell was held."),
    versions(report)));
}

const said = (c) => (c.conclusion || c.remarks ? h("section", { class: "card" }, h("h2", {}, c.conclusion ? "Conclusion" : "Remarks"), c.conclusion ? h("p", {}, c.conclusion) : null, c.remarks ? h("p", {}, `Red cells and platelets: ${c.remarks}`) : null) : "");

const address = (kind) => `/api/v1/cases/${encodeURIComponent(id)}/report.${kind}${wanted ? `?revision=${encodeURIComponent(wanted)}` : ""}`;

const files = () => [
  h("a", { class: "button main", id: "pdf", href: address("pdf"), download: "" }, h("kbd", {}, "D"), "PDF"),
  h("a", { class: "button", href: address("html"), target: "_blank", rel: "noopener" }, "Page to print"),
  h("a", { class: "button", href: address("csv"), download: "" }, "CSV"),
  h("a", { class: "button", href: address("json"), download: "" }, "JSON"),
];

function status(report) {
  const signed = report.signed ?? null;
  if (!signed) return h("span", { class: "badge warn" }, "draft: not signed");
  return h("span", { class: "badge good" }, `version ${report.case.revision} signed by ${report.signed_by}, ${when(signed)}`);
}

function differential(report) {
  const d = report.differential;
  const rows = d.rows.map((row) => h("tr", {},
    h("th", { scope: "row" }, row.title), h("td", { class: "num" }, row.n.toLocaleString("en")),
    h("td", { class: "num" }, percent(row.share, 1)), h("td", { class: "num" }, `${percent(row.low, 1)} to ${percent(row.high, 1)}`), h("td", {}, interval(row))));
  return h("section", { class: "card" },
    h("h2", {}, d.consecutive ? `Differential over ${plural(d.n, "white cell")}` : `Counts of ${plural(d.n, "white cell")}: not a differential`),
    d.warnings.map((w) => h("p", { class: "why" }, h("span", { class: "badge warn" }, "note"), ` ${w}`)),
    d.rows.length ? h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Class", "n", "Share", `${percent(d.level)} interval`, ""].map((t, i) => h("th", { scope: "col", class: i && i < 4 ? "num" : "" }, t)))), h("tbody", {}, rows))) : h("p", { class: "state" }, "No white cell was counted."),
    h("p", { class: "soft small" }, [
      Object.entries(d.excluded).length ? `Outside the count: ${Object.entries(d.excluded).map(([what, n]) => `${DISPOSITION[what] ?? what} ${n}`).join(", ")}.` : "Nothing was left out of the count.",
      d.erythroblasts ? ` Erythroblasts: ${d.erythroblasts}${d.per_100 === null ? "" : `, ${d.per_100.toFixed(1)} per 100 white cells`}.` : "",
      " Intervals: Clopper-Pearson, each class by itself. No share is compared with a limit; the report makes no diagnosis."]));
}

function interval(row) {
  const bar = s("svg", { class: "ci", viewBox: "0 0 200 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "track", y: 5, width: 200, height: 4 }), s("rect", { class: "range", x: 200 * row.low, y: 4, width: Math.max(1, 200 * (row.high - row.low)), height: 6 }), s("rect", { class: "at", x: Math.min(197, 200 * row.share - 1.5), y: 1, width: 3, height: 12 }));
  return bar;
}

function table(heading, cells, none) {
  if (!cells.length) return h("section", {}, h("h2", {}, heading), h("p", { class: "soft" }, none));
  const shown = cells.slice(0, 200);
  return h("section", {}, h("h2", {}, `${heading} (${cells.length.toLocaleString("en")})`), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Cell", "Proposed", "Signed", "By", "Why held, reason, comment"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, shown.map(line)))),
  cells.length > shown.length ? h("p", { class: "soft" }, `The first ${shown.length} are shown; CSV and PDF hold all.`) : null);
}

function line(cell) {
  const words = [cell.held && cell.held_reasons.length ? cell.held_reasons.map(heldLong).join("; ") : "", cell.reason ? `reason: ${cell.reason}` : "", cell.comment ? `comment: ${cell.comment}` : ""];
  return h("tr", {}, h("th", { scope: "row" }, h("a", { href: cellUrl(cell.id) }, cell.name)),
    h("td", {}, mark(cell.proposed), " ", title(cell.proposed)),
    h("td", {}, h(isBlast(cell.final) ? "b" : "span", {}, signedWords(cell, title) || "not yet")),
    h("td", { class: "soft" }, cell.reviewed_by ?? "–"), h("td", { class: "soft small" }, words.filter(Boolean).join(" · ")));
}

function versions(report) {
  return h("section", {}, h("h2", {}, "Versions"),
    h("table", {}, h("tbody", {}, report.revisions.map((r) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: `?revision=${r.revision}` }, `version ${r.revision}`)),
      h("td", {}, versionState(r, report)), h("td", { class: "soft" }, r.reason || ""))))),
    h("p", { class: "soft small" }, `cellkin ${report.version}; atlases: ${Object.keys(report.atlases).map((a) => a.slice(0, 12)).join(", ") || "none"}; ${plural(report.history.length, "entry", "entries")} of the log concern this case.`));
}

/** A signed document was frozen before its own signature could be listed in it. */
function versionState(revision, report) {
  const own = revision.revision === report.case.revision && report.signed ? report : revision;
  return own.signed ? `signed by ${own.signed_by}, ${when(own.signed)}` : "open";
}
