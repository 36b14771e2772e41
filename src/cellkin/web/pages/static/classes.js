// The classes of the atlas: colours and shapes (as in the reports), titles, digits.

import { api } from "./api.js";
import { s } from "./dom.js";

// Okabe and Ito's colour-blind safe colours without black and yellow, and two of Paul Tol's.
const COLORS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#882255", "#999933"];
const DARK = { "#882255": "#b5487d" };
const SHAPES = [
  "M7,0A7,7 0 1,1 -7,0A7,7 0 1,1 7,0Z",
  "M0,-8L8,7L-8,7Z",
  "M0,-9L8,0L0,9L-8,0Z",
  "M0,8L8,-7L-8,-7Z",
  "M-3,-8H3V-3H8V3H3V8H-3V3H-8V-3H-3Z",
  "M-8,-5L-5,-8L0,-3L5,-8L8,-5L3,0L8,5L5,8L0,3L-5,8L-8,5L-3,0Z",
  "M0,-9L2.4,-3L9,-3L3.8,1L5.6,8L0,4L-5.6,8L-3.8,1L-9,-3L-2.4,-3Z",
];

let facts = null;
let byName = new Map();

/** The facts of the atlas, asked for once a page. */
export async function atlas() {
  if (facts) return facts;
  facts = await api("/atlas");
  byName = new Map(facts.classes.map((c, i) => [c.name, { ...c, index: i }]));
  return facts;
}

/** The facts that `atlas` fetched. */
export const atlasFacts = () => facts;
export const classes = () => [...byName.values()];
export const title = (name) => byName.get(name)?.title ?? name ?? "–";
export const clinical = (name) => byName.get(name)?.clinical;
export const isBlast = (name) => clinical(name) === "lymphoblast";
export const dispositions = () => facts?.dispositions ?? [];

const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

export function color(name) {
  const found = COLORS[(byName.get(name)?.index ?? 0) % COLORS.length];
  return dark() ? DARK[found] ?? found : found;
}

const paths = new Map();
export function shape(name) {
  const text = SHAPES[(byName.get(name)?.index ?? 0) % SHAPES.length];
  if (!paths.has(text)) paths.set(text, new Path2D(text));
  return paths.get(text);
}

export function mark(name) {
  const text = SHAPES[(byName.get(name)?.index ?? 0) % SHAPES.length];
  return s("svg", { class: "mark", viewBox: "-10 -10 20 20", "aria-hidden": "true" }, s("path", { d: text, fill: color(name) }));
}
