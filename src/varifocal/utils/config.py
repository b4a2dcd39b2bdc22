"""Conversion of frozen dataclasses from and to dictionaries, with errors that name the wrong and the valid keys."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from varifocal.utils.errors import ConfigError
from varifocal.utils.renamed import new_name, with_new_names

T = TypeVar("T")
AtLeast0 = Annotated[int, Field(ge=0)]
AtLeast1 = Annotated[int, Field(ge=1)]


def from_dict(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return an instance of the dataclass ``kind``; ``where`` names the source in errors.

    Raises:
        ConfigError: an unknown key (lists the valid ones), or a value of the wrong type.
    """
    reject_unknown(kind, values, where)
    try:
        return _adapter(kind).validate_python(dict(values))  # type: ignore[arg-type]  # mypy takes no type for hashable
    except ValidationError as error:
        key, message, value = _first_mistake(error)
        raise ConfigError(f"{where}: {key}: {message} (got {value!r}).", code="config-value") from error
    except ConfigError as error:  # of the dataclass itself
        raise ConfigError(f"{where}: {error}", code=error.code) from error


def _first_mistake(error: ValidationError) -> tuple[str, str, Any]:
    """Return key, message and value of the first mistake; for a field of several types, the messages of all types."""
    found = error.errors()
    keys = [
        ".".join(part for part in map(str, one["loc"]) if "[" not in part and not part.startswith("constrained-"))
        for one in found
    ]  # without the names of types
    messages = dict.fromkeys(one["msg"] for one, key in zip(found, keys, strict=True) if key == keys[0])
    return keys[0], ", or: ".join(messages), found[0]["input"]


def to_dict(config: Any) -> dict[str, Any]:
    """Return the config as plain dictionaries, lists and numbers for JSON and YAML."""
    return _adapter(type(config)).dump_python(config, mode="json")  # type: ignore[arg-type]  # mypy takes no type for hashable


def stored(kind: Any, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return stored ``values`` of the dataclass ``kind``, written by any version, under today's names at every depth.

    Values that are no mappings, and unknown keys, are unchanged; :func:`from_dict` refuses them.
    """
    hints = field_types(kind)
    renamed = with_new_names(kind, values)
    return {
        key: stored(hints[key], value)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(hints.get(key))
        else value
        for key, value in renamed.items()
    }


@cache
def _adapter(kind: Any) -> Any:
    """Return the adapter that reads and writes a dataclass; pydantic takes some twenty milliseconds to make one."""
    return TypeAdapter(kind)


@cache
def field_types(kind: Any) -> dict[str, Any]:
    """Return the types of the fields of a dataclass by name."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def reject_unknown(kind: Any, values: Mapping[Any, Any], where: str) -> None:
    """Raise ConfigError if a key of ``values``, at any depth, is no field of the dataclass ``kind``."""
    hints = field_types(kind)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{where}: {_unknown(key, kind, list(hints))}", code="config-unknown-key")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            reject_unknown(hints[key], value, f"{where}: {key}")


def _unknown(key: Any, kind: Any, valid: list[str]) -> str:
    if new := new_name(kind, str(key)):
        return f"{key!r} is called {new!r} now."
    near = difflib.get_close_matches(str(key), valid, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"there is no {key!r} here.{hint} Valid keys: {', '.join(sorted(valid))}."
