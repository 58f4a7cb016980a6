// The buttons with consequences: ask once, send a command, show until risk has answered.
import * as f from "./format.js";

const byId = (name) => document.getElementById(name);
const ANSWER_WITHIN_MS = 5000;

const ACTIONS = {
  halt: { title: "Halt trading", text: "New orders stop at once and open ones are cancelled. The position stays as it is.", go: "Halt trading", doing: "Halting", result: "HALTED" },
  reduce: { title: "Reduce only", text: "Only orders that make the position smaller get through.", go: "Reduce only", doing: "Switching to reduce only", result: "REDUCING" },
  flatten: { title: "Flatten the position", text: "Trading halts, open orders are cancelled and the position is closed at the market.", go: "Flatten now", doing: "Flattening", result: "HALTED", isTyped: true },
  resume: { title: "Resume trading", text: "Orders may be sent again within the limits of risk.", go: "Resume trading", doing: "Resuming", result: "ACTIVE", isTyped: true },
};

export class Control {
  constructor(viewOf, announce) {
    this.viewOf = viewOf;
    this.announce = announce;
    this.action = null;
    this.scope = null;
    this.row = null;
    this.pending = null;
    this.dialog = byId("confirm");
    for (const button of document.querySelectorAll("[data-action]")) {
      button.addEventListener("click", () => this.ask(button.dataset.action));
    }
    byId("confirm-cancel").addEventListener("click", () => this.dialog.close());
    byId("confirm-typed").addEventListener("input", () => this.allowGo());
    byId("confirm-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    document.addEventListener("click", (event) => {
      if (!byId("menu").contains(event.target)) byId("menu").open = false;
    });
    byId("menu").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      byId("menu").open = false;
      byId("menu").querySelector("summary").focus();
    });
  }

  // A viewer sees the buttons and cannot press them.
  allow(mayCommand) {
    for (const button of document.querySelectorAll("[data-action]")) {
      button.disabled = !mayCommand;
      button.title = mayCommand ? "" : "An operator may command; you may read.";
    }
  }

  ask(action) {
    const words = ACTIONS[action];
    this.action = action;
    this.scope = this.scopeOf(action);
    byId("menu").open = false;
    byId("confirm-title").textContent = `${words.title}: ${this.scope === "*" ? "all accounts (*)" : `account ${this.scope}`}`;
    byId("confirm-text").textContent = words.text;
    byId("confirm-go").textContent = words.go;
    byId("confirm-go").classList.toggle("danger", action !== "resume");
    byId("confirm-reason").value = "";
    byId("confirm-error").textContent = "";
    byId("confirm-typed").value = "";
    byId("typed-field").hidden = !words.isTyped;
    byId("typed-wanted").textContent = this.wanted();
    this.allowGo();
    this.dialog.showModal();
    byId(words.isTyped ? "confirm-typed" : action === "halt" ? "confirm-go" : "confirm-cancel").focus();
  }

  // One account and all accounts are held each by itself: where risk says that * still holds, it is * that is resumed.
  scopeOf(action) {
    return action === "resume" && this.row?.reason?.includes("until * is resumed") ? "*" : this.viewOf().account;
  }

  wanted() {
    return `${this.action} ${this.scope}`;
  }

  allowGo() {
    byId("confirm-go").disabled = Boolean(ACTIONS[this.action].isTyped) && byId("confirm-typed").value.trim() !== this.wanted();
  }

  async send() {
    const { action } = this;
    const headers = { "Content-Type": "application/json" };
    const body = { action, account: this.scope, reason: byId("confirm-reason").value || "from the monitoring page", confirmation: byId("confirm-typed").value.trim() };
    byId("confirm-go").disabled = true;
    try {
      const response = await fetch("/api/control", { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(10_000) });
      const answer = await response.json();
      if (!response.ok) {
        byId("confirm-error").textContent = answer.error ?? `The page's server answered ${response.status}.`;
        return;
      }
      this.pending = { action, eventId: answer.event_id, since: performance.now() };
      this.dialog.close();
      this.announce();
      setTimeout(() => this.announce(), ANSWER_WITHIN_MS + 50);
    } catch (error) {
      byId("confirm-error").textContent = `The command could not be sent (${error.message}). Use: perpflow ${action}`;
    } finally {
      this.allowGo();
    }
  }

  // The stricter of the account's state and that of all accounts.
  stateOf(controls, account) {
    const strictness = { ACTIVE: 0, REDUCING: 1, HALTED: 2 };
    return [controls?.["*"], controls?.[account]]
      .filter(Boolean)
      .reduce((worst, each) => (worst && strictness[worst.state] >= strictness[each.state] ? worst : each), null);
  }

  render(controls) {
    const { account } = this.viewOf();
    const row = this.stateOf(controls, account);
    this.row = row;
    const answered = (each) => each?.cause_id === this.pending?.eventId;
    if (this.pending && (answered(controls?.[account]) || answered(controls?.["*"]) || row?.state === ACTIONS[this.pending.action].result)) this.pending = null;
    const element = byId("trading-state");
    element.dataset.state = row?.state ?? "UNKNOWN";
    element.title = row ? `${row.reason || "no reason given"}, since ${f.moment(row.time_ms)}, limits version ${row.limits_version}` : "Risk has not said yet";
    const names = { ACTIVE: "Active", REDUCING: "Reducing", HALTED: "Halted" };
    const text = this.pending ? `${ACTIONS[this.pending.action].doing}\u2026` : names[row?.state] ?? "No state yet";
    if (byId("trading-text").textContent !== text) byId("trading-text").textContent = text;
    const main = byId("halt");
    const isHalted = row?.state === "HALTED" && !this.pending;
    main.dataset.action = isHalted ? "resume" : "halt";
    main.classList.toggle("danger", !isHalted);
    main.textContent = isHalted ? "Resume" : "Halt";
    return row;
  }

  // What the notice line should say about control, most urgent first.
  notice(row) {
    if (this.pending && performance.now() - this.pending.since > ANSWER_WITHIN_MS) {
      return { level: "critical", text: `Risk has not answered the command to ${this.pending.action} (${this.pending.eventId}). It is in the log; look at the services below.` };
    }
    if (row?.state === "HALTED") return { level: "critical", text: `Trading is halted: ${row.reason || "no reason given"}` };
    if (row?.state === "REDUCING") return { level: "warning", text: `Only reductions get through: ${row.reason || "no reason given"}` };
    return null;
  }
}
