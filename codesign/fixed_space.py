"""A space of one network, to size accelerators for it: `space: {type: fixed, network: resnet18, image_size: 64}`.

The network is a published one by name (`search_spaces.networks`) or any ONNX file beside the job file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from codesign.errors import InputError
from search_spaces.floor import Floor
from search_spaces.networks import NETWORKS
from search_spaces.ops import COLUMNS, IntArray, OpTable
from search_spaces.space import Choice, Genotype, NetworkSpace


@dataclass(frozen=True, eq=False)
class FixedNetwork(NetworkSpace):
    """One network and no decision; with a searched target the decisions are the accelerator's.

    Attributes:
        network: a published network's name, or an ONNX file.
        image_size: height and width of the images of a published network.
        n_classes: outputs of a published network.
        job_folder: where the job file lies.

    Raises:
        InputError: an unknown name, a file that cannot be read, or a size that is too small.
    """

    network: str
    image_size: int = 224
    n_classes: int = 1000
    job_folder: Path = Path()

    def __post_init__(self) -> None:
        """Read the network, so that a wrong one is found at once."""
        _ = self.table

    @cached_property
    def table(self) -> OpTable:
        """The network's ops, as one candidate."""
        if self.network.endswith(".onnx"):
            from codesign.read_onnx import read_ops

            return read_ops(self.job_folder / self.network).table
        if self.network not in NETWORKS:
            raise InputError.about("network", self.network, [*NETWORKS, "FILE.onnx"])
        if self.image_size < 32 or self.n_classes < 1:
            raise InputError(f"image_size {self.image_size} and n_classes {self.n_classes}: use at least 32 and 1")
        return NETWORKS[self.network](self.image_size, self.n_classes)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """None."""
        return ()

    def decode(self, code: IntArray) -> Genotype:
        """The network's name."""
        return {"network": self.network}

    def encode(self, genotype: Mapping[str, object]) -> IntArray:
        """The one code, of shape (0,). Raises InputError if it names another network."""
        if genotype.get("network") != self.network:
            raise InputError.about("network", genotype.get("network"), [self.network])
        return np.zeros(0, dtype=np.int64)

    def ops(self, codes: IntArray) -> OpTable:
        """The network's ops, once for each row."""
        n = len(codes)
        columns = {name: np.tile(getattr(self.table, name), n) for name in COLUMNS}
        columns["candidate"] = np.repeat(np.arange(n), len(self.table))
        return OpTable(n_candidates=n, labels=self.table.labels, **columns)

    def floor(self) -> Floor:
        """The network itself."""
        return Floor(self.table, f"the layers of {self.network}")

    def build(self, code: IntArray) -> object:
        """Refused: a fixed network is costed, not trained."""
        raise InputError(f"network {self.network!r} is costed, not trained; use evaluate: cost")
