// What the report's page does by itself: theme, table, chart. The table is there without any of this.
"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);

  /** Make an element; properties as they are, children appended. Text is never parsed as HTML. */
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // Theme: the system's unless said otherwise; what was said is remembered where the browser allows it.

  const KEY = "claf2-report-theme";
  const remember = (value) => { try { localStorage.setItem(KEY, value); } catch { /* a private window */ } };
  const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };

  const setTheme = (value) => {
    if (value === "system") delete root.dataset.theme;
    else root.dataset.theme = value;
    root.dispatchEvent(new Event("theme"));
  };

  const theme = () => {
    const select = byId("theme");
    const before = remembered();
    if (before === "light" || before === "dark") select.value = before;
    setTheme(select.value);
    select.addEventListener("change", () => { setTheme(select.value); remember(select.value); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => root.dispatchEvent(new Event("theme")));
  };

  // Table

  /** Compare scores; what was not measured comes last, whichever way. */
  const order = (sign) => (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };

  const table = () => {
    const element = byId("table");
    if (!element) return;
    DataTable.type("score", { order: { asc: order(1), desc: order(-1) } });
    const api = new DataTable(element, {
      paging: false, info: false, autoWidth: false, order: [], layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
      language: { zeroRecords: "No row has all of these words." },
      columnDefs: [
        // The first that fits a column decides.
        { targets: ".lower", orderSequence: ["asc", "desc", ""] },
        { targets: ".score", type: "score", searchable: false, orderSequence: ["desc", "asc", ""] },
        { targets: ".step", type: "score", searchable: false },
      ],
    });
    const said = () => {
      const { recordsDisplay, recordsTotal } = api.page.info();
      byId("found").value = recordsDisplay === recordsTotal ? `${recordsTotal} rows` : `${recordsDisplay} of ${recordsTotal} rows`;
    };
    api.on("draw", said);
    said();
    byId("search").addEventListener("input", (event) => api.search(event.target.value).draw());
    byId("second").addEventListener("change", (event) => { element.dataset.second = event.target.value; });
  };

  // Chart

  const SHAPES = ["circle", "triangle", "rect", "rectRot", "crossRot", "star", "cross"];
  const DASHES = [[], [7, 4], [2, 3]];
  const COLOURS = 8;
  const SHOWN = 12;

  const plain = (value) => (value <= -0.005 ? "−" : "") + Math.abs(value).toFixed(2);
  const signed = (value) => (value <= -0.005 ? "−" : "+") + Math.abs(value).toFixed(2);
  const count = (value) => value.toLocaleString("en");

  const probe = make("span", { hidden: true });
  const colour = (name, alpha) => {
    probe.style.color = `var(--${name})`;
    const found = getComputedStyle(probe).color;
    return alpha === undefined ? found : found.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
  };

  /** How the line in some place looks: colour, marker and dash all differ, so that none of them is needed. */
  const look = (place) => ({
    colour: (alpha) => colour(`s${place % COLOURS}`, alpha),
    shape: SHAPES[place % SHAPES.length],
    dash: DASHES[Math.floor(place / COLOURS) % DASHES.length],
  });

  /** The lines of a view: every score of one model, or one score of every model. */
  const linesOf = (view) => {
    const [kind, place] = [view.kind, view.place];
    const points = (series, score) => series.points.map((point) => ({ step: point.step, ...point.scores[score] }));
    const all = kind === "model"
      ? data.scores.map(({ label, lower }, score) => ({ label, lower, points: points(data.series[place], score) }))
      : data.series.map((series) => ({ label: series.label, points: points(series, place) }));
    return all.filter((line) => line.points.some((point) => point.mean != null));
  };

  /** Take the first mean off a line, so that all begin at nothing. */
  const fromFirst = (line) => {
    const first = line.points.find((point) => point.mean != null).mean;
    const less = (value) => (value == null ? null : value - first);
    return { ...line, points: line.points.map((p) => ({ ...p, mean: less(p.mean), low: less(p.low), high: less(p.high) })) };
  };

  const bandOf = (point) => {
    if (point.low == null || point.high == null) return "";
    const [below, above] = [(point.mean - point.low).toFixed(2), (point.high - point.mean).toFixed(2)];
    return below === above ? ` ±${above}` : ` +${above} −${below}`;
  };

  const datasets = (line, place, on, bands) => {
    const style = look(place);
    const way = (key) => line.points.map((point) => ({ x: point.step, y: point[key] ?? null }));
    const edge = { borderWidth: 0, pointRadius: 0, pointHitRadius: 0, hidden: !(on && bands), edge: true };
    return [
      { ...edge, data: way("low") },
      { ...edge, data: way("high"), fill: "-1", backgroundColor: style.colour(0.13) },
      {
        label: line.label, line, hidden: !on, data: way("mean"), borderColor: style.colour(), backgroundColor: style.colour(),
        borderWidth: 2, borderDash: style.dash, pointStyle: style.shape, pointRadius: 4, pointHoverRadius: 6, spanGaps: false,
      },
    ];
  };

  const axis = (title, more) => ({
    title: { display: true, text: title, color: colour("muted") },
    grid: { color: colour("rule") }, border: { color: colour("rule") },
    ...more, ticks: { color: colour("muted"), maxRotation: 0, autoSkipPadding: 14, ...more.ticks },
  });

  const options = (relative, logarithmic) => ({
    animation: false, responsive: true, maintainAspectRatio: false, normalized: true,
    interaction: { mode: "nearest", axis: "x", intersect: false }, clip: false, layout: { padding: { right: 10 } },
    scales: {
      x: axis("pre-training step", { type: logarithmic ? "logarithmic" : "linear", ticks: { callback: (value) => Intl.NumberFormat("en", { notation: "compact" }).format(value) } }),
      y: axis(relative ? "change since the first checkpoint" : "score", { ticks: {} }),
    },
    plugins: {
      legend: { display: false },
      tooltip: {
        usePointStyle: true, filter: (item) => !item.dataset.edge, itemSort: (a, b) => b.parsed.y - a.parsed.y,
        backgroundColor: colour("raised"), titleColor: colour("ink"), bodyColor: colour("ink"), borderColor: colour("rule"), borderWidth: 1,
        callbacks: {
          title: (items) => (items.length ? `step ${count(items[0].parsed.x)}` : ""),
          label: ({ dataset, dataIndex }) => {
            const point = dataset.line.points[dataIndex];
            const lost = point.collapsed ? `, ${point.collapsed} collapsed` : "";
            return ` ${dataset.label}: ${(relative ? signed : plain)(point.mean)}${bandOf(point)}${lost}`;
          },
        },
      },
    },
  });

  const swatch = (place) => {
    const canvas = make("canvas", { width: 68, height: 28 });
    canvas.setAttribute("aria-hidden", "true");
    const pen = canvas.getContext("2d");
    const style = look(place);
    pen.scale(2, 2);
    pen.strokeStyle = pen.fillStyle = style.colour();
    pen.lineWidth = 2;
    pen.setLineDash(style.dash);
    pen.beginPath();
    pen.moveTo(0, 7);
    pen.lineTo(34, 7);
    pen.stroke();
    pen.setLineDash([]);
    Chart.helpers.drawPoint(pen, { pointStyle: style.shape, radius: 4, borderWidth: 2, rotation: 0 }, 17, 7);
    return canvas;
  };

  /** The chart's numbers once more as a table, for who cannot see it and who wants to copy them. */
  const numbers = (lines, relative) => {
    const steps = [...new Set(lines.flatMap((line) => line.points.map((point) => point.step)))].sort((a, b) => a - b);
    const show = (line, step) => {
      const point = line.points.find((each) => each.step === step);
      return point?.mean == null ? "–" : (relative ? signed : plain)(point.mean) + bandOf(point);
    };
    const head = (text, scope, className) => Object.assign(make("th", { className }, make("bdi", {}, text)), { scope });
    return make("table", {},
      make("thead", {}, make("tr", {}, head("step", "col", ""), ...lines.map((line) => head(line.label, "col", "score")))),
      make("tbody", {}, ...steps.map((step) => make("tr", {}, head(count(step), "row", "step"),
        ...lines.map((line) => make("td", { className: "score" }, show(line, step)))))));
  };

  /** Leave out lines on a scale of their own, such as a perplexity among accuracies, and what would be too many. */
  const hiddenAtFirst = (lines) => {
    const mixed = lines.some((line) => line.lower) && lines.some((line) => !line.lower);
    return new Set(lines.map((_, place) => place).filter((place) => place >= SHOWN || (mixed && lines[place].lower)));
  };

  const chart = () => {
    const canvas = byId("chart");
    if (!canvas) return;
    document.body.append(probe);
    const view = byId("view");
    const off = new Map();
    let drawn = null;

    const steps = data.series.flatMap((series) => series.points.map((point) => point.step));
    byId("logarithmic").disabled = Math.min(...steps) <= 0;

    const draw = () => {
      const [kind, place] = view.value.split(" ");
      const relative = byId("relative").checked;
      const found = linesOf({ kind, place: Number(place) });
      const lines = relative ? found.map(fromFirst) : found;
      if (!off.has(view.value)) off.set(view.value, hiddenAtFirst(lines));
      const hidden = off.get(view.value);
      const bands = byId("bands").checked;
      const shown = lines.filter((_, line) => !hidden.has(line));

      drawn?.destroy();
      drawn = new Chart(canvas, {
        type: "line",
        data: { datasets: lines.flatMap((line, each) => datasets(line, each, !hidden.has(each), bands)) },
        options: options(relative, byId("logarithmic").checked),
      });
      canvas.setAttribute("aria-label", `${view.selectedOptions[0].textContent}: ${shown.length} lines by pre-training step; their numbers are in the table below`);
      byId("numbers").replaceChildren(numbers(shown, relative));
      return [lines, hidden];
    };

    const redraw = () => {
      const [lines, hidden] = draw();
      const held = [...byId("lines").children].findIndex((item) => item.contains(document.activeElement));
      byId("lines").replaceChildren(...lines.map((line, place) => {
        const button = make("button", { type: "button" }, swatch(place), make("bdi", {}, line.label));
        button.setAttribute("aria-pressed", String(!hidden.has(place)));
        button.addEventListener("click", () => { hidden.delete(place) || hidden.add(place); redraw(); });
        return make("li", {}, button);
      }));
      byId("lines").children[held]?.firstChild.focus();
    };

    const all = (on) => () => {
      const [lines, hidden] = draw();
      hidden.clear();
      if (!on) lines.forEach((_, place) => hidden.add(place));
      redraw();
    };
    byId("all").addEventListener("click", all(true));
    byId("no").addEventListener("click", all(false));
    for (const id of ["view", "relative", "bands", "logarithmic"]) byId(id).addEventListener("change", redraw);
    root.addEventListener("theme", redraw);
    redraw();
    // For tests and the console.
    window.report = { chart: () => drawn };
  };

  document.querySelectorAll("[data-scripted]").forEach((element) => { element.hidden = false; });
  document.querySelectorAll("[data-unscripted]").forEach((element) => { element.hidden = true; });
  theme();
  table();
  chart();
})();
