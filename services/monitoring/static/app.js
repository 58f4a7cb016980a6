// Keeps the state of the page in step with the server's stream and draws what changed, once a frame at most.
import * as f from "./format.js";
import { EquityChart, ForecastStrip, PriceChart } from "./chart.js";
import { Control } from "./control.js";
import * as panels from "./panels.js";

const byId = (name) => document.getElementById(name);
const RANGES = { "2h": [60_000, 120], "8h": [300_000, 96], "24h": [900_000, 96] };
const SILENT_AFTER_MS = 12_000;
const RETRY_MS = 2000;

let state = {};
let source = null;
let heardAt = 0;
let link = "waiting";
let range = "2h";
let isDrawing = false;
let titleAt = 0;
const chosen = { instrument: null, account: null };
const dirty = new Set();

function pick(kind, known, preferred) {
  if (chosen[kind] && known.includes(chosen[kind])) return chosen[kind];
  return known.includes(preferred) || !known.length ? preferred : known[0];
}

function view() {
  const instruments = Object.keys({ ...state.market, ...state.bars, ...state.forecasts });
  const instrument = pick("instrument", instruments, state.session?.instrument ?? "");
  const accounts = Object.keys(state.accounts ?? {});
  const account = pick("account", accounts, state.session?.account ?? "");
  return { instrument, account, instruments, accounts, bars: state.bars?.[instrument]?.points ?? [] };
}

const control = new Control(view, () => schedule("control", "feed"));
const strip = new ForecastStrip(byId("forecast-history"));
const priceChart = new PriceChart(byId("price-chart"), (bar) => {
  const [time, open, high, low, close, volume] = bar;
  const traded = innerWidth < 500 ? "" : `  V ${f.number(volume, 2)}`;
  panels.put("price-readout", `${f.clock(time, false)}  O ${f.price(open)}  H ${f.price(high)}  L ${f.price(low)}  C ${f.price(close)}${traded}`);
});
const equityChart = new EquityChart(byId("equity-chart"), (point) => drawEquityReadout(point));

function schedule(...sections) {
  for (const section of sections) dirty.add(section);
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(draw);
}

function touches(...sections) {
  return sections.some((section) => dirty.has(section));
}

function draw() {
  isDrawing = false;
  const now = view();
  if (touches("session", "market", "bars", "accounts", "forecasts")) drawPickers(now);
  if (touches("session")) panels.session(state);
  if (touches("clock")) panels.put("market-time", f.moment(state.clock?.market_time_ms));
  if (touches("market", "bars", "accounts", "equity", "topics", "session")) panels.tiles(state, now);
  if (touches("market", "bars", "fills", "accounts", "session")) drawPrice(now);
  if (touches("equity", "accounts", "session")) drawEquity(now);
  if (touches("forecasts", "session")) panels.forecast(state, now, strip);
  if (touches("accounts", "session")) panels.position(state, now);
  if (touches("fills", "orders", "refusals", "accounts", "session")) panels.trading(state, now);
  if (touches("alerts")) panels.alerts(state);
  if (touches("topics", "dead_letters")) panels.flow(state);
  if (touches("services")) panels.services(state);
  if (touches("market_feeds")) panels.marketFeeds(state);
  if (touches("models")) panels.models(state);
  if (touches("audit")) panels.audit(state);
  const row = control.render(state.control);
  drawNotice(row);
  drawLink();
  dirty.clear();
}

function drawPickers(now) {
  for (const [kind, known, value] of [["instrument", now.instruments, now.instrument], ["account", now.accounts, now.account]]) {
    const select = byId(kind);
    const names = known.length ? known : [value || "\u2026"];
    if ([...select.options].map((option) => option.value).join() !== names.join()) {
      select.replaceChildren(...names.map((name) => new Option(name, name)));
    }
    select.value = value;
    select.toggleAttribute("data-single", names.length < 2);
    select.disabled = names.length < 2;
  }
  byId("h-orders").closest("section").toggleAttribute("data-single", now.instruments.length < 2);
}

function withForming(bars, market) {
  const forming = market?.forming;
  if (!forming || (bars.length && forming[0] <= bars.at(-1)[0])) return bars;
  const open = bars.length && forming[0] - bars.at(-1)[0] === 60_000 ? bars.at(-1)[4] : forming[1];
  return [...bars, [forming[0], open, Math.max(open, forming[2]), Math.min(open, forming[3]), forming[4], forming[5]]];
}

function drawPrice(now) {
  const market = state.market?.[now.instrument];
  const bars = withForming(now.bars, market);
  byId("price-empty").hidden = bars.length > 0;
  if (!bars.length) return;
  const [lengthMs, slots] = RANGES[range];
  const held = state.accounts?.[now.account]?.positions.find((each) => each.instrument === now.instrument);
  const fills = (state.fills ?? [])
    .filter((row) => row.instrument === now.instrument && row.account === now.account)
    .map((row) => ({ time: row.time_ms, price: Number(row.last_price), side: row.side }));
  priceChart.show({ name: now.instrument, bars, fills, entry: Number(held?.quantity) ? Number(held.entry_price) : null, lengthMs, slots });
  byId("price-chart").setAttribute("aria-label", `Price of ${now.instrument}, last ${f.price(market?.last ?? bars.at(-1)[4])}. Arrow keys read single bars.`);
}

function equityPoints(now) {
  const points = state.equity?.[now.account]?.points ?? [];
  const account = state.accounts?.[now.account];
  if (!account || !points.length || account.time_ms <= points.at(-1)[0]) return points;
  return [...points, [account.time_ms, Number(account.equity), Number(account.wallet_balance)]];
}

