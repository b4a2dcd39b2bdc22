"""Changes to a configuration: nested values, and ``key=value`` from the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml

from varifocal.utils.config import field_types, from_dict, reject_unknown, to_dict
from varifocal.utils.errors import ConfigError

T = TypeVar("T")


def update(config: T, values: Mapping[Any, Any], where: str) -> T:
    """Return a copy in which the nested ``values`` replace those of ``config``; raises the errors of :func:`from_dict`.

    A field annotated ``Any`` whose value is a dataclass keeps the type of that.
    """
    kind = type(config)
    reject_unknown(kind, values, where)
    hints = field_types(kind)  # type: ignore[arg-type]  # mypy takes no type for hashable
    free = [key for key, hint in hints.items() if hint is Any and dataclasses.is_dataclass(getattr(config, key))]
    kept = {
        key: update(getattr(config, key), _mapping(values.get(key, {}), f"{where}: {key}"), f"{where}: {key}")
        for key in free
    }
    bound = {key: value for key, value in values.items() if key not in free}
    fresh = from_dict(kind, merged(to_dict(config), bound), where)
    return dataclasses.replace(fresh, **kept)  # type: ignore[type-var]


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: must be a mapping of keys (got {value!r}).", code="config-not-a-mapping")
    return value


def merged(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``old`` updated with ``new``; mappings in both are merged key by key, everything else is replaced."""
    nested = {k: merged(old[k], v) for k, v in new.items() if isinstance(v, Mapping) and isinstance(old.get(k), dict)}
    return {**old, **new, **nested}


def override(config: T, assignments: Sequence[str]) -> T:
    """Return a copy with assignments ``key.sub=value`` applied; values are read as YAML.

    Raises:
        ConfigError: no ``=``, an unknown key (lists the valid ones), or a value of the wrong type.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(
                f"override {assignment!r}: write it as key=value, for example train.lr=0.005.",
                code="override-without-value",
            )
        try:
            value: Any = yaml.safe_load(text) if text else ""  # nothing after the sign is an empty string
        except (yaml.YAMLError, ValueError) as error:  # a date such as 2020-13-45 is a ValueError
            raise ConfigError(
                f"override {assignment!r}: the value is not YAML ({' '.join(str(error).split())}).",
                code="override-not-yaml",
            ) from error
        for part in reversed(key.split(".")):
            value = {part: value}
        config = update(config, value, f"override {assignment!r}")
    return config
