"""What a NAS-Bench-201 cell computes, slowly: a formal sum with named weights, compared under every renaming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
Term = Any


def output_of(cell: Sequence[int]) -> Counter[Term]:
    """The output node as a formal sum: x, ("pool", term), or ("conv", kind, edge, sum)."""
    nodes: list[Counter[Term]] = [Counter({"x": 1}), Counter(), Counter(), Counter()]
    for edge, ((source, target), operation) in enumerate(zip(EDGES, cell, strict=True)):
        read = nodes[source]
        if operation == 0 or not read:
            continue
        if operation == 1:
            nodes[target] += read
        elif operation == 4:
            nodes[target] += Counter({("pool", term): count for term, count in read.items()})
        else:
            nodes[target][("conv", operation, edge, frozenset(read.items()))] += 1
    return nodes[3]


def weights_of(term: Term) -> set[tuple[int, int]]:
    """Kind and edge of every convolution in a term."""
    if term == "x":
        return set()
    if term[0] == "pool":
        return weights_of(term[1])
    return {(term[1], term[2])}.union(*(weights_of(below) for below, _ in term[3]))


def renamed(term: Term, names: dict[int, int]) -> str:
    if term == "x":
        return "x"
    if term[0] == "pool":
        return f"P({renamed(term[1], names)})"
    inner = "+".join(sorted(f"{count}{renamed(below, names)}" for below, count in term[3]))
    return f"C{term[1]}.{names[term[2]]}({inner})"


def function_of(cell: Sequence[int]) -> str:
    """A text that is equal for cells of the same function alone: the least over all names of the weights of a kind."""
    output = output_of(cell)
    weights = set().union(*(weights_of(term) for term in output))
    by_kind = [sorted(edge for kind, edge in weights if kind == wanted) for wanted in (2, 3)]
    texts = []
    for orders in product(*(permutations(edges) for edges in by_kind)):
        names = {edge: name for order in orders for name, edge in enumerate(order)}
        texts.append("+".join(sorted(f"{count}{renamed(term, names)}" for term, count in output.items())))
    return min(texts)


def is_live(cell: Sequence[int], edge: int) -> bool:
    """Whether an edge lies on one of the four paths from input to output, all of whose edges are open."""
    paths = ((3,), (0, 4), (1, 5), (0, 2, 5))
    return any(edge in path and all(cell[step] for step in path) for path in paths)
