import { api } from "./api.js";
import { $, ask, errorState, formOf, h, loading, plural, said, toast, when } from "./dom.js";
import { begin } from "./shell.js";

const content = $("#content");
let who = null;
let tab = "";

const TABS = {
  users: ["Users", drawUsers, () => who.role === "admin"],
  tokens: ["My tokens", drawTokens, () => who.accounts],
  password: ["My password", drawPassword, () => who.accounts],
  log: ["Log", drawLog, () => who.role === "admin"],
};

begin(async (me) => {
  who = me;
  const open = Object.keys(TABS).filter((name) => TABS[name][2]());
  if (!open.length) {
    return content.replaceChildren(h("div", { class: "state" }, h("h2", {}, "Nothing to administer here"),
      h("p", {}, who.accounts ? "Users and the log are for administrators." : "This workstation runs without accounts, for one person on this machine. Start it with accounts to add people; the log is read with cellkin log.")));
  }
  const asked = location.hash.slice(1);
  show(open.includes(asked) ? asked : open[0], open);
});

function show(name, open) {
  tab = name;
  history.replaceState(null, "", `#${name}`);
  const box = h("div", {}, loading());
  content.replaceChildren(h("div", { class: "bar" }, h("h1", {}, who.role === "admin" ? "Administration" : "Account"),
    h("span", { class: "group", role: "group", "aria-label": "What" }, open.map((one) => h("button", { type: "button", "aria-pressed": String(one === tab), onclick: () => show(one, open) }, TABS[one][0])))), box);
  TABS[name][1](box).catch((error) => box.replaceChildren(errorState(error, () => show(name, open))));
}

// users -----------------------------------------------------------------------------------------

