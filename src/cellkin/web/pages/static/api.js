// Requests to the API: errors as problems, CSRF, and a session that may end in the middle of work.

export class Problem extends Error {
  constructor(status, data) {
    super(sentence(data.detail || data.title || `The server answered ${status}`));
    this.status = status;
    this.data = data;
    this.mend = sentence(data.mend);
  }
}

/** The server's words as a sentence of a page. */
function sentence(text) {
  if (!text) return "";
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

let csrf = "";
let askLogin = null; // () => Promise; resolves once somebody is logged in again

export const setCsrf = (value) => { csrf = value || ""; };
export const onExpired = (ask) => { askLogin = ask; };

/** JSON in, JSON out. On a session that ended it asks to log in, then tries once more; `quiet`: it fails. */
export async function api(path, { method = "GET", body, quiet = false } = {}) {
  const session = csrf;
  const response = await send(path, method, body);
  if (response.status !== 401 || !askLogin || quiet) return read(response);
  await renewed(session);
  return read(await send(path, method, body));
}

/** A session after this one; an answer that comes after somebody logged in again asks nobody twice. */
async function renewed(session) {
  if (csrf === session) await askLogin();
}

async function send(path, method, body) {
  const sent = { Accept: "application/json" };
  if (method !== "GET") sent["X-CSRF-Token"] = csrf;
  if (body !== undefined && !(body instanceof FormData)) sent["Content-Type"] = "application/json";
  const data = body === undefined || body instanceof FormData ? body : JSON.stringify(body);
  try {
    return await fetch(`/api/v1${path}`, { method, headers: sent, body: data, credentials: "same-origin" });
  } catch {
    throw new Problem(0, { title: "The server cannot be reached.", mend: "Look whether it runs, then try again. What you typed is kept." });
  }
}

async function read(response) {
  const text = await response.text();
  let data = {};
  try { data = text ? JSON.parse(text) : {}; } catch { data = { title: response.ok ? "" : text.slice(0, 200) }; }
  if (!response.ok) throw new Problem(response.status, data ?? {});
  return data;
}

/** Upload with progress; FormData by XMLHttpRequest, since fetch tells none. */
export function upload(path, form, { key, progress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/v1${path}`);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", csrf);
    request.setRequestHeader("Idempotency-Key", key);
    request.upload.onprogress = (event) => progress(event.loaded, event.total);
    request.onerror = () => reject(new Problem(0, { title: "The connection broke during the upload.", mend: "Try again: nothing is added twice." }));
    request.onload = () => {
      let data = {};
      try { data = JSON.parse(request.responseText || "{}"); } catch { data = { title: request.statusText }; }
      if (request.status < 300) resolve(data); else reject(new Problem(request.status, data));
    };
    signal?.addEventListener("abort", () => { request.abort(); reject(new DOMException("stopped", "AbortError")); });
    request.send(form);
  });
}

/** As upload, but on a session that ended it asks to log in and tries once more. */
export async function uploadAgain(path, form, options) {
  const session = csrf;
  try {
    return await upload(path, form, options);
  } catch (error) {
    if (error.status !== 401 || !askLogin) throw error;
    await renewed(session);
    return upload(path, form, options);
  }
}

/** All pages of a list, each handed over as it comes. */
export async function everyPage(path, each, { limit = 200 } = {}) {
  for (let cursor = null; ;) {
    const at = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const found = await api(`${path}?limit=${limit}${at}`);
    each(found.items);
    cursor = found.next ?? null;
    if (cursor === null) return;
  }
}

export const cellUrl = (id) => `/cells/${encodeURIComponent(id)}`;
export const caseUrl = (id) => `/cases/${encodeURIComponent(id)}`;
export const imageOf = (id) => `/api/v1/cells/${encodeURIComponent(id)}/image`;
export const referenceImage = (id) => `/api/v1/atlas/cells/${encodeURIComponent(id)}/image`;
