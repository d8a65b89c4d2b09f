"""`search_spaces` needs nothing but the standard library and NumPy, torch modules aside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEHIND_A_WALL = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("numpy", "search_spaces"):
            return None
        raise ImportError(f"search_spaces imported {name}")

sys.meta_path.insert(0, Wall())

import pkgutil
from importlib import import_module
import search_spaces

names = [m.name for m in pkgutil.iter_modules(search_spaces.__path__) if not m.name.endswith("_torch")]
for name in names:
    import_module(f"search_spaces.{name}")
import numpy as np
from search_spaces.nasnet import NasNet

space = NasNet(image_shape=(1, 8, 8), classes=10, blocks=2)
codes = space.canonical(space.sample(3, np.random.default_rng(0)))
assert len(space.ops(codes)) > 0
try:
    space.build(codes[0])
except ImportError:
    print(*sorted(names))
"""


def test_every_module_but_torchs_imports_behind_a_wall_that_lets_only_numpy_through() -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", BEHIND_A_WALL], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert {"cell_svg", "nasnet", "nasnet_published", "ops", "space"} <= set(result.stdout.split())
