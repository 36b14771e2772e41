import { api, referenceImage } from "./api.js";
import { atlas, classes, mark, title } from "./classes.js";
import { $, errorState, h, percent, plural } from "./dom.js";
import { begin } from "./shell.js";
import { Plot } from "./plot.js";

const content = $("#content");
const SHOWN = 120;

begin(async () => {
  try {
    const [facts, map] = await Promise.all([atlas(), api("/atlas/map")]);
    draw(facts, map);
  } catch (error) {
    content.replaceChildren(errorState(error, () => location.reload()));
  }
});

function draw(facts, map) {
  const pictures = h("div", { class: "refs" });
  const heading = h("h2", {});
  const plot = new Plot({ points: map.points, words: map.words }, {
    link: (id) => { for (const b of pictures.children) b.classList.toggle("linked", b.dataset.id === id); },
    pick: (id) => show(`One cell`, map.points.filter((p) => p.id === id)),
    lasso: (found) => (found.length ? show(`${plural(found.length, "cell")} in the lasso`, found) : showClass("")),
  });
  const show = (words, found) => {
    heading.textContent = words;
    pictures.replaceChildren(...found.slice(0, SHOWN).map((p) => picture(p, plot)));
    if (found.length > SHOWN) pictures.append(h("p", { class: "soft" }, `and ${(found.length - SHOWN).toLocaleString("en")} more`));
  };
  const showClass = (name) => show(name ? `${title(name)}: ${plural(map.points.filter((p) => p.label === name).length, "reference cell")}` : `${plural(map.points.length, "reference cell")}`, map.points.filter((p) => !name || p.label === name));
  const choose = h("select", { onchange: (e) => showClass(e.target.value) }, h("option", { value: "" }, "every class"), classes().map((c) => h("option", { value: c.name }, title(c.name))));
  showClass("");
  content.replaceChildren(
    h("div", { class: "bar" }, h("h1", {}, "Atlas"), facts.drawn ? h("span", { class: "badge warn" }, "drawn cells: synthetic, no real blood") : null, h("span", { class: "soft" }, `${plural(facts.cells ?? map.points.length, "reference cell")} vote, the nearest ${facts.k} at a time`)),
    h("div", { class: "two" },
      h("section", { class: "card", "aria-label": "Map" }, plot.node),
      h("section", { class: "card", "aria-label": "Reference cells" }, h("div", { class: "bar" }, heading, h("label", { class: "grow" }, h("span", { class: "hush" }, "Class"), choose)), h("div", { class: "chosen" }, pictures))),
    h("div", { class: "two about" }, about(facts), classTable(facts)));
}

function picture(p, plot) {
  const on = () => plot.link(p.id);
  return h("button", { type: "button", "data-id": p.id, title: `${title(p.label)}${p.subject ? `, subject ${p.subject}` : ""}, ${p.id}`, "aria-label": `${title(p.label)}, ${p.id}`, onpointerenter: on, onfocus: on, onpointerleave: () => plot.link(null) },
    h("img", { src: referenceImage(p.id), alt: "", loading: "lazy" }));
}

function classTable(facts) {
  return h("section", { class: "card" }, h("h2", {}, "Classes"), h("table", {},
    h("thead", {}, h("tr", {}, ["Class", "Means", "Cells"].map((t) => h("th", { scope: "col", class: t === "Cells" ? "num" : "" }, t)))),
    h("tbody", {}, facts.classes.map((c) => h("tr", {}, h("th", { scope: "row" }, mark(c.name), " ", title(c.name)), h("td", {}, c.clinical), h("td", { class: "num" }, c.count.toLocaleString("en")))))),
  facts.positive ? null : h("p", { class: "soft" }, "This atlas knows no lymphoblasts and cannot exclude one."));
}

function about(facts) {
  const test = facts.test ?? {};
  const share = (v) => (typeof v === "number" ? percent(v, 1) : null);
  const rows = [
    ["Data set", facts.dataset?.name ?? facts.dataset ?? facts.provenance?.dataset], ["Specimen", facts.specimen ?? facts.dataset?.specimen], ["Stain", facts.stain ?? facts.dataset?.stain],
    ["Network", facts.backbone], ["Distance", facts.distance], ["Kin that vote", facts.k], ["Split by", facts.split?.unit],
    ["Test accuracy", share(test.accuracy)], ["Atlas", facts.id], ["Made", facts.provenance?.created], ["cellkin", facts.provenance?.version],
  ].filter(([, v]) => v !== undefined && v !== null && v !== "" && typeof v !== "object");
  return h("section", { class: "card" }, h("h2", {}, "About this atlas"), h("dl", { class: "pairs" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", { class: "num" }, String(value))])));
}
