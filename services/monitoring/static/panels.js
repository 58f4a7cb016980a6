// Fills the panels from the state. Every function takes the state and the document's elements by id.
import * as f from "./format.js";

const byId = (name) => document.getElementById(name);

export function put(name, text) {
  const element = byId(name);
  if (element.textContent !== text) element.textContent = text;
}

function tone(name, value) {
  const element = byId(name);
  element.classList.toggle("is-up", Number(value) > 0);
  element.classList.toggle("is-down", Number(value) < 0);
}

// Keeps one <tr> per key, in the given order, and touches only cells whose text changed.
export function syncRows(bodyName, items, keyOf, cellsOf) {
  const body = byId(bodyName);
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const key = String(keyOf(item));
    let row = known.get(key);
    const cells = cellsOf(item);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key;
      for (const cell of cells) {
        const td = document.createElement("td");
        if (cell.kind) td.className = cell.kind;
        row.append(td);
      }
    }
    known.delete(key);
    cells.forEach((cell, at) => fillCell(row.cells[at], cell));
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
  for (const row of known.values()) row.remove();
}

function fillCell(td, cell) {
  const sign = `${cell.tone ?? ""}|${cell.text}|${cell.note ?? ""}`;
  if (td.dataset.sign === sign) return;
  td.dataset.sign = sign;
  td.title = cell.title ?? "";
  const parts = [];
  if (cell.tone) {
    const tag = document.createElement("span");
    tag.className = `tag tone-${cell.tone}`;
    if (cell.hasDot) {
      const dot = document.createElement("span");
      dot.className = "dot";
      tag.append(dot);
    }
    tag.append(cell.text);
    parts.push(tag);
  } else {
    parts.push(cell.text);
  }
  if (cell.note) {
    const note = document.createElement("small");
    note.textContent = ` ${cell.note}`;
    parts.push(note);
  }
  td.replaceChildren(...parts);
}

const left = (text, more = {}) => ({ text: text ?? f.NONE, ...more });
const right = (text, more = {}) => ({ text: text ?? f.NONE, kind: "n", ...more });
const sideCell = (side) => left(f.words(side), { tone: side === "BUY" ? "good" : "bad" });

export function baseOf(instrument) {
  return (instrument ?? "").split(".")[0].replace(/(USDT|USDC|USD)$/, "") || "units";
}

export function session(state) {
  const { market, mode, seed, speed, is_sample } = state.session ?? {};
  const words = [];
  if (is_sample) words.push("Sample data");
  if (market) words.push(f.words(market.split(":")[0]) + " market");
  if (seed !== null && seed !== undefined) words.push(`seed ${seed}`);
  if (speed) words.push(`${f.number(speed, 0, 1)}\u00d7 speed`);
  put("market-source", words.join(", ") || "Market not named");
  byId("market-source").title = market ?? "";
  put("mode", { paper: "Paper", testnet: "Testnet", live: "Live money" }[mode] ?? f.NONE);
  byId("mode").dataset.mode = mode ?? "";
}

export function tiles(state, view) {
  const market = state.market?.[view.instrument];
  const account = state.accounts?.[view.account];
  put("tile-price", f.price(market?.last));
  if (market?.last) {
    const bars = view.bars;
    const from = bars.length ? bars[Math.max(0, bars.length - 1440)] : null;
    const change = from ? market.last / from[1] - 1 : null;
    const since = from ? f.duration(market.last_ms - from[0]) : "";
    put("tile-price-sub", change === null ? "first bar to come" : `${f.signed(change * 100, 2)}% in ${since}`);
    tone("tile-price-sub", change);
  }
  const equity = state.equity?.[view.account]?.points;
  if (account) {
    const start = equity?.length ? equity[0][1] : Number(account.equity);
    const gain = Number(account.equity) - start;
    put("tile-equity", f.number(account.equity, 2));
    put("tile-equity-sub", `${f.signed(gain, 2)} USDT, ${f.signed((gain / start) * 100, 2)}%`);
    tone("tile-equity-sub", gain.toFixed(2));
    const held = account.positions.find((position) => position.instrument === view.instrument);
    const size = Number(held?.quantity ?? 0);
    put("tile-position", size ? f.signed(held.quantity, 3) : "Flat");
    put("tile-position-sub", size ? `${size > 0 ? "long" : "short"} ${baseOf(view.instrument)}, ${f.number(account.leverage, 2)}\u00d7` : "no open position");
    put("tile-pnl", size ? f.signed(held.unrealised_pnl, 2) : f.number(0, 2));
    tone("tile-pnl", size ? held.unrealised_pnl : 0);
    put("tile-pnl-sub", `net realised ${f.signed(held?.net_pnl ?? 0, 2)} USDT`);
    byId("tile-pnl-sub").title = "Realised PnL after fees and funding";
  }
  if (f.isKnown(market?.funding_rate)) {
    put("tile-funding", `${f.signed(market.funding_rate * 100, 4)}%`);
    const next = market.next_funding_ms;
    put("tile-funding-sub", next ? `next in ${f.duration(next - (state.clock?.market_time_ms ?? next))}` : "rate in force");
  }
  const events = state.topics?.["market.events.v1"];
  if (events) {
    put("tile-rate", `${f.rate(events.rate)}/s`);
    put("tile-rate-sub", `${f.compact(events.count)} in the log`);
  }
}

