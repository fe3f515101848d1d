// What the page of a report does: theme, table, chart. The tables are complete without it.
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

  // Theme: the system's by default. A choice is remembered where the browser allows it.

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
    const choice = remembered();
    if (choice === "light" || choice === "dark") select.value = choice;
    setTheme(select.value);
    select.addEventListener("change", () => { setTheme(select.value); remember(select.value); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => root.dispatchEvent(new Event("theme")));
  };

  // Table

  /** Compare scores; what was not measured comes last in either direction. */
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
        // The first entry that matches a column is the one used.
        { targets: ".lower", orderSequence: ["asc", "desc", ""] },
        { targets: ".score", type: "score", searchable: false, orderSequence: ["desc", "asc", ""] },
        { targets: ".step", type: "score", searchable: false },
      ],
    });
    const showRowCount = () => {
      const { recordsDisplay, recordsTotal } = api.page.info();
      byId("row-count").value = recordsDisplay === recordsTotal ? `${recordsTotal} rows` : `${recordsDisplay} of ${recordsTotal} rows`;
    };
    api.on("draw", showRowCount);
    showRowCount();
    byId("search").addEventListener("input", (event) => api.search(event.target.value).draw());
    byId("detail").addEventListener("change", (event) => { element.dataset.detail = event.target.value; });
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
    const rgb = getComputedStyle(probe).color;
    return alpha === undefined ? rgb : rgb.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
  };

  /** The style of a line: colour, marker and dash differ together, so a reader needs only one of them. */
  const styleOf = (place) => ({
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

  /** Subtract the first mean of a line, so that every line begins at 0. */
  const fromFirst = (line) => {
    const first = line.points.find((point) => point.mean != null).mean;
    const minusFirst = (value) => (value == null ? null : value - first);
    return { ...line, points: line.points.map((p) => ({ ...p, mean: minusFirst(p.mean), low: minusFirst(p.low), high: minusFirst(p.high) })) };
  };

  const intervalOf = (point) => {
    if (point.low == null || point.high == null) return "";
    const [below, above] = [(point.mean - point.low).toFixed(2), (point.high - point.mean).toFixed(2)];
    return below === above ? ` ±${above}` : ` +${above} −${below}`;
  };

  const datasets = (line, place, visible, bands) => {
    const style = styleOf(place);
    const xy = (key) => line.points.map((point) => ({ x: point.step, y: point[key] ?? null }));
    const edge = { borderWidth: 0, pointRadius: 0, pointHitRadius: 0, hidden: !(visible && bands), edge: true };
    return [
      { ...edge, data: xy("low") },
      { ...edge, data: xy("high"), fill: "-1", backgroundColor: style.colour(0.13) },
      {
        label: line.label, line, hidden: !visible, data: xy("mean"), borderColor: style.colour(), backgroundColor: style.colour(),
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
            const collapsed = point.collapsed ? `, ${point.collapsed} collapsed` : "";
            return ` ${dataset.label}: ${(relative ? signed : plain)(point.mean)}${intervalOf(point)}${collapsed}`;
          },
        },
      },
    },
  });

  const swatch = (place) => {
    const canvas = make("canvas", { width: 68, height: 28 });
    canvas.setAttribute("aria-hidden", "true");
    const pen = canvas.getContext("2d");
    const style = styleOf(place);
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

  /** The numbers of the chart as a table, for readers who cannot see it or want to copy them. */
  const numbers = (lines, relative) => {
    const steps = [...new Set(lines.flatMap((line) => line.points.map((point) => point.step)))].sort((a, b) => a - b);
    const show = (line, step) => {
      const point = line.points.find(({ step: other }) => other === step);
      return point?.mean == null ? "–" : (relative ? signed : plain)(point.mean) + intervalOf(point);
    };
    const head = (text, scope, className) => Object.assign(make("th", { className }, make("bdi", {}, text)), { scope });
    return make("table", {},
      make("thead", {}, make("tr", {}, head("step", "col", ""), ...lines.map((line) => head(line.label, "col", "score")))),
      make("tbody", {}, ...steps.map((step) => make("tr", {}, head(count(step), "row", "step"),
        ...lines.map((line) => make("td", { className: "score" }, show(line, step)))))));
  };

  /** Hide lines on another scale, such as a perplexity among accuracies, and those beyond a readable number. */
  const hiddenAtFirst = (lines) => {
    const mixed = lines.some((line) => line.lower) && lines.some((line) => !line.lower);
    return new Set(lines.map((_, place) => place).filter((place) => place >= SHOWN || (mixed && lines[place].lower)));
  };

  const chart = () => {
    const canvas = byId("chart");
    if (!canvas) return;
    document.body.append(probe);
    const view = byId("view");
    const hiddenByView = new Map();
    let drawn = null;

    const steps = data.series.flatMap((series) => series.points.map((point) => point.step));
    byId("logarithmic").disabled = Math.min(...steps) <= 0;

    const draw = () => {
      const [kind, place] = view.value.split(" ");
      const relative = byId("relative").checked;
      const measured = linesOf({ kind, place: Number(place) });
      const lines = relative ? measured.map(fromFirst) : measured;
      if (!hiddenByView.has(view.value)) hiddenByView.set(view.value, hiddenAtFirst(lines));
      const hidden = hiddenByView.get(view.value);
      const bands = byId("bands").checked;
      const shown = lines.filter((_, line) => !hidden.has(line));

      drawn?.destroy();
      drawn = new Chart(canvas, {
        type: "line",
        data: { datasets: lines.flatMap((line, index) => datasets(line, index, !hidden.has(index), bands)) },
        options: options(relative, byId("logarithmic").checked),
      });
      canvas.setAttribute("aria-label", `${view.selectedOptions[0].textContent}: ${shown.length} lines by pre-training step; their numbers are in the table below`);
      byId("numbers").replaceChildren(numbers(shown, relative));
      return [lines, hidden];
    };

    const redraw = () => {
      const [lines, hidden] = draw();
      const focused = [...byId("lines").children].findIndex((item) => item.contains(document.activeElement));
      byId("lines").replaceChildren(...lines.map((line, place) => {
        const button = make("button", { type: "button" }, swatch(place), make("bdi", {}, line.label));
        button.setAttribute("aria-pressed", String(!hidden.has(place)));
        button.addEventListener("click", () => { hidden.delete(place) || hidden.add(place); redraw(); });
        return make("li", {}, button);
      }));
      byId("lines").children[focused]?.firstChild.focus();
    };

    const setAll = (visible) => () => {
      const [lines, hidden] = draw();
      hidden.clear();
      if (!visible) lines.forEach((_, place) => hidden.add(place));
      redraw();
    };
    byId("show-all").addEventListener("click", setAll(true));
    byId("hide-all").addEventListener("click", setAll(false));
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
