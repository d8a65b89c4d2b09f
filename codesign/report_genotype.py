"""Genotypes for readers: cells as drawings, everything else as rows of names and values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from search_spaces.cell_svg import cell_svg
from search_spaces.nasbench201_svg import cell_text_svg

Genotype = Mapping[str, object]

MAX_COLUMNS = 8
"""Choices shown as columns of the table of members."""


def drawings(genotype: Genotype, title: str) -> dict[str, str]:
    """An SVG of each cell of a genotype, by the cell's name; none for a genotype without cells."""
    found = {}
    for name, cell in _cells(genotype).items():
        try:
            found[name] = cell_svg(cell, f"{name} cell of {title}", is_reduction=name.startswith("reduc"))
        except ValueError:
            continue  # another space's idea of a cell: `rows` writes it out
    text = _network(genotype).get("cell")
    if isinstance(text, str):
        with suppress(ValueError):
            found["cell"] = cell_text_svg(text, f"cell of {title}")
    return found


def rows(genotype: Genotype, drawn: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Names and values of a genotype, nested names joined by dots; cells that are drawn are left out.

    A joint candidate's network comes first; its accelerators follow as `edge.rows`.
    """
    network = {name: value for name, value in _network(genotype).items() if name not in drawn}
    listed = list(_flat(network))
    for group, fields in _accelerators(genotype).items():
        listed += list(_flat(fields, f"{group}."))
    return [(name, _text(value)) for name, value in listed]


def varying_choices(genotypes: Sequence[Genotype]) -> dict[str, list[str]]:
    """Plain choices in which the genotypes differ, accelerators first, at most `MAX_COLUMNS`: name -> n values.

    Cells and lists are left out; a choice that a genotype does not have is "".
    """
    plain = []
    for genotype in genotypes:
        accelerators = [pair for group, f in _accelerators(genotype).items() for pair in _flat(f, f"{group}.")]
        own = [pair for pair in _flat(_network(genotype)) if not isinstance(pair[1], Mapping | list | tuple)]
        plain.append({name: _text(value) for name, value in (*accelerators, *own)})
    names = dict.fromkeys(name for choices in plain for name in choices)
    columns = {name: [choices.get(name, "") for choices in plain] for name in names}
    differing = {name: values for name, values in columns.items() if len(set(values)) > 1}
    return differing if len(differing) <= MAX_COLUMNS else dict(list(differing.items())[:MAX_COLUMNS])


def _network(genotype: Genotype) -> Genotype:
    """The network of a joint candidate, or the genotype itself."""
    network = genotype.get("network")
    return network if isinstance(network, Mapping) and "accelerators" in genotype else genotype


def _accelerators(genotype: Genotype) -> dict[str, Genotype]:
    groups = genotype.get("accelerators")
    if _network(genotype) is genotype or not isinstance(groups, Mapping):
        return {}
    return {str(target): fields for target, fields in groups.items() if isinstance(fields, Mapping)}


def _cells(genotype: Genotype) -> dict[str, Genotype]:
    network = _network(genotype)
    return {n: v for n, v in network.items() if isinstance(v, Mapping) and isinstance(v.get("blocks"), list | tuple)}


def _flat(value: Genotype, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, below in value.items():
        if isinstance(below, Mapping) and below:
            yield from _flat(below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", below


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, int | float | str) for item in value):
        return ", ".join(map(str, value))
    return json.dumps(value, default=str)
