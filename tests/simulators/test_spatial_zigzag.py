"""Equality with ZigZag 3.9.1, and the benchmark that holds the model against a whole table of its runs.

`zigzag_rows.csv` holds 28 rows of figures that ZigZag 3.9.1 (PyPI zigzag-dse, temporal search "loma", uneven mapping)
printed for layers on its example accelerators, which ship as `hierarchies/zigzag-*.toml`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from simulators.mapping import parse_mapping
from simulators.spatial_evaluate import evaluate
from simulators.spatial_hierarchy import DIRECTIONS, Hierarchy, load_hierarchy
from simulators.spatial_nest import nests_of

ROWS = Path(__file__).with_name("zigzag_rows.csv")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "spatial_reference.py"


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("spatial_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _script()
TABLE = script.read_table(ROWS)


def accelerator(row: dict[str, str]) -> Hierarchy:
    return load_hierarchy("zigzag-" + row["accelerator"].replace("_", "-"))


@pytest.mark.parametrize("row", TABLE, ids=lambda r: f"{r['layer']}-{r['accelerator']}-{r['objective']}")
def test_figures_equal_those_of_zigzag_on_its_own_mapping(row: dict[str, str]) -> None:
    hierarchy = accelerator(row)
    mapping = parse_mapping(row["spatial_mapping"], row["temporal_mapping"])
    costs = evaluate(nests_of(script.layer_of(row), hierarchy, [mapping]), hierarchy)
    expected = json.loads(row["word_accesses"])
    for operand, levels in expected.items():
        found = costs.accesses.words[operand][:, :, 0].tolist()
        assert found == [[level[name] for name in DIRECTIONS] for level in levels], operand
    assert script.accesses_equal(costs, row)
    for name, value in script.figures_of(costs).items():
        assert value == pytest.approx(float(row[name]), rel=1e-9 if "cycles" in name or "latency" in name else 1e-6), (
            name
        )
    assert costs.fits[0]


def test_rows_span_accelerators_objectives_and_kinds_of_layer() -> None:
    assert len(TABLE) == 28
    assert len({row["accelerator"] for row in TABLE}) == 6
    assert {row["objective"] for row in TABLE} == {"latency", "energy", "EDP"}
    assert {row["kind"] for row in TABLE} == {"conv", "dw", "gemm"}


def zigzag_json(names: list[str]) -> dict[str, Any]:
    """Shipped hierarchies back in ZigZag's form."""
    ways = {"rd_out_to_low": "tl", "wr_in_by_low": "fl", "rd_out_to_high": "th", "wr_in_by_high": "fh"}
    links = {"O": "O", "W": "I2", "I": "I1"}
    result = {}
    for name in names:
        h = load_hierarchy("zigzag-" + name.replace("_", "-"))
        memories = {
            m.name: {
                "size": m.bits, "r_cost": m.read_pj, "w_cost": m.write_pj, "area": 0, "latency": 1,
                "operands": [links[op] for op in m.operands], "served_dimensions": list(m.serves),
                "ports": [
                    {
                        "name": f"p{i}", "type": p.kind, "bandwidth_min": p.min_bits, "bandwidth_max": p.max_bits,
                        "allocation": [f"{links[op]}, {ways[DIRECTIONS[way]]}" for op, way in p.moves],
                    }
                    for i, p in enumerate(m.ports)
                ],
            }
            for m in h.memories
        }  # fmt: skip
        array = {"unit_energy": h.mac_pj, "dimensions": list(h.array), "sizes": list(h.array.values())}
        array["systolic_dimensions"] = list(h.systolic)
        spatial = {d: [f"{loop}, {n}" for loop, n in loops] for d, loops in h.spatial.items()}
        result[name] = {
            "hardware": {"name": name, "memories": memories, "operational_array": array},
            "default_mapping": {"spatial_mapping": spatial, "memory_operand_links": links},
        }
    return result


def test_benchmark_compares_costs_and_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ROWS.read_text().splitlines()
    table = tmp_path / "table.csv"
    table.write_text("\n".join([rows[0], rows[1], rows[18]]) + "\n")
    accelerators = zigzag_json(sorted({row["accelerator"] for row in TABLE}))
    (tmp_path / "zigzag_accelerators.json").write_text(json.dumps(accelerators))
    assert script.main([str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("rows 2, equal 2")
    assert any(line.startswith("latency_total          equal    2") for line in lines)
    assert any(line.startswith("all") and "100.0%" in line for line in lines)
    # a figure that differs is noticed
    table.write_text("\n".join([rows[0], rows[1].replace(TABLE[0]["latency_total"], "1", 1)]) + "\n")
    assert script.main([str(table), "--no-search"]) == 1


def test_benchmark_refuses_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert script.main([str(ROWS)]) == 2
    assert "zigzag_accelerators.json" in capsys.readouterr().err