export function forecast(state, view, strip) {
  const known = state.forecasts?.[view.instrument];
  byId("forecast-body").hidden = !known;
  byId("forecast-empty").hidden = Boolean(known);
  if (!known) return;
  const { latest, history, shadows } = known;
  const odds = { down: latest.probability_down, flat: latest.probability_flat, up: latest.probability_up };
  const [word, share] = [["Down", odds.down], ["Flat", odds.flat], ["Up", odds.up]].reduce((best, each) => (each[1] > best[1] ? each : best));
  put("forecast-word", word);
  put("forecast-percent", f.percent(share, 0));
  const call = byId("forecast-word").parentElement;
  call.classList.toggle("is-up", word === "Up");
  call.classList.toggle("is-down", word === "Down");
  put("forecast-horizon", `over the next ${f.duration(latest.horizon_ms)}`);
  for (const name of ["down", "flat", "up"]) {
    byId("forecast-odds").querySelector(`.${name}`).style.flexGrow = odds[name];
    put(`odds-${name}`, f.percent(odds[name], 1));
  }
  byId("forecast-odds").setAttribute("aria-label", `Down ${f.percent(odds.down)}, flat ${f.percent(odds.flat)}, up ${f.percent(odds.up)}`);
  byId("forecast-confidence").style.setProperty("--share", latest.confidence);
  put("forecast-confidence-text", f.percent(latest.confidence, 1));
  byId("forecast-coverage").style.setProperty("--share", latest.coverage);
  put("forecast-coverage-text", f.percent(latest.coverage, 0));
  put("forecast-return", f.isKnown(latest.expected_return_bps) ? `${f.signed(latest.expected_return_bps, 1)} bps` : "not forecast by this model");
  const model = byId("forecast-model");
  put("forecast-model", `${latest.model_name} ${latest.model_version}`);
  model.title = `sha256 ${latest.model_sha256}, features ${latest.feature_set}`;
  put("forecast-age", `at ${f.clock(latest.time_ms)}${shadows.length ? `, ${shadows.length} in shadow` : ""}`);
  strip.show(history);
  strip.canvas.setAttribute("aria-label", `The last ${history.length} forecasts; the latest says ${word.toLowerCase()}`);
}

export function position(state, view) {
  const account = state.accounts?.[view.account];
  byId("position-facts").hidden = !account;
  byId("position-empty").hidden = Boolean(account);
  if (!account) return;
  const held = account.positions.find((each) => each.instrument === view.instrument) ?? { quantity: "0" };
  const size = Number(held.quantity);
  put("pos-size", size ? `${f.signed(held.quantity, 3)} ${baseOf(view.instrument)}` : "Flat");
  put("pos-entry", size ? f.price(held.entry_price) : f.NONE);
  put("pos-mark", size && Number(held.mark_price) ? f.price(held.mark_price) : f.NONE);
  put("pos-upnl", `${f.signed(held.unrealised_pnl ?? 0, 2)} USDT`);
  tone("pos-upnl", held.unrealised_pnl ?? 0);
  put("pos-leverage", `${f.number(account.leverage, 2)}\u00d7`);
  put("pos-margin", `${f.number(account.initial_margin, 2)} USDT`);
  put("pos-available", `${f.number(account.available_balance, 2)} USDT`);
  put("pos-realised", `${f.signed(held.realised_pnl ?? 0, 2)} USDT`);
  tone("pos-realised", held.realised_pnl ?? 0);
  put("pos-net", `${f.signed(held.net_pnl ?? 0, 2)} USDT`);
  tone("pos-net", held.net_pnl ?? 0);
  put("pos-costs", `${f.number(held.fees_paid ?? 0, 2)}, ${f.signed(held.funding_paid ?? 0, 2)} USDT`);
}

function instrumentCell(instrument) {
  const [symbol, venue] = instrument.split(".");
  return left(symbol, { kind: "of-instrument", title: `${symbol} on ${f.words(venue)}` });
}

