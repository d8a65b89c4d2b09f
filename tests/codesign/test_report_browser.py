"""The page's script, run by a browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from codesign.report import write_report
from tests.codesign.made_up_run import MadeUpRun

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium to run the page in")]

ACTIONS = """<script>setTimeout(() => {
  const said = [];
  const headers = [...document.querySelectorAll(".sortable thead th")];
  const column = (i) => [...document.querySelectorAll(".sortable tbody tr")].map((row) => row.cells[i].textContent);
  const plot = document.getElementById("front-plot");
  const visible = () => [...document.querySelectorAll(".member")].filter((page) => !page.hidden).map((page) => page.id);
  headers[1].querySelector("button").click();
  said.push(column(1), headers[1].getAttribute("aria-sort"));
  headers[1].querySelector("button").click();
  said.push(column(1), headers[1].getAttribute("aria-sort"));
  said.push(plot.data.map((trace) => trace.name).join());
  said.push(plot.data.every((trace) => !JSON.stringify(trace).includes("var(--")));
  const members = plot.data.find((trace) => trace.meta === "members");
  plot.emit("plotly_click", { points: [{ customdata: members.customdata[0], data: members }] });
  said.push(document.getElementById("named").textContent, visible());
  document.querySelector(".sortable tbody tr").click();
  said.push(visible());
  const pairs = document.getElementById("pair-select");
  pairs.value = "2";
  pairs.dispatchEvent(new Event("change"));
  said.push(plot.layout.xaxis.title.text + " / " + plot.layout.yaxis.title.text);
  said.push(document.querySelectorAll("#progress-plot .main-svg").length > 0);
  said.push(performance.getEntriesByType("resource").length);
  const result = document.createElement("pre");
  result.textContent = "SAID" + said.join("|") + "DIAS";
  document.body.append(result);
}, 1000)</script></body>"""


def test_the_script_draws_sorts_and_chooses(tmp_path: Path) -> None:
    columns = {"accuracy": [0.7, 0.8, 0.9, 0.5], "latency_ms@edge": [1.0, 2, 3, 4], "params": [3e3, 2e3, 1e3, 4e3]}
    made = MadeUpRun(columns, ["+accuracy", "latency_ms@edge", "params"], genotypes=[{"depth": i} for i in range(4)])
    path = write_report(*made.make(tmp_path / "run"), tmp_path / "report.html")
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", ACTIONS), encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search("SAID(.*)DIAS", done.stdout.rsplit("<pre>", 1)[-1])
    assert found is not None
    said = found[1].split("|")
    assert said == [
        "70.00,80.00,90.00", "ascending", "90.00,80.00,70.00", "descending",
        "within the budgets,Pareto front,on the front", "true",
        "trial 2, on the front", "member-2", "member-2",
        "parameters, less is better / latency on edge (ms), less is better", "true", "0",
    ]  # fmt: skip
