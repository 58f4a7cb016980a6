// Price and equity drawn by TradingView's lightweight-charts; the forecast strip is a canvas of our own.
import * as f from "./format.js";

const { createChart, createSeriesMarkers, CandlestickSeries, HistogramSeries, BaselineSeries, LineStyle, CrosshairMode, TickMarkType } = LightweightCharts;
const COLORS = ["text", "muted", "line", "line-strong", "card", "accent", "up", "down", "warn", "up-fill", "down-fill", "flat-fill"];
const shown = new Set();

let palette = null;

function colors() {
  if (!palette) {
    const style = getComputedStyle(document.documentElement);
    palette = Object.fromEntries(COLORS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  return palette;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  palette = null;
  for (const each of shown) each.paint();
});

const toSeconds = (ms) => ms / 1000;
const toMs = (seconds) => Math.round(seconds * 1000);

function tick(time, kind) {
  if (kind <= TickMarkType.DayOfMonth) return f.day(toMs(time)).slice(5);
  return f.clock(toMs(time), kind === TickMarkType.TimeWithSeconds);
}

// A chart in an element of the page: `items` are what arrow keys and pointer read one by one, times in ms first.
class TimeChart {
  constructor(element, onRead) {
    this.element = element;
    this.onRead = onRead;
    this.items = [];
    this.at = null;
    this.chart = createChart(element, {
      autoSize: true,
      // Named in the footer: the library's own logo brings a style that the page's policy forbids.
      layout: { attributionLogo: false, fontSize: 11, background: { color: "transparent" } },
      crosshair: { mode: CrosshairMode.Magnet },
      localization: { timeFormatter: (time) => f.moment(toMs(time)) },
      timeScale: { timeVisible: true, rightOffset: 1, minBarSpacing: 0.2, tickMarkFormatter: tick },
      // The page scrolls over a chart; dragging and pinching move and scale it.
      handleScroll: { mouseWheel: false, vertTouchDrag: false },
      handleScale: { mouseWheel: false },
    });
    this.chart.subscribeCrosshairMove((event) => this.read(event.time === undefined ? null : this.indexOf(toMs(event.time))));
    element.addEventListener("blur", () => this.leave());
    element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") this.leave();
      if (!step || !this.items.length) return;
      event.preventDefault();
      const from = this.at ?? (step < 0 ? this.items.length : -1);
      this.point(Math.min(this.items.length - 1, Math.max(0, from + step)));
    });
    shown.add(this);
  }

  indexOf(ms) {
    const index = this.items.findIndex((item) => item[0] >= ms);
    return index < 0 ? this.items.length - 1 : index;
  }

  point(index) {
    const item = this.items[index];
    this.chart.setCrosshairPosition(this.valueOf(item), toSeconds(item[0]), this.series);
    this.read(index);
  }

  leave() {
    this.chart.clearCrosshairPosition();
    this.read(null);
  }

  read(index) {
    this.at = index;
    if (this.items.length) this.onRead(this.items[index ?? this.items.length - 1], index !== null);
  }

  // Replaces all items or, where only the last ones changed, those: the view a person has chosen stays.
  put(items, ...series) {
    const known = this.items;
    const isNext = known.length > 0 && items.length >= known.length && items[0][0] === known[0][0] && items[known.length - 1][0] === known.at(-1)[0];
    this.items = items;
    for (const [made, toPoint] of series) {
      if (isNext) for (const item of items.slice(known.length - 1)) made.update(toPoint(item));
      else made.setData(items.map(toPoint));
    }
    if (this.at !== null && this.at >= items.length) this.at = null;
    return isNext;
  }

  paint() {
    const ink = colors();
    this.chart.applyOptions({
      layout: { textColor: ink.muted },
      grid: { vertLines: { visible: false }, horzLines: { color: ink.line } },
      crosshair: { vertLine: { color: ink["line-strong"], labelBackgroundColor: ink.text }, horzLine: { color: ink["line-strong"], labelBackgroundColor: ink.text } },
      rightPriceScale: { borderVisible: false },
      timeScale: { borderColor: ink.line },
    });
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

export class PriceChart extends TimeChart {
  constructor(element, onRead) {
    super(element, onRead);
    this.series = this.chart.addSeries(CandlestickSeries, { priceFormat: { type: "custom", minMove: 0.01, formatter: f.price } });
    this.series.priceScale().applyOptions({ scaleMargins: { top: 0.06, bottom: 0.18 } });
    this.volume = this.chart.addSeries(HistogramSeries, { priceScaleId: "", lastValueVisible: false, priceLineVisible: false });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.87, bottom: 0 } });
    this.markers = createSeriesMarkers(this.series, []);
    this.entry = null;
    this.entryLine = null;
    this.fills = [];
    this.view = "";
    this.lengthMs = 60_000;
    this.paint();
  }

  valueOf(bar) {
    return bar[4];
  }

  show({ name, bars, fills, entry, lengthMs, slots }) {
    const view = `${name} ${lengthMs}`;
    const isOther = view !== this.view;
    if (isOther) this.items = [];
    this.view = view;
    this.lengthMs = lengthMs;
    this.put(
      joinBars(bars, lengthMs),
      [this.series, ([time, open, high, low, close]) => ({ time: toSeconds(time), open, high, low, close })],
      [this.volume, (bar) => this.volumeOf(bar)],
    );
    if (isOther) this.chart.timeScale().setVisibleLogicalRange({ from: this.items.length - slots, to: this.items.length });
    this.mark(fills);
    this.drawEntry(entry);
    this.read(this.at);
  }

  volumeOf([time, open, , , close, volume]) {
    return { time: toSeconds(time), value: volume, color: `${colors()[close >= open ? "up-fill" : "down-fill"]}48` };
  }

  mark(fills) {
    const start = this.items[0][0];
    this.fills = fills;
    this.markers.setMarkers(
      fills.filter((fill) => fill.time >= start).sort((one, two) => one.time - two.time).map((fill) => ({
        time: toSeconds(fill.time - (fill.time % this.lengthMs)),
        price: fill.price,
        position: fill.side === "BUY" ? "atPriceBottom" : "atPriceTop",
        shape: fill.side === "BUY" ? "arrowUp" : "arrowDown",
        color: colors()[fill.side === "BUY" ? "accent" : "warn"],
        size: 0.7,
      })),
    );
  }

  drawEntry(entry) {
    if (entry === this.entry) return;
    this.entry = entry;
    if (this.entryLine) this.series.removePriceLine(this.entryLine);
    this.entryLine = entry === null ? null : this.series.createPriceLine({ price: entry, color: colors().accent, lineWidth: 1, lineStyle: LineStyle.SparseDotted, title: "entry", axisLabelVisible: false });
  }

  paint() {
    super.paint();
    const ink = colors();
    this.series.applyOptions({ upColor: ink["up-fill"], downColor: ink["down-fill"], wickUpColor: ink["up-fill"], wickDownColor: ink["down-fill"], borderVisible: false });
    if (!this.items.length) return;
    this.volume.setData(this.items.map((bar) => this.volumeOf(bar)));
    this.mark(this.fills);
    this.entryLine?.applyOptions({ color: ink.accent });
  }
}

