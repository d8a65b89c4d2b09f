"""The NAS-Bench-201 search space (NATS-Bench's topology space): 15,625 cells, stacked by a fixed plan.

Source: Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", section
2.1 and figure 1; shapes and parameters as in the authors' `TinyNetwork`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from search_spaces.floor import Floor
from search_spaces.nasbench201_cell import (
    EDGE_NAMES,
    EDGES,
    EQUALITIES,
    OPERATIONS,
    Equality,
    cell_index,
    cell_text,
    changed_cells,
    check_operation,
    classes,
    parse_cell,
    representatives,
)
from search_spaces.nasbench201_features import cell_features
from search_spaces.nasbench201_ops import Superset, network_ops, superset_of
from search_spaces.ops import IntArray, OpTable
from search_spaces.space import Choice, FloatArray, Genotype, NetworkSpace

_CHOICES: Final = tuple(Choice(name, OPERATIONS) for name in EDGE_NAMES)


@dataclass(frozen=True, kw_only=True)
class NasBench201(NetworkSpace):
    """Networks of one cell, in three stages of equal cells with residual blocks of stride 2 between them.

    Decisions: the operation of each edge, in the order 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2.

    Attributes:
        image_shape: channels, height and width of an image.
        classes: number of logits.
        channels: of the first stage; each following stage has twice as many.
        cells: per stage.
        merge_equal: whether equal cells are one candidate, the one with the fewest edges. If not, each of the 15,625
            cells is a candidate and has every operation that it names, even those that no path needs: so the published
            tables count.
        equality: which cells are equal: those of one "function", or as published tables have it, by their "text"; see
            `nasbench201_cell.representatives`.

    Raises:
        ValueError: a value is out of range.
    """

    image_shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    channels: int = 16
    cells: int = 5
    merge_equal: bool = True
    equality: Equality = "function"

    def __post_init__(self) -> None:
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape: {self.image_shape} is not allowed; use (channels, height, width), all >= 1")
        for key in ("classes", "channels", "cells"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: {getattr(self, key)} is not allowed; use at least 1")
        if self.equality not in EQUALITIES:
            raise ValueError(f"equality: {self.equality!r} is not one of {', '.join(EQUALITIES)}")

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The operation of each edge."""
        return _CHOICES

    @cached_property
    def n_options(self) -> IntArray:
        """Number of options of each decision, shape (6,)."""
        return np.full(len(EDGES), len(OPERATIONS), dtype=np.int64)

    def canonical(self, codes: IntArray) -> IntArray:
        """One row for all equal cells, shape (n, 6); with `merge_equal` false the codes as they are.

        Raises:
            ValueError: a row is not a code of this space.
        """
        self._check_codes(codes)
        return representatives(self.equality)[cell_index(codes)] if self.merge_equal else codes.copy()

    def mutate(self, codes: IntArray, rng: np.random.Generator) -> IntArray:
        """A candidate beside each, shape (n, 6): one edge changed; where equal cells are merged, one edge of a random
        equal cell, so that it is another candidate.
        """
        self._check_codes(codes)
        if not self.merge_equal or len(codes) == 0:
            return super().mutate(codes, rng)
        return changed_cells(codes, classes(self.equality), rng)

    def decode(self, code: IntArray) -> Genotype:
        """The genotype of one candidate, shape (6,): the cell's published text, cells per stage, first channels."""
        self._check_codes(code[None])
        return {"cell": cell_text(code), "cells": self.cells, "channels": self.channels}

    def encode(self, genotype: Mapping[str, object] | str) -> IntArray:
        """The code of a genotype, of a cell's published text alone, or of {"edges": [six operations]}; shape (6,).

        Raises:
            ValueError: it is none of these, or it has other `cells` or `channels` than this space.
        """
        if isinstance(genotype, str):
            return parse_cell(genotype)
        unknown = sorted(set(genotype) - {"cell", "edges", "cells", "channels"})
        if unknown or ("cell" in genotype) == ("edges" in genotype):
            raise ValueError(
                f"genotype: a cell has either 'cell' (its text) or 'edges' (six operations), and may state 'cells' and "
                f"'channels'; this one has {sorted(genotype)}"
            )
        for key in ("cells", "channels"):
            if key in genotype and genotype[key] != getattr(self, key):
                raise ValueError(f"{key}: {genotype[key]} differs from the space's {getattr(self, key)}")
        if "cell" in genotype:
            if not isinstance(genotype["cell"], str):
                raise ValueError(f"cell: {genotype['cell']!r} is not a text")
            return parse_cell(genotype["cell"])
        edges = genotype["edges"]
        if not isinstance(edges, list | tuple) or len(edges) != len(EDGES):
            raise ValueError(f"edges: {edges!r} is not a list of {len(EDGES)} operations, for {', '.join(EDGE_NAMES)}")
        for name, operation in zip(EDGE_NAMES, edges, strict=True):
            check_operation(f"edges, {name}", operation)
        return np.array([OPERATIONS.index(operation) for operation in edges], dtype=np.int64)

    def features(self, codes: IntArray) -> FloatArray:
        """What describes cells to a model, see `nasbench201_features.cell_features`; shape (n, k)."""
        return cell_features(self.canonical(codes))

    def ops(self, codes: IntArray) -> OpTable:
        """What each network of a batch runs at inference, shape (n, 6): of the cheapest equal cell if equal cells are
        merged, else of all six edges, dead ones included, as the published counts have it.

        Raises:
            ValueError: a row is not a code of this space.
        """
        return network_ops(self.canonical(codes), self._superset)

    def floor(self) -> Floor:
        """The cell without any operation: stem, residual blocks and classifier."""
        return Floor(
            network_ops(np.zeros((1, len(EDGES)), dtype=np.int64), self._superset),
            "the stem, the residual blocks and the classifier",
        )

    @property
    def _superset(self) -> Superset:
        return superset_of(self.image_shape, self.classes, self.channels, self.cells)

    def build(self, code: IntArray) -> object:
        """The `nasbench201_torch.NasBench201Module` of one candidate, shape (6,); it computes what `ops` lists.

        Weights come from torch's global generator.
        """
        cell = self.canonical(code[None])[0]
        # named, not imported: this package must load without torch
        module = importlib.import_module("search_spaces.nasbench201_torch").NasBench201Module
        return module(cell, self.image_shape, self.classes, self.channels, self.cells)

    def _check_codes(self, codes: IntArray) -> None:
        is_valid: NDArray[np.bool_] = self.valid(codes)
        if not is_valid.all():
            row = int(np.flatnonzero(~is_valid)[0])
            edge = int(np.flatnonzero((codes[row] < 0) | (codes[row] >= len(OPERATIONS)))[0])
            raise ValueError(
                f"row {row}: edge {EDGE_NAMES[edge]}: {codes[row, edge]} is not one of 0..{len(OPERATIONS) - 1}"
            )
