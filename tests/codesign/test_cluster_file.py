"""`ray_cluster.yaml`: fits Ray's schema, asks for a token, runs the versions that are tested."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster_file() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    return content


def test_the_cluster_file_fits_rays_schema(cluster_file: dict[str, Any]) -> None:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations
    schema = json.loads((Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster_file, schema)


def test_the_cluster_file_asks_for_a_token_everywhere(cluster_file: dict[str, Any]) -> None:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [line for line in cluster_file[key] if "ray start" in line]
        assert starts
        assert all(line.startswith("RAY_AUTH_MODE=token ray start ") for line in starts)
    assert cluster_file["file_mounts"]["/home/ray/.ray"] == "~/.ray"
    head = " ".join(cluster_file["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head


def test_the_cluster_file_runs_the_ray_that_is_tested(cluster_file: dict[str, Any]) -> None:
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and "#" not in line
    )
    assert str(cluster_file["docker"]["image"]).startswith(f"rayproject/ray:{pinned['ray']}-py311")
    assert any("--constraint ~/codesign/constraints.txt" in line for line in cluster_file["setup_commands"])
    assert cluster_file["max_workers"] == 8