export class EquityChart extends TimeChart {
  constructor(element, onRead) {
    super(element, (point, isPointed) => onRead(isPointed ? point : null));
    this.series = this.chart.addSeries(BaselineSeries, { lineWidth: 2, priceFormat: { type: "custom", minMove: 0.01, formatter: (value) => f.number(value, value >= 100_000 ? 0 : 1) } });
    this.paint();
  }

  valueOf(point) {
    return point[1];
  }

  show(points) {
    const isNext = this.put(points, [this.series, ([time, equity]) => ({ time: toSeconds(time), value: equity })]);
    if (!isNext) this.series.applyOptions({ baseValue: { type: "price", price: points[0][1] } });
    this.chart.timeScale().fitContent();
    this.read(this.at);
  }

  paint() {
    super.paint();
    const ink = colors();
    this.series.applyOptions({
      topLineColor: ink.up, topFillColor1: `${ink["up-fill"]}38`, topFillColor2: "transparent",
      bottomLineColor: ink.down, bottomFillColor1: "transparent", bottomFillColor2: `${ink["down-fill"]}38`,
    });
  }
}

// Recent forecasts as thin columns: down below, flat between, up above.
export class ForecastStrip {
  constructor(canvas) {
    this.canvas = canvas;
    this.history = [];
    new ResizeObserver(() => this.paint()).observe(canvas);
    shown.add(this);
  }

  show(history) {
    this.history = history;
    this.paint();
  }

  paint() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const ink = colors();
    const slot = 5;
    const columns = this.history.slice(-Math.floor((width + 1) / slot));
    const left = width - columns.length * slot + 1;
    context.fillStyle = ink.line;
    context.fillRect(0, height - 1, Math.max(0, left - 1), 1);
    columns.forEach(([, down, flat, up], index) => {
      let y = height;
      for (const [share, name] of [[down, "down-fill"], [flat, "flat-fill"], [up, "up-fill"]]) {
        context.fillStyle = ink[name];
        context.fillRect(left + index * slot, y - share * height, slot - 1, share * height);
        y -= share * height;
      }
    });
  }
}
