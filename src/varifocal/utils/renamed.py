"""Fields of configurations by the names they had before version 0.1.0: stored ones are read, typed ones are refused.

A dataclass says beside its fields what they were called: ``RENAMED`` maps an old name to the one of today, and
``RENAMED_VALUES`` maps a field of today to its old values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def new_name(kind: Any, old: str) -> str | None:
    """Return what the field ``old`` of the dataclass ``kind`` is called today, or None."""
    names: Mapping[str, str] = getattr(kind, "RENAMED", {})
    return names.get(old)


def with_new_names(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored ``values`` of the dataclass ``kind`` under the names and with the values of today.

    Only the fields of ``kind`` itself are renamed, not those of dataclasses within it.
    """
    words: Mapping[str, Mapping[Any, Any]] = getattr(kind, "RENAMED_VALUES", {})
    renamed = {new_name(kind, key) or key: value for key, value in values.items()}
    return {
        key: words[key].get(value, value) if key in words and isinstance(value, str) else value
        for key, value in renamed.items()
    }
