/* Draws each <figure data-chart="ID"> with uPlot from the JSON in the element ID:

     {"kind": "line" | "points" | "errorbars",
      "x": {"label": "UTC", "values": [...], "time": true (unix seconds), "mjd": true (a second axis), "log": false},
      "y": {"label": "flux (mJy)", "log": false},
      "series": [{"label": "...", "values": [...], "low": [...], "high": [...], "limit": [...], "pale": [...], "href": [...]}],
      "lines": [{"label": "threshold", "y": 3.0} | {"label": "...", "x": 5.0}]}

   Colors are those of the style sheet; the points of the first series are filled, its lines whole, so that it is told
   from the others without a color. `low` and `high` are the ends of error bars, `limit` are upper limits, drawn as
   downward triangles, `pale` says how pale the bar of a point is, from 0 to 1; a point with `href` opens it when it is
   clicked. The same values stand in a table or a text. */
"use strict";
(() => {
  const charts = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* Times of an axis as this telescope writes them: ISO dates, 24 hours. From the step (s): the label, and what is
     added where the year, the day or the minute is another than before. */
  const DAY = "\n{YYYY}-{MM}-{DD}";
  const CLOCK = [
    [31536000, "{YYYY}", null, null, null, null, null, null, 1],
    [2419200, "{YYYY}-{MM}", null, null, null, null, null, null, 1],
    [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
    [60, "{HH}:{mm}", DAY, null, "\n{MM}-{DD}", null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", DAY, null, "\n{MM}-{DD}", null, null, null, 1],
  ];

  const bars = (series) => (plot, index) => {
    const given = series[index - 1];
    const context = plot.ctx;
    context.save();
    context.strokeStyle = context.fillStyle = color(`--series-${index}`);
    context.lineWidth = 2 * devicePixelRatio;
    const arm = 4 * devicePixelRatio;
    plot.data[0].forEach((x, i) => {
      const left = plot.valToPos(x, "x", true);
      context.globalAlpha = 1 - 0.7 * ((given.pale && given.pale[i]) || 0);
      if (given.low && given.low[i] != null && given.high[i] != null) {
        const bottom = plot.valToPos(given.low[i], "y", true), top = plot.valToPos(given.high[i], "y", true);
        context.beginPath();
        context.moveTo(left, bottom); context.lineTo(left, top);
        context.stroke();
      }
      if (given.limit && given.limit[i] != null) {
        const top = plot.valToPos(given.limit[i], "y", true);
        context.beginPath();
        context.moveTo(left - arm, top); context.lineTo(left + arm, top); context.lineTo(left, top + 2 * arm);
        context.closePath(); context.stroke();
      }
    });
    context.restore();
  };

  const marks = (lines) => (plot) => {
    const context = plot.ctx, box = plot.bbox;
    context.save();
    context.strokeStyle = context.fillStyle = color("--faint");
    context.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    context.font = `${12 * devicePixelRatio}px sans-serif`;
    for (const [i, line] of lines.entries()) {
      context.beginPath();
      if (line.y != null) {
        const at = plot.valToPos(line.y, "y", true);
        if (at < box.top || at > box.top + box.height) continue;
        context.moveTo(box.left, at); context.lineTo(box.left + box.width, at);
        // Two lines that lie together have their names at different ends.
        context.textAlign = i % 2 ? "right" : "left";
        const end = i % 2 ? box.left + box.width : box.left;
        context.fillText(line.label, end + (i % 2 ? -6 : 6) * devicePixelRatio, at - 4 * devicePixelRatio);
      } else {
        const at = plot.valToPos(line.x, "x", true);
        context.textAlign = "left";
        if (at < box.left || at > box.left + box.width) continue;
        context.moveTo(at, box.top); context.lineTo(at, box.top + box.height);
        context.fillText(line.label, at + 4 * devicePixelRatio, box.top + 14 * devicePixelRatio);
      }
      context.stroke();
    }
    context.restore();
  };

  /* The range holds values, error bars and limits, with a little room. */
  const extent = (series, log) => {
    const all = series.flatMap((each) => [each.values, each.low || [], each.high || [], each.limit || []]).flat()
      .filter((value) => value != null && (!log || value > 0));
    if (!all.length) return [log ? 0.1 : 0, 1];
    let low = Infinity, high = -Infinity;
    for (const value of all) { if (value < low) low = value; if (value > high) high = value; }
    if (log) return [low / 1.3, high * 1.3];
    const room = (high - low || Math.abs(high) || 1) * 0.07;
    return [low - room, high + room];
  };

  /* The point with an address that is nearest to the pointer, if it is near. */
  const nearest = (plot, series, left, top) => {
    let found = null, least = 14 * 14;
    for (const each of series) {
      if (!each.href) continue;
      plot.data[0].forEach((x, i) => {
        if (each.values[i] == null || !each.href[i]) return;
        const apart = (plot.valToPos(x, "x") - left) ** 2 + (plot.valToPos(each.values[i], "y") - top) ** 2;
        if (apart < least) { least = apart; found = each.href[i]; }
      });
    }
    return found;
  };
  const open = (series) => (plot) => {
    if (!series.some((each) => each.href)) return;
    const at = (event) => nearest(plot, series, event.offsetX, event.offsetY);
    plot.over.addEventListener("click", (event) => { const href = at(event); if (href) location.href = href; });
    plot.over.addEventListener("mousemove", (event) => {
      const href = at(event);
      plot.over.title = href ? decodeURIComponent(href.split("/").pop()) : "";
      plot.over.classList.toggle("opens", Boolean(href));
    });
  };

  /* The same times above the chart as Modified Julian Dates. */
  const mjdAxis = (axis) => ({
    ...axis, scale: "x", side: 0, grid: { show: false }, space: 90,
    values: (_plot, splits) => splits.map((unix) => unix == null ? "" : (unix / 86400 + 40587).toFixed(splits.length > 1 && splits[1] - splits[0] < 86400 ? 2 : 0)),
  });

  const draw = (figure) => {
    const given = JSON.parse(document.getElementById(figure.dataset.chart).textContent);
    const place = figure.querySelector(".canvas");
    const points = given.kind !== "line";
    const plain = (_plot, splits) => splits.map((value) => (value == null ? "" : String(Number(value.toFixed(8)))));
    const axis = (label) => ({
      label, stroke: color("--text"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 },
    });
    const log = Boolean(given.y.log), logX = Boolean(given.x.log);
    const xs = [{ values: given.x.values }];
    const size = () => ({ width: Math.max(place.clientWidth - 18, 200), height: Math.min(360, Math.max(given.x.mjd ? 320 : 240, place.clientWidth * 0.45)) });
    const plot = new uPlot({
      ...size(),
      scales: {
        x: { time: Boolean(given.x.time), distr: logX ? 3 : 1, range: () => given.x.range || extent(xs, logX) },
        y: { distr: log ? 3 : 1, range: () => given.y.range || extent(given.series, log) },
      },
      tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1e3), "Etc/UTC"),
      axes: [
        { ...axis(given.x.label), values: given.x.time ? CLOCK : logX ? undefined : plain },
        { ...axis(given.y.label), size: 64, values: log ? undefined : plain },
        ...(given.x.mjd ? [mjdAxis(axis("MJD"))] : []),
      ],
      series: [{ label: given.x.label, value: given.x.time ? "{YYYY}-{MM}-{DD} {HH}:{mm}" : undefined }, ...given.series.map((each, i) => ({
        label: each.label,
        stroke: color(`--series-${i + 1}`),
        fill: points ? color(`--series-${i + 1}`) : undefined,
        paths: points ? () => null : undefined,
        width: points ? 0 : 1.5,
        dash: points || !i ? undefined : [8, 4],
        points: { show: points, size: 7, width: 1.5, fill: color(i ? "--raised" : "--series-1") },
      }))],
      hooks: { drawSeries: [bars(given.series)], draw: [marks(given.lines || [])], ready: [open(given.series)] },
    }, [given.x.values, ...given.series.map((each) => each.values)], place);
    charts.push({ figure, plot });
    new ResizeObserver(() => plot.setSize(size())).observe(place);
  };

  const drawAll = () => document.querySelectorAll("figure[data-chart]").forEach(draw);
  addEventListener("DOMContentLoaded", drawAll);
  const drawAnew = () => {
    charts.splice(0).forEach(({ plot }) => plot.destroy());
    drawAll();
  };
  document.addEventListener("theme", drawAnew);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
})();
