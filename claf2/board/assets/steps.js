// The chart of a suite: scores by pre-training step, of one model, of two, or one score of every model.
"use strict";
board.steps = (() => {
  const { byId, color, count, make, plain, signed, styleOf } = board;
  const SHOWN = 12;
  const hiddenByView = new Map();
  let data = null;
  let drawn = null;

  const series = () => data.series;
  const points = (one, score) => one.points.map((point) => ({ step: point.step, ...point.scores[score] }));
  const isMeasured = (line) => line.points.some((point) => point.mean != null);

  /** The lines of a view: every score of a model, those of two models, or one score of every model. */
  const linesOf = ({ kind, place, against }) => {
    if (kind === "score") return series().map((one, index) => ({ label: one.label, keys: one.keys, style: styleOf(index), points: points(one, place) })).filter(isMeasured);
    const models = [series()[place], ...(against === null ? [] : [series()[against]])];
    return data.scores.flatMap(({ label, lower }, score) => models.map((model, index) => {
      const style = styleOf(score);
      // The average is the thickest line. In a comparison, a task has one color, and the other model is dashed.
      return {
        label: models.length > 1 ? `${label} · ${model.label}` : label, lower, average: score === 0,
        style: { ...style, width: score === 0 ? 3.5 : 2, dash: models.length > 1 ? [[], [6, 4]][index] : style.dash },
        points: points(model, score),
      };
    })).filter(isMeasured);
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

  const datasets = (line, visible, bands) => {
    const { style } = line;
    const xy = (key) => line.points.map((point) => ({ x: point.step, y: point[key] ?? null }));
    const edge = { borderWidth: 0, pointRadius: 0, pointHitRadius: 0, hidden: !(visible && bands), edge: true };
    return [
      { ...edge, data: xy("low") },
      { ...edge, data: xy("high"), fill: "-1", backgroundColor: style.color(0.13) },
      {
        label: line.label, line, hidden: !visible, data: xy("mean"), borderColor: style.color(), backgroundColor: style.color(),
        borderWidth: style.width ?? 2, borderDash: style.dash, pointStyle: style.shape, pointRadius: 4, pointHoverRadius: 6, spanGaps: false,
      },
    ];
  };

  const optionsOf = (relative, logarithmic) => board.chartOptions({
    x: "pre-training step", y: relative ? "change since the first checkpoint" : "score", logarithmic,
    label: ({ dataset, dataIndex }) => {
      const point = dataset.line.points[dataIndex];
      const collapsed = point.collapsed ? `, ${point.collapsed} collapsed` : "";
      return ` ${dataset.label}: ${(relative ? signed : plain)(point.mean)}${intervalOf(point)}${collapsed}`;
    },
  });

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

  /** Hide lines on another scale, such as a perplexity among accuracies, and those beyond a readable number. Of several
      models, the picked ones are shown; of two models, first their averages. */
  const hiddenAtFirst = (view, lines) => {
    const picked = board.table?.picked ?? new Set();
    const isPicked = (line) => line.keys?.some((key) => picked.has(key));
    const somePicked = view.kind === "score" && lines.some(isPicked);
    const averages = view.against !== null && lines.some((line) => line.average);
    const mixed = lines.some((line) => line.lower) && lines.some((line) => !line.lower);
    const hide = (line, place) => (somePicked ? !isPicked(line) : averages ? !line.average : place >= SHOWN || (mixed && line.lower));
    return new Set(lines.filter(hide).map((line) => line.label));
  };

  const viewOf = () => {
    const [kind, place] = byId("view").value.split(" ");
    const other = byId("against")?.value ?? "";
    const against = kind === "model" && other !== "" && other !== place ? Number(other) : null;
    return { kind, place: Number(place), against, key: `${byId("view").value} ${against}` };
  };

  const draw = () => {
    const view = viewOf();
    const relative = byId("relative").checked;
    const measured = linesOf(view);
    const lines = relative ? measured.map(fromFirst) : measured;
    if (!hiddenByView.has(view.key)) hiddenByView.set(view.key, hiddenAtFirst(view, lines));
    const hidden = hiddenByView.get(view.key);
    const shown = lines.filter((line) => !hidden.has(line.label));
    if (byId("against")) byId("against").disabled = view.kind !== "model";

    drawn?.destroy();
    drawn = new Chart(byId("chart"), {
      type: "line",
      data: { datasets: lines.flatMap((line) => datasets(line, !hidden.has(line.label), byId("bands").checked)) },
      options: optionsOf(relative, byId("logarithmic").checked),
    });
    const title = byId("view").selectedOptions[0].textContent;
    byId("chart").setAttribute("aria-label", `${title}: ${shown.length} lines by pre-training step; their numbers are in the table below`);
    byId("numbers").replaceChildren(numbers(shown, relative));
    return [lines, hidden];
  };

  const redraw = () => {
    const [lines, hidden] = draw();
    const focused = [...byId("lines").children].findIndex((item) => item.contains(document.activeElement));
    byId("lines").replaceChildren(...lines.map((line) => {
      const button = make("button", { type: "button" }, board.swatch(line.style), make("bdi", {}, line.label));
      button.setAttribute("aria-pressed", String(!hidden.has(line.label)));
      button.addEventListener("click", () => { hidden.delete(line.label) || hidden.add(line.label); redraw(); });
      return make("li", {}, button);
    }));
    byId("lines").children[focused]?.firstChild.focus();
  };

  const setAll = (visible) => () => {
    const [lines, hidden] = draw();
    hidden.clear();
    if (!visible) lines.forEach((line) => hidden.add(line.label));
    redraw();
  };

  const read = () => {
    data = JSON.parse(byId("data").textContent);
    const steps = series().flatMap((one) => one.points.map((point) => point.step));
    byId("logarithmic").disabled = Math.min(...steps) <= 0;
  };

  /** Show two picked rows of the table: the models they belong to, if they are lines of the chart. */
  const compare = ({ detail }) => {
    const [first, second] = detail.map((key) => series().findIndex((one) => one.keys.includes(key)));
    if (first < 0 || second < 0 || first === second) return;
    byId("view").value = `model ${first}`;
    byId("against").value = String(second);
    redraw();
    byId("steps").scrollIntoView();
    byId("view").focus({ preventScroll: true });
  };

  const listen = () => {
    byId("show-all").addEventListener("click", setAll(true));
    byId("hide-all").addEventListener("click", setAll(false));
    for (const id of ["view", "against", "relative", "bands", "logarithmic"]) byId(id)?.addEventListener("change", redraw);
  };

  const start = () => {
    if (!byId("chart")) return;
    read();
    listen();
    redraw();
    board.root.addEventListener("theme", redraw);
    document.addEventListener("compare", compare);
    document.addEventListener("picks", () => {
      for (const key of [...hiddenByView.keys()]) if (key.startsWith("score")) hiddenByView.delete(key);
      if (viewOf().kind === "score") redraw();
    });
  };

  /** Replace the section of the chart by a newer one, with the same choices. */
  const renew = (section) => {
    const ids = ["view", "against"];
    const chosen = ids.map((id) => byId(id)?.selectedOptions[0]?.textContent);
    const checked = ["bands", "relative", "logarithmic"].map((id) => [id, byId(id)?.checked]);
    const focused = document.activeElement?.id;
    const had = Boolean(drawn);
    drawn?.destroy();
    drawn = null;
    byId("steps").replaceWith(section);
    if (!byId("chart")) return;
    if (!had) { start(); return; }
    read();
    ids.forEach((id, index) => {
      const option = [...(byId(id)?.options ?? [])].find((other) => other.textContent === chosen[index]);
      if (option) byId(id).value = option.value;
    });
    for (const [id, value] of checked) if (value !== undefined) byId(id).checked = value;
    listen();
    redraw();
    if (focused) byId(focused)?.focus();
  };

  start();
  return { chart: () => drawn, renew };
})();
