"""Fields, presets and structs of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from codesign.registry import lookup, names
from simulators.accelerator import (
    Field,
    HasFields,
    Preset,
    bare_id,
    check_values,
    columns,
    count_accelerators,
    load_preset,
    preset_names,
)
from simulators.roofline import Roofline
from simulators.systolic import Systolic

KINDS: tuple[Literal["simulators", "models"], ...] = ("simulators", "models")
ROWS, CLOCK = Systolic.fields[0], Systolic.fields[3]


def model_of(preset: Preset) -> HasFields:
    """The simulator or design model that a shipped preset is for: the registered one; `soc-<graph>` is for a graph."""
    full_ids = {bare_id(name): (kind, name) for kind in KINDS for name in names(kind)}
    kind, name = full_ids[bare_id(preset.simulator)]
    options = {"graph": preset.name.removeprefix("soc-")} if preset.simulator == "soc" else {}
    made: HasFields = lookup(kind, name)(**options)
    return made


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits_its_simulator_and_can_be_searched(name: str) -> None:
    model = model_of(load_preset(name))
    preset = load_preset(name, model)
    assert preset.name == name
    assert set(preset.values) == {f.name for f in model.fields}
    assert preset.search
    for knob, options in preset.search.items():
        is_kept = preset.simulator == "spatial" and preset.values[knob] == 0  # 0: as its base has it
        assert is_kept or preset.values[knob] in options, f"the preset itself cannot be reached: {knob}"


def test_the_presets_that_are_promised_exist() -> None:
    assert {"edge-16x16", "eyeriss-like", "tpu-like", "roofline-edge"} <= set(preset_names())
    eyeriss = load_preset("eyeriss-like", Systolic()).values
    assert (eyeriss["rows"], eyeriss["columns"]) == (12, 14)


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"preset: 'eyeris-like' is not one of .* did you mean 'eyeriss-like'\?"):
        load_preset("eyeris-like")


def test_a_users_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('simulator = "systolic-v2"\ndescription = "mine"\n[values]\nrows = 3\n[search]\nrows = [3, 5]\n')
    preset = load_preset(path, Systolic())
    assert preset == load_preset(str(path), Systolic())
    assert (preset.name, preset.values["rows"], preset.values["columns"]) == ("mine", 3, 16)
    assert preset.search == {"rows": (3, 5)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[values]\nrow = 3\n", r"mine: 'row' is not one of .*did you mean 'rows'\?"),
        ("[values]\nrows = 0\n", r"mine\.rows: 0 is not allowed; use an integer of at least 1 \(PEs\)"),
        ("[values]\nrows = 2.5\n", r"mine\.rows: 2\.5 is not allowed; use an integer"),
        ("[values]\nrows = true\n", r"mine\.values\.rows: True is not allowed"),
        ("[values]\nclock_ghz = nan\n", r"mine\.clock_ghz: nan is not allowed; use a number"),
        ('[values]\ndataflow = "wss"\n', r"mine\.dataflow: 'wss' is not one of os, ws, is; did you mean 'ws'\?"),
        ("[search]\nrow = [3]\n", r"mine\.search: 'row' is not one of"),
        ("[search]\nrows = 3\n", r"mine\.search\.rows: 3 is not allowed; use a list"),
        ("[search]\nrows = []\n", r"mine\.search\.rows: no options"),
        ("[search]\nrows = [3, 3]\n", r"mine\.search\.rows: \[3, 3\] lists an option twice"),
        ("[search]\nrows = [3, -1]\n", r"mine\.search\.rows: -1 is not allowed"),
        ("[value]\nrows = 3\n", r"mine: 'value' is not one of .*did you mean 'values'\?"),
        ("values = 3\n", r"mine\.values: 3 is not allowed; use a table"),
        ("[values\n", r"mine\.toml' is not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('simulator = "systolic"\ndescription = "mine"\n' + text)
    with pytest.raises(ValueError, match=message):
        load_preset(path, Systolic())


def test_a_file_without_a_simulator_or_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(ValueError, match=r"preset: cannot read .*No such file"):
        load_preset(path)
    path.write_text('description = "mine"\n')
    with pytest.raises(ValueError, match=r"mine\.simulator: None is not allowed; use a text"):
        load_preset(path)


def test_a_preset_of_another_simulator_or_version_is_refused() -> None:
    with pytest.raises(ValueError, match="preset 'edge-16x16' is for simulator 'systolic', not 'roofline-v1'"):
        load_preset("edge-16x16", Roofline())
    with pytest.raises(ValueError, match="is for simulator 'systolic-v3'"):
        Preset("mine", "systolic-v3", "newer", {}).checked(Systolic())


def test_ids_without_versions() -> None:
    assert [bare_id(i) for i in ("systolic-v2", "systolic", "edge-vision", "x-v12")] == [
        "systolic",
        "systolic",
        "edge-vision",
        "x",
    ]


def test_values_become_plain_python() -> None:
    assert type(ROWS.check(np.int64(4))) is int
    assert type(CLOCK.check(1)) is float
    assert type(Field("x", "str", "", "a").check(np.str_("b"))) is str
    for wrong in (True, "4", None, 4.0):
        with pytest.raises(ValueError, match=r"rows: .* is not allowed; use an integer"):
            ROWS.check(wrong)
    with pytest.raises(ValueError, match="clock_ghz: inf"):
        CLOCK.check(float("inf"))


def test_gates_from_both_sides() -> None:
    assert ROWS.check(1) == 1
    with pytest.raises(ValueError, match="at least 1"):
        ROWS.check(0)


def test_columns_fill_defaults_and_keep_types() -> None:
    table = columns(Systolic.fields, [{"rows": 4, "clock_ghz": 1}, {"dataflow": "os"}])
    assert table["rows"].tolist() == [4, 16]
    assert table["rows"].dtype == np.int64
    assert table["clock_ghz"].tolist() == [1.0, 0.2]
    assert table["clock_ghz"].dtype == np.float64
    assert table["dataflow"].tolist() == ["ws", "os"]
    assert count_accelerators(Systolic.fields, table) == 2
    assert count_accelerators(Systolic.fields, columns(Systolic.fields, [])) == 0


def test_a_wrong_record_names_its_accelerator() -> None:
    with pytest.raises(ValueError, match=r"accelerators\[1\]\.rows: -2"):
        columns(Systolic.fields, [{}, {"rows": -2}])
    with pytest.raises(ValueError, match=r"did you mean 'columns'"):
        check_values(Systolic.fields, {"column": 3})


def test_malformed_structs_are_refused() -> None:
    table = columns(Systolic.fields, [{}, {}])
    with pytest.raises(ValueError, match="column 'rows' is missing"):
        count_accelerators(Systolic.fields, {k: v for k, v in table.items() if k != "rows"})
    with pytest.raises(ValueError, match="one shape"):
        count_accelerators(Systolic.fields, table | {"rows": np.array([1])})
    with pytest.raises(ValueError, match="one shape"):
        count_accelerators(Systolic.fields, {name: values[:, None] for name, values in table.items()})
