// What every page has: who is here, colours, log out, and logging in again without losing work.

import { api, onExpired, setCsrf } from "./api.js";
import { $, errorState, formOf, h, said, toast } from "./dom.js";
import { showKeys } from "./keys.js";

let reviewer = null;
export const me = () => reviewer;
export const mayReview = () => ["reviewer", "admin"].includes(reviewer?.role);

const THEMES = ["system", "light", "dark"];

function theme() {
  const button = $("#theme");
  const chosen = () => document.documentElement.dataset.theme ?? "system";
  const say = () => {
    button.setAttribute("aria-label", `Colours: ${chosen() === "system" ? "as the system" : chosen()}`);
    button.title = button.getAttribute("aria-label");
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* not remembered */ }
    say();
    document.dispatchEvent(new Event("colours"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("colours")));
  say();
}

/** Who is logged in; without a session the login page opens. Calls `start` with the person. */
export async function begin(start) {
  theme();
  $("#keys").addEventListener("click", showKeys);
  try {
    await introduce();
  } catch (error) {
    if (error.status === 401) return location.replace(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    return $("#content").replaceChildren(errorState(error, () => location.reload()));
  }
  onExpired(loginAgain);
  await start(reviewer);
}

async function introduce() {
  reviewer = await api("/me", { quiet: true });
  setCsrf(reviewer.csrf);
  $("#who").textContent = reviewer.accounts ? `${reviewer.user} · ${reviewer.role}` : "local, no accounts";
  if (!reviewer.accounts) $("#who").removeAttribute("href");
  $("#to-admin").hidden = reviewer.role !== "admin";
  const out = $("#logout");
  out.hidden = !reviewer.accounts;
  out.onclick = logOut;
}

async function logOut() {
  await api("/session", { method: "DELETE", quiet: true }).catch(() => {});
  for (const name of Object.keys(sessionStorage)) sessionStorage.removeItem(name);
  location.replace("/login");
}

let asking = null;

/** One dialog, however many requests wait for it. */
function loginAgain() {
  asking ??= askToLogIn().then((done) => {
    asking = null;
    if (!done) throw new Error("Not logged in. What you typed is still here.");
    toast("Logged in again. Nothing was lost.", "good");
  });
  return asking;
}

const askToLogIn = () => formOf("Your session has ended", [
  h("p", {}, "Log in to go on. What you typed is kept."),
  h("label", {}, "Name", h("input", { name: "name", value: reviewer?.user ?? "", autocomplete: "username", required: true })),
  h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "current-password", required: true, autofocus: true })),
  h("label", {}, "Code of your authenticator, if you have one", h("input", { name: "code", autocomplete: "one-time-code", inputmode: "numeric", maxlength: 16 })),
], "Log in", async (given) => {
  await logIn(given.get("name"), given.get("password"), given.get("code"));
  const before = reviewer?.user;
  await introduce();
  if (before && before !== reviewer.user) toast(`You are now ${reviewer.user}.`);
  return true;
}, { cancel: false });

export const logIn = (name, password, code = "") => api("/session", { method: "POST", body: { name, password, code }, quiet: true });

export function loginPage(whenDone) {
  theme();
  const form = $("#login");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = $("#fault");
    fault.hidden = true;
    try {
      await logIn(form.elements.name.value, form.elements.password.value, form.elements.code.value);
      whenDone();
    } catch (error) {
      fault.textContent = said(error);
      fault.hidden = false;
      form.elements.password.select();
    }
  });
}
