// Building pages out of text: nothing here takes markup, so no name or comment can become any.

/** h("p", {class: "x", onclick: f}, "text", node, [more]). */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  node.append(...flat(children));
  return node;
}

function set(node, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (["value", "checked", "disabled", "hidden", "selected", "indeterminate"].includes(name)) node[name] = value;
  else node.setAttribute(name, value === true ? "" : value);
}

const flat = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);

export const SVG = "http://www.w3.org/2000/svg";
export function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...flat(children));
  return node;
}

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const MOST_TOASTS = 3;

export function toast(text, kind = "") {
  const node = h("p", { class: `toast ${kind}` }, text);
  const box = $("#toasts");
  box.append(node);
  while (box.children.length > MOST_TOASTS) box.firstElementChild.remove();
  setTimeout(() => node.remove(), kind === "bad" ? 12000 : 5000);
}

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
/** A share as "97.4 %"; only the whole is "100 %", only nothing is "0 %". */
export function percent(share, digits = 0) {
  const shown = (100 * share).toFixed(digits);
  if (share < 1 && Number(shown) >= 100) return `over ${(100 - 10 ** -digits).toFixed(digits)} %`;
  if (share > 0 && Number(shown) === 0) return `under ${(10 ** -digits).toFixed(digits)} %`;
  return `${share === 0 || share === 1 ? shown.split(".")[0] : shown} %`;
}

export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : "infinite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size < 1e-4 || size >= 1e6) {
    const [mantissa, power] = size.toExponential(digits - 1).split("e");
    return `${sign}${mantissa} × 10${[...String(Number(power))].map((c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]).join("")}`;
  }
  return sign + (size >= 10 ** (digits - 1) ? size.toFixed(0) : size.toPrecision(digits));
}

/** "24 Nov 2026, 14:02" in the reader's zone. */
export function when(iso) {
  if (!iso) return "–";
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
}

/** What went wrong and how to mend it. */
export const said = (error) => [error.message, error.mend].filter(Boolean).join(" ");

export function errorState(error, again) {
  return h("div", { class: "state error", role: "alert" },
    h("h2", {}, error.status === 404 ? "Nothing is here" : error.message),
    error.status === 404 ? h("p", {}, error.message) : null,
    error.mend ? h("p", {}, error.mend) : null,
    again ? h("p", {}, h("button", { type: "button", onclick: again }, "Try again"), " ", h("a", { href: "/" }, "To the worklist")) : null);
}

export const loading = (text = "Loading …") => h("p", { class: "state loading", role: "status" }, text);

/** A dialog that ends with what was chosen, or null; `build(done)` gives its content. */
export function ask(title, build) {
  return new Promise((resolve) => {
    const back = document.activeElement;
    const box = h("dialog", { "aria-label": title });
    const done = (value) => { box.returned = value; box.close(); };
    box.append(h("h2", {}, title), ...flat([build(done)]));
    box.addEventListener("close", () => { box.remove(); back?.focus?.(); resolve(box.returned ?? null); });
    document.body.append(box);
    box.showModal();
  });
}

/** A dialog with a form that stays open, with what was typed, while the server refuses it. */
export function formOf(heading, fields, go, send, { cancel = true } = {}) {
  return ask(heading, (done) => {
    const fault = h("p", { class: "fault", role: "alert", hidden: true });
    const submit = async (event) => {
      event.preventDefault();
      try { done(await send(new FormData(event.target))); } catch (error) {
        fault.textContent = said(error);
        fault.hidden = false;
      }
    };
    return h("form", { onsubmit: submit }, fields, fault, h("p", { class: "actions" },
      cancel ? h("button", { type: "button", onclick: () => done(null) }, "Cancel") : null, h("button", { class: "main", type: "submit" }, go)));
  });
}

/** Storage that may be forbidden. */
export const memory = {
  get(key, store = sessionStorage) { try { return JSON.parse(store.getItem(key)); } catch { return null; } },
  set(key, value, store = sessionStorage) {
    try { if (value === null) store.removeItem(key); else store.setItem(key, JSON.stringify(value)); } catch { /* full or forbidden: then it is not remembered */ }
  },
};
