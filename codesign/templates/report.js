"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const byId = (id) => document.getElementById(id);
  const drawn = {};

  // Figures name colours as CSS variables; plotly needs the colours themselves.
  function resolved(value, style) {
    if (typeof value === "string") {
      const match = /^var\((--[a-z]+)\)$/.exec(value);
      return match ? style.getPropertyValue(match[1]).trim() : value;
    }
    if (Array.isArray(value)) {
      return typeof value[0] === "object" ? value.map((item) => resolved(item, style)) : value;
    }
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, below]) => [key, resolved(below, style)]));
    }
    return value;
  }

  function draw(id, figure, width) {
    const place = byId(id);
    if (!place || !figure) return;
    const style = getComputedStyle(document.documentElement);
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: style.getPropertyValue("--text").trim() },
      hoverlabel: { align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: style.getPropertyValue("--line").trim(), activecolor: style.getPropertyValue("--text").trim() },
    };
    const layout = Object.assign(base, resolved(figure.layout, style), width ? { width: width } : { autosize: true });
    place.style.height = layout.height + "px";
    const config = {
      responsive: !width,
      displaylogo: false,
      showSendToCloud: false, // plotly's toolbar would offer to upload the figure
      plotlyServerURL: "",
      modeBarButtonsToRemove: ["select2d", "lasso2d"],
      toImageButtonOptions: { filename: document.title.split(" ")[0] + "-" + id, scale: 2 },
    };
    const isNew = !drawn[id];
    drawn[id] = figure;
    Plotly.react(place, resolved(figure.data, style), layout, config);
    if (isNew && id === "front-plot") {
      place.on("plotly_click", (event) => choose(event.points[0].customdata, event.points[0].data.name));
    }
  }

  const redraw = (width) => Object.entries(drawn).forEach(([id, figure]) => draw(id, figure, width));

  // One chosen trial, shown in the caption, the table and the pages of members.
  function choose(number, kind) {
    if (number === undefined) return;
    byId("named").textContent = "trial " + number + (kind ? ", " + kind : "");
    document.querySelectorAll(".sortable tbody tr").forEach((row) => {
      row.classList.toggle("chosen", row.dataset.trial === String(number));
    });
    const select = byId("member-select");
    if (!select || !byId("member-" + number)) return;
    select.value = String(number);
    document.querySelectorAll(".member").forEach((page) => {
      page.hidden = page.id !== "member-" + number;
    });
  }

  function sortBy(table, column, header) {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const isNumber = header.classList.contains("number") || header.classList.contains("export"); // by trial number
    const body = table.tBodies[0];
    const keyed = Array.from(body.rows, (row) => [row.cells[column].dataset.key, row]);
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // unknown values last, either way
      const order = isNumber ? Number(a) - Number(b) : a.localeCompare(b);
      return ascending ? order : -order;
    });
    body.append(...keyed.map(([, row]) => row));
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("thead th").forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => sortBy(table, column, header));
    });
    table.tBodies[0].addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && !getSelection().toString()) choose(Number(row.dataset.trial), "on the front");
    });
  });

  document.querySelectorAll("button.copy").forEach((button) => {
    button.addEventListener("click", async () => {
      const code = button.parentNode.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch (refused) { // some browsers give pages from disk no clipboard: select it for the reader
        getSelection().selectAllChildren(code);
      }
    });
  });

  const member = byId("member-select");
  if (member) member.addEventListener("change", () => choose(Number(member.value), "on the front"));
  const pair = byId("pair-select");
  if (pair) pair.addEventListener("change", () => draw("front-plot", figures.fronts[Number(pair.value)]));

  draw("front-plot", figures.fronts[0]);
  draw("progress-plot", figures.progress);
  draw("honesty-plot", figures.honesty);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
  addEventListener("beforeprint", () => redraw(680));
  addEventListener("afterprint", () => redraw());
})();
