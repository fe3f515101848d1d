// What the pages share: elements, numbers, colors and charts, and the switch of the theme.
"use strict";
const board = (() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  /** Make an element; properties as they are, children appended. Text is never parsed as HTML. */
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  const plain = (value) => (value <= -0.005 ? "−" : "") + Math.abs(value).toFixed(2);
  const signed = (value) => (value <= -0.005 ? "−" : "+") + Math.abs(value).toFixed(2);
  const count = (value) => value.toLocaleString("en");
  const compact = (value) => Intl.NumberFormat("en", { notation: "compact" }).format(value);

  // Lines: color, marker and dash differ together, so that a reader needs only one of them.

  const SHAPES = ["circle", "triangle", "rect", "rectRot", "crossRot", "star", "cross"];
  const DASHES = [[], [7, 4], [2, 3]];
  const COLORS = 8;

  const probe = make("span", { hidden: true });
  const color = (name, alpha) => {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(--${name})`;
    const rgb = getComputedStyle(probe).color;
    return alpha === undefined ? rgb : rgb.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
  };

  const styleOf = (place) => ({
    color: (alpha) => color(`s${place % COLORS}`, alpha),
    shape: SHAPES[place % SHAPES.length],
    dash: DASHES[Math.floor(place / COLORS) % DASHES.length],
  });

  const axis = (title, more = {}) => ({
    title: { display: Boolean(title), text: title, color: color("muted") },
    grid: { color: color("rule") }, border: { color: color("rule") },
    ...more, ticks: { color: color("muted"), maxRotation: 0, autoSkipPadding: 14, ...more.ticks },
  });

  /** The options of a chart by step. `label` makes a line of the tooltip from an item of Chart.js. */
  const chartOptions = ({ x, y, logarithmic = false, label, point = true }) => ({
    animation: false, responsive: true, maintainAspectRatio: false, normalized: true,
    interaction: { mode: "nearest", axis: "x", intersect: false }, clip: false, layout: { padding: { right: 10 } },
    scales: {
      x: axis(x, { type: logarithmic ? "logarithmic" : "linear", ticks: { callback: compact } }),
      y: axis(y),
    },
    plugins: {
      legend: { display: false },
      tooltip: {
        usePointStyle: point, filter: (item) => !item.dataset.edge, itemSort: (a, b) => b.parsed.y - a.parsed.y,
        backgroundColor: color("raised"), titleColor: color("ink"), bodyColor: color("ink"), borderColor: color("rule"), borderWidth: 1, padding: 10, boxPadding: 4,
        callbacks: { title: (items) => (items.length ? `step ${count(items[0].parsed.x)}` : ""), label },
      },
    },
  });

  /** A sample of a line's style, for its name in a legend. */
  const swatch = (style) => {
    const canvas = make("canvas", { width: 68, height: 28 });
    canvas.setAttribute("aria-hidden", "true");
    const pen = canvas.getContext("2d");
    pen.scale(2, 2);
    pen.strokeStyle = pen.fillStyle = style.color();
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

  // Theme: the system's by default. A choice is remembered where the browser allows it.

  const KEY = "claf2-theme";
  const changed = () => root.dispatchEvent(new Event("theme"));
  const startTheme = () => {
    const switches = document.querySelectorAll(".theme-choice");
    const show = () => switches.forEach((choice) => { choice.value = root.dataset.theme ?? "system"; });
    switches.forEach((choice) => choice.addEventListener("change", () => {
      if (choice.value === "system") delete root.dataset.theme;
      else root.dataset.theme = choice.value;
      try { localStorage.setItem(KEY, choice.value); } catch { /* a private window */ }
      show();
      changed();
    }));
    show();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  };

  startTheme();
  return { root, byId, make, plain, signed, count, color, styleOf, chartOptions, swatch };
})();
// For tests and the console.
window.board = board;
