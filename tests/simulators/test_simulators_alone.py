"""`simulators` needs nothing but the standard library and NumPy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEHIND_A_WALL = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("numpy", "simulators"):
            return None
        raise ImportError(f"simulators imported {name}")

sys.meta_path.insert(0, Wall())

import pkgutil
from importlib import import_module
import simulators

names = [m.name for m in pkgutil.iter_modules(simulators.__path__) if not m.name.endswith("_gym")]
for name in names:
    import_module(f"simulators.{name}")
from simulators.accelerator import columns, load_preset
from simulators.systolic import Systolic
from simulators.workload import Workload

preset = load_preset("edge-16x16", Systolic())
report = Systolic().simulate(Workload.from_layers(in_channels=3), columns(Systolic.fields, [preset.values]))
assert report.columns["latency_ms"].shape == (1, 1)
try:
    import yaml
except ImportError:
    print(*sorted(names))
"""


def test_every_module_imports_behind_a_wall_that_lets_only_numpy_through() -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", BEHIND_A_WALL], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert {"accelerator", "roofline", "simulator", "systolic", "workload"} <= set(result.stdout.split())
