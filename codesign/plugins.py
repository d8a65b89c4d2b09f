"""Checks the options of plug-ins: one way for spaces, data readers, evaluators and strategies.

A plug-in says what it takes with a frozen dataclass: itself (spaces, data readers), or its attribute `Options`
(evaluators, strategies). From its fields a pydantic model is made that refuses unknown keys and wrong types.
"""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from codesign.errors import InputError
from codesign.registry import Kind, lookup, resolve

CONTEXT_FIELDS = frozenset({"image_shape", "classes", "job_folder"})
"""Fields of a space that follow from the data or the job file's place: filled in by codesign, not by the job."""
_NOT_KEYS = ("function-", "literal[", "is-", "tuple[", "list[", "dict[", "[key]")
"""How parts of pydantic's locations begin that are no keys of the job."""
_KINDS = {"str": "string", "int": "int", "float": "float", "bool": "bool"}
_PLAIN_WORDS = {"a valid tuple": "a list", "a valid dictionary": "a mapping of names to values"}
_PYTHON_WORDS = re.compile(r"a valid tuple|a valid dictionary| or instance of \w+| for <class 'pathlib.Path'>")


def options_class(plugin: type) -> type:
    """The dataclass that describes a plug-in's options."""
    described = getattr(plugin, "Options", plugin)
    if not is_dataclass(described):
        raise InputError(f"plug-in {plugin.__module__}:{plugin.__qualname__} has no dataclass of options")
    return cast(type, described)


@functools.cache
def options_model(plugin: type) -> type[BaseModel]:
    """A pydantic model of a plug-in's options."""
    described = options_class(plugin)
    hints = typing.get_type_hints(described)
    columns: dict[str, Any] = {}
    for item in fields(described):
        if item.name in CONTEXT_FIELDS or not item.init:
            continue
        if item.default is not MISSING:
            columns[item.name] = (hints[item.name], item.default)
        elif item.default_factory is not MISSING:
            columns[item.name] = (hints[item.name], FieldInfo(default_factory=item.default_factory))
        else:
            columns[item.name] = (hints[item.name], ...)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(described.__name__, __config__=config, **columns)


def check_options(kind: Kind, section: Mapping[str, object], key: str) -> tuple[type, dict[str, Any]]:
    """The class that a section of a job names, and its options with the right types.

    Args:
        kind: which registry its `type` is looked up in.
        section: `type` and the options.
        key: where the section stands in the job, for messages.

    Raises:
        InputError: an unknown type, an unknown option, or a value of the wrong type.
    """
    name = str(section.get("type", ""))
    plugin = lookup(kind, name, f"{key}.type")
    given = {option: value for option, value in section.items() if option != "type"}
    return plugin, checked_options(plugin, given, key)


def checked_options(plugin: type, given: Mapping[str, object], key: str) -> dict[str, Any]:
    """All options of a plug-in with the right types, defaults included.

    Raises:
        InputError: an unknown option, or a value of the wrong type.
    """
    model = options_model(plugin)
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        raise explain(error, key, _nested_keys(described=options_class(plugin))) from None
    return {option: getattr(checked, option) for option in model.model_fields}


def _nested_keys(described: type) -> dict[tuple[str, ...], list[str]]:
    """Valid keys by location, one level of nested dataclasses deep."""
    hints = typing.get_type_hints(described)
    allowed: dict[tuple[str, ...], list[str]] = {}
    allowed[()] = [item.name for item in fields(described) if item.name not in CONTEXT_FIELDS]
    for name, hint in hints.items():
        if is_dataclass(hint):
            allowed[name,] = [item.name for item in fields(hint)]
    return allowed


def make(plugin: type, key: str, *arguments: object, **options: object) -> Any:
    """Call a plug-in's class; what it refuses becomes an `InputError` that names the section."""
    try:
        return plugin(*arguments, **options)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error


def explain(
    error: ValidationError, prefix: str, allowed: Mapping[tuple[str, ...], list[str]], whole: str = "job"
) -> InputError:
    """One message for the first of a model's complaints.

    Args:
        error: what pydantic raised.
        prefix: the key under which the model stands.
        allowed: valid keys by location, to suggest the nearest.
        whole: what the model as a whole is called.
    """
    unknown = ("extra_forbidden", "unexpected_keyword_argument")
    first = min(error.errors(), key=lambda complaint: complaint["type"] not in unknown)
    location = tuple(str(part) for part in first["loc"] if not str(part).startswith(_NOT_KEYS))
    if first["type"] == f"{_KINDS.get(location[-1] if location else '')}_type" and isinstance(first["loc"][-1], str):
        location = location[:-1]  # not a key: which of the allowed types was tried
    key = ".".join(filter(None, (prefix, *location))) or whole
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] in unknown:
        names = allowed.get(location[:-1]) or allowed.get((*location[:-2], "*"), [])
        parent = ".".join(filter(None, (prefix, *location[:-1]))) or whole
        return InputError(f"{InputError.about(f'unknown key in {parent}', location[-1], names)}{others}")
    if first["type"] == "missing":
        return InputError(f"{key}: this key is missing{others}")
    if first["type"] == "value_error":
        return InputError(f"{key}: {first['ctx']['error']}{others}")
    if first["type"] == "literal_error":
        names = [name.strip("' ") for name in str(first["ctx"]["expected"]).replace(" or ", ",").split(",")]
        return InputError(f"{InputError.about(key, first['input'], names)}{others}")
    message = _PYTHON_WORDS.sub(lambda found: _PLAIN_WORDS.get(found[0], ""), first["msg"])
    return InputError(f"{key}: {first['input']!r}: {message[0].lower()}{message[1:]}{others}")


def qualified(kind: Kind, name: str) -> str:
    """The full id under which a name is registered, with its version."""
    return resolve(kind, name)
