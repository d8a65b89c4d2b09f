"""The workloads that ship with the simulators are the lowered published networks."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from codesign.lower import lower
from search_spaces.networks import NETWORKS
from simulators.networks import load_network, network_names
from simulators.workload import Workload


@pytest.mark.parametrize("name", network_names())
def test_shipped_workload_is_the_lowered_network(name: str) -> None:
    network, _, size = name.rpartition("-")
    lowered = lower(NETWORKS[network](int(size), 1000))
    workload, count = load_network(name)
    for f in fields(Workload):
        assert (getattr(workload, f.name) == getattr(lowered.workload, f.name)).all(), f.name
    assert (count[lowered.layer] == lowered.count).all()


def test_own_file_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("out_channels,in_channels,out_y,count\n8,4,16,3\n2,2,5,1\n", encoding="utf-8")
    workload, count = load_network(path)
    assert workload.macs.tolist() == [8 * 4 * 16, 2 * 2 * 5]
    assert count.tolist() == [3, 1]
    assert np.unique(workload.bits).tolist() == [8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no layers"),
        ("out_chanels\n3\n", "out_chanels"),
        ("out_channels\n0\n", "at least 1"),
        ("out_channels,count\n1,0\n", "count"),
        ("out_channels\nmany\n", "many"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_network(path)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'resnet18-64'"):
        load_network("resnet18-46")
