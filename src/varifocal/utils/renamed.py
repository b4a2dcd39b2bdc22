"""Names that fields of configurations had before version 0.1.0: accepted in stored files, refused when typed.

A dataclass lists them beside its fields: ``RENAMED`` maps an old name to today's, and ``RENAMED_VALUES`` maps a field
to its old values. Unlike ``config`` this module needs no third party, for exported models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def new_name(kind: Any, old: str) -> str | None:
    """Return today's name of the field ``old`` of the dataclass ``kind``, or None."""
    names: Mapping[str, str] = getattr(kind, "RENAMED", {})
    return names.get(old)


def with_new_names(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored ``values`` of the dataclass ``kind`` under today's names and with today's values.

    Only the fields of ``kind`` itself are renamed, not those of dataclasses within it.
    """
    words: Mapping[str, Mapping[Any, Any]] = getattr(kind, "RENAMED_VALUES", {})
    renamed = {new_name(kind, key) or key: value for key, value in values.items()}
    return {
        key: words[key].get(value, value) if key in words and isinstance(value, (str, bool)) else value
        for key, value in renamed.items()
    }
