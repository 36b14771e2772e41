import { api } from "./api.js";
import { $, errorState, h, number, plural, s } from "./dom.js";
import { begin } from "./shell.js";

const content = $("#content");
const WIDE = 640, TALL = 190, LEFT = 46, RIGHT = 12, TOP = 12, BOTTOM = 26;

begin(async () => {
  try {
    draw((await api("/drift")).charts);
  } catch (error) {
    content.replaceChildren(errorState(error, () => location.reload()));
  }
});

function draw(charts) {
  const alarms = charts.filter((chart) => chart.alarm);
  const state = alarms.length
    ? h("p", { class: "badge warn" }, `beyond a limit: ${alarms.map((c) => c.title.toLowerCase()).join(", ")}`)
    : h("p", { class: "badge" }, charts.length ? "within the limits" : "nothing is measured yet");
  content.replaceChildren(
    h("div", { class: "bar" }, h("h1", {}, "Drift"), state),
    h("p", { class: "soft" }, "Do the cells still look as those of the atlas? Each dot is a day, the median over its cells; the band is what is usual for the atlas. Days of fewer than ten cells are drawn small and not judged. Cells that were added by an earlier version of cellkin are not in it."),
    charts.length ? h("div", { class: "two drifts" }, charts.map(card)) : h("p", { class: "state" }, "Upload cells to a case: their day appears here."));
}

function card(chart) {
  const last = chart.days[chart.days.length - 1];
  return h("section", { class: `card drift${chart.alarm ? " alarm" : ""}`, "aria-label": chart.title },
    h("h2", {}, chart.title), h("p", { class: "soft small" }, chart.unit),
    picture(chart),
    h("p", { class: chart.alarm ? "fault" : "" }, chart.words),
    h("details", {}, h("summary", {}, `${plural(chart.days.length, "day")}, the last ${last.day}`), table(chart)));
}

function table(chart) {
  const rows = [...chart.days].reverse().slice(0, 60);
  return h("table", {},
    h("thead", {}, h("tr", {}, ["Day", "Cells", "Median", ""].map((t, i) => h("th", { scope: "col", class: i === 1 || i === 2 ? "num" : "" }, t)))),
    h("tbody", {}, rows.map((d) => h("tr", {}, h("th", { scope: "row" }, d.day), h("td", { class: "num" }, d.cells.toLocaleString("en")), h("td", { class: "num" }, number(d.median)), h("td", {}, d.beyond ? "beyond" : "")))));
}

function picture(chart) {
  const times = chart.days.map((d) => Date.parse(d.day));
  const bounds = [chart.low, chart.high].filter((v) => v !== null);
  const values = [...chart.days.map((d) => d.median), ...bounds];
  const room = (Math.max(...values) - Math.min(...values) || 1) * 0.12;
  const [low, high] = [Math.min(...values) - room, Math.max(...values) + room];
  const span = Math.max(times[times.length - 1] - times[0], 1);
  const x = (t) => (times.length === 1 ? (LEFT + WIDE - RIGHT) / 2 : LEFT + ((t - times[0]) / span) * (WIDE - LEFT - RIGHT - 8) + 4);
  const y = (v) => TALL - BOTTOM - ((v - low) / (high - low)) * (TALL - TOP - BOTTOM);
  const top = chart.high === null ? TOP : y(chart.high), foot = chart.low === null ? TALL - BOTTOM : y(chart.low);
  const line = chart.days.map((d, i) => `${i ? "L" : "M"}${x(times[i]).toFixed(1)},${y(d.median).toFixed(1)}`).join("");
  const limit = (v) => [s("line", { class: "limit", x1: LEFT, x2: WIDE - RIGHT, y1: y(v), y2: y(v) }), s("text", { class: "axis end", x: LEFT - 6, y: y(v) + 4 }, number(v))];
  return s("svg", { class: "chart", viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": `${chart.title} by day. ${chart.words}` },
    s("rect", { class: "usual", x: LEFT, width: WIDE - LEFT - RIGHT, y: top, height: Math.max(foot - top, 0) }),
    bounds.map(limit),
    s("path", { class: "course", d: line }),
    chart.days.map((d, i) => s("circle", { class: d.beyond ? "dot beyond" : "dot", cx: x(times[i]).toFixed(1), cy: y(d.median).toFixed(1), r: d.cells < 10 ? 2.2 : 4 }, s("title", {}, `${d.day}: ${number(d.median)}, ${plural(d.cells, "cell")}`))),
    s("text", { class: "axis", x: LEFT, y: TALL - 8 }, chart.days[0].day),
    chart.days.length > 1 ? s("text", { class: "axis end", x: WIDE - RIGHT, y: TALL - 8 }, chart.days[chart.days.length - 1].day) : null);
}
