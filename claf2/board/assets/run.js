// The learning curves of a run, drawn when its page is shown.
"use strict";
board.runs = (() => {
  const { styleOf, make, plain } = board;
  const charts = [];

  const draw = (canvas, lines) => {
    const figure = canvas.closest("figure");
    figure.hidden = lines.length === 0;
    if (figure.hidden) return;
    charts.push(new Chart(canvas, {
      type: "line",
      data: {
        datasets: lines.map((line, place) => ({
          label: line.label, data: line.points.map(({ step, mean }) => ({ x: step, y: mean })), borderColor: styleOf(place).color(), backgroundColor: styleOf(place).color(),
          borderWidth: 2, pointStyle: styleOf(place).shape, pointRadius: line.points.length > 40 ? 0 : 3, pointHoverRadius: 6,
        })),
      },
      options: board.chartOptions({ x: "step", y: "", label: ({ dataset, parsed }) => ` ${dataset.label}: ${canvas.dataset.kind === "losses" ? parsed.y.toPrecision(4) : plain(parsed.y)}` }),
    }));
    canvas.setAttribute("aria-label", `${lines.map((line) => line.label).join(", ")} by training step`);
    figure.querySelector(".lines")?.remove();
    figure.append(make("ul", { className: "lines keys" }, ...lines.map((line, place) => make("li", {}, board.swatch(styleOf(place)), make("bdi", {}, line.label)))));
  };

  const drawAll = () => {
    charts.splice(0).forEach((chart) => chart.destroy());
    for (const section of document.querySelectorAll(".learning")) {
      const source = section.querySelector("script");
      if (!source || section.checkVisibility?.() === false) continue;
      const { lines } = JSON.parse(source.textContent);
      for (const canvas of section.querySelectorAll("canvas[data-kind]")) draw(canvas, lines.filter((line) => line.loss === (canvas.dataset.kind === "losses")));
    }
  };

  drawAll();
  addEventListener("hashchange", drawAll);
  board.root.addEventListener("theme", drawAll);
  return { charts };
})();
