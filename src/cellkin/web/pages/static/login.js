import { loginPage } from "./shell.js";

/** Only addresses of this very server. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  const url = new URL(wanted, location.origin);
  return url.origin === location.origin ? url.href : "/";
}

loginPage(() => location.replace(next()));
