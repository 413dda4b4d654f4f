"use strict";
(() => {
  const root = document.documentElement;
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const printed = { width: 640, height: 240, autosize: false };
  const config = { displayModeBar: false, responsive: true, showTips: false };

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // A picture names its colours by CSS variables, so that one file of colours serves the page and the pictures.
  const coloured = (value, key) => {
    if (Array.isArray(value)) {
      return value.some((inner) => typeof inner === "object") ? value.map((inner) => coloured(inner, key)) : value;
    }
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, coloured(inner, name)]));
    }
    return /color$/.test(key) && typeof value === "string" && value.startsWith("--") ? colour(value) : value;
  };

  const axis = (own, narrow) => ({
    automargin: true,
    color: colour("--muted"),
    gridcolor: colour("--grid"),
    linecolor: colour("--hairline"),
    tickcolor: colour("--hairline"),
    zeroline: false,
    fixedrange: matchMedia("(pointer: coarse)").matches,
    nticks: narrow ? 5 : 8,
    ...own,
    title: { font: { size: 12 }, standoff: 8, ...own.title },
  });

  const axes = (layout, narrow) =>
    Object.fromEntries(
      Object.keys(layout)
        .filter((name) => /^[xy]axis/.test(name))
        .map((name) => [name, axis({ showgrid: name.startsWith("y"), ...layout[name] }, narrow)]),
    );

  const arranged = (layout, narrow) => ({
    font: { family: colour("--sans"), size: 12, color: colour("--muted") },
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 12, t: layout.showlegend ? 34 : 12, b: 8, pad: 2 },
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: {
      bgcolor: colour("--paper"),
      bordercolor: colour("--faint"),
      font: { family: colour("--sans"), size: 12, color: colour("--ink") },
    },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
    ...layout,
    ...axes(layout, narrow),
  });

  const view = (plot) => {
    const layer = plot.closest(".layer");
    const chosen = layer && layer.querySelector("input:checked");
    return chosen ? Number(chosen.value) : 0;
  };

  const draw = (plot) => {
    const picture = pictures[plot.id][view(plot)];
    plot.style.visibility = picture ? "" : "hidden";
    if (!picture) return;
    const { data, layout } = coloured(picture, "");
    const full = arranged(layout, plot.clientWidth < 420);
    if (root.dataset.print !== undefined) Object.assign(full, printed);
    Plotly.react(plot, data, full, config);
  };

  const plots = [...document.querySelectorAll(".plot")];
  const drawAll = () => plots.forEach(draw);

  drawAll();
  for (const input of document.querySelectorAll(".views input")) {
    input.addEventListener("change", () => input.closest(".layer").querySelectorAll(".plot").forEach(draw));
  }
  for (const block of document.querySelectorAll(".code-block")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const code = block.querySelector("pre");
      getSelection().selectAllChildren(code);
      // a browser that does not let a file write to the clipboard leaves the code selected, to be copied by hand
      const copied = await navigator.clipboard?.writeText(code.textContent).then(() => true, () => false);
      button.textContent = copied ? "Copied" : "Selected";
    });
    block.append(button);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    root.dataset.print = "";
    drawAll();
  });
  addEventListener("afterprint", () => {
    delete root.dataset.print;
    drawAll();
  });
})();
