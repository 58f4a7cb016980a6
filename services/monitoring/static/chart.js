// Charts drawn on canvas: sharp at any pixel ratio, coloured from the style sheet, read by pointer and arrow keys.
import * as f from "./format.js";

const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif';
const AXIS_WIDTH = 66;
const TIME_HEIGHT = 22;
const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 10080, 43200].map((minutes) => minutes * 60_000);
const SMALL_STEPS_MS = [1000, 2000, 5000, 10_000, 15_000, 30_000];

const COLORS = ["text", "muted", "line", "line-strong", "card", "accent", "up", "down", "warn", "up-fill", "down-fill", "flat-fill"];

let palette = null;
const everyChart = new Set();

function colors() {
  if (!palette) {
    const style = getComputedStyle(document.documentElement);
    palette = Object.fromEntries(COLORS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  return palette;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  palette = null;
  for (const chart of everyChart) chart.draw();
});

function niceStep(span, count) {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) ?? 10);
}

function timeStep(span, count) {
  const rough = span / Math.max(1, count);
  return [...SMALL_STEPS_MS, ...STEPS_MS].find((step) => step >= rough) ?? STEPS_MS.at(-1);
}

class Chart {
  constructor(canvas, onHover) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onHover = onHover;
    this.hover = null;
    this.width = 0;
    this.height = 0;
    everyChart.add(this);
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("blur", () => this.point(null));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") this.setHover(null);
      if (!step || !this.count()) return;
      event.preventDefault();
      const from = this.hover ?? (step < 0 ? this.count() : -1);
      this.setHover(Math.min(this.count() - 1, Math.max(0, from + step)));
    });
  }

  point(x) {
    this.setHover(x === null || !this.count() ? null : this.indexAt(x));
  }

  setHover(index) {
    if (index === this.hover) return;
    this.hover = index;
    this.draw();
  }

  begin() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width || !box.height) return false;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    this.width = box.width;
    this.height = box.height;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, box.width, box.height);
    this.context.font = FONT;
    this.context.lineWidth = 1;
    this.context.setLineDash([]);
    this.context.textBaseline = "middle";
    return true;
  }

  line(x1, y1, x2, y2) {
    this.context.beginPath();
    this.context.moveTo(x1, y1);
    this.context.lineTo(x2, y2);
    this.context.stroke();
  }

  valueAxis(low, high, top, bottom, format, avoid) {
    const { context } = this;
    const plotRight = this.width - AXIS_WIDTH;
    const step = niceStep(high - low, Math.max(2, (bottom - top) / 52));
    context.textAlign = "left";
    for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
      const y = Math.round(bottom - ((value - low) / (high - low)) * (bottom - top)) + 0.5;
      context.strokeStyle = colors().line;
      this.line(0, y, plotRight, y);
      context.fillStyle = colors().muted;
      if (avoid === null || Math.abs(y - avoid) > 15) context.fillText(format(value, step), plotRight + 8, y);
    }
  }

  timeAxis(from, to, xOf) {
    const { context } = this;
    const step = timeStep(to - from, (this.width - AXIS_WIDTH) / (this.width < 500 ? 68 : 92));
    context.textAlign = "center";
    context.fillStyle = colors().muted;
    for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
      const x = xOf(time);
      if (x < 22 || x > this.width - AXIS_WIDTH - 18) continue;
      const label = time % 86_400_000 === 0 ? f.day(time).slice(5) : f.clock(time, step < 60_000);
      context.fillText(label, x, this.height - TIME_HEIGHT / 2);
    }
  }

  badge(y, text, fill, ink) {
    const { context } = this;
    const left = this.width - AXIS_WIDTH + 2;
    const at = Math.min(this.height - TIME_HEIGHT - 9, Math.max(9, y));
    context.fillStyle = fill;
    context.beginPath();
    context.roundRect(left, at - 9, AXIS_WIDTH - 4, 18, 4);
    context.fill();
    context.fillStyle = ink;
    context.textAlign = "left";
    context.fillText(text, left + 6, at + 0.5);
  }
}

// Joins 1m bars [openTime, o, h, l, c, v] into longer ones aligned to the epoch.
export function joinBars(bars, lengthMs) {
  if (lengthMs === 60_000) return bars;
  const joined = [];
  for (const [time, open, high, low, close, volume] of bars) {
    const start = time - (time % lengthMs);
    const last = joined.at(-1);
    if (last && last[0] === start) {
      last[2] = Math.max(last[2], high);
      last[3] = Math.min(last[3], low);
      last[4] = close;
      last[5] += volume;
    } else {
      joined.push([start, open, high, low, close, volume]);
    }
  }
  return joined;
}

export class PriceChart extends Chart {
  constructor(canvas, onHover) {
    super(canvas, onHover);
    this.bars = [];
    this.fills = [];
    this.entry = null;
    this.last = null;
    this.lengthMs = 60_000;
    this.slots = 120;
  }

