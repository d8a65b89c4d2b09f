"""Who imports whom, held by tests: packages, heavy libraries, cycles, a light start."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("codesign", "search_spaces", "simulators")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
HEAVY = {
    "torch": "_torch",
    "ray": "_ray",
    "optuna": "_optuna",
    "onnx": "_onnx",
    "onnxruntime": "_onnx",
    "gymnasium": "_gym",
    "numba": "_numba",
}
ALLOWED = {
    "search_spaces": {"search_spaces", "numpy"},
    "simulators": {"simulators", "numpy"},
}


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Full names of the modules a file imports, those inside functions included, strings for `import_module` too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def project_imports(path: Path) -> set[str]:
    return {name for name in imports(path) if name in FILES}


def test_no_import_cycle_even_a_lazy_one() -> None:
    graph = {module: project_imports(path) - {module} for module, path in FILES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_packages_import_only_what_they_may(package: str) -> None:
    for module, path in FILES.items():
        if not module.startswith(package):
            continue
        allowed = ALLOWED[package] | set(sys.stdlib_module_names)
        if module.endswith("_torch"):
            allowed = allowed | {"torch"}
        if module.endswith("_gym"):
            allowed = allowed | {"gymnasium"}
        if module.endswith("_numba"):
            allowed = allowed | {"numba"}
        roots = {name.split(".")[0] for name in imports(path)}
        assert roots <= allowed, f"{module} imports {sorted(roots - allowed)}"


def test_heavy_libraries_only_in_files_named_for_them() -> None:
    for module, path in FILES.items():
        for name in imports(path):
            suffix = HEAVY.get(name.split(".")[0])
            assert suffix is None or suffix in path.stem, f"{module} imports {name}"


def loaded_by(code: str) -> set[str]:
    """Top-level modules in memory after running code in a fresh interpreter."""
    program = f"import sys\n{code}\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


HELP = "from codesign.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
LIGHT = {
    "torch",
    "ray",
    "optuna",
    "onnx",
    "onnxruntime",
    "pandas",
    "numpy",
    "pydantic",
    "sqlalchemy",
    "rich",
    "yaml",
    "plotly",
}


def test_help_loads_no_library_but_click() -> None:
    assert not loaded_by(HELP) & LIGHT


def test_checking_a_job_loads_neither_torch_nor_ray() -> None:
    code = (
        "from pathlib import Path\nfrom codesign.job import load_job\nfrom codesign.run import plan_run\n"
        f"plan_run(load_job(Path({str(ROOT / 'examples' / 'digits.yaml')!r})), Path('unused'), Path('.'))"
    )
    assert not loaded_by(code) & {"torch", "ray", "optuna", "onnx", "onnxruntime", "pandas", "sklearn", "plotly"}