export function trading(state, view) {
  const ofView = (row) => row.account === view.account;
  const fills = (state.fills ?? []).filter(ofView);
  const orders = (state.orders ?? []).filter(ofView);
  const refusals = (state.refusals ?? []).filter(ofView);
  syncRows("rows-fills", fills, (row) => row.event_id, (row) => [
    left(f.clock(row.time_ms), { title: f.moment(row.time_ms) }),
    instrumentCell(row.instrument),
    sideCell(row.side),
    right(f.number(row.last_quantity, 3, 8)),
    right(f.price(row.last_price)),
    right(f.number(row.fee, 4)),
    right(Number(row.realised_pnl) ? f.signed(row.realised_pnl, 2) : f.NONE, Number(row.realised_pnl) ? { tone: Number(row.realised_pnl) > 0 ? "good" : "bad" } : {}),
    left(f.words(row.liquidity), { kind: "tone-quiet" }),
  ]);
  const statusTone = { FILLED: "good", ACCEPTED: "quiet", SUBMITTING: "quiet", PARTIALLY_FILLED: "warn", UNKNOWN: "bad", REJECTED: "bad" };
  syncRows("rows-orders", orders, (row) => row.client_order_id, (row) => [
    left(f.clock(row.time_ms), { title: f.moment(row.time_ms) }),
    instrumentCell(row.instrument),
    left(f.words(row.status), { tone: statusTone[row.status] ?? "quiet", title: row.reason, note: row.reason.length > 28 ? `${row.reason.slice(0, 27)}\u2026` : row.reason }),
    sideCell(row.side),
    left(f.words(row.order_type), row.reduce_only ? { note: "reduce only" } : {}),
    right(`${f.number(row.filled_quantity, 3, 8)} / ${f.number(row.quantity, 3, 8)}`),
    right(f.price(row.average_price ?? row.limit_price)),
    left(row.client_order_id, { kind: "mono" }),
  ]);
  syncRows("rows-refusals", refusals, (row) => row.event_id, (row) => [
    left(f.clock(row.time_ms), { title: f.moment(row.time_ms) }),
    instrumentCell(row.intent.instrument),
    left(row.intent.action === "CANCEL" ? "Cancel" : `${f.words(row.intent.side)} ${f.number(row.intent.quantity, 3, 8)}`, { note: row.intent.strategy }),
    left(row.reasons.join("; ") || "no reason given", { kind: "wrap" }),
    left(row.checks.map((check) => `${check.name} ${check.value}, limit ${check.limit}`).join("; "), { kind: "wrap tone-quiet" }),
  ]);
  for (const [name, rows] of [["fills", fills], ["orders", orders], ["refusals", refusals]]) {
    put(`count-${name}`, String(rows.length));
    byId(`${name}-empty`).hidden = rows.length > 0;
    byId(`rows-${name}`).parentElement.hidden = rows.length === 0;
  }
}

export function alerts(state) {
  const rows = state.alerts ?? [];
  byId("alerts-empty").hidden = rows.length > 0;
  byId("alerts").replaceChildren(
    ...rows.map((row) => {
      const item = document.createElement("li");
      item.dataset.severity = row.severity;
      const dot = document.createElement("span");
      dot.className = "dot";
      const text = document.createElement("span");
      text.textContent = row.message;
      const note = document.createElement("small");
      note.textContent = `${f.words(row.severity)}, ${row.service}, since ${f.moment(row.time_ms)} wall time`;
      item.append(dot, text, note);
      return item;
    }),
  );
}

const STAGES = [
  ["market.events.v1", "Market events"],
  ["bars.closed.v1", "Bars"],
  ["features.vectors.v1", "Feature vectors"],
  ["inference.forecasts.v1", "Forecasts"],
  ["strategy.intents.v1", "Order intents"],
  ["risk.verdicts.v1", "Risk verdicts"],
  ["execution.commands.v1", "Venue commands"],
  ["execution.reports.v1", "Venue reports"],
];

export function flow(state) {
  const topics = state.topics ?? {};
  const dead = Object.entries(topics).filter(([name]) => name.startsWith("dead."));
  const deadCount = dead.reduce((sum, [, topic]) => sum + topic.count, 0);
  const lines = STAGES.map(([name, label]) => [label, topics[name] ? f.rate(topics[name].rate) : f.NONE, topics[name] ? f.compact(topics[name].count) : f.NONE, "ok"]);
  const reasons = (state.dead_letters ?? []).map((row) => `${row.topic}: ${row.reason}`).join("\n");
  lines.push(["Dead letters", "", f.compact(deadCount), deadCount ? "bad" : "ok"]);
  const list = byId("flow");
  lines.forEach(([label, rate, count, level], index) => {
    let item = list.children[index];
    if (!item) {
      item = document.createElement("li");
      item.append(document.createElement("span"), document.createElement("em"), document.createElement("b"));
      list.append(item);
    }
    item.dataset.level = level;
    item.title = index === lines.length - 1 ? reasons : "";
    [label, rate, count].forEach((text, at) => {
      if (item.children[at].textContent !== text) item.children[at].textContent = text;
    });
  });
}

