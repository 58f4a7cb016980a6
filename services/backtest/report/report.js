// Draws a report's curves with lightweight-charts from the JSON beside it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();

  function chart(id) {
    const element = document.getElementById(id);
    const made = LightweightCharts.createChart(element, {
      autoSize: true,
      layout: { background: { color: "transparent" }, textColor: color("--soft"), attributionLogo: id === "equity" },
      grid: { vertLines: { color: color("--line") }, horzLines: { color: color("--line") } },
      rightPriceScale: { borderColor: color("--line"), minimumWidth: 76 },
      leftPriceScale: { borderColor: color("--line") },
      timeScale: { borderColor: color("--line"), timeVisible: true, secondsVisible: false, minBarSpacing: 0.0001 },
    });
    // It takes its element's width after the first layout, and keeps what a bar has, not what is shown: fitted each time.
    new ResizeObserver(() => requestAnimationFrame(() => made.timeScale().fitContent())).observe(element);
    return made;
  }

  const pairs = (times, values) => times.map((time, place) => ({ time, value: values[place] }));

  function line(made, times, values, options) {
    const series = made.addSeries(LightweightCharts.LineSeries, { lineWidth: 2, priceLineVisible: false, ...options });
    series.setData(pairs(times, values));
    return series;
  }

  const curve = data.equity_curve;
  const equity = chart("equity");
  if (curve.buy_and_hold_usdt.length) {
    line(equity, curve.time, curve.buy_and_hold_usdt, { color: color("--soft"), lineWidth: 1, title: "buy and hold" });
  }
  line(equity, curve.time, curve.equity_usdt, { color: color("--accent"), title: "equity" });

  const drawdown = chart("drawdown");
  drawdown
    .addSeries(LightweightCharts.AreaSeries, {
      lineColor: color("--bad"), topColor: "transparent", bottomColor: color("--bad") + "55", lineWidth: 1,
      priceLineVisible: false,
    })
    .setData(pairs(curve.time, curve.drawdown.map((share) => 100 * share)));

  line(chart("exposure"), curve.time, curve.position, {
    color: color("--accent"), lineType: LightweightCharts.LineType.WithSteps, lineWidth: 1,
    priceFormat: { type: "price", precision: 3, minMove: 0.001 },
  });

  const candles = data.candles;
  const price = chart("price");
  const bars = price.addSeries(LightweightCharts.CandlestickSeries, { priceLineVisible: false });
  bars.setData(candles.time.map((time, place) => ({
    time, open: candles.open[place], high: candles.high[place], low: candles.low[place], close: candles.close[place],
  })));
  const snap = (time) => {
    let low = 0, high = candles.time.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (candles.time[middle] < time) low = middle + 1; else high = middle;
    }
    return candles.time[low];
  };
  if (candles.time.length) {
    LightweightCharts.createSeriesMarkers(bars, data.fills_shown.map(([time, sign]) => ({
      time: snap(time), position: sign > 0 ? "belowBar" : "aboveBar", shape: sign > 0 ? "arrowUp" : "arrowDown",
      color: sign > 0 ? "#26a69a" : "#ef5350", size: 0.6,
    })));
  }

  const rolling = data.rolling;
  const ratios = chart("rolling");
  ratios.applyOptions({ leftPriceScale: { visible: true } });
  line(ratios, rolling.time, rolling.sharpe, { color: color("--accent"), title: "Sharpe" });
  line(ratios, rolling.time, rolling.volatility.map((share) => 100 * share), {
    color: color("--soft"), lineWidth: 1, title: "volatility, %", priceScaleId: "left",
  });

  // A histogram over returns has no time axis: it is drawn as plain bars.
  const bins = data.distribution;
  const most = Math.max(1, ...bins.count);
  const size = bins.from.length ? bins.from[1] - bins.from[0] : 0;
  document.getElementById("distribution").append(...bins.count.map((count, place) => {
    const bar = document.createElement("i");
    const middle = 100 * (bins.from[place] + size / 2);
    bar.style.height = `${100 * count / most}%`;
    bar.className = middle < 0 ? "loss" : "gain";
    bar.title = `${middle.toFixed(3)} %: ${count}`;
    return bar;
  }));
  if (bins.from.length) {
    const reach = (-100 * bins.from[0]).toFixed(2);
    document.getElementById("distribution").insertAdjacentHTML(
      "afterend", `<p class="axis"><span>-${reach} %</span><span>0</span><span>${reach} %</span></p>`);
  }
})();