  show({ bars, fills, entry, last, lengthMs, slots }) {
    Object.assign(this, { fills, entry, last, lengthMs, slots });
    this.bars = joinBars(bars, lengthMs).slice(-slots);
    if (this.hover !== null && this.hover >= this.bars.length) this.hover = null;
    this.draw();
  }

  count() {
    return this.bars.length;
  }

  geometry() {
    const right = this.width - AXIS_WIDTH;
    const slot = right / Math.max(1, Math.min(this.slots, Math.max(this.bars.length, 24)) + 1);
    const first = right - slot * (this.bars.length + 0.5);
    return { slot, xOf: (index) => first + slot * (index + 0.5) };
  }

  indexAt(x) {
    const { slot, xOf } = this.geometry();
    return Math.min(this.bars.length - 1, Math.max(0, Math.round((x - xOf(0)) / slot)));
  }

  draw() {
    if (!this.begin()) return;
    const { context, bars } = this;
    if (!bars.length) return;
    const ink = colors();
    const { slot, xOf } = this.geometry();
    const top = 14;
    const bottom = this.height - TIME_HEIGHT;
    const floor = bottom - 46;
    const start = bars[0][0];
    const end = bars.at(-1)[0] + this.lengthMs;
    const fills = this.fills.filter((fill) => fill.time >= start && fill.time < end);
    let low = Math.min(...bars.map((bar) => bar[3]), ...fills.map((fill) => fill.price));
    let high = Math.max(...bars.map((bar) => bar[2]), ...fills.map((fill) => fill.price));
    const pad = Math.max((high - low) * 0.06, high * 0.00005);
    low -= pad;
    high += pad;
    const yOf = (value) => floor - ((value - low) / (high - low)) * (floor - top);
    this.valueAxis(low, high, top, floor, (value, step) => f.number(value, step >= 1 ? 0 : step >= 0.1 ? 1 : 2), this.last ? yOf(this.last) : null);
    this.timeAxis(start, end, (time) => xOf((time - start) / this.lengthMs));

    const body = Math.max(1, Math.min(11, Math.floor(slot * 0.66)));
    const most = Math.max(...bars.map((bar) => bar[5]), 1e-9);
    bars.forEach(([, open, top_, bottom_, close, volume], index) => {
      const x = Math.round(xOf(index));
      const isUp = close >= open;
      context.fillStyle = isUp ? ink["up-fill"] : ink["down-fill"];
      context.globalAlpha = 0.28;
      const tall = Math.max(volume > 0 ? 1 : 0, (volume / most) * 38);
      context.fillRect(x - body / 2, bottom - tall, body, tall);
      context.globalAlpha = 1;
      context.fillRect(x - 0.5, yOf(top_), 1, Math.max(1, yOf(bottom_) - yOf(top_)));
      const [upper, lower] = [yOf(Math.max(open, close)), yOf(Math.min(open, close))];
      context.fillRect(x - body / 2, upper, body, Math.max(1, lower - upper));
    });

    if (this.entry && this.entry > low && this.entry < high) {
      const y = Math.round(yOf(this.entry)) + 0.5;
      context.strokeStyle = ink.accent;
      context.setLineDash([2, 4]);
      this.line(0, y, this.width - AXIS_WIDTH, y);
      context.setLineDash([]);
      context.textAlign = "left";
      context.fillStyle = ink.accent;
      context.fillText("entry", 8, y - 8);
    }
    for (const fill of fills) this.marker(xOf((fill.time - start) / this.lengthMs - 0.5), yOf(fill.price), fill.side, ink);
    if (this.last) {
      const y = Math.round(yOf(this.last)) + 0.5;
      const isUp = bars.at(-1)[4] >= bars.at(-1)[1];
      context.strokeStyle = isUp ? ink.up : ink.down;
      context.setLineDash([3, 3]);
      context.globalAlpha = 0.7;
      this.line(0, y, this.width - AXIS_WIDTH, y);
      context.globalAlpha = 1;
      context.setLineDash([]);
      this.badge(y, f.price(this.last), isUp ? ink.up : ink.down, ink.card);
    }
    if (this.hover !== null) this.crosshair(xOf(this.hover), yOf(bars[this.hover][4]), f.price(bars[this.hover][4]), ink);
    this.onHover(this.hover === null ? bars.at(-1) : bars[this.hover], this.hover !== null);
  }

  crosshair(x, y, text, ink) {
    const { context } = this;
    context.strokeStyle = ink["line-strong"];
    this.line(Math.round(x) + 0.5, 8, Math.round(x) + 0.5, this.height - TIME_HEIGHT);
    this.line(0, Math.round(y) + 0.5, this.width - AXIS_WIDTH, Math.round(y) + 0.5);
    this.badge(y, text, ink.text, ink.card);
  }

