// Deciding on one cell: confirm, another class or none, with a reason; nothing typed is ever lost.

import { api } from "./api.js";
import { classes, dispositions, mark, title } from "./classes.js";
import { $, h, memory, said, toast, when } from "./dom.js";
import { LETTERS, needed } from "./sorting.js";
import { DISPOSITION, REASONS, signedWords } from "./words.js";


export class Review {
  /** host: { cell(), record(), ready(), noted(), writable(), saved(cell, record), next(), refresh() }. */
  constructor(host) {
    this.host = host;
    this.node = h("section", { class: "card review-panel", "aria-label": "Review" });
    this.conflict = null;
    this.busy = false;
  }

  get key() { return `draft:${this.host.cell().id}`; }

  /** What is typed and chosen on this cell, from memory. */
  get draft() { return memory.get(this.key) ?? { choice: null, reason: "", comment: null }; }

  keep(change) { memory.set(this.key, { ...this.draft, ...change }); }

  open() { this.conflict = null; this.draw(); }

  /** The evidence is on screen: now it may be decided. What is typed and focused stays. */
  wake() { for (const button of this.node.querySelectorAll("button:disabled")) button.disabled = false; }

  draw() {
    const cell = this.host.cell();
    if (!this.host.writable()) return this.node.replaceChildren(h("div", { class: "review" }, h("h2", {}, "Review"), this.standing(cell), this.readOnly()));
    const { draft } = this;
    const asked = draft.choice !== null && draft.choice !== cell.proposed;
    this.node.replaceChildren(h("div", { class: "review" },
      h("div", { class: "bar-line" }, h("h2", {}, "Review"), this.standing(cell)),
      this.conflict,
      h("button", { type: "button", class: draft.choice === null || draft.choice === cell.proposed ? "main" : "", id: "confirm", disabled: !this.host.ready(), onclick: () => this.choose(cell.proposed) }, h("kbd", {}, "C"), `Confirm: ${title(cell.proposed)}`),
      h("div", { class: "choices", role: "group", "aria-label": "Another class, or no cell" }, this.choices(cell, draft)),
      this.form(cell, draft, asked)));
  }

  standing(cell) {
    const signed = signedWords(cell, title);
    if (!signed) return h("p", { class: "soft" }, "Proposed: ", mark(cell.proposed), " ", title(cell.proposed));
    return h("p", {}, h("b", {}, signed), h("span", { class: "soft" }, ` by ${cell.reviewed_by ?? "–"}, ${when(cell.reviewed)}; proposed ${title(cell.proposed)}${cell.reason ? ` · “${cell.reason}”` : ""}${cell.comment ? ` · comment: “${cell.comment}”` : ""}`));
  }

  readOnly() {
    const record = this.host.record();
    return h("p", { class: "signed-note" }, record.status === "signed" ? `This case was signed by ${record.signed_by} and is read-only. An amendment on its page opens a new version.` : "You may look, not review.");
  }

  choices(cell, draft) {
    const one = (value, key, words, sign) => h("button", {
      type: "button", class: value === cell.proposed ? "proposed" : "", "aria-pressed": String(draft.choice === value), disabled: !this.host.ready(), onclick: () => this.choose(value),
    }, key ? h("kbd", {}, key.toUpperCase()) : null, sign, words);
    return [
      ...classes().map((c, i) => one(c.name, i < 9 ? String(i + 1) : "", title(c.name), mark(c.name))),
      ...dispositions().map((d) => one(`=${d}`, LETTERS[d] ?? "", DISPOSITION[d] ?? d, null)),
    ];
  }

  form(cell, draft, asked) {
    const reason = h("input", { id: "reason", value: draft.reason, list: "reasons", maxlength: 500, autocomplete: "off", "aria-required": String(asked), oninput: (e) => this.keep({ reason: e.target.value }), onkeydown: (e) => { if (e.key === "Enter") { e.preventDefault(); if (!e.repeat) this.enter(); } } });
    const comment = h("input", { id: "comment", value: draft.comment ?? cell.comment ?? "", maxlength: 2000, autocomplete: "off", oninput: (e) => this.keep({ comment: e.target.value }), onkeydown: (e) => { if (e.key === "Enter") { e.preventDefault(); if (!e.repeat) this.enter(); } } });
    const words = draft.choice === null ? "" : draft.choice.startsWith("=") ? DISPOSITION[draft.choice.slice(1)] ?? draft.choice.slice(1) : title(draft.choice);
    return [
      h("div", { class: "row" }, h("label", {}, asked ? `Reason for “${words}”${needed([cell], draft.choice) ? " (needed)" : ""}` : "Reason", reason), h("label", {}, "Comment", comment)),
      h("datalist", { id: "reasons" }, REASONS.map((r) => h("option", { value: r }))),
      h("p", { class: "fault", id: "review-fault", role: "alert", hidden: true }),
      h("div", { class: "actions" },
        h("label", { class: "check small soft" }, h("input", { type: "checkbox", checked: this.goesOn(), onchange: (e) => memory.set("go-on", e.target.checked, localStorage) }), "then the next cell"),
        h("button", { type: "button", onclick: () => this.undo() }, h("kbd", {}, "Z"), "Undo"),
        asked ? h("button", { type: "button", class: "main", id: "save", onclick: () => this.save() }, h("kbd", {}, "Enter"), `Save as ${words}`) : null),
    ];
  }

