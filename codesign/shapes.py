"""Fills in the free axes of a model's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.errors import InputError

GivenShape = Sequence[int] | Mapping[str, Sequence[int]] | None
"""Whole shapes that a user gives: of the first input, or of inputs by name."""


def resolve_shapes(
    inputs: Mapping[str, Sequence[int | str]], given: GivenShape = None, *, batch: int = 1, any_batch: bool = False
) -> dict[str, tuple[int, ...]]:
    """The shape of every input, free of free axes.

    Args:
        inputs: per input, a size or a name ("" if it has none) for each axis. Axes of one name get one size.
        given: shapes that settle what is free.
        batch: size of the first axis where it is free and not given.
        any_batch: whether a fixed first axis of another size than `batch` is accepted.

    Raises:
        InputError: an axis stays free, or what was given contradicts the model; the message names input and axis.
    """
    if given is None:
        by_name: Mapping[str, Sequence[int]] = {}
    elif isinstance(given, Mapping):
        by_name = given
    else:
        by_name = dict.fromkeys(list(inputs)[:1], given)
    for name, shape in by_name.items():
        if name not in inputs:
            raise InputError.about("shape: input", name, inputs)
        if len(shape) != len(inputs[name]) or any(size < 1 for size in shape):
            raise InputError.about(f"shape of input {name!r}", list(shape), f"{len(inputs[name])} sizes of at least 1")
    sizes = {
        axis: size for name, shape in by_name.items() for axis, size in zip(inputs[name], shape, strict=True)
        if isinstance(axis, str) and axis
    }  # fmt: skip
    resolved: dict[str, tuple[int, ...]] = {}
    for name, axes in inputs.items():
        wanted: list[int | None] = list(by_name.get(name, [None] * len(axes)))
        if axes and wanted[0] is None and (isinstance(axes[0], str) or not any_batch):
            wanted[0] = sizes.get(str(axes[0]), batch)
        resolved[name] = tuple(_size(name, axes, place, want, sizes) for place, want in enumerate(wanted))
    return resolved


def _size(name: str, axes: Sequence[int | str], place: int, want: int | None, sizes: dict[str, int]) -> int:
    axis = axes[place]
    shown = "(" + ", ".join(str(each) or "?" for each in axes) + ")"
    if isinstance(axis, int):
        if want not in (None, axis):
            raise InputError(f"input {name!r} has shape {shown}: axis {place} is {axis}, not {want}")
        return axis
    size = want if want is not None else sizes.get(axis)
    if size is None:
        raise InputError(f"input {name!r} has shape {shown}: its axis {place} is free; give the whole shape (shape)")
    if axis:
        sizes[axis] = size
    return size