  marker(x, y, side, ink) {
    const { context } = this;
    const way = side === "BUY" ? 1 : -1;
    context.beginPath();
    context.moveTo(x, y + way * 3);
    context.lineTo(x - 5, y + way * 12);
    context.lineTo(x + 5, y + way * 12);
    context.closePath();
    context.fillStyle = side === "BUY" ? ink.accent : ink.warn;
    context.strokeStyle = ink.card;
    context.lineWidth = 2;
    context.stroke();
    context.fill();
    context.lineWidth = 1;
  }
}

export class EquityChart extends Chart {
  constructor(canvas, onHover) {
    super(canvas, onHover);
    this.points = [];
  }

  show(points) {
    this.points = points;
    if (this.hover !== null && this.hover >= points.length) this.hover = null;
    this.draw();
  }

  count() {
    return this.points.length;
  }

  xOf(time) {
    const [from, to] = [this.points[0][0], this.points.at(-1)[0]];
    const right = this.width - AXIS_WIDTH - 8;
    return to === from ? right : 4 + ((time - from) / (to - from)) * (right - 4);
  }

  indexAt(x) {
    let best = 0;
    this.points.forEach((point, index) => {
      if (Math.abs(this.xOf(point[0]) - x) < Math.abs(this.xOf(this.points[best][0]) - x)) best = index;
    });
    return best;
  }

  draw() {
    if (!this.begin()) return;
    const { context, points } = this;
    if (!points.length) return;
    const ink = colors();
    const top = 12;
    const bottom = this.height - TIME_HEIGHT;
    const base = points[0][1];
    let low = Math.min(...points.map((point) => point[1]));
    let high = Math.max(...points.map((point) => point[1]));
    const pad = Math.max((high - low) * 0.1, Math.abs(high) * 0.00005, 0.01);
    low -= pad;
    high += pad;
    const yOf = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
    this.valueAxis(low, high, top, bottom, (value, step) => f.number(value, step >= 1 ? 0 : step >= 0.1 ? 1 : 2), yOf(points.at(-1)[1]));
    this.timeAxis(points[0][0], points.at(-1)[0], (time) => this.xOf(time));

    const now = points.at(-1)[1];
    const tone = now >= base ? "up" : "down";
    const path = new Path2D();
    points.forEach(([time, equity], index) => path[index ? "lineTo" : "moveTo"](this.xOf(time), yOf(equity)));
    const area = new Path2D(path);
    area.lineTo(this.xOf(points.at(-1)[0]), bottom);
    area.lineTo(this.xOf(points[0][0]), bottom);
    area.closePath();
    const shade = context.createLinearGradient(0, top, 0, bottom);
    shade.addColorStop(0, ink[`${tone}-fill`]);
    shade.addColorStop(1, "transparent");
    context.globalAlpha = 0.22;
    context.fillStyle = shade;
    context.fill(area);
    context.globalAlpha = 1;
    context.strokeStyle = ink["line-strong"];
    context.setLineDash([2, 4]);
    this.line(0, Math.round(yOf(base)) + 0.5, this.width - AXIS_WIDTH, Math.round(yOf(base)) + 0.5);
    context.setLineDash([]);
    context.strokeStyle = ink[tone];
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.stroke(path);
    context.lineWidth = 1;
    this.badge(yOf(now), f.number(now, now >= 100_000 ? 0 : 1), ink[tone], ink.card);
    if (this.hover !== null) {
      const [time, equity] = points[this.hover];
      const x = Math.round(this.xOf(time)) + 0.5;
      context.strokeStyle = ink["line-strong"];
      this.line(x, 6, x, bottom);
      context.fillStyle = ink[tone];
      context.beginPath();
      context.arc(x, yOf(equity), 3.5, 0, Math.PI * 2);
      context.fill();
    }
    this.onHover(this.hover === null ? null : points[this.hover]);
  }
}

// Recent forecasts as thin columns: down below, flat between, up above.
export class ForecastStrip extends Chart {
  constructor(canvas) {
    super(canvas, () => {});
    this.history = [];
  }

  show(history) {
    this.history = history;
    this.draw();
  }

  count() {
    return 0;
  }

  draw() {
    if (!this.begin()) return;
    const ink = colors();
    const slot = 5;
    const shown = this.history.slice(-Math.floor((this.width + 1) / slot));
    const left = this.width - shown.length * slot + 1;
    this.context.fillStyle = ink.line;
    this.context.fillRect(0, this.height - 1, Math.max(0, left - 1), 1);
    shown.forEach(([, down, flat, up], index) => {
      const x = left + index * slot;
      let y = this.height;
      for (const [share, name] of [[down, "down-fill"], [flat, "flat-fill"], [up, "up-fill"]]) {
        this.context.fillStyle = ink[name];
        this.context.fillRect(x, y - share * this.height, slot - 1, share * this.height);
        y -= share * this.height;
      }
    });
  }
}