const SERVICE_TONES = { running: "good", starting: "warn", restarting: "warn", stopping: "quiet", finished: "quiet", stopped: "quiet", down: "bad", hung: "bad", failed: "bad", "not ready": "bad" };

export function services(state) {
  const rows = state.services ?? [];
  byId("services-empty").hidden = rows.length > 0;
  byId("rows-services").parentElement.hidden = rows.length === 0;
  const running = rows.filter((row) => row.state === "running").length;
  put("services-readout", rows.length ? `${running} of ${rows.length} running` : "\u00a0");
  const time = (ms) => (f.isKnown(ms) ? `${f.number(ms, Number(ms) < 10 ? 1 : 0)} ms` : f.NONE);
  syncRows("rows-services", rows, (row) => row.service, (row) => [
    left(f.words(row.service)),
    left(f.words(row.state), { tone: SERVICE_TONES[row.state] ?? "warn", hasDot: true, note: row.detail }),
    right(f.rate(row.in_per_s)),
    right(f.rate(row.out_per_s)),
    right(f.number(row.lag_records, 0)),
    right(time(row.hop_p50_ms)),
    right(time(row.hop_p99_ms)),
    right(f.number(row.dead_letters, 0), row.dead_letters ? { tone: "bad" } : {}),
    right(f.number(row.restarts, 0)),
    right(row.pid ? String(row.pid) : f.NONE),
  ]);
}

const FEED_KINDS = ["trade", "depth_delta", "best_quote", "mark_price"];

export function marketFeeds(state) {
  const rows = state.market_feeds ?? [];
  byId("feeds").hidden = rows.length === 0;
  const lost = rows.filter((row) => row.bid_levels === 0).length;
  put("feeds-readout", lost ? `${lost} of ${rows.length} without a book` : "\u00a0");
  const age = (seconds) => (f.isKnown(seconds) ? `${f.number(seconds, 1)} s` : f.NONE);
  syncRows("rows-feeds", rows, (row) => row.instrument, (row) => [
    left(row.instrument),
    ...FEED_KINDS.map((kind) => right(age(row.ages_s[kind]), kind === row.oldest_kind && row.ages_s[kind] > 10 ? { tone: "warn" } : {})),
    right(f.number(row.reconnects, 0)),
    right(f.isKnown(row.clock_offset_ms) ? `${f.signed(row.clock_offset_ms, 0)} ms` : f.NONE),
    right(f.isKnown(row.bid_levels) ? `${f.number(row.bid_levels, 0)} / ${f.number(row.ask_levels, 0)}` : f.NONE, row.bid_levels === 0 ? { tone: "bad" } : {}),
  ]);
}

export function models(state) {
  const rows = state.models ?? [];
  byId("models").hidden = rows.length === 0;
  const bps = (value) => (f.isKnown(value) ? `${f.signed(value, 1)} bps` : f.NONE);
  syncRows("rows-models", rows, (row) => row.model, (row) => [
    left(row.model, { kind: "mono" }),
    left(f.words(row.role), { tone: row.role === "CHAMPION" ? "good" : "quiet" }),
    left(row.account ?? f.NONE, { kind: "mono" }),
    right(f.number(row.periods, 0)),
    right(bps(row.net_bps)),
    right(bps(row.net_bps_per_day)),
    right(bps(row.excess_bps_per_day)),
    right(f.number(row.samples, 0)),
    right(f.number(row.p_value, 3)),
    right(`${f.number(row.drifts.predictions, 0)} / ${f.number(row.drifts.calibration, 0)}`, row.drifts.predictions + row.drifts.calibration ? { tone: "warn" } : {}),
    right(f.signed(row.means.calibration * 100, 1) + "%"),
  ]);
}

export function audit(state) {
  const rows = state.audit ?? [];
  byId("audit-empty").hidden = rows.length > 0;
  byId("rows-audit").parentElement.hidden = rows.length === 0;
  syncRows("rows-audit", rows, (row) => row.event_id, (row) => [
    left(f.moment(row.time_ms)),
    left(row.actor, row.role ? { note: row.role } : {}),
    left(f.words(row.action)),
    left(row.target || f.NONE),
    left(f.words(row.outcome), { tone: row.outcome === "DONE" ? "quiet" : "bad" }),
    left(row.source_address, { kind: "mono" }),
    left(row.detail || f.NONE, { kind: "wrap" }),
  ]);
}
