"""Runs ZigZag 3.9 on layers; a program of its own, so that it may live in another Python environment.

Reads JSON from stdin, `{"accelerator": {"hardware": ..., "default_mapping": ...}, "layers": [{...}, ...]}`, and writes
JSON to stdout: the version and, per layer, the cost and the text of the best mapping that ZigZag found. It needs
zigzag-dse and six, nothing of codesign.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

DIMENSIONS = ("B", "G", "K", "C", "OY", "OX", "FY", "FX")


def layer_entry(number: int, layer: dict[str, int]) -> dict[str, Any]:
    """A layer in ZigZag's form."""
    stride = layer["stride"]
    return {
        "id": number,
        "name": f"layer{number}",
        "operator_type": "Conv",
        "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
        "dimension_relations": [f"ix={stride}*ox+1*fx", f"iy={stride}*oy+1*fy"],
        "loop_dims": list(DIMENSIONS),
        "loop_sizes": [layer[name] for name in DIMENSIONS],
        "operand_precision": {"O": 2 * layer["bits"], "O_final": layer["bits"], "W": layer["bits"], "I": layer["bits"]},
        "operand_source": {"I": number, "W": number},
    }


def run(request: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Map and cost every layer, one at a time (each is its own network).

    Args:
        request: accelerator and layers.
        folder: empty; ZigZag writes its files here.
    """
    from zigzag.api import get_hardware_performance_zigzag

    accelerator = request["accelerator"]
    (folder / "accelerator.yaml").write_text(json.dumps(accelerator["hardware"]), encoding="utf-8")  # JSON is YAML
    (folder / "mapping.yaml").write_text(json.dumps([accelerator["default_mapping"]]), encoding="utf-8")
    records = []
    for number, layer in enumerate(request["layers"]):
        workload = folder / f"workload{number}.yaml"
        workload.write_text(json.dumps([layer_entry(0, layer)]), encoding="utf-8")
        _, _, found = get_hardware_performance_zigzag(
            workload=str(workload),
            accelerator=str(folder / "accelerator.yaml"),
            mapping=str(folder / "mapping.yaml"),
            opt=request["objective"],
            dump_folder=str(folder / f"out{number}"),
            loma_show_progress_bar=False,
        )
        cost = found[0][1][0][0] if isinstance(found[0][1], list) else found[0][0]
        records.append(
            {
                "latency_cycles": float(cost.latency_total2),
                "energy_uj": float(cost.energy_total) * 1e-6,
                "spatial_mapping": str(cost.spatial_mapping),
                "temporal_mapping": str(cost.temporal_mapping),
            }
        )
    return records


def main() -> int:
    """Answer one request."""
    request = json.load(sys.stdin)
    logging.disable(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory() as name,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        here = Path.cwd()
        os.chdir(name)
        try:
            layers = run(request, Path(name))
        finally:
            os.chdir(here)
    json.dump({"version": version("zigzag-dse"), "layers": layers}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
