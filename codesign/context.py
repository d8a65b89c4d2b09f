"""What an evaluator is told about the run it serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from codesign.data.dataset import Dataset, DataShape
from codesign.errors import InputError
from codesign.joint import JointSpace
from search_spaces.ops import IntArray
from search_spaces.space import NetworkSpace, SearchSpace


class Reader(Protocol):
    """A data set that can be checked fast and loaded whole."""

    def describe(self) -> DataShape:
        """Shape and number of classes. Raises DataError if something is plainly wrong."""
        ...

    def load(self) -> Dataset:
        """The data with its fixed split. Raises DataError if anything is wrong."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """The run around an evaluator.

    Attributes:
        space: what is searched: networks, or networks with accelerators.
        networks: its networks; None where designs alone are searched.
        shape: of the data: channels, height, width, number of classes; where nothing is trained, what the space's
            networks are for; None where there are no networks.
        space_identity: text that is equal for equal network spaces (type, version, options).
        reader: the data; None where nothing is trained.
        seed: the job's seed.
        folder: the run's folder.
        checkpoint_epochs: epochs between checkpoints.
    """

    space: SearchSpace
    networks: NetworkSpace | None
    shape: DataShape | None
    space_identity: str
    reader: Reader | None
    seed: int
    folder: Path
    checkpoint_epochs: int

    @property
    def network_space(self) -> NetworkSpace:
        """The space's networks. Raises InputError if it has none."""
        if self.networks is None:
            raise InputError("this run searches designs, not networks: there is no network to list, train or export")
        return self.networks

    @property
    def data_shape(self) -> DataShape:
        """Of the data. Raises InputError if there is none."""
        if self.shape is None:
            raise InputError("this run has no data, nor a space that states the shape of images")
        return self.shape

    def load_data(self) -> Dataset:
        """The data of the job."""
        if self.reader is None:
            raise InputError("this run has no data: nothing in it is trained")
        return self.reader.load()

    def network_codes(self, codes: IntArray) -> IntArray:
        """The network part of candidates, shape (n, d')."""
        return self.space.split(codes)[0] if isinstance(self.space, JointSpace) else codes
