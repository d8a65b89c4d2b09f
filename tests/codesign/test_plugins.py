"""Finding plug-ins by name, and checking what they take."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from codesign import registry
from codesign.errors import InputError
from codesign.plugins import check_options, make
from codesign.registry import lookup, names, resolve

KINDS = ("spaces", "simulators", "strategies", "evaluators", "data")


@pytest.mark.parametrize("kind", KINDS)
def test_every_registered_name_loads(kind: registry.Kind) -> None:
    assert names(kind)
    for name in names(kind):
        assert callable(lookup(kind, name))


def test_a_bare_name_means_the_newest_version(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(f"thing-v{i}", f"module{i}:Thing", "codesign.spaces") for i in (2, 10, 9)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert resolve("spaces", "thing") == "thing-v10"
    assert resolve("spaces", "thing-v2") == "thing-v2"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="search.strategy.type: 'evolutoin' is not one of .*did you mean 'evolution'"):
        lookup("strategies", "evolutoin", "search.strategy.type")


def test_one_name_claimed_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("thing", f"module{i}:Thing", "codesign.spaces") for i in (1, 2)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(InputError, match="two packages register spaces 'thing': module1:Thing and module2:Thing"):
        lookup("spaces", "thing")


def test_a_users_own_class_is_found_by_module_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reader_of_data.py").write_text("class Mine:\n    pass\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert lookup("data", "my_reader_of_data:Mine").__name__ == "Mine"
    with pytest.raises(InputError, match="has no 'Yours'"):
        lookup("data", "my_reader_of_data:Yours")
    with pytest.raises(InputError, match="cannot import 'no_such_module_here'"):
        lookup("data", "no_such_module_here:Mine")


def test_options_are_checked_and_converted() -> None:
    _, options = check_options("spaces", {"type": "nasnet", "blocks": "3", "channels": [4, 8]}, "space")
    assert options["blocks"] == 3
    assert options["channels"] == (4, 8)
    assert "image_shape" not in options
    with pytest.raises(InputError, match="unknown key in space: 'block' .*did you mean 'blocks'"):
        check_options("spaces", {"type": "nasnet", "block": 3}, "space")
    with pytest.raises(InputError, match="space.blocks: 'three'"):
        check_options("spaces", {"type": "nasnet", "blocks": "three"}, "space")
    with pytest.raises(InputError, match="unknown key in space: 'image_shape'"):
        check_options("spaces", {"type": "nasnet", "image_shape": [1, 8, 8]}, "space")


def test_a_value_that_the_plugin_refuses_names_its_section() -> None:
    plugin, options = check_options("spaces", {"type": "nasnet", "blocks": 99}, "space")
    with pytest.raises(InputError, match="^space: blocks: 99 is not allowed"):
        make(plugin, "space", image_shape=(1, 8, 8), classes=10, **options)
