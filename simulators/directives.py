"""Dataflow directives as text and as data: SpatialMap, TemporalMap and Cluster, as MAESTRO's mapping files write them.

    SpatialMap(1,1) K; TemporalMap(64,64) C; TemporalMap(Sz(R),1) Y; Cluster(64, P); SpatialMap(1,1) C;

A map gives one dimension of the loop nest in chunks of `size` elements, each `offset` after the one before: over time,
outermost first, or over the sub-clusters of a cluster. `Cluster(n)` ends the directives of a cluster and gives each of
its sub-clusters n PEs (or clusters) of their own. `Sz(R)` stands for the extent of R. Dimensions: K output channels,
C input channels, R and S rows and columns of a filter, Y and X those of the input; Y' and X' are those of the output.
Source: Kwon et al. 2019 (MAESTRO), section 3, and the mapping files of its repository.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["TemporalMap", "SpatialMap", "Cluster"]

KINDS: tuple[Kind, ...] = ("TemporalMap", "SpatialMap", "Cluster")
DIMENSIONS = ("K", "C", "R", "S", "Y", "X", "Y'", "X'")
EXTENTS = DIMENSIONS[:6]
"""Dimensions that a layer states the extent of, and that `Sz` can name."""

MAX_SPATIAL = 2
SHIPPED = Path(__file__).parent / "data" / "dataflows.toml"

_MAP = re.compile(r"(\w+)\s*\(([^,]*),([^,]*)\)\s*(\S+)")
_CLUSTER = re.compile(r"Cluster\s*\(([^,]*)(?:,\s*[PL]\s*)?\)")
_EXTENT = re.compile(r"Sz\s*\(\s*(\S+?)\s*\)")


@dataclass(frozen=True, slots=True)
class Size:
    """A number, or the extent of a dimension (then `number` is 0)."""

    number: int
    of: str = ""

    def __str__(self) -> str:
        return f"Sz({self.of})" if self.of else str(self.number)


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive; a cluster has neither dimension nor offset."""

    kind: Kind
    size: Size
    offset: Size
    dimension: str = ""

    def __str__(self) -> str:
        if self.kind == "Cluster":
            return f"Cluster({self.size}, P)"
        return f"{self.kind}({self.size},{self.offset}) {self.dimension}"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A well-known dataflow.

    Attributes:
        directives: its text.
        depthwise: text of the dataflow that goes with it for depthwise layers, which have no output channels to map.
        description: one line.
        source: where it is published.
    """

    directives: str
    depthwise: str
    description: str
    source: str


def parse_directives(text: str, key: str = "dataflow") -> tuple[Directive, ...]:
    """Directives from text: separated by `;`, comments from `//` to the end of the line.

    Args:
        text: the directives.
        key: where the text stands, for messages.

    Raises:
        ValueError: an unknown directive or dimension, a size below 1, a dimension mapped twice in a cluster, or a
            cluster that maps none or more than two dimensions in space.
    """
    lines = (line.partition("//")[0] for line in text.splitlines())
    parts = [part.strip() for part in " ".join(lines).split(";")]
    directives = tuple(_parse(part, key) for part in parts if part)
    cluster: list[Directive] = []
    for directive in (*directives, None):
        if directive is not None and directive.kind != "Cluster":
            cluster.append(directive)
            continue
        _check_cluster(cluster, key)
        cluster = []
    return directives


def format_directives(directives: Iterable[Directive]) -> str:
    """The text that `parse_directives` reads."""
    return "; ".join(map(str, directives)) + ";"


def encode_directives(directives: Iterable[Directive]) -> NDArray[np.int64]:
    """Directives as numbers, shape (D, 6).

    Columns: kind and dimension as indices into `KINDS` and `DIMENSIONS` (-1 for a cluster), size, offset, and the
    dimensions whose extents stand for size and offset (-1: the numbers themselves).
    """
    rows = [
        (
            KINDS.index(d.kind),
            DIMENSIONS.index(d.dimension) if d.dimension else -1,
            d.size.number,
            d.offset.number,
            DIMENSIONS.index(d.size.of) if d.size.of else -1,
            DIMENSIONS.index(d.offset.of) if d.offset.of else -1,
        )
        for d in directives
    ]
    return np.array(rows, dtype=np.int64).reshape(len(rows), 6)


@cache
def shipped_dataflows() -> Mapping[str, Shipped]:
    """The dataflows of the package by name."""
    entries = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return {
        name: Shipped(
            " ".join(entry["directives"].split()),
            " ".join(entries[entry["depthwise"]]["directives"].split()),
            entry["description"],
            entry["source"],
        )
        for name, entry in entries.items()
    }


def find_dataflow(name_or_text: str, key: str = "dataflow") -> Shipped:
    """A shipped dataflow by its name, or directive text, which then serves depthwise layers too.

    Raises:
        ValueError: neither a name nor valid directives.
    """
    shipped = shipped_dataflows()
    if name_or_text in shipped:
        return shipped[name_or_text]
    if "(" not in name_or_text:
        raise _unknown(key, name_or_text, shipped, "the name of a dataflow or directives", cutoff=0.4)
    text = format_directives(parse_directives(name_or_text, key))
    return Shipped(text, text, "", "")


def _parse(part: str, key: str) -> Directive:
    if cluster := _CLUSTER.fullmatch(part):
        return Directive("Cluster", _size(cluster[1], part, key), Size(0))
    found = _MAP.fullmatch(part)
    if found is None:
        raise ValueError(
            f"{key}: cannot read {part!r}; write TemporalMap(size,offset) D, SpatialMap(size,offset) D or Cluster(n, P)"
        )
    kind, size, offset, dimension = found.groups()
    if kind not in KINDS[:2]:
        raise _unknown(key, kind, KINDS, "a directive")
    if dimension not in DIMENSIONS:
        raise _unknown(key, dimension, DIMENSIONS, "a dimension")
    return Directive(
        "SpatialMap" if kind == "SpatialMap" else "TemporalMap",
        _size(size, part, key),
        _size(offset, part, key),
        dimension,
    )


def _size(text: str, part: str, key: str) -> Size:
    text = text.strip()
    if extent := _EXTENT.fullmatch(text):
        if extent[1] not in EXTENTS:
            raise _unknown(key, extent[1], EXTENTS, "a dimension with an extent")
        return Size(0, extent[1])
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError(f"{key}: {text!r} in {part!r} is not allowed; use a whole number of at least 1 or Sz(D)")
    return Size(int(text))


def _check_cluster(cluster: list[Directive], key: str) -> None:
    names = [directive.dimension.rstrip("'") for directive in cluster]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{key}: a cluster maps {twice[0]} twice; map every dimension once (Y' and X' are Y and X)")
    n_spatial = sum(directive.kind == "SpatialMap" for directive in cluster)
    if not 1 <= n_spatial <= MAX_SPATIAL:
        text = format_directives(cluster) if cluster else "an empty one"
        raise ValueError(f"{key}: a cluster has {n_spatial} SpatialMap; give each 1 or {MAX_SPATIAL}: {text}")


def _unknown(key: str, value: str, names: Iterable[str], noun: str, cutoff: float = 0.5) -> ValueError:
    allowed = list(names)
    folded = {name.lower(): name for name in allowed}
    close = get_close_matches(value.lower(), folded, n=1, cutoff=cutoff)
    hint = f"; did you mean {folded[close[0]]!r}?" if close else ""
    return ValueError(f"{key}: {value!r} is not {noun}: one of {', '.join(allowed)}{hint}")
