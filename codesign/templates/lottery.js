"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);

  // Figures name colours as CSS variables; plotly needs the colours themselves.
  function resolved(value, style) {
    if (typeof value === "string") {
      const match = /^var\((--[a-z]+)\)$/.exec(value);
      return match ? style.getPropertyValue(match[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolved(item, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, below]) => [key, resolved(below, style)]));
    }
    return value;
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: style.getPropertyValue("--text").trim() },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: style.getPropertyValue("--line").trim(), activecolor: style.getPropertyValue("--text").trim() },
      autosize: true,
    };
    for (const [id, figure] of Object.entries(figures)) {
      const layout = Object.assign({}, base, resolved(figure.layout, style));
      document.getElementById(id).style.height = layout.height + "px";
      Plotly.react(id, resolved(figure.data, style), layout, { responsive: true, displaylogo: false, showSendToCloud: false });
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
