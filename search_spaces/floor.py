"""Networks below a whole space: what every candidate costs at least, known without listing the candidates."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.ops import OpTable


@dataclass(frozen=True, slots=True)
class Floor:
    """A few networks such that every candidate of a space is no smaller than one of them.

    A candidate is no smaller than a network of the floor if the network's ops can be paired with different ops of the
    candidate so that in each pair the candidate's op is of the same kind and has no fewer channels per group, no fewer
    groups, no smaller maps, no smaller kernel and no smaller stride. Then a cost that adds up over ops, and that no op
    lowers by growing, is no smaller either. (For an op without weights and multiply-accumulates it is enough that the
    candidate's reads and writes at least as many elements.)

    The networks need not be buildable, nor candidates of the space: a cell may have lost its operations.

    Attributes:
        table: the networks' ops, each network as one candidate of the table.
        reason: what they consist of, as a plural phrase: "the stem and the classifier".
    """

    table: OpTable
    reason: str
