
// Plots by uPlot: over time, and by percentile. Colours are those of the style sheet, whichever scheme is on.

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seriesColor = (at) => `--c${at % 6}`;
const HEIGHT = 140;
const plots = [];
/** Steps between ticks of what is counted. */
const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
/** The time of day, UTC, of seconds since 1970. */
const clock = (seconds) => new Date(seconds * 1e3).toISOString().slice(11, 19);

function axis(more) {
  return {
    stroke: () => color("--faint"), font: "12px system-ui, sans-serif",
    grid: { stroke: () => color("--grid"), width: 1 }, ticks: { stroke: () => color("--grid"), size: 4 }, ...more,
  };
}

/** Ticks without a crowd of zeros: 1k, 20k, 3M. */
function short(value) {
  const steps = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, unit] = steps.find(([least]) => Math.abs(value) >= least) ?? [1, ""];
  return `${+(value / size).toFixed(2)}${unit}`;
}

/** Keeps a plot as wide as its figure. */
function watch(figure, plot) {
  plots.push(plot);
  new ResizeObserver(() => {
    const width = figure.clientWidth;
    if (width > 0 && width !== plot.width) plot.setSize({ width, height: plot.height });
  }).observe(figure);
}

function keys(figure, names) {
  const list = document.createElement("ul");
  list.className = "keys";
  const values = names.map((name, at) => {
    const row = list.appendChild(document.createElement("li"));
    row.className = `k${at % 6}`;
    row.append(`${name} `);
    return row.appendChild(document.createElement("b"));
  });
  figure.querySelector("figcaption").after(list);
  return values;
}

/**
 * A plot over time in `figure` of columns of the history: `series` has name and column of each, `format` writes a value. `marks` says where
 * vertical lines stand; where all is `whole` there is no half.
 */
function timePlot(figure, { series, format, marks, whole = false }) {
  const values = keys(figure, series.map(({ name }) => name));
  const say = (plot) => {
    const at = plot.cursor.idx ?? plot.data[0].length - 1;
    series.forEach((_, index) => {
      const value = plot.data[index + 1]?.[at];
      values[index].textContent = value == null ? "–" : format(value);
    });
  };
  const lines = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = color("--faint");
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const at of marks()) {
      if (at < plot.scales.x.min || at > plot.scales.x.max) continue;
      const x = Math.round(plot.valToPos(at, "x", true)) + 0.5;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  };
  const plot = new uPlot({
    width: figure.clientWidth || 300, height: HEIGHT, legend: { show: false },
    cursor: { sync: { key: "time" }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { y: { range: (_, least, most) => [0, most > 0 ? most * 1.1 : 1] } },
    axes: [
      axis({ size: 28, space: 80, values: (_, ticks) => ticks.map(clock), incrs: [5, 10, 15, 30, 60, 120, 300, 600] }),
      axis({ size: 46, space: 32, values: (_, ticks) => ticks.map(short), ...(whole && { incrs: WHOLE }) }),
    ],
    series: [{}, ...series.map((_, at) => ({ stroke: () => color(seriesColor(at)), width: 1.6, points: { show: false } }))],
    hooks: { setCursor: [say], draw: [lines] },
  }, [[], ...series.map(() => [])], figure);
  watch(figure, plot);
  return {
    remove() { plots.splice(plots.indexOf(plot), 1); plot.destroy(); figure.querySelector(".keys").remove(); },
    show(columns) {
      plot.setData([columns.at ?? [], ...series.map(({ column }) => columns[column] ?? [])]);
      say(plot);
    },
  };
}

/** The part of all, so that each nine has as much room: 90, 99, 99.9 percent. */
const nines = (quantile) => -Math.log10(1 - quantile);

/** One line for each stage; the chosen one stands out. */
function percentilePlot(figure) {
  const ticks = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];
  let chosen = null;
  let plot = null;
  const options = (names) => ({
    width: figure.clientWidth || 300, height: 300, legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: false, range: () => [0, 5] }, y: { distr: 3 } },
    axes: [
      axis({ splits: () => ticks.map(nines), values: () => ticks.map((tick) => `${+(tick * 100).toFixed(3)}`), space: 30, size: 28 }),
      axis({ size: 62, values: (_, at) => at.map((ns) => (ns == null ? "" : duration(ns).replace(/\.0+ /, " "))) }),
    ],
    series: [{}, ...names.map((name) => ({
      stroke: () => color(name === chosen ? "--c0" : "--quiet"), width: name === chosen ? 2.5 : 1, points: { show: false },
    }))],
  });
  return {
    /** `stages` has name and times of those that there are. */
    show(quantiles, stages, which) {
      // The chosen one is drawn last: above the others.
      const ordered = [...stages].sort((one, other) => (one.name === which) - (other.name === which));
      const data = [quantiles.map(nines), ...ordered.map(({ times }) => times.q.map((ns) => Math.max(ns, 1)))];
      const names = ordered.map(({ name }) => name);
      const key = names.join() + which;
      if (plot?.key !== key) {
        chosen = which;
        if (plot) { plots.splice(plots.indexOf(plot), 1); plot.destroy(); }
        plot = names.length ? new uPlot(options(names), data, figure) : null;
        if (plot) { plot.key = key; watch(figure, plot); }
      } else if (plot) {
        plot.setData(data);
      }
    },
  };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach((plot) => plot.redraw(false, true)));