async function drawUsers(box) {
  const { items } = await api("/users");
  box.replaceChildren(
    h("p", { class: "actions" }, h("button", { type: "button", class: "main", onclick: () => addUser(box) }, "Add a person")),
    h("div", { class: "scroll" }, h("table", { "aria-label": "Users" }, h("thead", {}, h("tr", {}, ["Name", "Role", "Groups", "State", "Made", ""].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, items.map((u) => h("tr", {}, h("th", { scope: "row" }, u.name), h("td", {}, role(u, box)), h("td", {}, groups(u, box)),
        h("td", {}, h("span", { class: `badge ${u.disabled ? "bad" : "good"}` }, u.disabled ? "closed" : "open")), h("td", { class: "soft" }, when(u.created), u.created_by ? ` · ${u.created_by}` : ""),
        h("td", {}, u.name === who.user ? "you" : h("button", { type: "button", onclick: () => change(u, { disabled: !u.disabled }, box) }, u.disabled ? "Open again" : "Close the account"))))))));
}

function role(user, box) {
  if (user.name === who.user) return user.role;
  return h("select", { "aria-label": `Role of ${user.name}`, onchange: (e) => change(user, { role: e.target.value }, box) }, ["viewer", "reviewer", "admin"].map((r) => h("option", { selected: r === user.role }, r)));
}

function groups(user, box) {
  const named = user.groups.join(", ") || "none";
  return h("button", { type: "button", "aria-label": `${named}: groups of ${user.name}`, onclick: () => changeGroups(user, box) }, named);
}

async function changeGroups(user, box) {
  const done = await formOf(`Groups of ${user.name}`, [
    h("p", { class: "soft" }, "Cases of a group are there for its people and for admins alone. One name in a line."),
    h("label", {}, "Groups", h("textarea", { name: "groups", rows: 4 }, user.groups.join("\n"))),
  ], "Save", (given) => api(`/users/${encodeURIComponent(user.name)}`, { method: "PATCH", body: { groups: given.get("groups").split("\n").map((g) => g.trim()).filter(Boolean) } }));
  if (done) await drawUsers(box);
}

async function change(user, what, box) {
  try { await api(`/users/${encodeURIComponent(user.name)}`, { method: "PATCH", body: what }); } catch (error) { toast(said(error), "bad"); }
  await drawUsers(box);
}

async function addUser(box) {
  const added = await formOf("Add a person", [
    h("label", {}, "Name", h("input", { name: "name", required: true, maxlength: 100, autocomplete: "off", autofocus: true })),
    h("label", {}, "First password", h("input", { name: "password", type: "password", required: true, maxlength: 200, autocomplete: "new-password" })),
    h("label", {}, "Role", h("select", { name: "role" }, [["reviewer", "reviewer: decides and signs"], ["viewer", "viewer: looks"], ["admin", "admin: keeps the house"]].map(([v, t]) => h("option", { value: v }, t)))),
  ], "Add", (given) => api("/users", { method: "POST", body: Object.fromEntries(given) }));
  if (added) { toast(`${added.name} can log in now.`, "good"); await drawUsers(box); }
}

// own password ----------------------------------------------------------------------------------

async function drawPassword(box) {
  const field = (name, text, kind) => h("label", {}, text, h("input", { name, type: "password", required: true, maxlength: 200, autocomplete: kind }));
  const fault = h("p", { class: "fault", role: "alert", hidden: true });
  const form = h("form", { class: "card narrow" }, h("p", { class: "soft" }, "12 characters at least; several words that have nothing to do with each other are good. All your sessions and tokens end."),
    field("current", "Present password", "current-password"), field("new", "New password", "new-password"), field("again", "New password again", "new-password"), fault, h("button", { class: "main", type: "submit" }, "Change it"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    fault.hidden = true;
    try {
      if (given.get("new") !== given.get("again")) throw new Error("The two new passwords differ.");
      await api("/me/password", { method: "POST", body: { current: given.get("current"), new: given.get("new") } });
      location.assign("/login");
    } catch (error) { fault.textContent = said(error); fault.hidden = false; }
  });
  box.replaceChildren(form);
}

// tokens ----------------------------------------------------------------------------------------

const SCOPES = { read: "read", upload: "make cases, upload", review: "review and sign", admin: "administer" };

async function drawTokens(box) {
  const { items } = await api("/tokens");
  box.replaceChildren(
    h("div", { class: "bar" }, h("p", { class: "soft grow" }, "Tokens let programs use the API in your name, never with more than your role."), h("button", { type: "button", class: "main", onclick: () => addToken(box) }, "Make a token")),
    items.length ? h("div", { class: "scroll" }, h("table", { "aria-label": "Tokens" }, h("thead", {}, h("tr", {}, ["Title", "May", "Made", "Ends", ""].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, items.map((t) => h("tr", {}, h("th", { scope: "row" }, t.title || t.id), h("td", {}, t.scopes.join(", ")), h("td", { class: "soft" }, when(t.created)), h("td", { class: "soft" }, t.ended ? "ended" : when(t.expires)),
        h("td", {}, t.ended ? "" : h("button", { type: "button", onclick: () => endToken(t, box) }, "End"))))))) : h("div", { class: "state" }, h("h2", {}, "No tokens"), h("p", {}, "Make one for a script that uploads or reads.")));
}

async function endToken(token, box) {
  try { await api(`/tokens/${encodeURIComponent(token.id)}`, { method: "DELETE" }); } catch (error) { toast(error.message, "bad"); }
  await drawTokens(box);
}

async function addToken(box) {
  const made = await formOf("Make a token", [
    h("label", {}, "Title", h("input", { name: "title", maxlength: 100, autocomplete: "off", autofocus: true })),
    h("fieldset", {}, h("legend", {}, "It may"), Object.entries(SCOPES).map(([v, t]) => h("label", { class: "check" }, h("input", { type: "checkbox", name: "scopes", value: v, checked: v === "read" }), t))),
    h("label", {}, "Days", h("input", { name: "days", type: "number", min: 1, max: 366, value: "30" })),
  ], "Make", (given) => api("/tokens", { method: "POST", body: { title: given.get("title"), scopes: given.getAll("scopes"), days: Number(given.get("days")) } }));
  if (!made) return;
  await ask("Copy the token now", (done) => [h("p", {}, "It is shown this once."), h("p", { class: "secret", id: "secret" }, made.secret), h("p", { class: "actions" }, h("button", { type: "button", class: "main", onclick: () => done(null) }, "Done"))]);
  await drawTokens(box);
}

// log -------------------------------------------------------------------------------------

async function drawLog(box) {
  const rows = h("tbody", {});
  const more = h("button", { type: "button" }, "Earlier entries");
  let cursor = null;
  const load = async () => {
    const found = await api(`/log?limit=100${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    rows.append(...found.items.map(entry));
    cursor = found.next;
    more.hidden = !cursor;
    return found.items;
  };
  more.addEventListener("click", load);
  const first = await load();
  const state = h("span", { class: "soft" }, "");
  const check = async () => {
    state.textContent = "Checking every link …";
    const found = await api("/log/check");
    state.replaceChildren(h("span", { class: `badge ${found.faults.length ? "bad" : "good"}` }, found.faults.length ? found.faults.join("; ") : `${plural(found.entries, "entry", "entries")}: the chain is intact`));
  };
  box.replaceChildren(h("div", { class: "bar" }, h("p", { class: "soft" }, "Who did what, when, before and after. Nothing is ever taken out; every entry carries the hash of the one before."), h("button", { type: "button", onclick: check }, "Check the chain"), state),
    first.length ? h("div", { class: "scroll" }, h("table", { class: "log", "aria-label": "Log" }, h("thead", {}, h("tr", {}, ["No.", "When", "Who", "What", "Case, cell", "Before and after"].map((t) => h("th", { scope: "col" }, t)))), rows)) : h("p", { class: "state" }, "Nothing was done yet."), h("p", { class: "state" }, more));
}

function entry(e) {
  return h("tr", {}, h("td", { class: "num" }, String(e.number)), h("td", { class: "soft" }, when(e.at)), h("td", {}, e.user, h("span", { class: "soft" }, ` ${e.role}, ${e.how}`)), h("td", {}, e.action),
    h("td", {}, e.case ? h("a", { href: `/cases/${encodeURIComponent(e.case)}` }, e.case) : "", " ", e.cell ? h("a", { href: `/cells/${encodeURIComponent(e.cell)}` }, e.cell) : ""),
    h("td", {}, h("details", {}, h("summary", { class: "soft" }, brief(e.after)), h("code", {}, JSON.stringify({ before: e.before, after: e.after, hash: e.hash }, null, 1)))));
}

function brief(after) {
  if (!after || typeof after !== "object") return String(after ?? "–");
  const names = Object.keys(after);
  const said = names.filter((n) => ["string", "number", "boolean"].includes(typeof after[n]) && after[n] !== "").slice(0, 3).map((n) => `${n}: ${String(after[n]).slice(0, 40)}`);
  return said.join(", ") || names.slice(0, 3).join(", ") || "–";
}