  goesOn() { return memory.get("go-on", localStorage) !== false; }

  /** A class name, or "=disposition". The proposed class is saved at once, others ask why. */
  choose(value) {
    if (!this.host.ready()) return toast("Not yet: the evidence of this cell is still on its way.");
    if (!this.host.writable()) return toast(this.readOnly().textContent, "bad");
    this.keep({ choice: value });
    if (value === this.host.cell().proposed) return this.save();
    if (!needed([this.host.cell()], value)) return this.save();
    this.draw();
    $("#reason").focus();
    if (this.draft.reason.trim()) $("#reason").select();
  }

  digit(key) {
    const found = classes()[Number(key) - 1];
    if (found) this.choose(found.name);
  }

  letter(key) {
    const found = dispositions().find((d) => LETTERS[d] === key);
    if (found) this.choose(`=${found}`);
  }

  fault(text) {
    const box = $("#review-fault");
    if (!box) return toast(text, "bad");
    box.textContent = text;
    box.hidden = false;
  }

  /** Enter in a field saves a choice that was made; it never stands for one. */
  enter() {
    if (this.draft.choice === null) return this.fault("Choose a class first, or press C outside this field to confirm the proposed one.");
    return this.save();
  }

  async save() {
    const cell = this.host.cell();
    const { draft } = this;
    const choice = draft.choice ?? cell.proposed;
    const other = choice !== cell.proposed;
    if (other && !draft.reason.trim() && needed([cell], choice)) { this.fault("A change needs a reason: a few words."); $("#reason")?.focus(); return; }
    if (this.busy || !this.host.ready()) return;
    this.busy = true;
    await this.host.noted();
    const body = { version: this.host.record().version, reason: draft.reason.trim(), ...(choice.startsWith("=") ? { disposition: choice.slice(1) } : { label: choice }), ...(draft.comment === null ? {} : { comment: draft.comment.trim() }) };
    try {
      const found = await api(`/cells/${encodeURIComponent(cell.id)}/review`, { method: "POST", body });
      memory.set(`draft:${cell.id}`, null);
      this.conflict = null;
      this.busy = false;
      this.host.saved(found.cell, found.case);
      if (this.goesOn()) this.host.next(); else this.draw();
      toast(`${cell.name}: ${signedWords(found.cell, title)}.`, "good");
    } catch (error) {
      this.busy = false;
      if (error.status === 409 && error.data.current) await this.told(error.data.current);
      else this.fault(said(error));
    }
  }

  /** Somebody else was faster: say what is there now, and keep what was typed. */
  async told(current) {
    const before = this.host.cell();
    const focus = document.activeElement?.id;
    await this.host.refresh(current);
    const cell = this.host.cell();
    const changed = cell.reviewed !== before.reviewed;
    const who = changed ? `${cell.reviewed_by} decided on this cell meanwhile: ${signedWords(cell, title) || "taken back"}.` : "Somebody else changed this case meanwhile, but not this cell.";
    this.conflict = h("div", { class: "conflict", role: "alert", id: "conflict" }, h("b", {}, who),
      h("span", {}, "Nothing was saved over it, and what you typed is kept below."),
      h("div", { class: "actions" },
        h("button", { type: "button", onclick: () => { memory.set(this.key, null); this.open(); } }, changed ? "Keep theirs" : "Drop mine"),
        h("button", { type: "button", class: "main", onclick: () => this.save() }, "Save mine")));
    this.draw();
    if (focus) document.getElementById(focus)?.focus();
  }

  async undo() {
    const record = this.host.record();
    try {
      const found = await api(`/cases/${encodeURIComponent(record.id)}/undo`, { method: "POST", body: { version: record.version } });
      this.host.undone(found.cells, found.case);
    } catch (error) {
      if (error.status === 409 && error.data.current) await this.told(error.data.current);
      else toast(said(error), "bad");
    }
  }
}