// Before the first trade equity stands still, for a day when history was filled in: shows only the end of that.
function withoutLead(points) {
  const moved = points.findIndex((point) => point[1] !== points[0][1]);
  if (moved < 1) return moved < 0 ? points.slice(-240) : points;
  const lead = Math.max(60_000, (points.at(-1)[0] - points[moved][0]) * 0.05);
  const start = Math.max(points[moved - 1][0], points[moved][0] - lead);
  return [[start, ...points[moved - 1].slice(1)], ...points.slice(moved)];
}

function drawEquity(now) {
  const points = equityPoints(now);
  byId("equity-empty").hidden = points.length > 0;
  if (!points.length) return;
  equityChart.show(withoutLead(points));
  byId("equity-chart").setAttribute("aria-label", `Equity of account ${now.account}, now ${f.number(points.at(-1)[1], 2)} USDT. Arrow keys read single points.`);
}

function drawEquityReadout(point) {
  if (point) {
    panels.put("equity-readout", `${f.moment(point[0])}   equity ${f.number(point[1], 2)}   wallet ${f.number(point[2], 2)}`);
    return;
  }
  let peak = -Infinity;
  let worst = 0;
  for (const [, equity] of equityChart.items) {
    peak = Math.max(peak, equity);
    worst = Math.max(worst, (peak - equity) / peak);
  }
  panels.put("equity-readout", `deepest drawdown ${f.percent(worst, 2)}`);
}

function alertNotice() {
  const critical = (state.alerts ?? []).filter((row) => row.severity === "CRITICAL");
  if (!critical.length) return null;
  const more = critical.length > 1 ? ` (and ${critical.length - 1} more below)` : "";
  return { level: "critical", text: critical[0].message + more };
}

function drawNotice(row) {
  let notice = control.notice(row) ?? alertNotice();
  if (link === "lost") notice = { level: "critical", text: "The connection to the page's server is lost. What you see is old; trading goes on without this page. Trying again." };
  else if (state.feed && !state.feed.is_connected && link === "live") notice = { level: "warning", text: state.feed.message };
  const element = byId("notice");
  const text = notice?.text ?? "";
  if (element.textContent !== text) element.textContent = text;
  element.dataset.level = notice?.level ?? "";
  element.hidden = !notice;
}

function drawLink() {
  const words = { waiting: "Connecting", live: "Connected", lost: "Reconnecting" };
  byId("link").dataset.state = link;
  panels.put("link-text", words[link]);
  const nowMs = performance.now();
  if (nowMs - titleAt < 1000) return;
  titleAt = nowMs;
  const now = view();
  const last = state.market?.[now.instrument]?.last;
  document.title = last ? `${f.price(last)} ${now.instrument.split(".")[0]}, perpflow` : "perpflow";
}

function mergeSeries(known = {}, patch) {
  const merged = { ...known };
  for (const [name, change] of Object.entries(patch)) {
    const points = change.is_whole ? change.points : [...(known[name]?.points ?? []), ...change.points].slice(-change.limit);
    merged[name] = { points };
  }
  return merged;
}

function take(message) {
  heardAt = performance.now();
  link = "live";
  if (message.is_whole) state = {};
  for (const [section, value] of Object.entries(message.sections)) {
    state[section] = section === "bars" || section === "equity" ? mergeSeries(state[section], value) : value;
  }
  schedule(...Object.keys(message.sections), ...(message.is_whole ? ["session"] : []));
}

function lose() {
  if (link !== "waiting") link = "lost";
  schedule("feed");
}

function connect() {
  source?.close();
  source = new EventSource("/api/stream");
  source.addEventListener("state", (event) => take(JSON.parse(event.data)));
  source.addEventListener("beat", () => { heardAt = performance.now(); });
  source.addEventListener("signed_out", goToSignIn);
  source.addEventListener("error", () => {
    lose();
    if (source.readyState !== EventSource.CLOSED) return;
    readUser();
    setTimeout(connect, RETRY_MS);
  });
}

function goToSignIn() {
  source?.close();
  location.replace("/login");
}

async function readUser() {
  let response;
  try {
    response = await fetch("/api/me", { signal: AbortSignal.timeout(10_000) });
  } catch {
    // No server: the stream says so, and asks again.
    return;
  }
  if (response.status === 401) return goToSignIn();
  if (!response.ok) return;
  const user = await response.json();
  control.allow(user.may_command);
  byId("user").hidden = !user.is_signed_in;
  panels.put("user-name", `${user.user}, ${user.role}`);
}

byId("sign-out").addEventListener("click", async () => {
  await fetch("/api/sign-out", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
  goToSignIn();
});

setInterval(() => {
  if (link === "live" && performance.now() - heardAt > SILENT_AFTER_MS) {
    lose();
    connect();
  }
}, 2000);

for (const button of document.querySelectorAll("[data-range]")) {
  button.addEventListener("click", () => {
    range = button.dataset.range;
    for (const each of document.querySelectorAll("[data-range]")) each.setAttribute("aria-pressed", String(each === button));
    schedule("bars");
  });
}

for (const kind of ["instrument", "account"]) {
  byId(kind).addEventListener("change", (event) => {
    chosen[kind] = event.target.value;
    schedule("session");
  });
}

const tabs = [...document.querySelectorAll("[role=tab]")];
function openTab(tab) {
  for (const each of tabs) {
    const isOpen = each === tab;
    each.setAttribute("aria-selected", String(isOpen));
    each.tabIndex = isOpen ? 0 : -1;
    byId(each.getAttribute("aria-controls")).hidden = !isOpen;
  }
}
for (const tab of tabs) {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    openTab(next);
    next.focus();
  });
}

panels.flow(state);
readUser();
connect();
