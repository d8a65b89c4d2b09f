"""Runs SCALE-Sim 3 on layers; a program of its own, so that it may live in another Python environment.

Reads JSON from stdin, `{"accelerator": {...}, "layers": [{...}, ...]}`, and writes JSON to stdout: the version and one
record per layer. A layer is a plain convolution on a padded input. It needs scalesim (and so NumPy below 2.4) and the
standard library, nothing of codesign.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = {ifmap_kib}
FilterSramSzkB = {filter_kib}
OfmapSramSzkB = {ofmap_kib}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = {bandwidth}
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = {bandwidth}
IfmapSRAMBankNum = 1
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = {bandwidth}
FilterSRAMBankNum = 1
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = {mode}
UseRamulatorTrace = False
"""
TOPOLOGY = ("in_y", "in_x", "filter_y", "filter_x", "in_channels", "out_channels", "stride")
DETAILS = {
    "sram_ifmap_reads": "SRAM IFMAP Reads", "sram_filter_reads": "SRAM Filter Reads",
    "sram_ofmap_writes": "SRAM OFMAP Writes", "dram_ifmap_reads": "DRAM IFMAP Reads",
    "dram_filter_reads": "DRAM Filter Reads", "dram_ofmap_writes": "DRAM OFMAP Writes",
}  # fmt: skip


def run(request: dict[str, Any], folder: Path) -> list[dict[str, float]]:
    """Simulate every layer.

    Args:
        request: accelerator and layers.
        folder: empty; SCALE-Sim writes its files here.
    """
    from scalesim.scale_sim import scalesim

    accelerator, layers = request["accelerator"], request["layers"]
    (folder / "a.cfg").write_text(CONFIG.format(**accelerator), encoding="utf-8")
    header = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
    rows = [f"L{i}, " + ", ".join(str(layer[name]) for name in TOPOLOGY) + ",\n" for i, layer in enumerate(layers)]
    (folder / "topology.csv").write_text(header + "".join(rows), encoding="utf-8")
    layout = [f"L{i}, " + ", ".join(["1"] * 20) + ",\n" for i in range(len(layers))]
    (folder / "layout.csv").write_text("Layer name, factors,\n" + "".join(layout), encoding="utf-8")
    simulator = scalesim(
        save_disk_space=True,
        verbose=False,
        config=str(folder / "a.cfg"),
        topology=str(folder / "topology.csv"),
        layout=str(folder / "layout.csv"),
        input_type_gemm=False,
    )
    simulator.run_scale(top_path=str(folder))
    compute, details = (_report(folder / "run" / f"{name}_REPORT.csv") for name in ("COMPUTE", "DETAILED_ACCESS"))
    return [
        {"latency_cycles": float(c["Total Cycles"]), "stall_cycles": float(c["Stall Cycles"])}
        | {name: float(d[column]) for name, column in DETAILS.items()}
        for c, d in zip(compute, details, strict=True)
    ]


def _report(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines, skipinitialspace=True))


def main() -> int:
    """Answer one request."""
    request = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        here = Path.cwd()
        os.chdir(name)  # it writes beside itself too
        try:
            layers = run(request, Path(name))
        finally:
            os.chdir(here)
    json.dump({"version": version("scalesim"), "layers": layers}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
